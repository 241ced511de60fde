"""The compiler's own estimate of a TPU program: cycles of each operation, and where they go.

XLA's compiler for TPUs writes `estimated_cycles` beside each operation that it schedules. They come
from its cost model, not from a measurement; an operation in a loop counts once.
"""

import collections
from collections.abc import Iterable
import re
from typing import NamedTuple

from benchmarks import machine

# FLOP per cycle of a device in bfloat16: multiply-accumulates of its matrix units, times 2. A v5e
# has 4 units of 128 x 128, a v4 two cores of 4 that XLA drives as one device.
PEAK = {'TPU v5 lite': 2 * 4 * 128**2, 'TPU v4': 2 * 8 * 128**2}

SUMMARY = ('method', 'device', 'images per device', 'GFLOP', 'million cycles', 'share of the peak')
OPERATIONS = ('cycles', 'share', 'operation', 'result', 'where')


class Operation(NamedTuple):
  """One operation that XLA schedules."""

  cycles: int
  name: str  # XLA's, without its number: fusion, convolution_add_fusion, copy
  result: str  # types and shapes of its outputs
  where: str  # the path of the JAX code that it comes from


def operations(text: str) -> list[Operation]:
  """The Operations of a compiled program's text, those with most cycles first."""
  found = []
  for line in text.splitlines():
    if cycles := re.search(r'"estimated_cycles":"(\d+)"', line):
      name, _, rest = line.strip().removeprefix('ROOT ').partition(' = ')
      where = re.search(r'op_name="([^"]*)"', line)
      found.append(
        Operation(
          int(cycles[1]),
          re.sub(r'[.\d]+$', '', name.lstrip('%')),
          ', '.join(re.findall(r'\w+\[[\d,]*\]', re.split(r' [\w-]+\(', rest)[0])[:3]),
          short(where[1]) if where else '',
        )
      )
  return sorted(found, reverse=True)


def short(where: str) -> str:
  """The path of an operation without what all paths share, such as jit(step)."""
  return re.sub(r'jit\(\w+\)/|jvp\(\)/|^while/body/', '', where)


def summary(method: str, kind: str, images: int, flops: float, cycles: int) -> str:
  """The row of SUMMARY of a step that takes `flops` and `cycles` on one device of this kind."""
  if kind not in PEAK:
    raise ValueError(f'{kind}: its peak is not known; add it to PEAK in benchmarks/tpu_estimate.py')
  share = flops / cycles / PEAK[kind]
  return machine.row(
    method, kind, images, f'{flops / 1e9:,.0f}', f'{cycles / 1e6:.2f}', f'{share:.0%}'
  )


def by_part(found: Iterable[Operation]) -> list[tuple[int, str]]:
  """[(cycles, part)]: the sum of each layer of a network, and of XLA's names outside the networks.

  `fusion` and `select` outside are mostly the update, the moving average and the check.
  """
  sums = collections.Counter()
  for operation in found:
    layer = re.search(r'([A-Z]\w+)\)*/(\w+)', operation.where)
    sums[f'{layer[1]} {layer[2]}' if layer else f'outside: {operation.name}'] += operation.cycles
  return [(cycles, part) for part, cycles in sums.most_common()]
