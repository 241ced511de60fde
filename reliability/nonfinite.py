"""Divergences: nothing that is not finite is saved, and the same command goes on at a sane rate.

    python -m reliability.nonfinite --count=20 --seed=0

A try goes on from a sound run, in this process, with one of: a learning rate of 1e6 to 1e30, which
the command line would refuse; images that turn into NaN or infinity, for a while or for good; or a
newest checkpoint whose weights are finite, but so large that no step succeeds. It holds if the run
ends well or by FloatingPointError; if all numbers of all its checkpoints are finite; if a sound
checkpoint stays; and if the same command, given up to twice with a sane rate, comes to its end with
samples of finite weights.
"""

import contextlib
import shutil
from unittest import mock

import numpy as np

from reliability import campaign

KINDS = ('rate', 'data', 'weights')
SANE = {'steps': campaign.STEPS + 40, 'save_every_steps': 5, 'log_every_steps': 40}


def attempt(own: campaign.Try) -> str:
  """Goes on from a copy of the sound run, badly, then well."""
  from vaegan_jax import checkpoint, sample

  run, kind = own.folder / 'run', KINDS[own.number % len(KINDS)]
  shutil.copytree(own.shared / 'straight', run)
  changes, context = {}, contextlib.nullcontext()
  if kind == 'rate':
    changes['optimizer.learning_rate'] = 10.0 ** own.draw.uniform(6, 30)
    own.moment = f'rate {changes["optimizer.learning_rate"]:g}'
  elif kind == 'data':
    context = bad_images(own)
  else:
    scale_weights(own, run)
  with context, mock.patch('vaegan_jax.build.check'):  # it would refuse the rate
    ended = trained(run, changes)
  if kind != 'data' and 'finite' not in ended:
    return f'nothing diverged: {ended}'
  if wrong := not_finite(run):
    return wrong
  if not checkpoint.sound_steps(run):
    return f'no sound checkpoint of {checkpoint.steps(run)} is left'
  for _ in range(2):
    again = trained(run, {})
    if again in ('0', 'done already'):
      break
  else:
    return f'at a sane rate: {again}'
  if wrong := not_finite(run):
    return wrong
  step = sample.restore(run).step
  return '' if step == SANE['steps'] else f'sampling takes step {step}'


def trained(run, changes) -> str:
  """'0', or the message of the FloatingPointError with which training ended."""
  from vaegan_jax import settings
  from vaegan_jax.configs import digits
  from vaegan_jax.runs import train

  config = digits.get_config('vae')
  config = settings.with_settings(config, {**campaign.TINY, **SANE, **changes})
  try:
    return str(train.train(config, run, say=lambda line: None))
  except FloatingPointError as e:
    return str(e)


@contextlib.contextmanager
def bad_images(own: campaign.Try):
  """Batches hold a bad number, from a random one on, for a while or for good."""
  from vaegan_jax import data

  first, count = own.draw.randrange(40), own.draw.choice([1, 3, 1000])
  value = own.draw.choice([np.nan, np.inf, -np.inf, 1e38])
  own.moment, batches, take = f'{value} in {count} batches from batch {first} on', [], data.take

  def spoiled(dataset, at, condition):
    batch = take(dataset, at, condition)
    x = batch['x'].astype(np.float32) / 127.5 - 1
    if first <= len(batches) < first + count:
      x.flat[own.draw.randrange(x.size)] = value
    batches.append(None)
    return {**batch, 'x': x}

  with mock.patch.object(data, 'take', spoiled):
    yield


def scale_weights(own: campaign.Try, run) -> None:
  """Saves a checkpoint one step later whose parameters are finite, but far too large."""
  import jax

  from vaegan_jax import checkpoint
  from vaegan_jax.step import TrainState

  step, factor = checkpoint.steps(run)[-1], np.float32(10 ** own.draw.uniform(25, 37))
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  state = checkpoint.load(run, step, checkpoint.shapes(run, step), here)
  own.moment = f'weights times {factor:g}'
  state['params'] = jax.tree.map(lambda a: np.clip(a * factor, -3e38, 3e38), state['params'])
  state['step'] = state['step'] + 1

  whole = TrainState(**jax.tree.map(lambda a: jax.device_put(a, here), state))
  known = checkpoint.manifest(run, step)
  about = dict(config=known['config'], about=known['about'])
  checkpoint.save(run, step + 1, whole, keep=3, **about).result()


def not_finite(run) -> str:
  """The arrays of a run's checkpoints that are not all finite, in words; ''."""
  from vaegan_jax import checkpoint

  for step in checkpoint.steps(run):
    for name, array in campaign.arrays(run, step).items():
      if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        return f'checkpoint {step} holds numbers that are not finite: {name}'
  return ''


def prepare(shared) -> None:
  """A sound run; compiled programs are cached."""
  from vaegan_jax import command

  campaign.straight(shared)
  command.keep_compiled_programs()


if __name__ == '__main__':
  campaign.define_flags(count=20)
  campaign.run('nonfinite', attempt, prepare)
