"""What all benchmarks share: the machine's line, the clocks, the spread of repeats."""

from collections.abc import Callable, Sequence
import datetime
import os
import pathlib
import platform
import sys
import time
from typing import Any, NamedTuple

import numpy as np

CORES = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


class Timed(NamedTuple):
  """Seconds of repeated calls."""

  warmup: float  # all calls before the timed ones; the first compiles
  wall: list[float]  # each call, by the clock
  cpu: list[float]  # each call, of processor time


def processor() -> str:
  """The processor's name, as the system reports it."""
  info = pathlib.Path('/proc/cpuinfo')
  lines = info.read_text().splitlines() if info.exists() else []
  return next(
    (line.split(':')[1].strip() for line in lines if line.startswith('model name')),
    platform.machine(),
  )


def line() -> str:
  """Cores, processor, devices, versions, day and load average, for a benchmark's first line."""
  import jax  # after the flags that it reads when it starts

  return (
    f'{CORES} x {processor()}, {jax.device_count()} {jax.devices()[0].device_kind} device(s), '
    f'JAX {jax.__version__}, {versions()}'
  )


def versions() -> str:
  """Python's version, the day and the load average."""
  return (
    f'Python {platform.python_version()}, {datetime.date.today()}, '
    f'load average {os.getloadavg()[0]:.1f}'
  )


def spread(values: Any, form: str = ',.1f') -> str:
  """'median (minimum to maximum)' of the repeats of a measurement."""
  low, middle, high = (
    format(float(v), form) for v in (np.min(values), np.median(values), np.max(values))
  )
  return f'{middle} ({low} to {high})'


def now() -> np.ndarray:
  """[seconds by the clock, seconds of processor time], to take differences of."""
  return np.array([time.perf_counter(), time.process_time()])


def timed(call: Callable[[], Any], warmup: int, count: int) -> Timed:
  """Seconds of `warmup` calls and of each of `count` more; waits for the result of each."""
  import jax

  start = now()
  for _ in range(warmup):
    jax.block_until_ready(call())
  marks = [now()]
  for _ in range(count):
    jax.block_until_ready(call())
    marks.append(now())
  each = np.diff(marks, axis=0)
  return Timed(float((marks[0] - start)[0]), each[:, 0].tolist(), each[:, 1].tolist())


def resident_mib() -> float:
  """MiB of main memory that this process takes now."""
  pages = int(pathlib.Path('/proc/self/statm').read_text().split()[1])
  return pages * os.sysconf('SC_PAGE_SIZE') / 2**20


def anonymous_mib() -> float:
  """MiB of main memory that this process takes now, without the pages of mapped files."""
  lines = pathlib.Path('/proc/self/status').read_text().splitlines()
  return next(int(line.split()[1]) for line in lines if line.startswith('RssAnon:')) / 1024


def command(name: str, arguments: Sequence[str]) -> list[str]:
  """The command line of a benchmark in its own process; run it from the project's root."""
  return [sys.executable, '-m', f'benchmarks.{name}', *arguments]


def table(*columns: str) -> str:
  """The header of a Markdown table."""
  return f'| {" | ".join(columns)} |\n|{"---|" * len(columns)}'


def row(*cells: Any) -> str:
  """One row of a Markdown table."""
  return f'| {" | ".join(map(str, cells))} |'
