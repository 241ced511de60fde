"""Metrics of generated images: pure functions of arrays, one file per metric; NumPy in float64.

They take features, logits or images and know no model and no network. Report a result on features
with the name of the network that made them (vaegan_jax.features). Every metric raises ValueError
for shapes that do not fit, NaN, too few examples, or images in an unknown range.
"""

from vaegan_jax.metrics.attributes import AttributeSimilarity, attribute_similarity
from vaegan_jax.metrics.data_copying import authenticity, data_copying
from vaegan_jax.metrics.density_coverage import DensityCoverage, density_coverage
from vaegan_jax.metrics.diversity import diversity_ratio, within_class_distance
from vaegan_jax.metrics.energy import energy_distance, energy_gap
from vaegan_jax.metrics.feature_likelihood import fld_gap
from vaegan_jax.metrics.frechet_distance import (
  FeatureStats,
  feature_stats,
  frechet_distance,
  frechet_distance_of_gaussians,
  frechet_distance_of_stats,
  merge_stats,
)
from vaegan_jax.metrics.inception_score import class_probabilities, inception_score
from vaegan_jax.metrics.kid import kid, kid_of_subsets
from vaegan_jax.metrics.latents import active_units, kl_per_dimension
from vaegan_jax.metrics.modes import mode_counts, mode_kl, modes_covered
from vaegan_jax.metrics.precision_recall import PrecisionRecall, precision_recall
from vaegan_jax.metrics.psnr import psnr
from vaegan_jax.metrics.sharpness import gradient_energy
from vaegan_jax.metrics.ssim import ssim
from vaegan_jax.metrics.top1 import top1, top1_per_class

# fmt: off
__all__ = [
    'FeatureStats', 'feature_stats', 'merge_stats',
    'frechet_distance', 'frechet_distance_of_stats', 'frechet_distance_of_gaussians',
    'kid', 'kid_of_subsets',
    'PrecisionRecall', 'precision_recall', 'DensityCoverage', 'density_coverage',
    'class_probabilities', 'inception_score', 'top1', 'top1_per_class',
    'within_class_distance', 'diversity_ratio', 'mode_counts', 'modes_covered', 'mode_kl',
    'psnr', 'ssim', 'gradient_energy', 'active_units', 'kl_per_dimension',
    'data_copying', 'authenticity', 'energy_distance', 'energy_gap', 'fld_gap',
    'AttributeSimilarity', 'attribute_similarity',
]
# fmt: on
