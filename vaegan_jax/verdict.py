"""The result of an evaluation in one line."""

from collections.abc import Mapping
from typing import Any

from vaegan_jax import overfitting

RIGHT, DIVERSE, SHARP = 0.8, 0.5, 0.7  # over real images: less is told by the verdict
RECALLED = 0.2  # likewise
FEW = 300  # images, of which distances and recall say little


def verdict(result: Mapping[str, Mapping[str, Any]]) -> str:
  """The result in one line: what is wrong with the samples, or that nothing stands out.

  It judges samples in units of real images; which figures there are depends on the data.
  """
  samples, ratio = result['samples'], result.get('ratio', {})
  wrong = []
  if (top1 := ratio.get('top1', 1.0)) < RIGHT:
    wrong.append(f'classes are often wrong (top-1 {samples["top1"]:.0%}, {top1:.0%} of real)')
  diversity = min(ratio.get('diversity_pixels', 1.0), ratio.get('diversity_features', 1.0))
  if diversity < DIVERSE:
    wrong.append(f'samples of a class look alike (diversity {diversity:.0%} of real)')
  elif samples['recall'] < RECALLED * result['real']['recall']:
    wrong.append(f'much of the data is missing (recall {samples["recall"]:.2g})')
  if (sharpness := ratio.get('sharpness', 1.0)) < SHARP:
    wrong.append(f'blurred (sharpness {sharpness:.0%} of real)')
  elif sharpness > 1 / SHARP:
    wrong.append(f'noisy (sharpness {sharpness:.0%} of real)')
  if (again := result.get('reconstructions', {}).get('sharpness', 1.0)) < SHARP:
    wrong.append(f'reconstructions are blurred (sharpness {again:.0%} of real)')
  if 'latents' in result and not result['latents']['active_units']:
    wrong.append('the latents carry nothing')
  if copies := overfitting.complaint(result.get('overfitting', {})):
    wrong.append(copies)
  distance, best = samples['frechet_distance'], result['real']['frechet_distance']
  found = '; '.join(wrong) or 'nothing stands out'
  if (n := result['settings']['n']) < FEW:
    found += f'; {n} images are few to judge by'
  return f'verdict: {found}; Frechet distance {distance:.3g}, real images {best:.3g}'
