"""A step on the devices: one or several per dispatch, with images on the host or the devices."""

import functools
import itertools

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from vaegan_jax import data, methods, optim, parallel
from vaegan_jax.step import train_step

pytestmark = pytest.mark.slow

MODES = ('mesh', 'pmap')


def dataset(count=100):
  rng = np.random.default_rng(0)
  return data.Dataset(
    'toy',
    rng.integers(0, 256, (count, tiny.SIDE, tiny.SIDE, 1), np.uint8),
    labels=rng.integers(0, tiny.K, count).astype(np.int32),
    class_names=list('abcd'),
  )


@functools.cache
def way(mode, devices, steps, loop=False):
  """Parallel of CVAE-GAN's step, compiled once for all tests; loop: as on accelerators."""
  table = methods.METHODS['cvae_gan']
  model = tiny.model(table, axis_name=parallel.AXIS if mode == 'pmap' else None)
  step = train_step(
    model, table, {n: optim.optimizer('adam', 1e-2) for n in table}, tiny.draws(True)
  )
  return parallel.PARALLEL[mode](step, jax.devices()[:devices], steps=steps)


@functools.cache
def first():
  """A state at step 0, on the host."""
  table = methods.METHODS['cvae_gan']
  return jax.device_get(tiny.state(tiny.model(table), table, True, optim.optimizer('adam', 1e-2)))


def trained(on, *, steps=1, on_device=False, start=None, count=6):
  """(terms of the last step, state at rest) after `count` steps."""
  start = start or first()
  state = on.put_state(jax.device_put(start, on.at_rest))
  at = data.indices(100, batch_size=16, seed=3, steps=steps, start_step=int(start.step))
  put = (
    on.resident(data.take(dataset(), slice(None), 'label'))
    if on_device
    else lambda at: on.put_batch(data.take(dataset(), at, 'label'))
  )
  for batch in itertools.islice(map(put, at), count // steps):
    state, terms = on.step(state, batch, jax.random.key(7))
  return on.take_terms(terms), jax.device_get(on.take_state(state))


def equal(one, two):
  jax.tree.map(np.testing.assert_array_equal, one, two)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('steps', [1, 2])
def test_images_on_the_devices_train_to_the_bit_as_those_on_the_host(mode, steps):
  on = way(mode, 4, steps)
  streamed, resident = (
    trained(on, steps=steps, on_device=where, count=8) for where in (False, True)
  )
  equal(streamed, resident)
  _, half = trained(on, steps=steps, on_device=True, count=4)
  equal(trained(on, steps=steps, on_device=True, start=half, count=4), resident)  # gone on with


@pytest.mark.parametrize('mode', MODES)
def test_a_step_is_compiled_once(mode):
  on = parallel.PARALLEL[mode](
    lambda state, batch, key: (state + batch['x'].sum(), dict(a=state[0])), jax.devices()[:2]
  )
  state, batch, compiled = (
    on.put_state(jax.device_put(jnp.zeros(3), on.at_rest)),
    dict(x=np.ones((4, 2), np.float32)),
    [],
  )

  def note(event, *_, **__):
    if event.endswith('backend_compile_duration'):
      compiled.append(event)

  jax.monitoring.register_event_duration_secs_listener(note)
  try:
    counts = []
    for _ in range(3):
      state, _ = jax.block_until_ready(on.step(state, on.put_batch(batch), jax.random.key(0)))
      counts.append(len(compiled))
  finally:
    jax.monitoring.unregister_event_duration_listener(note)
  assert counts[0] and counts == counts[:1] * 3


def test_only_indices_travel():
  """A resident set makes batches of arrays on the devices, sharded as the step takes them."""
  on = parallel.OverMesh(lambda state, batch, key: (state, {}), jax.devices()[:4])
  put = on.resident(data.take(dataset(), slice(None), 'label'))
  at = np.arange(16, dtype=np.int32)
  with jax.transfer_guard_host_to_device(
    'disallow'
  ):  # explicit device_put of the indices is allowed
    batch = put(at)
  assert {k: [s.data.shape for s in v.addressable_shards] for k, v in batch.items()} == dict(
    x=[(4, tiny.SIDE, tiny.SIDE, 1)] * 4, c=[(4,)] * 4
  )
  streamed = on.put_batch(data.take(dataset(), at, 'label'))
  assert all(batch[k].sharding == streamed[k].sharding for k in batch)
  equal(batch, streamed)


@pytest.mark.parametrize(
  'mode,loop', [('mesh', False), ('mesh', True), ('pmap', False), ('pmap', True)]
)
def test_several_steps_in_a_dispatch_are_single_steps(mode, loop, monkeypatch):
  """Unrolled, as on a CPU, and as a loop, as on accelerators."""
  terms, state = trained(way(mode, 4, 1))
  if loop:
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  other_terms, other = trained(way(mode, 4, 2, loop), steps=2)
  assert int(other.step) == 6
  for k, v in terms.items():
    np.testing.assert_allclose(other_terms[k], v, rtol=1e-4, atol=1e-5, err_msg=k)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), other, state)


def test_steps_without_finite_gradients_are_counted_within_a_dispatch():
  table = methods.METHODS['vae']
  model, transformations = tiny.model(table), {n: optim.optimizer('sgd', 1e-2) for n in table}
  step = train_step(model, table, transformations, tiny.draws(False))
  on = parallel.OverMesh(step, jax.devices()[:1], steps=3)
  x = np.stack([tiny.batch(False, 8)['x']] * 3)
  state, terms = on.step(
    tiny.state(model, table, False, transformations['generator']),
    on.put_batch(dict(x=x * np.float32([1, np.nan, np.nan])[:, None, None, None, None])),
    jax.random.key(0),
  )
  assert int(state.step) == 3 and int(state.skipped) == 2 and not np.isfinite(terms['pixel'])
  state, _ = on.step(state, on.put_batch(dict(x=x)), jax.random.key(0))
  assert int(state.skipped) == 0


def test_free_memory_is_known_here():
  assert 2**20 < parallel.free_bytes() < 2**50
