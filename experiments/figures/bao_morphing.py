"""Morphing within a class (Bao et al. 2017, section 4.3): from one image to another of the same class.

    python experiments/figures/bao_morphing.py --workdir=runs/demo --out=morphing.png

Each row: a real image, decodings on the straight line between the latents of it and of another image of its
class, and that other image. The latents are the encoder's means. For runs with an encoder.
"""

from absl import flags

from vaegan_jax import command, files, settings

WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of a run of experiments/train.py.')
OUT = flags.DEFINE_string('out', None, 'PNG to write.')
ROWS = flags.DEFINE_integer('rows', 10, 'Pairs of images.', lower_bound=1)
STEPS = flags.DEFINE_integer(
  'steps', 9, 'Decodings between two images, those of both ends included.', lower_bound=2
)
SEED = flags.DEFINE_integer('seed', 0, 'Chooses the pairs.', lower_bound=0)


def main():
  command.check_picture(OUT.value)
  import numpy as np

  from vaegan_jax import build, images, sample

  command.keep_compiled_programs()
  model = sample.restore(WORKDIR.value)
  config = settings.from_dict(model.config)
  data = build.dataset(config, config.data.held_out)
  rng = np.random.default_rng(SEED.value)
  kind = model.about['condition']
  groups = rng.permutation(len(data.images)) % ROWS.value if kind != 'label' else data.labels
  pairs = [
    rng.permutation(np.flatnonzero(groups == k))[:2]
    for k in rng.permutation(np.unique(groups))[: ROWS.value]
  ]
  first, second = np.array([p for p in pairs if len(p) == 2]).T
  given = {
    'none': {},
    'label': dict(labels=data.labels[first] if kind == 'label' else None),
    'attributes': dict(attributes=data.attributes[first] if kind == 'attributes' else None),
  }[kind]
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


if __name__ == '__main__':
  command.run(
    main,
    needs=dict(
      workdir='--workdir is missing: name the folder of a run',
      out='--out is missing: name a PNG to write',
    ),
  )
