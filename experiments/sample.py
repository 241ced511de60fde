"""Draws samples, reconstructions or interpolations of a trained model.

    python experiments/sample.py --workdir=runs/demo --out=x.png --labels=3,3,7
    python experiments/sample.py --workdir=runs/faces --out=x.png --attributes=Smiling=1,Male=0
    python experiments/sample.py --workdir=runs/demo --out=x.png --mode=reconstruct --images=mine/
    python experiments/sample.py --workdir=runs/demo --out=x.png --mode=interpolate --labels=3
    python experiments/sample.py --workdir=runs/demo --out=x.gif --mode=video --labels=3
    python experiments/sample.py --workdir=runs/demo --out=x.png --mode=inpaint --mask=hole.png
    python experiments/sample.py --workdir=runs/faces --out=x.png --truncation=0.6
    python experiments/sample.py --workdir=runs/demo --out=x.npy --n=1000000
    python experiments/sample.py --workdir=runs/demo --out=folder/ --n=10000

Writes one PNG, or many samples as files. The names of classes stand over their columns; one label
makes a square. Reconstructions appear below their originals. Each row of interpolations leads from
one sample to another, or, with --images, from one encoded image to the next; a video shows them all
at once, there and back. A truncation under 1 trades variety for fewer broken samples. Inpainting
fills the white part of the mask. An .npy file holds uint8 [n, H, W, C]; a conditional model also
writes x_labels.npy [n] or x_attributes.npy [n, A]. A folder (an empty one, or a name that ends in
/) gets one PNG per sample and a labels.csv, the format that training on a folder of images reads.
Memory does not grow with n; unfinished files are named .part.
"""

from collections.abc import Iterable, Iterator
import time
from typing import Any

from absl import flags
import numpy as np

from vaegan_jax import command, files, paths

WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of a run of train.py.')
OUT = flags.DEFINE_string(
  'out', None, 'What to write: a grid.png, video.gif or .mp4, samples.npy, or folder/.'
)
MODE = flags.DEFINE_enum(
  'mode', 'sample', ['sample', 'reconstruct', 'interpolate', 'inpaint', 'video'], 'What to draw.'
)
LABELS = flags.DEFINE_list('labels', None, 'Class numbers or names, which take turns: 3,3,7.')
ATTRIBUTES = flags.DEFINE_list('attributes', None, 'Attributes to set: Smiling=1,Male=0.')
IMAGES = flags.DEFINE_string(
  'images', None, 'A picture, or a folder or zip; by default the images of the run.'
)
MASK = flags.DEFINE_string(
  'mask', None, 'For --mode=inpaint: a picture of the hole, white where the images are missing.'
)
N = flags.DEFINE_integer(
  'n', None, 'Pictures, or rows of an interpolation; by default 8 rows, or a class each.', 1
)
STEPS = flags.DEFINE_integer(
  'steps',
  None,
  'Pictures per row of an interpolation, both ends included (10), or frames of a video (24).',
  lower_bound=2,
)
COLUMNS = flags.DEFINE_integer('columns', None, 'Pictures per row of the grid.', lower_bound=1)
SCALE = flags.DEFINE_integer('scale', None, 'Whole factor of enlargement.', lower_bound=1)
TRUNCATION = flags.DEFINE_float(
  'truncation',
  1.0,
  'Length of the latents of samples: under 1, fewer are broken, and they vary less.',
)
SEED = command.define_seed_flag('Seed of the noise.')
BATCH = flags.DEFINE_integer(
  'batch', 64, 'Images per dispatch for .npy and folders, a multiple of 64.', lower_bound=64
)
CHECKPOINT = flags.DEFINE_integer(
  'step', None, 'Checkpoint to use; the newest sound one by default.'
)

LARGEST_GRID = 10_000  # pictures in a .png
FILLED = (1, 5, 10)  # iterations of inpainting that are shown
FRAME = 80  # milliseconds per frame of a video
REPORT_EVERY = 5  # seconds


def main() -> int:
  out = paths.open_path(OUT.value, '--out=')
  many = check_out(out)
  from vaegan_jax import sample, sheets

  if is_mp4():
    sheets.codec()
  command.keep_compiled_programs()
  model = sample.restore(WORKDIR.value, CHECKPOINT.value).truncated(TRUNCATION.value)
  if many:
    said = write_many(model, out)
  else:
    said = write_video(model) if MODE.value == 'video' else write_grid(model)
  print(f'{said}, by the EMA weights of step {model.step}')
  return 0


def is_mp4() -> bool:
  return OUT.value.lower().endswith('.mp4')


def is_folder(out: Any) -> bool:
  return OUT.value.endswith('/') or out.is_dir()


def check_out(out: Any) -> bool:
  """Whether --out takes many samples, as opposed to a grid. Raises ValueError for a bad --out."""
  many = is_folder(out) or out.suffix.lower() == '.npy'
  drawn = ('.gif', '.mp4') if MODE.value == 'video' else ('.png',)
  named = ' or '.join(drawn)
  if IMAGES.value is not None and MODE.value == 'sample':
    raise ValueError(
      f'--images={IMAGES.value}: samples are drawn from noise: add --mode=reconstruct or '
      '--mode=interpolate, or leave it out'
    )
  if TRUNCATION.value != 1 and (IMAGES.value or MODE.value in ('reconstruct', 'inpaint')):
    raise ValueError(
      f'--truncation={TRUNCATION.value} is for samples: leave it out where images are reconstructed'
    )
  if many and MODE.value != 'sample':
    raise ValueError(f'--out={OUT.value}: --mode={MODE.value} draws a {named}')
  if (not many and out.suffix.lower() not in drawn) or not paths.takes_files(out.parent):
    also = ' or .npy file, or a folder/,' if MODE.value == 'sample' else ' file'
    raise ValueError(f'--out={OUT.value}: name a {named}{also} in a folder that exists')
  check_used(many)
  if bool(MASK.value) != (MODE.value == 'inpaint'):
    raise ValueError(
      '--mode=inpaint needs --mask: name a picture that is white where the images are missing'
      if MODE.value == 'inpaint'
      else f'--mask={MASK.value}: only --mode=inpaint takes a mask'
    )
  per_row = dict(interpolate=steps(), video=steps(), inpaint=2 + len(FILLED)).get(MODE.value, 1)
  pictures = (N.value or len(LABELS.value or []) or 8) * per_row
  if not many and pictures > LARGEST_GRID:
    raise ValueError(
      f'--out={OUT.value}: {pictures:,} pictures are more than the {LARGEST_GRID:,} that '
      f'a {named} takes: '
      + ('name an .npy file or a folder/' if MODE.value == 'sample' else 'ask for fewer')
    )
  return many


def check_used(many: bool) -> None:
  """Raises ValueError for a flag of the layout that --out or --mode would ignore."""
  for flag, ignored in (
    (COLUMNS, many or MODE.value in ('interpolate', 'inpaint')),
    (SCALE, many),
    (STEPS, MODE.value not in ('interpolate', 'video')),
  ):
    if flag.value is not None and ignored:
      raise ValueError(
        f'--{flag.name}={flag.value}: --out={OUT.value} with --mode={MODE.value} has none: '
        'leave it out'
      )


def steps() -> int:
  """Pictures from one end of an interpolation to the other."""
  return STEPS.value or (24 if MODE.value == 'video' else 10)


def write_grid(model: Any) -> str:
  """Writes the .png; what to print about it."""
  from vaegan_jax import images, sample, sheets

  size = model.config['data']['image_size']
  scale = SCALE.value or max(1, 64 // size)
  images.check_canvas(size * scale, size * scale)  # of one picture, before the program compiles
  given = dict(labels=LABELS.value, attributes=attributes())
  if MODE.value == 'sample':
    layout = dict(seed=SEED.value, columns=COLUMNS.value, scale=scale)
    grid = sheets.samples(model, N.value, **given, **layout)
  elif MODE.value == 'reconstruct':
    originals, known = sample.pictures_of(model, IMAGES.value, N.value or 32, **given)
    again = model.reconstruct(originals, **known)
    grid = images.reconstruction_grid(originals, again, COLUMNS.value or 8, scale=scale)
  elif MODE.value == 'inpaint':
    grid = inpainted(model, scale, given)
  else:
    rows = interpolations(model, given)
    grid = images.grid(rows.reshape(-1, *rows.shape[2:]), rows.shape[1], scale=scale)
    if names := class_names(model):
      grid = images.captioned(grid, [names[i % len(names)] for i in range(len(rows))])
  files.save_png(OUT.value, grid)
  return f'{OUT.value}: {grid.shape[1]}x{grid.shape[0]} pixels'


def inpainted(model: Any, scale: int, given: dict[str, Any]) -> np.ndarray:
  """A grid of images, with the hole of --mask, and filled after some iterations; named rows."""
  from vaegan_jax import edit, images, sample

  originals, known = sample.pictures_of(model, IMAGES.value, N.value or 8, **given)
  hole = read_mask(originals.shape[1])
  filled = edit.inpaint(model, originals, hole, iterations=FILLED[-1], **known)
  cut = np.where(hole[..., None], np.uint8(128), originals)
  rows = np.concatenate([originals, cut, *(filled[i - 1] for i in FILLED)])
  names = ['original', 'hole', *(f'{i} iteration{"s" * (i > 1)}' for i in FILLED)]
  return images.captioned(images.grid(rows, len(originals), scale=scale), names)


def read_mask(size: int) -> np.ndarray:
  """bool [size, size]: the white part of --mask, fitted as images of your own are."""
  from vaegan_jax import images

  try:
    mask = images.read_image(MASK.value, 1)
  except (OSError, ValueError) as e:
    raise ValueError(f'--mask={MASK.value}: {e}') from e
  hole = images.fit_image(mask, size)[..., 0] > 127
  if hole.all() or not hole.any():
    what = (
      'is all white: leave something to fill from' if hole.all() else 'has no white: paint a hole'
    )
    raise ValueError(f'--mask={MASK.value} {what}')
  return hole


def write_video(model: Any) -> str:
  """Writes the .gif or .mp4, a morph there and back; what to print about it."""
  from vaegan_jax import images, sheets

  rows = interpolations(model, dict(labels=LABELS.value, attributes=attributes()))
  scale = SCALE.value or max(1, 64 // rows.shape[2])
  columns = COLUMNS.value or max(1, round(len(rows) ** 0.5))
  frames = [images.grid(still, columns, scale=scale) for still in rows.swapaxes(0, 1)]
  save = sheets.save_mp4 if is_mp4() else sheets.save_gif
  save(OUT.value, frames + frames[-2:0:-1], FRAME)
  return f'{OUT.value}: {2 * len(frames) - 2} frames of {frames[0].shape[1]}x{frames[0].shape[0]}'


def class_names(model: Any) -> list[str]:
  """Of the classes that take turns in the rows of an interpolation between samples."""
  from vaegan_jax import conditions

  names = model.about['names'] if model.about['condition'] == 'label' and not IMAGES.value else []
  return [names[i] for i in conditions.class_numbers(LABELS.value if names else None, names)]


def interpolations(model: Any, given: dict[str, Any]) -> np.ndarray:
  """Images [rows, steps, H, W, C]."""
  from vaegan_jax import conditions, dispatch, sample

  n = N.value or (k if 1 < (k := len(class_names(model))) <= 16 else 8)
  if IMAGES.value:
    if given['labels']:  # one for each row of two images
      given = dict(given, labels=[label for label in given['labels'] for _ in range(2)])
    originals, known = sample.pictures_of(model, IMAGES.value, 2 * n, **given)
    ends = 2 * (len(originals) // 2)
    if not ends:
      raise ValueError(
        f'--images={IMAGES.value}: an interpolation needs two images, and there is only one'
      )
    first, second = originals[0:ends:2], originals[1:ends:2]
    classes = known.get('labels', np.zeros((ends, 1)))
    apart = np.any(classes[0:ends:2] != classes[1:ends:2], 1)
    if apart.any():
      at = 2 * int(apart.argmax())
      raise ValueError(
        f'--images={IMAGES.value}: images {at + 1} and {at + 2} in '
        'order of name are of two classes, and a row has one: give --labels, or one class alone'
      )
    known = {k: v[0:ends:2] for k, v in known.items()}
  else:
    z = dispatch.latents(2 * n, model.latent_size, SEED.value)
    first, second = z[0::2], z[1::2]
    c = conditions.rows(model.about, n, **given, seed=SEED.value)
    known = conditions.keyword(model.about, c)
  return model.interpolate(first, second, steps=steps(), **known)


def write_many(model: Any, out: Any) -> str:
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
