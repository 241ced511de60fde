"""A step that may not fit into the memory is told of before it runs; a failure is one message."""

import subprocess
import sys
import types

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


def tiny():
  config = digits.get_config('vae')
  config.network.width, config.network.latent_size, config.batch_size = 0.0625, 4, 8
  return config


@pytest.mark.parametrize('free,refused_at', [(1024, 'states'), (300_000, 'step'), (2**40, '')])
def test_a_run_without_room_explains_itself(free, refused_at, tmp_path, monkeypatch):
  said = []
  monkeypatch.setattr(memory, 'free_bytes', lambda: free)
  monkeypatch.setattr(InTurn, 'step', exhausted)
  with pytest.raises(MemoryError) as error:
    train.train(tiny(), tmp_path, say=said.append)
  code, told = command.verdict(error.value)
  assert code == 3 and told.startswith('out of memory: --config.batch_size=8 has an estimated peak')
  for word in ('KiB on each', 'can be had', 'accumulate', 'network.width', 'checkpoint is sound'):
    assert word in told
  assert any('Compiling' in line for line in said) == (refused_at != 'states')
  assert isinstance(error.value.__cause__, MemoryError) == bool(refused_at)


def test_a_run_warns_of_a_step_that_may_not_fit(monkeypatch):
  said, compiled = [], jax.jit(lambda x: x + 1).lower(jnp.zeros(1024)).compile()
  runner = types.SimpleNamespace(
    lowered=lambda s, b: types.SimpleNamespace(compile=lambda: compiled)
  )
  monkeypatch.setattr(
    memory, 'free_bytes', lambda: memory.peak(compiled) - 4096
  )  # + 4096 of inputs
  memory.Watch(tiny(), said.append).before_step([types.SimpleNamespace(runner=runner)], [0], [0])
  (warning,) = said
  assert warning.startswith('warning: --config.batch_size=8 has an estimated peak')


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


@pytest.mark.slow
def test_an_abort_by_xla_is_one_message():
  program = """
import os
from vaegan_jax.configs import digits
from vaegan_jax.runs import memory
with memory.Watch(digits.get_config('vae'), print):
  os.abort()
"""
  done = subprocess.run([sys.executable, '-c', program], text=True, capture_output=True)
  assert done.returncode == 3
  assert done.stderr.startswith('error: out of memory, if std::bad_alloc stands above: --config.b')


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
