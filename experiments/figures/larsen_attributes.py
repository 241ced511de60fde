"""Visual attribute vectors (Larsen et al. 2016, section 4.1 and its figure): attributes added to faces.

    python experiments/figures/larsen_attributes.py --workdir=runs/faces --out=attributes.png

A vector is the mean latent of training images with an attribute minus that of those without it. One row a
held-out face: the face, its reconstruction, then the reconstruction with each vector added, named above. For unconditional runs with an encoder, on data with attributes.
"""

from absl import flags

from vaegan_jax import command, files, settings

# The 18 of the authors' code.
ATTRIBUTES = (
  'Bald',
  'Bangs',
  'Black_Hair',
  'Blond_Hair',
  'Bushy_Eyebrows',
  'Eyeglasses',
  'Gray_Hair',
  'Heavy_Makeup',
  'High_Cheekbones',
  'Male',
  'Mustache',
  'Pale_Skin',
  'Rosy_Cheeks',
  'Smiling',
  'Straight_Hair',
  'Wavy_Hair',
  'Wearing_Lipstick',
  'Young',
)
WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of a run of experiments/train.py.')
OUT = flags.DEFINE_string('out', None, 'PNG to write.')
NAMES = flags.DEFINE_list('attributes', list(ATTRIBUTES), 'Attributes, a column each.')
FACES = flags.DEFINE_integer('faces', 8, 'Rows.', lower_bound=1)
SAMPLED = flags.DEFINE_bool(
  'sampled',
  False,
  'Begin with samples in place of held-out faces: for a picture that may be passed on.',
)
N = flags.DEFINE_integer(
  'n',
  10_000,
  "Training images that the vectors are computed from (the authors' 10,000).",
  lower_bound=2,
)
STRENGTH = flags.DEFINE_float('strength', 1.0, 'Factor on the vectors; the authors add them once.')


def main():
  command.check_picture(OUT.value)
  import numpy as np

  from vaegan_jax import build, edit, images, sample

  command.keep_compiled_programs()
  model = sample.restore(WORKDIR.value)
  if model.about['condition'] != 'none':
    raise ValueError(
      f'{WORKDIR.value} was trained with attributes or classes: use sample.py --attributes instead'
    )
  config = settings.from_dict(model.config)
  seen = build.dataset(config)
  unknown = [name for name in NAMES.value if name not in (seen.attribute_names or [])]
  if unknown:
    raise ValueError(
      f'--attributes: {seen.name} has no {unknown[0]}; it has {", ".join(seen.attribute_names or ["none"])}'
    )
  columns = [seen.attribute_names.index(name) for name in NAMES.value]
  vectors = edit.attribute_vectors(
    model, seen.images[: N.value], seen.attributes[: N.value][:, columns]
  )
  if SAMPLED.value:
    begin, names = sample.latents(FACES.value, model.latent_size, seed=0), ['sample']
    first = [model.decode(begin)]
  else:
    faces, _ = sample.pictures_of(model, '', FACES.value)
    begin, names = model.encode(faces)[0], ['face', 'reconstruction']
    first = [faces, model.decode(begin)]
  rows = np.stack([*first, *(model.decode(begin + STRENGTH.value * v) for v in vectors)], 1)
  grid = images.grid(
    rows.reshape(-1, *rows.shape[2:]), rows.shape[1], scale=max(1, 64 // config.data.image_size)
  )
  names += [name.replace('_', ' ') for name in NAMES.value]
  files.save_png(OUT.value, images.captioned(grid, columns=names))
  print(f'{OUT.value}: columns are {", ".join(names)}')
  return 0


if __name__ == '__main__':
  command.run(
    main,
    needs=dict(
      workdir='--workdir is missing: name the folder of a run',
      out='--out is missing: name a PNG to write',
    ),
  )
