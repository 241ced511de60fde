"""The tables that label a folder's images: labels.csv and StyleGAN's dataset.json.

    labels.csv      file,label or file,Smiling,Male: classes by name or 0, 1, ... K - 1; attributes
                    0/1 or -1/1
    dataset.json    {"labels": [["1.png", 3], ...]}

Every ValueError names the line or entry at fault; the caller adds the table's name.
"""

from collections.abc import Collection, Sequence
import csv
import io
import json
from typing import Any, NamedTuple

import numpy as np


class Row(NamedTuple):
  """What a table says about one image."""

  place: str  # in the table, for messages
  file: str
  label: Any  # int: the index of a class; str: its name; None: none
  values: Sequence[str] = ()  # [A] of the attributes, as written


def json_rows(text: str) -> list[Row]:
  """The rows of a dataset.json; none if it says that there are no labels."""
  content = json.loads(text)
  entries = content.get('labels') if isinstance(content, dict) else None
  if entries in (None, []) and isinstance(content, dict) and 'labels' in content:
    return []  # {"labels": null}: unlabelled
  if not isinstance(entries, list) or not entries:
    raise ValueError('it is not {"labels": [["file.png", 3], ...]}')
  rows = []
  for i, entry in enumerate(entries):
    if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)):
      raise ValueError(f'entry {i} is {json.dumps(entry)[:80]}, not ["file.png", 3]')
    place, file = f'entry {i}', entry[0]
    rows.append(Row(place, file, _class_index(json.dumps(entry[1]), f'{place} ({file})')))
  return rows


def csv_rows(text: str) -> tuple[list[Row], list[str] | None]:
  """(rows, attribute names or None) of a labels.csv."""
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
    fields = dict(zip(header, line))
    values = [fields[n] for n in names or ()]
    rows.append(Row(f'line {number}', line[0], fields.get('label'), values))
  if 'label' in header and not (rows and all(_is_class_name(row.label) for row in rows)):
    rows = [
      row._replace(label=_class_index(row.label, f'{row.place} ({row.file})')) for row in rows
    ]
  return rows, names


def class_names(rows: Collection[Row]) -> list[str] | None:
  """The names of the classes, sorted, or ['0', ..., 'K - 1'], or None without labels.

  Raises:
    ValueError: the classes are numbers, and a number below the largest does not occur.
  """
  places = {r.label: f'{r.place} ({r.file})' for r in rows if r.label is not None}
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


def attributes(rows: Collection[Row], names: Sequence[str]) -> dict[str, np.ndarray]:
  """{place: uint8 [A]}, 0 or 1, of columns that hold 0/1 or -1/1 throughout."""
  low = '-1' if any('-1' in row.values for row in rows) else '0'
  for row in rows:
    for name, value in zip(names, row.values):
      if value not in (low, '1'):
        raise ValueError(
          f'{row.place} ({row.file}): {name} is {value!r}: write {low} or 1, as elsewhere '
          'in the table (attributes are 0/1, or -1/1 throughout)'
        )
  return {row.place: np.array([v == '1' for v in row.values], np.uint8) for row in rows}


def _is_class_name(text):
  """Whether a label is a word: neither empty nor any kind of number."""
  try:
    float(text)
    return False
  except ValueError:
    return text != ''


def _class_index(text, place):
  if not (text.isascii() and text.isdecimal()):
    raise ValueError(
      f'{place}: the label {text[:40]!r} is not an integer from 0 up: number the '
      'classes 0, 1, 2, ...'
    )
  return int(text)
