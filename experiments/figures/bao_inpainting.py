"""Inpainting by iterated reconstruction (Bao et al. 2017, section 4.4).

    python experiments/figures/bao_inpainting.py --workdir=runs/demo --out=inpainting.png

Held-out images with a square hole at a random place, 50 pixels wide at 128 and in proportion at other sizes;
what the model reconstructs in the hole is put in, again and again. Rows: original, with the hole, filled after
1, 5 and 10 iterations. Prints the PSNR inside the hole, beside that of filling it with the mean of what surrounds it.
"""

from absl import flags

from vaegan_jax import command, files

WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of a run of experiments/train.py, of a method with an encoder.'
)
OUT = flags.DEFINE_string('out', None, 'PNG to write.')
N = flags.DEFINE_integer('n', 12, 'Images.', lower_bound=1)
SEED = flags.DEFINE_integer('seed', 0, 'Places the holes.', lower_bound=0)
SHOWN = (1, 5, 10)


def main():
  command.check_picture(OUT.value)
  import numpy as np

  from vaegan_jax import edit, images, sample

  command.keep_compiled_programs()
  model = sample.restore(WORKDIR.value)
  originals, given = sample.pictures_of(model, '', N.value)
  size = originals.shape[1]
  side = round(50 / 128 * size)
  top, left = np.random.default_rng(SEED.value).integers(
    0, size - side + 1, (2, len(originals), 1, 1)
  )
  down, right = np.ogrid[:size, :size]
  hole = (down >= top) & (down < top + side) & (right >= left) & (right < left + side)
  course = edit.inpaint(model, originals, hole, iterations=SHOWN[-1], **given)
  cut = np.where(hole[..., None], np.uint8(128), originals)
  rows = np.concatenate([originals, cut, *(course[i - 1] for i in SHOWN)])
  names = ['original', 'hole', *(f'{i} iteration{"s" * (i > 1)}' for i in SHOWN)]
  files.save_png(
    OUT.value, images.captioned(images.grid(rows, len(originals), scale=max(1, 64 // size)), names)
  )
  flat = np.stack([np.broadcast_to(x[~h].mean(0), x.shape) for x, h in zip(originals, hole)])
  inside = lambda filled: (
    10 * np.log10(255**2 / np.mean(np.square(np.subtract(filled, originals, dtype=float))[hole]))
  )
  for i in SHOWN:
    print(
      f'PSNR inside the hole of {side}x{side} pixels, {i:2} iterations: {inside(course[i - 1]):.2f} dB'
    )
  print(f'filled with the mean of the rest of the image: {inside(flat):.2f} dB')
  print(
    f'{OUT.value}: rows are originals, hole, filled after {", ".join(map(str, SHOWN))} iterations'
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
