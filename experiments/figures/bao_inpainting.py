"""Section 4.4 of CVAE-GAN (Bao et al. 2017): inpainting by iterated reconstruction.

    python experiments/figures/bao_inpainting.py --workdir=runs/demo --out=inpainting.png

Cuts a square hole at a random place of each held-out image, 50 pixels wide at 128 and in proportion
at other sizes, then repeatedly fills the hole with the model's reconstruction. Rows: original, with
the hole, filled after 1, 5 and 10 iterations. Prints the PSNR inside the hole, and that of filling
the hole with the mean of the surrounding pixels.
"""

from absl import flags
import numpy as np

from vaegan_jax import command, files

WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of a run of a method with an encoder.')
OUT = flags.DEFINE_string('out', None, 'PNG to write.')
N = flags.DEFINE_integer('n', 12, 'Number of images.', lower_bound=1)
SEED = command.define_seed_flag('Seed of the places of the holes.')
SHOWN = (1, 5, 10)  # iterations


def main() -> int:
  command.check_picture(OUT.value)
  from vaegan_jax import edit, images, sample

  command.keep_compiled_programs()
  model = sample.restore(WORKDIR.value)
  originals, given = sample.pictures_of(model, '', N.value)
  size = originals.shape[1]
  side = round(50 / 128 * size)
  hole = holes(len(originals), size, side)
  filled = edit.inpaint(model, originals, hole, iterations=SHOWN[-1], **given)
  cut = np.where(hole[..., None], np.uint8(128), originals)
  rows = np.concatenate([originals, cut, *(filled[i - 1] for i in SHOWN)])
  names = ['original', 'hole', *(f'{i} iteration{"s" * (i > 1)}' for i in SHOWN)]
  grid = images.grid(rows, len(originals), scale=max(1, 64 // size))
  files.save_png(OUT.value, images.captioned(grid, names))
  for i in SHOWN:
    psnr = psnr_inside(hole, filled[i - 1], originals)
    print(f'PSNR inside the hole of {side}x{side} pixels, {i:2} iterations: {psnr:.2f} dB')
  flat = np.stack([np.broadcast_to(x[~h].mean(0), x.shape) for x, h in zip(originals, hole)])
  psnr = psnr_inside(hole, flat, originals)
  print(f'filled with the mean of the rest of the image: {psnr:.2f} dB')
  print(
    f'{OUT.value}: rows are originals, hole, filled after {", ".join(map(str, SHOWN))} iterations'
  )
  return 0


def holes(n: int, size: int, side: int) -> np.ndarray:
  """bool [n, size, size]: true in a square of `side` pixels at a random place of each image."""
  rng = np.random.default_rng(SEED.value)
  top, left = rng.integers(0, size - side + 1, (2, n, 1, 1))
  row, column = np.ogrid[:size, :size]
  return (row >= top) & (row < top + side) & (column >= left) & (column < left + side)


def psnr_inside(hole: np.ndarray, filled: np.ndarray, originals: np.ndarray) -> float:
  """PSNR in dB over the pixels in the hole."""
  error = np.subtract(filled, originals, dtype=float)[hole]
  return 10 * np.log10(255**2 / np.mean(np.square(error)))


def cli() -> None:
  command.run(main, needs=command.NEEDS_RUN_AND_PNG)


if __name__ == '__main__':
  cli()
