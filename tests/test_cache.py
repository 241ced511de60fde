"""The cache: decoded once, never out of date, never read when damaged, safe in races."""

import collections
import io
import logging
import os
import threading

import numpy as np
import pytest

from tests.files import counted_decodes, encoded, write
from vaegan_jax import data
from vaegan_jax.data import cache


@pytest.fixture
def decodes(monkeypatch):
  return counted_decodes(monkeypatch)


def values(dataset):
  return dataset.images[:, 0, 0, 0].tolist()


def test_second_load_decodes_nothing(tmp_path, load, decodes):
  root = write(tmp_path / 'set', {f'c{i % 3}/{i}.png': i for i in range(30)})
  one = load(root)
  assert decodes['n'] == 30
  two = load(root)
  assert decodes['n'] == 30
  np.testing.assert_array_equal(one.images, two.images)
  np.testing.assert_array_equal(one.labels, two.labels)
  assert one._replace(images=0, labels=0) == two._replace(images=0, labels=0)
  assert not two.images.flags.writeable


@pytest.mark.parametrize('change', ['touch', 'content', 'add', 'remove', 'rename', 'table'])
def test_a_changed_folder_is_decoded_again(tmp_path, load, decodes, change):
  table = 'file,label\na.png,0\nb.png,1\n'
  root = write(tmp_path / 'set', {'a.png': 1, 'b.png': 2, 'labels.csv': table})
  load(root)
  expected = [1, 2]
  if change == 'touch':
    os.utime(root / 'a.png', ns=(1, 1))
  elif change == 'content':
    (root / 'a.png').write_bytes(encoded(77))
    expected = [77, 2]
  elif change == 'table':
    write(root, {'labels.csv': 'file,label\na.png,1\nb.png,0\n'})
  else:
    (root / 'labels.csv').unlink()
    if change == 'add':
      write(root, {'c.png': 3})
      expected = [1, 2, 3]
    elif change == 'remove':
      (root / 'b.png').unlink()
      expected = [1]
    else:
      (root / 'a.png').rename(root / 'z.png')
      expected = [2, 1]
  before = decodes['n']
  got = load(root)
  assert values(got) == expected and decodes['n'] == before + len(expected)
  if change == 'table':
    assert got.labels.tolist() == [1, 0]


def test_sizes_and_channels_are_kept_apart(tmp_path, load):
  root = write(tmp_path / 'set', {'a.png': 1})
  assert {load(root, s, c).images.shape for s in (8, 16) for c in (1, 3)} == {
    (1, s, s, c) for s in (8, 16) for c in (1, 3)
  }


def test_scratch_takes_what_the_cache_does_not_have(tmp_path, load, decodes):
  root, scratch = write(tmp_path / 'set', {'a.png': 1, 'b.png': 2}), tmp_path / 'scratch'
  assert values(load(root, scratch=str(scratch))) == [1, 2]
  assert len(list(scratch.iterdir())) == 1 and not (tmp_path / '.cache').exists()
  load(root)
  assert decodes['n'] == 4
  load(root, scratch=str(tmp_path / 'other'))
  assert decodes['n'] == 4 and not (tmp_path / 'other').exists()


@pytest.mark.parametrize('file', ['images.npy', 'labels.npy', 'meta.json'])
@pytest.mark.parametrize('damage', ['cut', 'gone', 'empty', 'garbage', 'shorter'])
def test_a_damaged_cache_is_never_used(tmp_path, load, decodes, file, damage):
  root = write(tmp_path / 'set', {f'c{i % 3}/{i}.png': i for i in range(30)})
  one = load(root)
  expected = np.array(one.images)
  cached = next((tmp_path / '.cache').glob('*/' + file))
  raw = cached.read_bytes()
  cached.unlink()
  if damage == 'shorter' and file != 'meta.json':  # a sound file, but of another set
    np.save(cached, np.load(io.BytesIO(raw))[:-1])
  elif damage != 'gone':
    other = dict(cut=raw[:-7], empty=b'', garbage=b'\x93garbage' * 99, shorter=b'{}')
    cached.write_bytes(other[damage])
  two = load(root)
  assert decodes['n'] == 60
  np.testing.assert_array_equal(two.images, expected)
  np.testing.assert_array_equal(two.labels, one.labels)
  load(root)
  assert decodes['n'] == 60 and len(list((tmp_path / '.cache').iterdir())) == 1


def test_what_a_killed_decode_leaves_is_never_used(tmp_path, load, decodes, monkeypatch):
  root = write(tmp_path / 'set', {f'{i}.png': i for i in range(30)})
  monkeypatch.setattr(cache, '_publish', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
  with pytest.raises(KeyboardInterrupt):
    load(root)
  monkeypatch.undo()
  old = tmp_path / '.cache' / '.killed.tmp'
  old.mkdir()
  os.utime(old, (1, 1))
  assert len(load(root).images) == 30
  assert [p.name[:3] for p in (tmp_path / '.cache').iterdir()] == ['set']


def test_racing_loads_agree(tmp_path, load):
  root = write(tmp_path / 'set', {f'{i:02d}.png': i for i in range(60)})
  got, threads = [], [threading.Thread(target=lambda: got.append(load(root))) for _ in range(6)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert [values(g) for g in got] == [list(range(60))] * 6
  assert len(list((tmp_path / '.cache').iterdir())) == 1


def test_a_full_disk_is_named_before_decoding(tmp_path, load, monkeypatch):
  root = write(tmp_path / 'set', {'a.png': 1})
  monkeypatch.setattr(cache.shutil, 'disk_usage', lambda _: collections.namedtuple('U', 'free')(5))
  with pytest.raises(
    ValueError, match='64 bytes are needed, 5 bytes are free.*--config.data.cache_dir'
  ):
    load(root)


def test_an_unwritable_cache_is_named(tmp_path):
  write(tmp_path, {'set/a.png': 1, 'file': 'x'})
  with pytest.raises(ValueError, match='cannot be written to .*--config.data.cache_dir'):
    data.load(
      'folder',
      path=str(tmp_path / 'set'),
      image_size=8,
      channels=1,
      cache_dir=str(tmp_path / 'file'),
    )


def test_default_cache_follows_xdg(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
  data.load('folder', path=str(write(tmp_path / 'set', {'a.png': 1})), image_size=8, channels=1)
  assert len(list((tmp_path / 'xdg' / 'vaegan_jax' / 'data').iterdir())) == 1


def test_progress_is_logged(tmp_path, load, monkeypatch, caplog):
  caplog.set_level(logging.INFO)
  monkeypatch.setattr(cache, 'PROGRESS_SECONDS', -1.0)
  load(write(tmp_path / 'set', {'a.png': 1, 'b.png': 2}))
  assert '2 of 2 images' in caplog.text and 'images/s' in caplog.text
