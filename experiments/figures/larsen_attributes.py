"""Section 4.1 of VAE/GAN (Larsen et al. 2016): attributes added to faces in latent space.

    python experiments/figures/larsen_attributes.py --workdir=runs/faces --out=attributes.png

The vector of an attribute is the mean latent of training images with it minus that of images
without it. One row per held-out face: the face, its reconstruction, then the reconstruction with
each vector added, named above. For runs of an unconditional method with an encoder, on data with
attributes.
"""

import math

from absl import flags
import numpy as np

from vaegan_jax import command, files, settings

# The 18 attributes of the authors' code.
# fmt: off
ATTRIBUTES = (
  'Bald', 'Bangs', 'Black_Hair', 'Blond_Hair', 'Bushy_Eyebrows', 'Eyeglasses', 'Gray_Hair',
  'Heavy_Makeup', 'High_Cheekbones', 'Male', 'Mustache', 'Pale_Skin', 'Rosy_Cheeks', 'Smiling',
  'Straight_Hair', 'Wavy_Hair', 'Wearing_Lipstick', 'Young',
)
# fmt: on
WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of a run of train.py.')
OUT = flags.DEFINE_string('out', None, 'PNG to write.')
NAMES = flags.DEFINE_list('attributes', list(ATTRIBUTES), 'Attributes, one column each.')
FACES = flags.DEFINE_integer('faces', 8, 'Number of rows.', lower_bound=1)
SAMPLED = flags.DEFINE_bool(
  'sampled', False, 'Start from samples, not held-out faces: for a picture that may be shared.'
)
TRUNCATION = flags.DEFINE_float(
  'truncation', 1.0, 'With --sampled: length of the latents; under 1, fewer samples are broken.'
)
N = flags.DEFINE_integer(
  'n', 10_000, "Training images behind the vectors (the authors' 10,000).", lower_bound=2
)
STRENGTH = flags.DEFINE_float('strength', 1.0, 'Factor on the vectors; the authors use 1.')


def main() -> int:
  command.check_picture(OUT.value)
  if not math.isfinite(STRENGTH.value):
    raise ValueError(f'--strength={STRENGTH.value}: give a finite number')
  if TRUNCATION.value != 1 and not SAMPLED.value:
    raise ValueError(f'--truncation={TRUNCATION.value} is for samples: add --sampled')
  from vaegan_jax import build, dispatch, edit, images, sample

  command.keep_compiled_programs()
  model = sample.restore(WORKDIR.value)
  if model.about['condition'] != 'none':
    raise ValueError(
      f'{WORKDIR.value} was trained with attributes or classes: use sample.py --attributes instead'
    )
  config = settings.from_dict(model.config)
  seen = build.dataset(config)
  known = seen.attribute_names or []
  unknown = [name for name in NAMES.value if name not in known]
  if unknown:
    raise ValueError(
      f'--attributes: {seen.name} has no {unknown[0]}; it has {", ".join(known or ["none"])}'
    )
  columns = [known.index(name) for name in NAMES.value]
  vectors = edit.attribute_vectors(
    model, seen.images[: N.value], seen.attributes[: N.value][:, columns]
  )
  model = model.truncated(TRUNCATION.value)
  if SAMPLED.value:
    start, names = dispatch.latents(FACES.value, model.latent_size, seed=0), ['sample']
    first = [model.decode(start)]
  else:
    faces, _ = sample.pictures_of(model, '', FACES.value)
    start, names = model.encode(faces)[0], ['face', 'reconstruction']
    first = [faces, model.decode(start)]
  rows = np.stack([*first, *(model.decode(start + STRENGTH.value * v) for v in vectors)], 1)
  scale = max(1, 64 // config.data.image_size)
  grid = images.grid(rows.reshape(-1, *rows.shape[2:]), rows.shape[1], scale=scale)
  names += [name.replace('_', ' ') for name in NAMES.value]
  files.save_png(OUT.value, images.captioned(grid, columns=names))
  print(f'{OUT.value}: columns are {", ".join(names)}')
  return 0


def cli() -> None:
  command.run(main, needs=command.NEEDS_RUN_AND_PNG)


if __name__ == '__main__':
  cli()
