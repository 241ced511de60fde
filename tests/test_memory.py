"""A step that may not fit into the memory is told of before it runs; a failure is one message."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaegan_jax import command, parallel
from vaegan_jax.configs import digits
from vaegan_jax.members import InTurn
from vaegan_jax.runs import memory, train


def exhausted(*_):
  raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.\nMore.')


def test_a_run_warns_and_explains_itself(tmp_path, monkeypatch):
  config, said = digits.get_config('vae'), []
  config.network.width, config.network.latent_size, config.batch_size = 0.0625, 4, 8
  monkeypatch.setattr(memory, 'free_bytes', lambda: 1024)
  monkeypatch.setattr(InTurn, 'step', exhausted)
  with pytest.raises(MemoryError) as error:
    train.train(config, tmp_path, say=said.append)
  code, told = command.verdict(error.value)
  assert code == 3 and told.startswith('out of memory: --config.batch_size=8 has an estimated peak')
  for word in ('KiB on each', 'can be had', 'accumulate', 'network.width', 'checkpoint is sound'):
    assert word in told
  (warning,) = [line for line in said if line.startswith('warning: ')]
  assert warning.removeprefix('warning: ') in told


def test_a_look_at_the_memory_compiles_nothing_twice(caplog):
  way = parallel.OverMesh(lambda state, batch, key: (state + batch['x'].sum(), {}))
  state = jax.device_put(jnp.zeros(3), way.at_rest)
  batch, key = way.put_batch(dict(x=np.ones((8, 2), np.float32))), jax.random.key(0)
  with jax.log_compiles():
    assert memory.peak(way.step.lower(state, batch, key).compile()) > 0
    assert 'Finished XLA compilation' in caplog.text
    caplog.clear()
    way.step(state, batch, key)
  assert 'Finished XLA compilation' not in caplog.text


@pytest.mark.parametrize(
  'error,code,words',
  [
    (ValueError('x'), 2, 'x'),
    (OSError('x'), 2, 'x'),
    (FloatingPointError('x'), 3, 'x'),
    (MemoryError('out of memory: x'), 3, 'out of memory: x'),
    (MemoryError('Unable'), 3, 'out of memory: ask for fewer or smaller images (Unable)'),
    (RuntimeError('x'), 1, 'x'),
    (
      RuntimeError('RESOURCE_EXHAUSTED: x\ny'),
      3,
      'out of memory: ask for fewer or smaller images (RESOURCE_EXHAUSTED: x)',
    ),
  ],
)
def test_the_verdict_on_an_error(error, code, words):
  assert command.verdict(error) == (code, words)
