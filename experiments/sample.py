"""Draws samples, reconstructions or interpolations of a trained model.

    python experiments/sample.py --workdir=runs/demo --out=x.png --labels=3,3,7
    python experiments/sample.py --workdir=runs/faces --out=x.png --attributes=Smiling=1,Male=0
    python experiments/sample.py --workdir=runs/demo --out=x.png --mode=reconstruct --images=mine/
    python experiments/sample.py --workdir=runs/demo --out=x.png --mode=interpolate --labels=3
    python experiments/sample.py --workdir=runs/demo --out=x.npy --n=1000000
    python experiments/sample.py --workdir=runs/demo --out=folder/ --n=10000

Writes one PNG, or many samples as files. Reconstructions appear below their originals. Each row of
interpolations leads from one sample to another, or, with --images, from one encoded image to the
next. An .npy file holds uint8 [n, H, W, C]; a conditional model also writes x_labels.npy [n] or
x_attributes.npy [n, A]. A folder (an empty one, or a name that ends in /) gets one PNG per sample
and a labels.csv, the format that training on a folder of images reads. Memory does not grow with n;
unfinished files are named .part.
"""

from collections.abc import Iterable, Iterator
import pathlib
import time
from typing import Any

from absl import flags
import numpy as np

from vaegan_jax import command, files

WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of a run of train.py.')
OUT = flags.DEFINE_string('out', None, 'What to write: a grid.png, samples.npy, or folder/.')
MODE = flags.DEFINE_enum(
  'mode', 'sample', ['sample', 'reconstruct', 'interpolate'], 'What to draw.'
)
LABELS = flags.DEFINE_list('labels', None, 'Class numbers or names, which take turns: 3,3,7.')
ATTRIBUTES = flags.DEFINE_list('attributes', None, 'Attributes to set: Smiling=1,Male=0.')
IMAGES = flags.DEFINE_string(
  'images', None, 'Folder or zip of images; by default images of the run.'
)
N = flags.DEFINE_integer(
  'n',
  None,
  'Number of pictures, or of rows of an interpolation; a .png takes 10,000.',
  lower_bound=1,
)
STEPS = flags.DEFINE_integer(
  'steps', 10, 'Pictures per row of an interpolation, both ends included.', lower_bound=2
)
COLUMNS = flags.DEFINE_integer('columns', None, 'Pictures per row of the grid.', lower_bound=1)
SCALE = flags.DEFINE_integer('scale', None, 'Whole factor of enlargement.', lower_bound=1)
SEED = command.define_seed_flag('Seed of the noise.')
BATCH = flags.DEFINE_integer(
  'batch', 64, 'Images per dispatch for .npy and folders, a multiple of 64.', lower_bound=64
)
CHECKPOINT = flags.DEFINE_integer('step', None, 'Checkpoint to use; the newest by default.')

LARGEST_GRID = 10_000  # pictures in a .png
MOST_COLUMNS = 16  # with up to this many classes or labels, each gets its own column
REPORT_EVERY = 10  # seconds


def main() -> int:
  many = check_out(pathlib.Path(OUT.value))
  from vaegan_jax import sample

  command.keep_compiled_programs()
  model = sample.restore(WORKDIR.value, CHECKPOINT.value)
  said = write_many(model, pathlib.Path(OUT.value)) if many else write_grid(model)
  print(f'{said}, by the EMA weights of step {model.step}')
  return 0


def is_folder(out: pathlib.Path) -> bool:
  return OUT.value.endswith('/') or out.is_dir()


def check_out(out: pathlib.Path) -> bool:
  """Whether --out takes many samples, as opposed to a grid. Raises ValueError for a bad --out."""
  many = is_folder(out) or out.suffix.lower() == '.npy'
  if (not many and out.suffix.lower() != '.png') or not out.absolute().parent.is_dir():
    raise ValueError(
      f'--out={OUT.value}: name a .png or .npy file, or a folder/, in a folder that exists'
    )
  if IMAGES.value is not None and MODE.value == 'sample':
    raise ValueError(
      f'--images={IMAGES.value}: samples are drawn from noise: add --mode=reconstruct or '
      '--mode=interpolate, or leave it out'
    )
  if many and MODE.value != 'sample':
    raise ValueError(f'--out={OUT.value}: --mode={MODE.value} draws a .png')
  per_row = STEPS.value if MODE.value == 'interpolate' else 1
  pictures = (N.value or len(LABELS.value or []) or 8) * per_row
  if not many and pictures > LARGEST_GRID:
    raise ValueError(
      f'--out={OUT.value}: {pictures:,} pictures are more than the {LARGEST_GRID:,} that a .png '
      'takes: ' + ('name an .npy file or a folder/' if MODE.value == 'sample' else 'ask for fewer')
    )
  return many


def write_grid(model: Any) -> str:
  """Writes the .png; what to print about it."""
  from vaegan_jax import images, sample

  size = model.config['data']['image_size']
  scale = SCALE.value or max(1, 64 // size)
  images.check_canvas(size * scale, size * scale)  # of one picture, before the program compiles
  given = dict(labels=LABELS.value, attributes=attributes())
  if MODE.value == 'sample':
    grid = sample_grid(model, scale, given)
  elif MODE.value == 'reconstruct':
    originals, known = sample.pictures_of(model, IMAGES.value, N.value or 32, **given)
    grid = images.reconstruction_grid(originals, model.reconstruct(originals, **known), scale=scale)
  else:
    rows = interpolations(model, given)
    grid = images.grid(rows.reshape(-1, *rows.shape[2:]), rows.shape[1], scale=scale)
  files.save_png(OUT.value, grid)
  return f'{OUT.value}: {grid.shape[1]}x{grid.shape[0]} pixels'


def sample_grid(model: Any, scale: int, given: dict[str, Any]) -> np.ndarray:
  """A grid of samples: one column per class or label if there are few, else about square."""
  from vaegan_jax import images

  labels = len(LABELS.value or [])
  classes = model.about['size'] if model.about['condition'] == 'label' and not labels else 0
  columns = next((k for k in (classes, labels) if 0 < k <= MOST_COLUMNS), 0)
  n = N.value or labels or 8 * (columns or 8)
  columns = COLUMNS.value or columns or max(1, round(n**0.5))
  return images.grid(model.sample(n, seed=SEED.value, **given), columns, scale=scale)


def interpolations(model: Any, given: dict[str, Any]) -> np.ndarray:
  """Images [rows, steps, H, W, C]."""
  from vaegan_jax import conditions, dispatch, sample

  n = N.value or 8
  if IMAGES.value:
    originals, known = sample.pictures_of(model, IMAGES.value, 2 * n, **given)
    ends = 2 * (len(originals) // 2)
    if not ends:
      raise ValueError(
        f'--images={IMAGES.value}: an interpolation needs two images, and there is only one'
      )
    first, second = originals[0:ends:2], originals[1:ends:2]
    known = {k: v[0:ends:2] for k, v in known.items()}
  else:
    z = dispatch.latents(2 * n, model.latent_size, SEED.value)
    first, second = z[0::2], z[1::2]
    c = conditions.rows(model.about, n, **given, seed=SEED.value)
    known = conditions.keyword(model.about, c)
  return model.interpolate(first, second, steps=STEPS.value, **known)


def write_many(model: Any, out: pathlib.Path) -> str:
  """Writes --n samples to an .npy file or a folder; what to print about it."""
  from vaegan_jax import conditions

  n, about, d = N.value or 64, model.about, model.config['data']
  asked = dict(labels=LABELS.value, attributes=attributes(), seed=SEED.value)
  batches = reported(model.samples(n, batch=BATCH.value, **asked), n)
  # A second pass instead of keeping them: conditions cost next to nothing.
  rows = (c for c in conditions.batches(about, n, BATCH.value, **asked) if c is not None)
  if is_folder(out):
    table = conditions.table_rows(about, files.png_names(n), rows)
    files.save_pngs(out, batches, n, table, pixels=d['image_size'] ** 2 * d['channels'])
    return f'{out}/: {n} PNGs'
  shape = (n, d['image_size'], d['image_size'], d['channels'])
  arrays = [(out, batches, shape, 'uint8')]
  if about['condition'] == 'label':
    numbers = (c.argmax(1) for c in rows)
    arrays.append((out.with_name(f'{out.stem}_labels.npy'), numbers, (n,), 'int32'))
  elif about['condition'] == 'attributes':
    arrays.append((out.with_name(f'{out.stem}_attributes.npy'), rows, (n, about['size']), 'uint8'))
  files.save_npys(arrays)
  return f'{out}: uint8 {list(shape)}'


def reported(batches: Iterable[np.ndarray], n: int) -> Iterator[np.ndarray]:
  """Yields the batches; prints progress and images/s every REPORT_EVERY seconds and at the end."""
  start = last_report = time.monotonic()
  done = 0
  for batch in batches:
    yield batch
    done += len(batch)
    if done == len(batch):  # the first batch includes the compilation
      first, warm = done, time.monotonic()
    if time.monotonic() - last_report > REPORT_EVERY or done == n:
      last_report = time.monotonic()
      if done > first:
        rate, note = (done - first) / (last_report - warm), ''
      else:
        rate, note = done / (last_report - start), ' with compilation'
      print(f'{done:,} of {n:,} samples, {rate:,.0f} images/s{note}', flush=True)


def attributes() -> dict[str, int] | None:
  """{name: value} of --attributes, or None."""
  if ATTRIBUTES.value is None:
    return None
  pairs = [a.split('=') for a in ATTRIBUTES.value]
  if any(len(p) != 2 or p[1] not in ('0', '1') for p in pairs):
    raise ValueError(
      f'--attributes={",".join(ATTRIBUTES.value)}: write name=1 or name=0, separated by commas'
    )
  return {name: int(value) for name, value in pairs}


def cli() -> None:
  command.run(main, needs=command.NEEDS_RUN_AND_PNG)


if __name__ == '__main__':
  cli()
