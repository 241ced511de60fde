"""Your own images, still encoded: a folder or a zip archive, with class folders or a table.

    cat/1.jpg dog/2.png    the first folder is the class
    labels.csv             or dataset.json: classes and attributes, see tables.py
    1.jpg 2.png            without class folders and table: no labels

A split is all images (train), or one of two parts: nine_tenths, and the tenth to hold out. The
name of an image decides its part, so that adding or removing images moves no other.

The labels are checked before any image is decoded.
"""

import csv
import hashlib
import logging
from typing import Any, NamedTuple
import unicodedata

import numpy as np

from vaegan_jax.data import listings, sources, tables
from vaegan_jax.paths import is_remote, open_path

log = logging.getLogger(__name__)

TABLES = ('labels.csv', 'dataset.json')
SPLITS = ('train', 'nine_tenths', 'tenth')
SPLIT_FOLDERS = {'train', 'training', 'test', 'testing', 'val', 'valid', 'validation'}


class Labels(NamedTuple):
  """The labels and attributes of a folder's images, by name; None where it has none."""

  labels: dict[str, int] | None = None
  class_names: list[str] | None = None
  attributes: dict[str, np.ndarray] | None = None  # uint8 [A]
  attribute_names: list[str] | None = None


def folder_source(path: str, split: str, label_table: str) -> sources.Source:
  """The Source of a folder or .zip of images with their labels; see datasets.load."""
  root = _root(path, split)
  try:
    picture = not is_remote(root) and root.suffix.lower() in listings.EXTENSIONS
    kind = listings.of_picture if picture else listings.of_zip
    listing = listings.of_folder(root) if root.is_dir() else kind(root)
  except OSError as error:
    raise ValueError(f'{root} cannot be listed: {error}') from error
  _refuse_empty(listing)
  ignored = [n for n in listing.others if n not in (*TABLES, label_table)]
  if ignored:
    log.warning(
      '%s: ignored %d files or links that are not images, such as %s',
      root,
      len(ignored),
      ignored[0],
    )
  labels, classes, attributes, names = _labels(listing, label_table)
  order, refused = sorted(listing.files), listing.refused
  if split != 'train':
    order = _part(root, order, split)
    refused = [(n, reason) for n, reason in refused if _in_tenth(n) == (split == 'tenth')]

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
    return sources.Content(len(order), examples, classes, names, tuple(refused))

  # The labels are part of the identity, so that an edited table makes a new data set.
  rows = [
    [n, *listing.files[n][1], labels and labels[n], attributes and attributes[n].tolist()]
    for n in order
  ]
  name = str(root) if split == 'train' else f'{root} ({split})'
  return sources.Source(name, ['folder', rows, classes, names, refused], read)


def _in_tenth(name: str) -> bool:
  """Whether the image belongs to the tenth; its name alone decides."""
  digest = hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()
  return int(digest, 16) % 10 == 0


def _part(root: Any, names: list[str], split: str) -> list[str]:
  """The names in nine_tenths or tenth; ValueError if either part has no image."""
  tenth = [n for n in names if _in_tenth(n)]
  if 0 < len(tenth) < len(names):
    return tenth if split == 'tenth' else [n for n in names if not _in_tenth(n)]
  raise ValueError(
    f'{root} has too few images for a held-out part: the split '
    f'{"nine_tenths" if tenth else "tenth"} of its {len(names)} would be empty. Add images, or '
    "train on all of them: --config.data.split=train --config.data.held_out=''"
  )


def _root(path, split):
  """The folder or archive to read; ValueError if there is none."""
  if not path:
    raise ValueError(
      '--config.data.name is folder, but --config.data.path is empty: set it to a '
      'folder or a .zip of images'
    )
  if split not in SPLITS:
    raise ValueError(
      f'a folder has no split {split!r}: set --config.data.split and --config.data.held_out to '
      f'one of {", ".join(SPLITS)}; train is all images'
    )
  root = open_path(path, '--config.data.path=').expanduser()
  if not root.exists():
    raise ValueError(
      f'{root} does not exist: name a folder or a .zip of images, for a run in --config.data.path'
    )
  return root


def _refuse_empty(listing):
  """ValueError if a listing has no image."""
  if listing.files:
    return
  hint = ''
  if listing.refused:
    hint = '; not used: {}: {}'.format(*listing.refused[0])
  elif listing.others:
    hint = f'; it holds {len(listing.others)} others, such as {listing.others[0]}'
  raise ValueError(
    f'{listing.root} holds no image ({", ".join(listings.EXTENSIONS)}; hidden files and symlinks '
    f'do not count){hint}'
  )


def _labels(listing, label_table):
  """The Labels of a listing, by its table or its class folders."""
  found = [label_table] if label_table else [t for t in TABLES if listing.content(t) is not None]
  if len(found) > 1:
    raise ValueError(f'{listing.root} holds {" and ".join(found)}: keep one of them')
  if found:
    return _table_labels(listing, found[0])
  in_root = [n for n in listing.files if '/' not in n]
  if in_root and len(in_root) < len(listing.files):
    raise ValueError(
      f'{listing.root} holds class folders and also images outside them, such as {in_root[0]}: '
      f'move these into a class folder, or add {TABLES[0]} with the columns file,label'
    )
  if in_root:
    return Labels()
  classes = sorted({n.split('/')[0] for n in listing.files})
  if {c.lower() for c in classes} <= SPLIT_FOLDERS and any(n.count('/') > 1 for n in listing.files):
    raise ValueError(
      f'{listing.root} holds {", ".join(classes)}, which look like splits with class folders in '
      f'them: give {listing.root / classes[-1]} as --config.data.path, or rename the folders'
    )
  empty = sorted(listing.folders - set(classes) - {n.split('/')[0] for n, _ in listing.refused})
  if empty:
    raise ValueError(
      f'the class folder {listing.root / empty[0]} holds no image: remove it or put images into it'
    )
  index = {c: i for i, c in enumerate(classes)}
  return Labels({n: index[n.split('/')[0]] for n in listing.files}, classes)


def _table_labels(listing, table):
  """The Labels by a table in the listing, or at another path."""
  content = listing.content(table)
  if content is None and (path := open_path(table).expanduser()).is_file():
    content = path.read_bytes()
  if content is None:
    raise ValueError(
      f'there is no table of labels {table}: it is neither a file in {listing.root} nor a path'
    )
  try:
    text = content.decode('utf-8-sig')
    if table.endswith('.json'):
      rows, names = tables.json_rows(text), None
      if not rows:
        return Labels()
    else:
      rows, names = tables.csv_rows(text)
    row_of = _rows_by_image(listing, rows)
    classes = tables.class_names(row_of.values())
    attributes = tables.attributes(row_of.values(), names) if names else None
  except (ValueError, csv.Error, RecursionError) as error:
    raise ValueError(f'{listing.root}, {table}: {error}') from error
  index = {c: i for i, c in enumerate(classes or ())}
  return Labels(
    {n: index[str(row.label)] for n, row in row_of.items()} if classes else None,
    classes,
    {n: attributes[row.place] for n, row in row_of.items()} if attributes else None,
    names,
  )


def _rows_by_image(listing, rows):
  """{name: row}: exactly one row for each image."""
  # macOS decomposes the accents of file names; tables usually do not.
  plain = lambda name: unicodedata.normalize('NFC', name)
  images = {plain(n): n for n in listing.files}
  refused, found = {plain(n) for n, _ in listing.refused}, {}
  for row in rows:
    key = plain(row.file.replace('\\', '/').removeprefix('./'))
    if key in refused:
      continue
    if key not in images:
      raise ValueError(
        f'{row.place}: there is no image {row.file}: correct the name or remove the row'
      )
    if images[key] in found:
      raise ValueError(f'{row.place}: {row.file} has a row already: keep one of them')
    found[images[key]] = row
  bare = sorted(set(listing.files) - set(found))
  if bare:
    raise ValueError(
      f'{len(bare)} of {len(listing.files)} images have no row, such as {bare[0]}: '
      'add rows or move the images elsewhere'
    )
  return found
