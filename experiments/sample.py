"""Draws samples of a trained model, or reconstructions, or interpolations, as one PNG.

    python experiments/sample.py --workdir=runs/demo --out=x.png --labels=3,3,7
    python experiments/sample.py --workdir=runs/faces --out=x.png --attributes=Smiling=1,Male=0 --n=32
    python experiments/sample.py --workdir=runs/demo --out=x.png --mode=reconstruct --images=my_folder
    python experiments/sample.py --workdir=runs/demo --out=x.png --mode=interpolate --labels=3

Reconstructions show each image above its reconstruction. Interpolations go, row by row, from one
sample to another, or with --images from one image to the next, by the encoder.
"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags  # noqa: E402

from vaegan_jax import command  # noqa: E402

WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of a run of experiments/train.py.')
OUT = flags.DEFINE_string('out', None, 'PNG to write.')
MODE = flags.DEFINE_enum('mode', 'sample', ['sample', 'reconstruct', 'interpolate'], 'What to draw.')
LABELS = flags.DEFINE_list('labels', None, 'Class numbers or names, which take turns: 3,3,7.')
ATTRIBUTES = flags.DEFINE_list('attributes', None, 'Attributes to set: Smiling=1,Male=0.')
IMAGES = flags.DEFINE_string('images', None, 'Folder or zip of images; by default those of the training run.')
N = flags.DEFINE_integer('n', None, 'How many pictures (rows of an interpolation).', lower_bound=1)
STEPS = flags.DEFINE_integer('steps', 10, 'Pictures in a row of an interpolation, ends included.', lower_bound=2)
COLUMNS = flags.DEFINE_integer('columns', None, 'Pictures in a row of the grid.', lower_bound=1)
SCALE = flags.DEFINE_integer('scale', None, 'Whole factor of enlargement.', lower_bound=1)
SEED = flags.DEFINE_integer('seed', 0, 'Of the noise.', lower_bound=0)
CHECKPOINT = flags.DEFINE_integer('step', None, 'Checkpoint to use; the newest by default.')


def main():
  out = pathlib.Path(OUT.value)
  if out.suffix.lower() != '.png' or out.is_dir() or not out.absolute().parent.is_dir():
    raise ValueError(f'--out={OUT.value}: name a .png file in a folder that exists')
  from vaegan_jax import images, sample
  command.keep_compiled_programs()
  model = sample.restore(WORKDIR.value, CHECKPOINT.value)
  size = model.config['data']['image_size']
  scale = SCALE.value or max(1, 64 // size)
  given = dict(labels=LABELS.value, attributes=attributes())
  if MODE.value == 'sample':
    classes = model.about['size'] if model.about['condition'] == 'label' and not LABELS.value else 0
    across = classes if 0 < classes <= 16 else 0  # a column a class
    asked = len(LABELS.value or []) if len(LABELS.value or []) <= 16 else 0  # a column a label
    n = N.value or len(LABELS.value or []) or 8 * (across or 8)
    grid = images.grid(model.sample(n, seed=SEED.value, **given), COLUMNS.value or across or asked or columns(n), scale=scale)
  elif MODE.value == 'reconstruct':
    originals, known = sample.pictures_of(model, IMAGES.value, N.value or 32, **given)
    grid = images.reconstruction_grid(originals, model.reconstruct(originals, **known), scale=scale)
  else:
    rows = interpolated(model, sample, given)
    grid = images.grid(rows.reshape(-1, *rows.shape[2:]), rows.shape[1], scale=scale)
  images.save_png(OUT.value, grid)
  print(f'{OUT.value}: {grid.shape[1]}x{grid.shape[0]} pixels, by the EMA weights of step {model.step}')
  return 0


def interpolated(model, sample, given):
  """Images [rows, steps, H, W, C]."""
  n = N.value or 8
  if IMAGES.value:
    originals, known = sample.pictures_of(model, IMAGES.value, 2 * n, **given)
    n = len(originals) // 2
    ends, known = (originals[0:2 * n:2], originals[1:2 * n:2]), {k: v[0:2 * n:2] for k, v in known.items()}
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
    raise ValueError(f'--attributes={",".join(ATTRIBUTES.value)}: write name=1 or name=0, with commas between')
  return {name: int(value) for name, value in pairs}


def columns(n):
  """A number of columns that makes a grid of n pictures about square."""
  return max(1, round(n ** 0.5))


if __name__ == '__main__':
  command.run(main, needs=dict(
      workdir='--workdir is missing: name the folder of a run', out='--out is missing: name a PNG to write'))
