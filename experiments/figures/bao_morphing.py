"""Section 4.3 of CVAE-GAN (Bao et al. 2017): morphing between two images of the same class.

    python experiments/figures/bao_morphing.py --workdir=runs/demo --out=morphing.png

Each row: a real image, decodings on the straight line from its latent to that of another image of
its class, and that other image. Latents are the encoder's means, so the run needs an encoder.
"""

from typing import Any

from absl import flags
import numpy as np

from vaegan_jax import command, files, settings

WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of a run of a method with an encoder.')
OUT = flags.DEFINE_string('out', None, 'PNG to write.')
ROWS = flags.DEFINE_integer('rows', 10, 'Pairs of images.', lower_bound=1)
STEPS = flags.DEFINE_integer(
  'steps', 9, 'Decodings between two images, both ends included.', lower_bound=2
)
SEED = command.define_seed_flag('Seed of the choice of pairs.')


def main() -> int:
  command.check_picture(OUT.value)
  from vaegan_jax import build, images, sample

  command.keep_compiled_programs()
  model = sample.restore(WORKDIR.value)
  config = settings.from_dict(model.config)
  data = build.held_out(config)
  kind = model.about['condition']
  first, second = pairs(data, kind)
  given = {}
  if kind == 'label':
    given = dict(labels=data.labels[first])
  elif kind == 'attributes':
    given = dict(attributes=data.attributes[first])
  line = model.interpolate(data.images[first], data.images[second], steps=STEPS.value, **given)
  rows = np.concatenate([data.images[first][:, None], line, data.images[second][:, None]], 1)
  scale = max(1, 64 // config.data.image_size)
  grid = images.grid(rows.reshape(-1, *rows.shape[2:]), rows.shape[1], scale=scale)
  names = ['real', *(f'{t:.2g}' for t in np.linspace(0, 1, STEPS.value)), 'real']
  files.save_png(OUT.value, images.captioned(grid, columns=names))
  print(
    f'{OUT.value}: each row a real image, {STEPS.value} decodings, another real image of its class'
  )
  return 0


def pairs(data: Any, kind: str) -> np.ndarray:
  """int [2, rows]: two random images of each of --rows random classes, or of the whole set."""
  rng = np.random.default_rng(SEED.value)
  groups = data.labels if kind == 'label' else rng.permutation(len(data.images)) % ROWS.value
  chosen = rng.permutation(np.unique(groups))[: ROWS.value]
  found = [rng.permutation(np.flatnonzero(groups == k))[:2] for k in chosen]
  return np.array([pair for pair in found if len(pair) == 2]).T


def cli() -> None:
  command.run(main, needs=command.NEEDS_RUN_AND_PNG)


if __name__ == '__main__':
  cli()
