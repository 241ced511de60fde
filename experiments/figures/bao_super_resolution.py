"""Super-resolution by iterated reconstruction, as CVAE-GAN's abstract promises (Bao et al. 2017).

    python experiments/figures/bao_super_resolution.py --workdir=runs/demo --out=enlarged.png

Reduces each held-out image to means of --factor x --factor pixels, enlarges these by bicubic
interpolation, and then repeatedly reconstructs the result and puts its low frequencies back. Prints
a table: PSNR and SSIM against the originals, and sharpness (gradient energy over that of the
originals), beside bicubic interpolation, the same with its low frequencies put back 10 times (what
the iterations gain without a model), the plain reconstruction of the bicubic image, and that of the
original. Rows of the picture: reduced, these, after 1, 5 and 10 iterations, original.
"""

from collections.abc import Iterator, Mapping

from absl import flags
import numpy as np

from vaegan_jax import command, files

WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of a run of a method with an encoder.')
OUT = flags.DEFINE_string('out', None, 'PNG to write.')
IMAGES = flags.DEFINE_string(
  'images', '', 'Folder or zip of images, where the run holds out none; they are not trained on.'
)
OF_SAMPLES = flags.DEFINE_bool(
  'of_samples', False, "Take the model's own samples as originals, where real ones stay private."
)
N = flags.DEFINE_integer('n', 64, 'Number of images measured.', lower_bound=1)
FACTOR = flags.DEFINE_integer('factor', 4, 'Width of an image over that before.', lower_bound=2)
SEED = command.define_seed_flag('Seed of --of_samples.')
SHOWN = (1, 5, 10)  # iterations
COLUMNS = 12  # images in the picture


def main() -> int:
  command.check_picture(OUT.value)
  if OF_SAMPLES.value and IMAGES.value:
    raise ValueError(f'--images={IMAGES.value}: leave it out with --of_samples')
  from vaegan_jax import edit, images, sample

  command.keep_compiled_programs()
  model = sample.restore(WORKDIR.value)
  size = model.config['data']['image_size']
  if size % FACTOR.value:
    raise ValueError(f'--factor={FACTOR.value}: use a divisor of {size}, the size of the images')
  originals, given = sample.pictures_of(model, IMAGES.value, N.value)
  if OF_SAMPLES.value:
    originals = model.sample(len(originals), seed=SEED.value, **given)
  low = edit.rounded(edit.block_means(originals, (size // FACTOR.value,) * 2))
  enlarged = edit.enlarge(model, low, iterations=SHOWN[-1], **given)
  bicubic = edit.rounded(edit.bicubic(low, size))
  projected = bicubic
  for _ in range(SHOWN[-1]):
    projected = edit.put_back(projected, low)
  results = {
    'bicubic': bicubic,
    'bicubic, put back': projected,
    'plain reconstruction': model.reconstruct(bicubic, **given),
  }
  results |= {f'{i} iteration{"s" * (i > 1)}': enlarged[i - 1] for i in SHOWN}
  nearest = low.repeat(FACTOR.value, 1).repeat(FACTOR.value, 2)
  rows = {f'{size // FACTOR.value} pixels': nearest, **results, 'original': originals}
  shown = min(COLUMNS, len(originals))
  grid = images.grid(np.concatenate([x[:shown] for x in rows.values()]), shown)
  files.save_png(OUT.value, images.captioned(grid, list(rows)))
  results['original, reconstructed'] = model.reconstruct(originals, **given)
  print('\n'.join(table(results, originals)))
  print(f'{OUT.value}: rows are {", ".join(rows)}')
  return 0


def table(results: Mapping[str, np.ndarray], originals: np.ndarray) -> Iterator[str]:
  """Lines of Markdown: means over the images."""
  from vaegan_jax import metrics

  energy = metrics.gradient_energy(originals).mean()
  yield f'| {len(originals)} images | PSNR, dB | SSIM | sharpness |'
  yield '|---|---|---|---|'
  for name, found in results.items():
    psnr, ssim = metrics.psnr(found, originals).mean(), metrics.ssim(found, originals).mean()
    sharpness = metrics.gradient_energy(found).mean() / energy
    yield f'| {name} | {psnr:.2f} | {ssim:.3f} | {sharpness:.2f} |'


def cli() -> None:
  command.run(main, needs=command.NEEDS_RUN_AND_PNG)


if __name__ == '__main__':
  cli()
