"""What every benchmark says of where and how it ran."""

import datetime
import os
import pathlib
import platform

import numpy as np

CORES = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


def processor():
  """The processor's name, as the system tells it."""
  about = pathlib.Path('/proc/cpuinfo')
  lines = about.read_text().splitlines() if about.exists() else []
  return next(
    (t.split(':')[1].strip() for t in lines if t.startswith('model name')), platform.machine()
  )


def line():
  """'2 x AMD EPYC, cpu, JAX 0.10.2, 2026-11-24': cores, processor, what JAX runs on, version, day."""
  import jax  # after the flags that it reads when it starts

  kind = jax.devices()[0].device_kind
  return f'{CORES} x {processor()}, {jax.device_count()} {kind} device(s), JAX {jax.__version__}, {datetime.date.today()}'


def spread(values, form=',.1f'):
  """'median (least to largest)' of the repeats of a measurement."""
  low, middle, high = (
    format(float(v), form) for v in (np.min(values), np.median(values), np.max(values))
  )
  return f'{middle} ({low} to {high})'


def resident_mib():
  """MiB of main memory that this process has now."""
  pages = int(pathlib.Path('/proc/self/statm').read_text().split()[1])
  return pages * os.sysconf('SC_PAGE_SIZE') / 2**20
