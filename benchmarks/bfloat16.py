"""Trains methods in bfloat16 and in float32, and compares their loss curves.

    python -m benchmarks.bfloat16 --methods=vae_gan,cvae_gan --steps=300

Each method trains twice on the digits, from the same weights, data and noise. For each loss of the
method the table has the mean over the second half of the run in both, and their distance: |b - f|
over max(|f|, 1 nat). Two runs of a GAN drift apart even in one dtype, so the curves need to agree
within a band only. Exit status 1 if a distance is over --band, or if a run ends early.
"""

import pathlib
import tempfile
from typing import Any

from absl import flags
import numpy as np

from benchmarks import differences, machine
from vaegan_jax import command, methods
from vaegan_jax.configs import digits
from vaegan_jax.page.read import json_lines
from vaegan_jax.runs import train

METHODS = flags.DEFINE_list('methods', list(methods.METHODS), 'Names in methods.METHODS.')
STEPS = flags.DEFINE_integer('steps', 300, 'Training steps of each run.', lower_bound=4)
WIDTH = flags.DEFINE_float('width', 0.25, 'Factor on the published widths.')
BATCH_SIZE = flags.DEFINE_integer('batch_size', 64, 'Images in a batch.', lower_bound=2)
BAND = flags.DEFINE_float('band', 0.3, 'Largest distance between the curves.', lower_bound=0.0)

DTYPES = ('float32', 'bfloat16')
COLUMNS = ('method', 'images/s: float32, bfloat16', 'largest distance', 'loss', 'within the band')


def config_of(method: str, dtype: str) -> Any:
  """The config of one run."""
  config = digits.get_config(method).unlock()
  config.steps = config.sample_every_steps = config.save_every_steps = STEPS.value
  config.log_every_steps = max(1, STEPS.value // 60)
  config.batch_size, config.network.width, config.dtype = BATCH_SIZE.value, WIDTH.value, dtype
  if config.first.method_name:
    config.first.steps = STEPS.value // 2
  return config.lock()


def curves(config: Any) -> dict[str, np.ndarray]:
  """Trains, and returns {name: the values that the run logged}."""
  with tempfile.TemporaryDirectory() as folder:
    train.train(config, folder, say=lambda text: None)
    logged = list(json_lines(pathlib.Path(folder) / 'metrics.jsonl'))
  return {k: np.array([r.get(k) for r in logged], float) for k in logged[-1]}


def main() -> int:
  if unknown := [name for name in METHODS.value if name not in methods.METHODS]:
    raise ValueError(
      f'--methods: {unknown[0]} is unknown: use some of {", ".join(methods.METHODS)}'
    )
  command.keep_compiled_programs()
  print(
    f'digits, {STEPS.value} steps of {BATCH_SIZE.value} images, width {WIDTH.value:g}, band '
    f'{BAND.value:g}; {machine.line()}\n\n{machine.table(*COLUMNS)}'
  )
  outside = 0
  for method in METHODS.value:
    whole, half = (curves(config_of(method, dtype)) for dtype in DTYPES)
    names = {loss for row in methods.METHODS[method].values() for loss, w in row.items() if w}
    apart = differences.of_curves(whole, half, names)
    name, largest = max(apart.items(), key=lambda pair: pair[1])
    rates = ', '.join(f'{np.nanmedian(c["images_per_s"]):,.0f}' for c in (whole, half))
    outside += largest > BAND.value
    word = 'yes' if largest <= BAND.value else 'no'
    print(machine.row(method, rates, f'{largest:.3f}', name, word), flush=True)
  return int(outside > 0)


if __name__ == '__main__':
  command.run(main)
