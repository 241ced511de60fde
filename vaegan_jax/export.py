"""Trained models as one file for others: `save` writes it, `load` makes a Trained model of it.

    export.save(vaegan_jax.restore('runs/demo'), 'model.zip')
    model = vaegan_jax.load('model.zip')

handed.py lists what the zip holds.
"""

from collections.abc import Iterator, Mapping
import importlib.util
import os
import pathlib
from typing import Any

import jax
from jax import export
import jax.numpy as jnp
import safetensors
import safetensors.numpy

import vaegan_jax
from vaegan_jax import bounds, build, dispatch, functions, handed, hub, parallel, settings
from vaegan_jax.model import MAKERS
from vaegan_jax.networks import NETWORKS
from vaegan_jax.sample import Trained

PLATFORMS = ('cpu', 'cuda', 'tpu')
PRIVATE = ('data.path', 'data.label_table', 'data.data_dir', 'data.cache_dir')  # folders of a host
CARD = 'model_card.md'


def save(
  model: Trained,
  path: str | os.PathLike[str],
  *,
  card: str = '',
  pictures: Mapping[str, bytes] | None = None,
) -> None:
  """Writes a model as a zip: StableHLO, weights, and a script that samples without this library.

  The paths of the config stay behind. On a CPU the script's images equal `model.sample`'s to the
  bit, if the export was made on one with the same version of JAX.

  Args:
    card: text of model_card.md.
    pictures: {name.png: bytes} that the card shows.

  Raises:
    ValueError: weights that are not float32, a truncated model, or flatbuffers is not installed.
    OSError: the path cannot be written.
  """
  check_installed()
  if isinstance(model.networks['generator'], functions.Truncated):
    raise ValueError('a truncated model: export the whole one, and truncate what load returns')
  flat = {name: a for network in model.networks for name, a in named(model.weights, network)}
  for name, a in flat.items():
    if a.dtype != jnp.float32:
      raise ValueError(f'{name} is {a.dtype}: an export holds float32 weights alone')
  kept = settings.from_dict(model.config).copy_and_resolve_references()
  kept.update_from_flattened_dict(dict.fromkeys(PRIVATE, ''))
  manifest = dict(
    made_by=f'vaegan_jax {vaegan_jax.__version__}, jax {jax.__version__}',
    step=model.step,
    config=settings.to_dict(kept),
    about=model.about,
    latent_size=model.latent_size,
  )
  manifest['xla_options_of_jax_0.10'] = parallel.OPTIONS_OF_JAX_0_10
  parts = {f'{name}.stablehlo': program(model, name) for name in model.networks}
  parts['weights.safetensors'] = safetensors.numpy.save(jax.device_get(flat))
  parts['run.py'] = pathlib.Path(__file__).with_name('standalone.py').read_bytes()
  parts[CARD] = card.encode()
  handed.write(path, manifest, {**parts, **(pictures or {})})


def check_installed() -> None:
  """Raises ValueError if what only `save` needs is not installed; `load` does not need it."""
  if importlib.util.find_spec('flatbuffers') is None:
    raise ValueError('flatbuffers is not installed: run pip install "vaegan_jax[export]"')


def named(weights: Mapping[str, Any], network: str) -> Iterator[tuple[str, Any]]:
  """Yields (name, leaf) of a network's {'params', 'stats'}: generator/params/conv0/kernel, ..."""
  variables = functions.variables(weights[network])
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    yield f'{network}/{jax.tree_util.keystr(path, simple=True, separator="/")}', leaf


def program(model: Trained, name: str) -> bytes:
  """A maker as jax.export writes it: (weights by name, inputs, condition if any) -> outputs.

      generator  z float32 [B, Z] -> images uint8 [B, H, W, C]
      encoder    images uint8 [B, H, W, C] -> means, log-variances float32 [B, Z]

  B is free. It runs on CPUs, NVIDIA GPUs and TPUs.
  """
  names, leaves = zip(*named(model.weights, name))
  tree = jax.tree.structure(functions.variables(model.weights[name]))
  network, d = model.networks[name], model.config['data']

  def run(weights, inputs, *c):
    variables = jax.tree.unflatten(tree, [weights[n] for n in names])
    weights = dict(params=variables['params'], stats=variables['batch_stats'])
    return dispatch.forward(network, weights, inputs, *(c or [None]))

  (b,) = export.symbolic_shape('b')
  inputs = jax.ShapeDtypeStruct((b, model.latent_size), jnp.float32)
  if name == 'encoder':
    shape = (b, d['image_size'], d['image_size'], d['channels'])
    inputs = jax.ShapeDtypeStruct(shape, jnp.uint8)
  size = model.about['size']
  c = [jax.ShapeDtypeStruct((b, size), jnp.float32)] if size else []
  weights = {n: jax.ShapeDtypeStruct(a.shape, a.dtype) for n, a in zip(names, leaves)}
  made = export.export(jax.jit(run), platforms=PLATFORMS)(weights, inputs, *c)
  return bytes(made.serialize())


def load(source: str | os.PathLike[str], *, network: str = '') -> Trained:
  """The Trained model of a zip that `save` or vaegan-export wrote: the same as `restore` gives.

  It has encoder and generator alone. A zip from a stranger is safe to load: nothing in it is
  unpickled, evaluated, imported or unpacked to the disk, and its checksums are verified.

  Args:
    source: the path of a zip, or hf://USER/NAME on the Hugging Face Hub.
    network: the module of the networks, for a model whose networks are not this library's: the
      name in the zip is imported only if you give it here.

  Raises:
    ValueError: it is no such zip, it is damaged, or its networks are not known.
    OSError: it cannot be read.
  """
  name = str(source)
  manifest, raw = handed.read(hub.fetched(name) if name.startswith(hub.SCHEME) else source)
  try:
    config: Any = settings.from_dict(manifest['config'])
    check_networks(config, network)
    networks, like = build.makers(config, manifest['about']['size'])
    weights = weights_like(like, raw)
  except Exception as e:  # a config from a stranger may raise anything
    said = e if isinstance(e, ValueError) else f'{type(e).__name__}: {e}'
    raise ValueError(f'{source} holds no model that this vaegan_jax can load: {said}') from e
  about, step = manifest['about'], manifest['step']
  return Trained(networks, weights, config.network.latent_size, about, step, manifest['config'])


def check_networks(config: Any, network: str) -> None:
  """Raises ValueError for fields of a stranger's config that are out of bounds.

  network: the module that the caller trusts, besides this library's.
  """
  known = {**settings.ADDED, **dict(settings.fields(config))}
  if known['network.name'] not in (*NETWORKS, network):
    name = known['network.name']
    raise ValueError(
      f'its networks are those of the module {name!r}: if you trust the module of this name that '
      f'you have, give network={name!r}'
    )
  for path in (
    'data.image_size',
    'data.channels',
    'data.condition',
    'dtype',
    'network.width',
    'network.latent_size',
    'network.encoder_units',
    'network.detail_channels',
  ):
    if complaint := bounds.BOUNDS[path].complaint(known[path]):
      raise ValueError(f'config.{path}={known[path]}: {complaint}')


def weights_like(like: Mapping[str, Any], raw: bytes) -> dict[str, Any]:
  """{maker: {'params', 'stats'}} on this host's first device, of safetensors' bytes.

  like: the same tree of shapes. Raises ValueError if names, shapes or types differ.
  """
  try:
    found = safetensors.numpy.load(raw)
  except safetensors.SafetensorError as e:
    raise ValueError(f'weights.safetensors cannot be read: {e}') from e
  here, made = functions.first_device(), {}
  wanted = {name: leaf for network in like for name, leaf in named(like, network)}
  if odd := sorted(set(wanted) ^ set(found)):
    raise ValueError(f'weights.safetensors and the config differ about {odd[0]}')
  for name, leaf in wanted.items():
    if (found[name].shape, found[name].dtype) != (leaf.shape, leaf.dtype):
      raise ValueError(
        f'{name} is {found[name].dtype} {list(found[name].shape)}, where the config makes it '
        f'{leaf.dtype} {list(leaf.shape)}'
      )
  for network in (n for n in MAKERS if n in like):
    leaves = [jax.device_put(found[name], here) for name, _ in named(like, network)]
    variables = jax.tree.unflatten(jax.tree.structure(functions.variables(like[network])), leaves)
    made[network] = dict(params=variables['params'], stats=variables['batch_stats'])
  return made
