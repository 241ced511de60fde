"""Draws samples of a trained model, or reconstructions, or interpolations, as one PNG; or many samples as files.

    python experiments/sample.py --workdir=runs/demo --out=x.png --labels=3,3,7
    python experiments/sample.py --workdir=runs/faces --out=x.png --attributes=Smiling=1,Male=0 --n=32
    python experiments/sample.py --workdir=runs/demo --out=x.png --mode=reconstruct --images=my_folder
    python experiments/sample.py --workdir=runs/demo --out=x.png --mode=interpolate --labels=3
    python experiments/sample.py --workdir=runs/demo --out=x.npy --n=1000000
    python experiments/sample.py --workdir=runs/demo --out=folder/ --n=10000

Reconstructions show each image above its reconstruction. Interpolations go, row by row, from one
sample to another, or with --images from one image to the next, by the encoder. An .npy gets uint8 [n, H, W, C],
and beside it, of a conditional model, x_labels.npy [n] or x_attributes.npy [n, A]; a folder (one that is there and
empty, or a name that ends in /) a PNG per sample and a labels.csv, as training on one's own images reads it. The
memory taken does not grow with n, and what is not complete is called .part.
"""

import pathlib
import time

from absl import flags

from vaegan_jax import command, files

WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of a run of experiments/train.py.')
OUT = flags.DEFINE_string('out', None, 'What to write: a grid.png, samples.npy, or folder/.')
MODE = flags.DEFINE_enum(
  'mode', 'sample', ['sample', 'reconstruct', 'interpolate'], 'What to draw.'
)
LABELS = flags.DEFINE_list('labels', None, 'Class numbers or names, which take turns: 3,3,7.')
ATTRIBUTES = flags.DEFINE_list('attributes', None, 'Attributes to set: Smiling=1,Male=0.')
IMAGES = flags.DEFINE_string(
  'images', None, 'Folder or zip of images; by default those of the training run.'
)
N = flags.DEFINE_integer(
  'n', None, 'How many pictures (rows of an interpolation); a .png takes 10,000.', lower_bound=1
)
STEPS = flags.DEFINE_integer(
  'steps', 10, 'Pictures in a row of an interpolation, ends included.', lower_bound=2
)
COLUMNS = flags.DEFINE_integer('columns', None, 'Pictures in a row of the grid.', lower_bound=1)
SCALE = flags.DEFINE_integer('scale', None, 'Whole factor of enlargement.', lower_bound=1)
SEED = flags.DEFINE_integer('seed', 0, 'Of the noise.', lower_bound=0)
BATCH = flags.DEFINE_integer(
  'batch', 64, 'Images at a time, a multiple of 64, for .npy and folders.', lower_bound=64
)
CHECKPOINT = flags.DEFINE_integer('step', None, 'Checkpoint to use; the newest by default.')

LARGEST_GRID = 10_000  # pictures in a .png


def main():
  out = pathlib.Path(OUT.value)
  folder = OUT.value.endswith('/') or out.is_dir()
  many = folder or out.suffix.lower() == '.npy'
  if not many and out.suffix.lower() != '.png' or not out.absolute().parent.is_dir():
    raise ValueError(
      f'--out={OUT.value}: name a .png or .npy file, or a folder/, in a folder that exists'
    )
  if many and MODE.value != 'sample':
    raise ValueError(f'--out={OUT.value}: --mode={MODE.value} draws a .png')
  pictures = (N.value or len(LABELS.value or []) or 8) * (
    STEPS.value if MODE.value == 'interpolate' else 1
  )
  if not many and pictures > LARGEST_GRID:
    raise ValueError(
      f'--out={OUT.value}: {pictures:,} pictures are more than the {LARGEST_GRID:,} that a .png takes: '
      + ('name an .npy file or a folder/' if MODE.value == 'sample' else 'ask for fewer')
    )
  from vaegan_jax import images, sample

  command.keep_compiled_programs()
  model = sample.restore(WORKDIR.value, CHECKPOINT.value)
  if many:
    return write_many(model, out, folder, images, sample)
  size = model.config['data']['image_size']
  scale = SCALE.value or max(1, 64 // size)
  given = dict(labels=LABELS.value, attributes=attributes())
  if MODE.value == 'sample':
    classes = model.about['size'] if model.about['condition'] == 'label' and not LABELS.value else 0
    across = classes if 0 < classes <= 16 else 0  # a column a class
    asked = len(LABELS.value or []) if len(LABELS.value or []) <= 16 else 0  # a column a label
    n = N.value or len(LABELS.value or []) or 8 * (across or 8)
    grid = images.grid(
      model.sample(n, seed=SEED.value, **given),
      COLUMNS.value or across or asked or columns(n),
      scale=scale,
    )
  elif MODE.value == 'reconstruct':
    originals, known = sample.pictures_of(model, IMAGES.value, N.value or 32, **given)
    grid = images.reconstruction_grid(originals, model.reconstruct(originals, **known), scale=scale)
  else:
    rows = interpolated(model, sample, given)
    grid = images.grid(rows.reshape(-1, *rows.shape[2:]), rows.shape[1], scale=scale)
  files.save_png(OUT.value, grid)
  print(
    f'{OUT.value}: {grid.shape[1]}x{grid.shape[0]} pixels, by the EMA weights of step {model.step}'
  )
  return 0


def write_many(model, out, folder, images, sample):
  """0, after writing --n samples to an .npy file or a folder."""
  n, about = N.value or 64, model.about
  asked = dict(labels=LABELS.value, attributes=attributes(), seed=SEED.value)
  parts = timed(model.samples(n, batch=BATCH.value, **asked), n)
  kind = dict(none='', label='labels', attributes='attributes')[about['condition']]
  # A second pass, in place of keeping them: conditions cost next to nothing.
  rows = (c for c in sample.conditions(about, n, BATCH.value, **asked) if c is not None)
  if folder:
    files.save_pngs(out, parts, n, sample.table_rows(about, files.png_names(n), rows))
    print(f'{out}/: {n} PNGs, by the EMA weights of step {model.step}')
    return 0
  d = model.config['data']
  written = [(out, parts, (n, d['image_size'], d['image_size'], d['channels']), 'uint8')]
  if kind:
    own = (
      ((c.argmax(1) for c in rows), (n,), 'int32')
      if kind == 'labels'
      else (rows, (n, about['size']), 'uint8')
    )
    written.append((out.with_name(f'{out.stem}_{kind}.npy'), *own))
  files.save_npys(written)
  print(
    f'{out}: uint8 [{n}, {d["image_size"]}, {d["image_size"]}, {d["channels"]}], by the EMA weights of step {model.step}'
  )
  return 0


def timed(parts, n):
  """The parts as they come, telling now and then, and at the end, how many images/s they are."""
  begun = told = time.monotonic()
  done = 0
  for part in parts:
    yield part
    done += len(part)
    if done == len(part):  # what comes before holds the compilation
      first, warm = done, time.monotonic()
    if time.monotonic() - told > 10 or done == n:
      told = time.monotonic()
      rate = (done - first) / (told - warm) if done > first else done / (told - begun)
      print(
        f'{done:,} of {n:,} samples, {rate:,.0f} images/s'
        + ('' if done > first else ' with compilation'),
        flush=True,
      )


def interpolated(model, sample, given):
  """Images [rows, steps, H, W, C]."""
  n = N.value or 8
  if IMAGES.value:
    originals, known = sample.pictures_of(model, IMAGES.value, 2 * n, **given)
    n = len(originals) // 2
    if not n:
      raise ValueError(
        f'--images={IMAGES.value}: an interpolation goes from one image to another, and here is one'
      )
    ends, known = (
      (originals[0 : 2 * n : 2], originals[1 : 2 * n : 2]),
      {k: v[0 : 2 * n : 2] for k, v in known.items()},
    )
  else:
    z = sample.latents(2 * n, model.latent_size, SEED.value)
    ends = z[0::2], z[1::2]
    known = sample.named(model.about, sample.condition(model.about, n, **given, seed=SEED.value))
  return model.interpolate(*ends, steps=STEPS.value, **known)


def attributes():
  """{name: value} of --attributes, or None."""
  if ATTRIBUTES.value is None:
    return None
  pairs = [a.split('=') for a in ATTRIBUTES.value]
  if any(len(p) != 2 or p[1] not in ('0', '1') for p in pairs):
    raise ValueError(
      f'--attributes={",".join(ATTRIBUTES.value)}: write name=1 or name=0, with commas between'
    )
  return {name: int(value) for name, value in pairs}


def columns(n):
  """A number of columns that makes a grid of n pictures about square."""
  return max(1, round(n**0.5))


if __name__ == '__main__':
  command.run(
    main,
    needs=dict(
      workdir='--workdir is missing: name the folder of a run',
      out='--out is missing: name a PNG to write',
    ),
  )
