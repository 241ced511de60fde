"""Images of one's own, still encoded: a folder or a zip archive, with class folders or a table.

    cat/1.jpg dog/2.png     the class is the first folder
    labels.csv              file,label or file,Smiling,Male: 0, 1, ... K - 1; attributes 0/1 or -1/1
    dataset.json            {"labels": [["1.png", 3], ...]}
    1.jpg 2.png             without folders and table: no labels

All is listed and the labels are checked without decoding an image. Archives are read in place.
"""

import csv
import functools
import io
import json
import logging
import os
import pathlib
import stat
from typing import Callable, NamedTuple
import unicodedata
import zipfile

import numpy as np

from vaegan_jax.data import sources

log = logging.getLogger(__name__)

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.gif')
TABLES = ('labels.csv', 'dataset.json')
LARGEST_ARCHIVE = 20 * 10**9  # bytes, uncompressed
LARGEST_RATIO = 200  # of uncompressed to compressed bytes, for files above 1 MB


class Listing(NamedTuple):
  root: pathlib.Path
  files: dict  # {posix name: (what Example.encoded takes, [size and modification time or CRC])}
  folders: set  # names of folders at the root
  refused: list  # (name, reason)
  text: Callable[[str], bytes | None]  # the content of another file, None if there is none
  others: list  # names of other files, and of symlinks


def folder_source(path, split, label_table):
  """The Source of a folder or .zip of images with their labels; see load."""
  if not path:
    raise ValueError(
      '--config.data.name is folder, but --config.data.path is empty: set it to a '
      'folder or a .zip of images'
    )
  if split != 'train':
    raise ValueError(
      f'a folder has no split {split!r}: leave --config.data.split at train, and '
      'point --config.data.path at the folder of the other images'
    )
  root = pathlib.Path(path).expanduser()
  if not root.exists():
    raise ValueError(
      f'{root} does not exist: set --config.data.path to a folder or a .zip of images'
    )
  try:
    listing = _list_folder(root) if root.is_dir() else _list_zip(root)
  except OSError as error:
    raise ValueError(f'{root} cannot be listed: {error}') from error
  if not listing.files:
    first = (
      [f'; not used: {n}: {reason}' for n, reason in listing.refused[:1]]
      or [f'; it holds {len(listing.others)} others, such as {n}' for n in listing.others[:1]]
      or ['']
    )
    raise ValueError(
      f'{root} holds no image ({", ".join(EXTENSIONS)}; hidden files and symlinks '
      f'do not count){first[0]}'
    )
  ignored = [n for n in listing.others if n not in TABLES]
  if ignored:
    log.warning(
      '%s: ignored %d files or links that are not images, such as %s',
      root,
      len(ignored),
      ignored[0],
    )
  labels, classes, attributes, names = _labels(listing, label_table)
  order = sorted(listing.files)

  def read():
    examples = (
      sources.Example(
        n,
        listing.files[n][0],
        None if labels is None else labels[n],
        None if attributes is None else attributes[n],
      )
      for n in order
    )
    return sources.Content(len(order), examples, classes, names, tuple(listing.refused))

  # Values of labels are part of the identity, so that an edited table makes a new data set.
  rows = [
    [n, *listing.files[n][1], labels and labels[n], attributes and attributes[n].tolist()]
    for n in order
  ]
  return sources.Source(str(root), ['folder', rows, classes, names, listing.refused], read)


def _list_folder(root):
  """The Listing of a folder; symlinks in it are not followed."""
  files, folders, others, waiting = {}, set(), [], [(str(root), '')]
  while waiting:
    folder, prefix = waiting.pop()
    with os.scandir(folder) as entries:
      for entry in entries:
        name = prefix + entry.name
        if entry.name.startswith('.') or entry.name == '__MACOSX':
          continue
        if entry.is_symlink():
          others.append(f'{name} (a symlink)')
        elif entry.is_dir():
          folders.update([] if prefix else [name])
          waiting.append((entry.path, f'{name}/'))
        elif entry.is_file() and name.lower().endswith(EXTENSIONS):
          status = entry.stat()
          files[name] = entry.path, [status.st_size, status.st_mtime_ns]
        else:
          others.append(name)
  text = lambda name: (root / name).read_bytes() if (root / name).is_file() else None
  return Listing(root, files, folders, [], text, sorted(others))


def _list_zip(root):
  """The Listing of an archive, read in place: nothing is ever extracted.

  A single folder around everything counts as the root.
  """
  try:
    archive = zipfile.ZipFile(root)
    infos = archive.infolist()
  except Exception as error:  # BadZipFile, but also struct.error, UnicodeDecodeError and others
    raise ValueError(f'{root} is neither a folder nor a readable .zip ({error})') from error
  total = sum(info.file_size for info in infos)
  if total > LARGEST_ARCHIVE:
    raise ValueError(
      f'{root} would hold {total / 1e9:.0f} GB uncompressed, over the limit of '
      f'{LARGEST_ARCHIVE / 1e9:.0f} GB: unpack it, and point --config.data.path at '
      'the folder'
    )
  hidden = lambda part: part == '__MACOSX' or part.startswith('.') and part not in ('.', '..')
  visible = [i for i in infos if not any(map(hidden, i.filename.split('/')))]
  tops = {i.filename.split('/')[0] if '/' in i.filename else '' for i in visible}
  strip = len(tops.pop()) + 1 if len(tops) == 1 and not tops & {'', '.', '..'} else 0
  files, folders, refused, others, entries = {}, set(), [], [], {}
  for info in visible:
    name = info.filename[strip:]
    if '/' in name:
      folders.add(name.split('/')[0])
    if info.is_dir():
      continue
    if name in entries:
      raise ValueError(f'{root} holds {name} twice: remove one')
    entries[name] = info
    problem = _zip_problem(info)
    if not name.lower().endswith(EXTENSIONS):
      others.append(name)
    elif problem:
      refused.append((name, problem))
    else:
      files[name] = functools.partial(_zip_bytes, archive, info), [info.file_size, info.CRC]
  text = lambda name: _zip_bytes(archive, entries[name]) if name in entries else None
  return Listing(root, files, folders, refused, text, sorted(others))


def _zip_problem(info):
  if info.filename.startswith('/') or '..' in info.filename.split('/'):
    return 'its name leads out of the archive'
  if stat.S_ISLNK(info.external_attr >> 16):
    return 'it is a symlink'
  if info.flag_bits & 1:
    return 'it is encrypted'
  if info.file_size > max(10**6, LARGEST_RATIO * info.compress_size):
    return f'it expands over {LARGEST_RATIO} times'
  return None


def _zip_bytes(archive, info):
  try:
    return archive.read(info)
  except Exception as error:  # BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError
    raise ValueError(f'damaged in the archive: {error}') from error


def _labels(listing, label_table):
  """(labels {name: int}, class names, attributes {name: uint8 [A]}, attribute names), or Nones."""
  tables = [label_table] if label_table else [t for t in TABLES if listing.text(t) is not None]
  if len(tables) > 1:
    raise ValueError(f'{listing.root} holds {" and ".join(tables)}: keep one of them')
  if tables:
    return _table_labels(listing, tables[0])
  in_root = [n for n in listing.files if '/' not in n]
  if in_root and len(in_root) < len(listing.files):
    raise ValueError(
      f'{listing.root} holds images beside class folders, such as {in_root[0]}: '
      f'move them into one, or add {TABLES[0]} with the columns file,label'
    )
  if in_root:
    return None, None, None, None
  classes = sorted({n.split('/')[0] for n in listing.files})
  empty = sorted(listing.folders - set(classes) - {n.split('/')[0] for n, _ in listing.refused})
  if empty:
    raise ValueError(
      f'the class folder {listing.root / empty[0]} holds no image: remove it or put images into it'
    )
  index = {c: i for i, c in enumerate(classes)}
  return {n: index[n.split('/')[0]] for n in listing.files}, classes, None, None


def _table_labels(listing, table):
  """_labels by a table in the listing, or at a path of its own."""
  text = listing.text(table)
  if text is None and pathlib.Path(table).expanduser().is_file():
    text = pathlib.Path(table).expanduser().read_bytes()
  if text is None:
    raise ValueError(
      f'there is no table of labels {table}, neither in {listing.root} nor as a path of its own'
    )
  try:
    rows, names = (_json_rows if table.endswith('.json') else _csv_rows)(text.decode('utf-8-sig'))
    if not rows and table.endswith('.json'):
      return None, None, None, None
    rows = _rows_by_image(listing, rows)
    classes, values = _classes(rows.values()), names and _binary(rows.values(), names)
  except (ValueError, csv.Error, RecursionError) as error:
    raise ValueError(f'{listing.root}, {table}: {error}') from error
  index = {c: i for i, c in enumerate(classes or ())}
  labels = {n: index[str(row[2])] for n, row in rows.items()} if classes else None
  return labels, classes, values and {n: values[row[0]] for n, row in rows.items()}, names


def _rows_by_image(listing, rows):
  """{name: row}: one row for every image, and none without an image."""
  # macOS decomposes the accents of file names, tables usually do not.
  plain = lambda name: unicodedata.normalize('NFC', name)
  images = {plain(n): n for n in listing.files}
  refused, found = {plain(n) for n, _ in listing.refused}, {}
  for row in rows:
    place, file = row[:2]
    key = plain(file.replace('\\', '/').removeprefix('./'))
    if key in refused:
      continue
    if key not in images:
      raise ValueError(f'{place}: there is no image {file}: correct the name or remove the row')
    if images[key] in found:
      raise ValueError(f'{place}: {file} has a row already: keep one of them')
    found[images[key]] = row
  bare = sorted(set(listing.files) - set(found))
  if bare:
    raise ValueError(
      f'{len(bare)} of {len(listing.files)} images have no row, such as {bare[0]}: '
      'add rows or move the images elsewhere'
    )
  return found


def _json_rows(text):
  """([(place, file, label, None)], None) of StyleGAN's dataset.json."""
  content = json.loads(text)
  entries = content.get('labels') if isinstance(content, dict) else None
  if not entries:
    if isinstance(content, dict) and 'labels' in content:
      return [], None  # {"labels": null}: unlabelled
    raise ValueError('it is not {"labels": [["file.png", 3], ...]}')
  rows = []
  for i, entry in enumerate(entries):
    if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)):
      raise ValueError(f'entry {i} is {json.dumps(entry)[:80]}, not ["file.png", 3]')
    label = _class_index(json.dumps(entry[1]), f'entry {i} ({entry[0]})')
    rows.append((f'entry {i}', entry[0], label, None))
  return rows, None


def _csv_rows(text):
  """([(place, file, label or None, [A] strings or None)], attribute names or None)."""
  lines = [[field.strip() for field in row] for row in csv.reader(io.StringIO(text, newline=''))]
  header = lines[0] if lines else []
  if len(header) < 2 or header[0] != 'file' or len(set(header)) < len(header) or not all(header):
    raise ValueError(
      f'line 1 is {",".join(header)!r}: it must name the columns, each once: '
      'file,label or file,Smiling,Male'
    )
  names = [h for h in header[1:] if h != 'label'] or None
  rows = []
  for number, line in enumerate(lines[1:], 2):
    if not any(line):
      continue
    if len(line) != len(header):
      raise ValueError(f'line {number} has {len(line)} columns, line 1 has {len(header)}')
    row = dict(zip(header, line))
    rows.append((f'line {number}', line[0], row.get('label'), names and [row[n] for n in names]))
  if 'label' in header and not (rows and all(_is_word(label) for *_, label, _ in rows)):
    rows = [
      (place, file, _class_index(label, f'{place} ({file})'), values)
      for place, file, label, values in rows
    ]
  return rows, names


def _is_word(text):
  """Whether a label is the name of a class: neither empty nor any kind of number."""
  try:
    return bool(text) and float(text) is None
  except ValueError:
    return True


def _class_index(text, place):
  if not (text.isascii() and text.isdecimal()):
    raise ValueError(
      f'{place}: the label {text[:40]!r} is not an integer from 0 up: number the '
      'classes 0, 1, 2, ...'
    )
  return int(text)


def _classes(rows):
  """Names of the classes, sorted, or ['0', '1', ..., 'K - 1'], or None without labels; ValueError unless each
  number occurs."""
  places = {label: f'{place} ({file})' for place, file, label, _ in rows if label is not None}
  if not places:
    return None
  if all(isinstance(label, str) for label in places):
    return sorted(places)
  largest = max(places)
  for label in range(largest):
    if label not in places:
      raise ValueError(
        f'{places[largest]}: the label is {largest}, but no image has label '
        f'{label}: number the classes 0, 1, 2, ... without gaps'
      )
  return [str(label) for label in range(largest + 1)]


def _binary(rows, names):
  """{place: uint8 [A]} of the attribute columns, written as 0/1 or as -1/1 throughout."""
  low = '-1' if any('-1' in values for *_, values in rows) else '0'
  for place, file, _, values in rows:
    for name, value in zip(names, values):
      if value not in (low, '1'):
        raise ValueError(
          f'{place} ({file}): {name} is {value!r}: write {low} or 1, as elsewhere '
          'in the table (attributes are 0/1, or -1/1 throughout)'
        )
  return {place: np.array([v == '1' for v in values], np.uint8) for place, *_, values in rows}
