"""Names, sizes and times in words, for messages."""

from collections.abc import Iterable
import difflib
from typing import Any


def closest(word: Any, known: Iterable) -> str:
  """'; did you mean X?' for the known name most like `word`, or ''."""
  match = difflib.get_close_matches(str(word), [str(k) for k in known], n=1)
  return f'; did you mean {match[0]}?' if match else ''


def size_in_words(count: int) -> str:
  """A number of bytes: '25 bytes', '1.5 KiB', '3.21 GiB'."""
  units = ('bytes', 'KiB', 'MiB', 'GiB', 'TiB')
  power = min((max(count, 1).bit_length() - 1) // 10, len(units) - 1)
  return f'{count / 1024**power:.4g} {units[power]}'


def duration(seconds: float) -> str:
  """Seconds as h:mm:ss."""
  hours, rest = divmod(round(seconds), 3600)
  return f'{hours}:{rest // 60:02d}:{rest % 60:02d}'
