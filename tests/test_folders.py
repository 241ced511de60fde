"""Folders and archives: what is read, what is refused, and that nothing is written outside."""

import hashlib
import io
import json
import os
import stat
import struct
import time
import zipfile

import numpy as np
from PIL import Image
import pytest

from tests.files import encoded, write, zipped
from vaegan_jax.data import folders, listings


def values(dataset):
  return dataset.images[:, 0, 0, 0].tolist()


def test_class_folders(tmp_path, load):
  root = write(
    tmp_path / 'set',
    {
      'dog/b.png': 30,
      'cat/a.png': 10,
      'cat/deep/z.PNG': 20,
      'dog/a.png': 40,
      'READ.ME': 'words',
      '.hidden/x.png': 1,
      'cat/.x.png': 1,
      '__MACOSX/cat/a.png': b'x',
    },
  )
  got = load(root)
  assert got.class_names == ['cat', 'dog'] and got.labels.tolist() == [0, 0, 1, 1]
  assert values(got) == [10, 20, 40, 30] and got.skipped == ()  # sorted by name
  assert got.images.dtype == np.uint8 and got.labels.dtype == np.int32 and got.attributes is None


def test_flat_folder_has_no_labels(tmp_path, load):
  got = load(write(tmp_path / 'set', {'b.png': 2, 'a.png': 1}), channels=3, size=16)
  assert got.images.shape == (2, 16, 16, 3) and values(got) == [1, 2]
  assert got.labels is None and got.class_names is None


def test_names_that_are_not_ascii(tmp_path, load):
  long = 'a' * 200
  got = load(
    write(tmp_path / "é 日本 'x", {'Käse/ü 1.png': 5, '日本/🙂.png': 6, f'{long}/b.png': 7})
  )
  assert got.class_names == ['Käse', long, '日本'] and values(got) == [5, 7, 6]
  odd = write(tmp_path / 'odd', {os.fsdecode(b'\xff\xfe.png'): 8})
  assert values(load(odd)) == [8]


def test_csv_labels(tmp_path, load):
  table = '\ufefffile,label\n3.png,0\n./x/1.png, 2\nx\\2.png,1\n\n'
  root = write(tmp_path / 'set', {'x/1.png': 1, 'x/2.png': 2, '3.png': 3, 'labels.csv': table})
  got = load(root)
  assert values(got) == [3, 1, 2] and got.labels.tolist() == [0, 2, 1]
  assert got.class_names == ['0', '1', '2'] and got.attributes is None


@pytest.mark.parametrize('low', ['0', '-1'])
def test_csv_attributes(tmp_path, load, low):
  table = f'file,Smiling,Male\na.png,1,{low}\nb.png,{low},1\nc.png,1,1\n'
  root = write(tmp_path / 'set', {'a.png': 1, 'b.png': 2, 'c.png': 3, 'labels.csv': table})
  got = load(root)
  assert got.attribute_names == ['Smiling', 'Male'] and got.labels is None
  assert got.attributes.dtype == np.uint8 and got.attributes.tolist() == [[1, 0], [0, 1], [1, 1]]
  assert load(root, attributes=('Male',)).attributes.tolist() == [[0], [1], [1]]
  swapped = load(root, attributes=('Male', 'Smiling'))
  assert swapped.attributes[0].tolist() == [0, 1] and swapped.attribute_names == ['Male', 'Smiling']
  with pytest.raises(ValueError, match='no attribute .smiling.*Male; did you mean Smiling'):
    load(root, attributes=('smiling',))


def test_csv_labels_and_attributes_together(tmp_path, load):
  table = 'file,Hat,label\na.png,1,1\nb.png,0,0\n'
  got = load(write(tmp_path / 'set', {'a.png': 1, 'b.png': 2, 'labels.csv': table}))
  assert got.labels.tolist() == [1, 0] and got.attributes.tolist() == [[1], [0]]


def test_dataset_json(tmp_path, load):
  files = {'00/a.png': 1, '00/b.png': 2}
  labelled = json.dumps(dict(labels=[['00/a.png', 1], ['00/b.png', 0]]))
  got = load(write(tmp_path / 'set', {**files, 'dataset.json': labelled}))
  assert got.labels.tolist() == [1, 0] and got.class_names == ['0', '1']
  none = write(tmp_path / 'none', {**files, 'dataset.json': '{"labels": null}'})
  assert load(none).labels is None


def test_table_elsewhere(tmp_path, load):
  table = 'file,label\ncat/a.png,1\ndog/b.png,0\n'
  root = write(tmp_path / 'set', {'cat/a.png': 1, 'dog/b.png': 2, 'mine.csv': table})
  assert load(root).labels.tolist() == [0, 1]
  assert load(root, label_table='mine.csv').labels.tolist() == [1, 0]
  other = write(tmp_path, {'other.csv': 'file,label\ncat/a.png,0\ndog/b.png,0\n'}) / 'other.csv'
  assert load(root, label_table=str(other)).labels.tolist() == [0, 0]
  with pytest.raises(ValueError, match='no table of labels gone.csv'):
    load(root, label_table='gone.csv')


def test_accents_match_in_both_unicode_forms(tmp_path, load):
  root = write(tmp_path / 'set', {'e\u0301.png': 1, 'labels.csv': 'file,label\n\u00e9.png,0\n'})
  assert load(root).labels.tolist() == [0]


A_AND_B = {'a.png': 1, 'b.png': 2}


def test_a_table_may_name_its_classes(tmp_path, load):
  got = load(
    write(
      tmp_path / 'set',
      {
        'labels.csv': 'file,label\na.png,zebra\nb.png,ant\nc.png,zebra\n',
        'a.png': 1,
        'b.png': 2,
        'c.png': 3,
      },
    )
  )
  assert got.class_names == ['ant', 'zebra'] and got.labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
  'files, message',
  [
    (
      {'labels.csv': 'file,label\na.png,cat\nb.png,1\n'},
      r"labels.csv: line 2 \(a.png\): the label 'cat' is not an integer",
    ),
    ({'labels.csv': 'file,label\na.png,0\nb.png,-1\n'}, r"line 3 \(b.png\): the label '-1'"),
    ({'labels.csv': 'file,label\na.png,nan\nb.png,1\n'}, "'nan' is not an integer"),
    ({'labels.csv': 'file,label\na.png,1.0\nb.png,1\n'}, "'1.0' is not an integer"),
    ({'labels.csv': 'file,label\na.png,\nb.png,1\n'}, "'' is not an integer"),
    ({'labels.csv': 'file,label\na.png,1\nb.png,2\n'}, 'label is 2, but no image has label 0'),
    ({'labels.csv': f'file,label\na.png,0\nb.png,{10**30}\n'}, 'no image has label 1'),
    ({'labels.csv': f'file,label\na.png,0\nb.png,{"9" * 9999}\n'}, 'labels.csv: '),
    ({'labels.csv': 'file,label\na.png,0\nb.png,0\nc.png,0\n'}, 'line 4: there is no image c.png'),
    ({'labels.csv': 'file,label\na.png,0\n'}, '1 of 2 images have no row, such as b.png'),
    ({'labels.csv': 'file,label\na.png,0\nb.png,0\na.png,1\n'}, 'line 4: a.png has a row already'),
    ({'labels.csv': 'file,label\na.png\nb.png,0\n'}, 'line 2 has 1 columns, line 1 has 2'),
    ({'labels.csv': 'a.png,0\nb.png,1\n'}, 'line 1 is .a.png,0.: it must name the columns'),
    ({'labels.csv': ''}, 'it must name the columns'),
    ({'labels.csv': 'file,Hat,Hat\na.png,0,1\nb.png,1,1\n'}, 'each once'),
    ({'labels.csv': 'file,Hat\na.png,0\nb.png,-1\n'}, r"\(a.png\): Hat is '0': write -1 or 1"),
    ({'labels.csv': 'file,Hat\na.png,0\nb.png,yes\n'}, r"\(b.png\): Hat is 'yes': write 0 or 1"),
    ({'labels.csv': b'\xff\xfe\x00'}, 'labels.csv: .*decode'),
    ({'dataset.json': '{'}, 'dataset.json: '),
    ({'dataset.json': '[' * 100_000}, 'dataset.json: '),
    ({'dataset.json': '{"x": 1}'}, 'it is not {"labels"'),
    ({'dataset.json': '{"labels": 3}'}, 'it is not {"labels"'),
    (
      {'dataset.json': '{"labels": [["a.png", true], ["b.png", 0]]}'},
      r"entry 0 \(a.png\): the label 'true'",
    ),
    ({'dataset.json': '{"labels": [["a.png", [1, 0]], ["b.png", 0]]}'}, 'is not an integer'),
    ({'dataset.json': '{"labels": ["a.png"]}'}, 'entry 0 is "a.png", not'),
    (
      {'dataset.json': '{"labels": [["a.png", 0], ["z.png", 0]]}'},
      'entry 1: there is no image z.png',
    ),
    (
      {'dataset.json': '{"labels": null}', 'labels.csv': 'file,label\n'},
      'labels.csv and dataset.json: keep one',
    ),
    ({'cat/c.png': 3}, 'holds class folders and also images outside them, such as a.png'),
  ],
)
def test_bad_tables(tmp_path, load, files, message):
  root = write(tmp_path / 'set', {**A_AND_B, **files})
  start = time.perf_counter()
  with pytest.raises(ValueError, match=message) as error:
    load(root)
  assert str(root) in str(error.value) and time.perf_counter() - start < 1


def test_split_folders_are_no_classes(tmp_path, load):
  write(tmp_path / 'a', {'train/cat/1.png': 1, 'train/dog/2.png': 2, 'test/cat/3.png': 3})
  with pytest.raises(ValueError, match='test, train, which look like splits.*a/train as --config'):
    load(tmp_path / 'a')
  assert load(tmp_path / 'a' / 'train').class_names == ['cat', 'dog']


def test_empty_class_folder(tmp_path, load):
  root = write(tmp_path / 'set', {'cat/a.png': 1, 'dog/notes.txt': 'none yet'})
  with pytest.raises(ValueError, match=f'{root / "dog"} holds no image: remove it'):
    load(root)


def test_a_single_picture(tmp_path, load):
  write(tmp_path, {'one.PNG': 200})
  found = load(tmp_path / 'one.PNG')
  assert found.images.shape == (1, 8, 8, 1) and (found.images == 200).all()
  assert found.labels is None


def test_nothing_to_read(tmp_path, load):
  (tmp_path / 'empty').mkdir()
  write(tmp_path, {'text.zip': 'no archive', 'scans/a.tiff': b'x', 'file.txt': 'x'})
  for path, message in (
    ('gone', 'gone does not exist: name a folder'),
    ('empty', 'holds no image'),
    ('text.zip', 'neither a folder, a picture, nor a readable .zip'),
    ('file.txt', 'neither a folder'),
    ('scans', 'holds 1 others, such as a.tiff'),
  ):
    with pytest.raises(ValueError, match=message):
      load(tmp_path / path)
  with pytest.raises(ValueError, match='--config.data.path is empty'):
    load('')
  with pytest.raises(ValueError, match='no split .test.*one of train, nine_tenths, tenth;'):
    load(tmp_path / 'empty', split='test')


# The names decide the part: five of these 40 are in the tenth, none of them of class c0.
FORTY = {f'c{i % 5}/{i:02d}.png': i for i in range(40)}
TENTH = [n for n in sorted(FORTY) if int(hashlib.sha256(n.encode()).hexdigest(), 16) % 10 == 0]


def parts(load, path, **options):
  return [load(path, split=split, **options) for split in ('nine_tenths', 'tenth')]


def test_the_parts_are_disjoint_and_cover_everything(tmp_path, load):
  root = write(tmp_path / 'set', FORTY)
  whole, (most, tenth) = load(root), parts(load, root)
  assert values(tenth) == [FORTY[n] for n in TENTH]
  assert sorted(values(most) + values(tenth)) == sorted(values(whole)) == list(range(40))
  for got in (most, tenth):
    assert got.class_names == whole.class_names == ['c0', 'c1', 'c2', 'c3', 'c4']
    assert got.labels.tolist() == [v % 5 for v in values(got)]
  assert set(tenth.labels.tolist()) == {1, 2, 3, 4}  # they keep their numbers without c0
  assert most.name == f'{root} (nine_tenths)' and tenth.name == f'{root} (tenth)'


def test_an_added_image_moves_no_other(tmp_path, load):
  root = write(tmp_path / 'set', FORTY)
  before = parts(load, root)
  write(root, {'a/new.png': 40, 'c0/000.png': 41})
  for old, new in zip(before, parts(load, root)):
    assert [v for v in values(new) if v < 40] == values(old)


def test_the_parts_of_a_zip_are_those_of_the_folder(tmp_path, load):
  of_folder = parts(load, write(tmp_path / 'set', FORTY))
  flat = zipped(tmp_path / 'flat.zip', FORTY)
  nested = zipped(tmp_path / 'nested.zip', {f'all/{n}': v for n, v in FORTY.items()})
  for path in (flat, nested):
    for one, other in zip(of_folder, parts(load, path)):
      assert values(one) == values(other) and one.labels.tolist() == other.labels.tolist()


def test_the_parts_keep_the_attributes_of_a_table(tmp_path, load):
  table = 'file,Hat,label\n' + ''.join(f'{n},{v % 2},{v % 3}\n' for n, v in FORTY.items())
  for got in parts(load, write(tmp_path / 'set', {**FORTY, 'labels.csv': table})):
    assert got.attribute_names == ['Hat'] and got.class_names == ['0', '1', '2']
    assert got.attributes[:, 0].tolist() == [v % 2 for v in values(got)]
    assert got.labels.tolist() == [v % 3 for v in values(got)]


def test_a_name_that_is_no_unicode_has_a_part(tmp_path, load):
  odd = os.fsdecode(b'\xff.png')
  root = write(tmp_path / 'set', {**{f'{v}.png': v for v in FORTY.values()}, odd: 99})
  most, tenth = parts(load, root)
  assert (99 in values(most)) != (99 in values(tenth))


def test_a_refused_image_counts_in_its_part_only(tmp_path, load):
  images = {f'{i:04d}.png': 3 for i in range(2000)}
  path = zipped(tmp_path / 'x.zip', {**images, '../evil.png': 1, '../bad.png': 2})
  most, tenth = parts(load, path, size=1)
  assert [n for n, _ in most.skipped] == ['../evil.png']
  assert [n for n, _ in tenth.skipped] == ['../bad.png']


def test_the_split_train_has_the_cache_key_it_always_had(tmp_path):
  root = write(tmp_path / 'set', {'dog/b.png': b'xy', 'cat/a.png': b'x', 'cat/b.png': b''})
  for path in root.rglob('*.png'):
    os.utime(path, ns=(1, 7))
  source = folders.folder_source(str(root), 'train', '')
  rows = [['cat/a.png', 1, 7, 0, None], ['cat/b.png', 0, 7, 0, None], ['dog/b.png', 2, 7, 1, None]]
  assert source.name == str(root)
  assert source.identity == ['folder', rows, ['cat', 'dog'], None, []]


@pytest.mark.parametrize('split', ['nine_tenths', 'tenth'])
def test_a_part_without_images(tmp_path, load, split):
  outside = {n: v for n, v in FORTY.items() if n not in TENTH}
  for images, empty in ((outside, 'tenth of its 35'), ({TENTH[0]: 1}, 'nine_tenths of its 1')):
    root = write(tmp_path / empty, images)
    message = f"{empty} would be empty. .*--config.data.split=train --config.data.held_out=''"
    with pytest.raises(ValueError, match=message):
      load(root, split=split)
    assert not (tmp_path / '.cache').exists()


def test_symlinks_are_not_followed(tmp_path, load, caplog):
  outside = write(tmp_path / 'outside', {'secret.png': 9})
  root = write(tmp_path / 'set', {'cat/a.png': 1})
  (root / 'cat' / 'link.png').symlink_to(outside / 'secret.png')
  (root / 'other').symlink_to(outside)
  (root / 'cat' / 'loop').symlink_to(root)
  got = load(root)
  assert values(got) == [1] and got.class_names == ['cat']
  assert 'ignored 3 files or links' in caplog.text
  (tmp_path / 'link').symlink_to(root)  # the path itself may be a symlink
  assert values(load(tmp_path / 'link')) == [1]


def test_special_files_are_not_opened(tmp_path, load):
  root = write(tmp_path / 'set', {'a.png': 1})
  os.mkfifo(root / 'b.png')
  assert values(load(root)) == [1]


def test_unreadable_files_are_skipped_and_named(tmp_path, load, caplog):
  root = write(tmp_path / 'set', {f'c{i % 2}/{i:03d}.png': i % 200 for i in range(200)})
  write(root, {'c0/050.png': encoded(1)[:40], 'c1/051.png': b''})
  got = load(root, size=4)
  assert len(got.images) == len(got.labels) == 198
  assert [n for n, _ in got.skipped] == ['c0/050.png', 'c1/051.png']
  assert all(reason for _, reason in got.skipped)
  kept = [i for i in [*range(0, 200, 2), *range(1, 200, 2)] if i not in (50, 51)]
  assert values(got) == [i % 200 for i in kept] and got.labels.tolist() == [i % 2 for i in kept]
  assert 'left out c0/050.png' in caplog.text and '2 of 200 images' in caplog.text
  caplog.clear()
  again = load(root, size=4)
  assert again.skipped == got.skipped and '2 unreadable images are left out' in caplog.text


def test_more_than_one_percent_unreadable_is_an_error(tmp_path, load):
  root = write(
    tmp_path / 'set', {f'{i:03d}.png': b'broken' if i % 60 == 7 else 5 for i in range(200)}
  )
  message = '3 of 200 images.*over 1%.*007.png: not a JPEG.*067.png.*127.png'
  with pytest.raises(ValueError, match=message):
    load(root)
  assert not list((tmp_path / '.cache').iterdir())


# --- Archives.


@pytest.mark.parametrize('compression', [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_is_read_in_place(tmp_path, load, compression):
  path = zipped(
    tmp_path / 'é.zip',
    {'cat/a.png': 1, 'dog/b.png': 2, '__MACOSX/cat/._a.png': 'x', 'cat/.DS_Store': 'x'},
    compression=compression,
  )
  before = sorted(tmp_path.iterdir())
  got = load(path)
  assert values(got) == [1, 2] and got.class_names == ['cat', 'dog']
  assert sorted(p for p in tmp_path.iterdir() if p.name != '.cache') == before


def test_zip_with_a_folder_around_everything(tmp_path, load):
  flat = zipped(tmp_path / 'flat.zip', {'faces/': '', 'faces/a.png': 1, 'faces/b.png': 2})
  assert load(flat).labels is None and values(load(flat)) == [1, 2]
  nested = zipped(
    tmp_path / 'nested.zip', {'set/cat/a.png': 1, 'set/dog/b.png': 2, '__MACOSX/set/x.png': 'x'}
  )
  assert load(nested).class_names == ['cat', 'dog']
  table = zipped(
    tmp_path / 'table.zip', {'s/a.png': 1, 's/dataset.json': '{"labels": [["a.png", 0]]}'}
  )
  assert load(table).labels.tolist() == [0]


def test_zip_errors(tmp_path, load):
  empty_class = zipped(tmp_path / 'a.zip', {'cat/a.png': 1, 'dog/': '', 'bird/b.png': 2})
  with pytest.raises(ValueError, match='dog holds no image'):
    load(empty_class)
  with pytest.warns(UserWarning, match='Duplicate'):
    twice = zipfile.ZipFile(tmp_path / 'b.zip', 'w')
    twice.writestr('a.png', encoded(1))
    twice.writestr('a.png', encoded(2))
    twice.close()
  with pytest.raises(ValueError, match='holds a.png twice'):
    load(tmp_path / 'b.zip')
  whole = zipped(tmp_path / 'c.zip', {'a.png': 1}).read_bytes()
  (tmp_path / 'c.zip').write_bytes(whole[:-30])
  with pytest.raises(ValueError, match='neither a folder, a picture, nor a readable .zip'):
    load(tmp_path / 'c.zip')


def test_hostile_names_stay_inside(tmp_path, load):
  good = {f'good/{i:03d}.png': 3 for i in range(300)}
  (tmp_path / 'in').mkdir()
  got = load(
    zipped(
      tmp_path / 'in' / 'x.zip',
      {**good, '../../evil.png': 1, '/evil.png': 2, 'good/../../evil2.png': 3},
    )
  )
  assert len(got.images) == 300 and {n for n, _ in got.skipped} == {
    '../../evil.png',
    '/evil.png',
    'good/../../evil2.png',
  }
  assert not list(tmp_path.rglob('*evil*')) and not (tmp_path.parent / 'evil.png').exists()
  only = zipped(tmp_path / 'only.zip', {'../evil.png': 1})
  with pytest.raises(ValueError, match='holds no image.*evil.png: its name leads out'):
    load(only)


def test_zip_symlinks_and_encrypted_files_are_refused(tmp_path, load):
  path = tmp_path / 'x.zip'
  with zipfile.ZipFile(path, 'w') as archive:
    link = zipfile.ZipInfo('link.png')
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(link, '/etc/passwd')
  with pytest.raises(ValueError, match='it is a symlink'):
    load(path)
  raw = bytearray(zipped(path, {'a.png': 1}).read_bytes())
  raw[raw.index(b'PK\x01\x02') + 8] |= 1
  path.write_bytes(raw)
  with pytest.raises(ValueError, match='it is encrypted'):
    load(path)


def test_tables_are_read_in_bounded_memory(tmp_path, load, monkeypatch):
  bomb = {'a.png': 1, 'labels.csv': b' ' * 5 * 10**6}
  path = zipped(tmp_path / 'x.zip', bomb, compression=zipfile.ZIP_DEFLATED)
  with pytest.raises(ValueError, match='x.zip, labels.csv: it expands over 200 times'):
    load(path)
  monkeypatch.setattr(listings, 'LARGEST_FILE', 10**6)
  folder = write(tmp_path / 'folder', bomb)
  with pytest.raises(ValueError, match='labels.csv is larger than 976.6 KiB: is it a table'):
    load(folder)
  with pytest.raises(ValueError, match='a.png: it is larger than 976.6 KiB'):
    load(zipped(tmp_path / 'stored.zip', {'a.png': bytes(5 * 10**6)}))


def test_zip_bombs(tmp_path, load, monkeypatch):
  path = zipped(tmp_path / 'x.zip', {'a.png': bytes(5 * 10**6)}, compression=zipfile.ZIP_DEFLATED)
  with pytest.raises(ValueError, match='expands over 200 times'):
    load(path)
  monkeypatch.setattr(listings, 'LARGEST_ARCHIVE', 10**6)
  with pytest.raises(
    ValueError, match='takes 4.768 MiB uncompressed, over the limit of 976.6 KiB: unpack it'
  ):
    load(path)
  # Small files of one colour compress just as far, and are harmless.
  monkeypatch.undo()
  out = io.BytesIO()
  Image.new('RGB', (300, 300)).save(out, 'BMP')
  small = zipped(tmp_path / 'y.zip', {'a.bmp': out.getvalue()}, compression=zipfile.ZIP_DEFLATED)
  assert values(load(small)) == [0]


def test_zip_that_lies_about_sizes(tmp_path, load):
  """No more is read of a file than the size in the archive's directory."""
  path = zipped(tmp_path / 'x.zip', {'a.png': bytes(10**6)}, compression=zipfile.ZIP_DEFLATED)
  raw = bytearray(path.read_bytes())
  at = raw.index(b'PK\x01\x02') + 24
  raw[at : at + 4] = struct.pack('<I', 100)
  (tmp_path / 'x.zip').write_bytes(raw)
  with pytest.raises(ValueError, match='1 of 1 images cannot be read'):
    load(tmp_path / 'x.zip')


def test_damaged_archives_raise_nothing_but_value_error(tmp_path, load):
  raw = zipped(tmp_path / 'x.zip', {f'c{i}/a.png': i for i in range(3)}).read_bytes()
  rng, refused = np.random.default_rng(0), 0
  for _ in range(150):
    bad = bytearray(raw)
    for _ in range(3):
      bad[rng.integers(len(bad))] = rng.integers(256)
    (tmp_path / 'x.zip').write_bytes(bad)
    try:
      assert len(load(tmp_path / 'x.zip').images)
    except ValueError:
      refused += 1
  assert refused > 50
