"""What a run would cost: parameters, FLOPs, memory and time. Nothing is written."""

from collections.abc import Callable, Mapping
import tempfile
import time
from typing import Any

import jax
from ml_collections import ConfigDict

from vaegan_jax import build, programs, settings
from vaegan_jax.parallel import free_bytes
from vaegan_jax.runs import memory
from vaegan_jax.words import duration, size_in_words

TIMED = 2  # steps


def describe(
  config: ConfigDict, say: Callable[[str], Any] = print, *, verbose: bool = False
) -> int:
  """Prints the parameters by network, FLOPs per image, memory, and the time that a run takes.

  It compiles the step for this machine's devices and, if it fits into memory, runs it a few times.
  `verbose` adds the resolved config and the parameters by layer. Returns 0, or raises as
  train.train does.
  """
  build.check(config)
  one = settings.with_settings(config, dict(steps_per_dispatch=1))
  with tempfile.TemporaryDirectory() as folder:
    dataset = build.dataset(config, scratch=folder)
    build.check_feed(config, dataset)
    size = build.about(config, dataset)['size']
    stages = programs.stages([one], size)
    (program,) = stages[-1].programs
    with programs.feed([one], dataset, 0, [program]) as batches:
      batch = next(batches)[0][0]
  key = jax.random.key(config.seed)
  init = programs.init(config, size, program)
  state = jax.eval_shape(init, key)
  if verbose:
    say(f'{config}\n')
  describe_networks(state.params, say, verbose)
  say(
    f'total: {count(state.params):,} parameters; a checkpoint takes '
    f'{size_in_words(sum(v.size * v.dtype.itemsize for v in jax.tree.leaves(state)))}'
  )
  parallel = program.runner.one
  arguments = parallel.like_state(state), batch, key
  compiled = parallel.step.lower(*arguments).compile()
  flops = flops_of(compiled, one, size, arguments)
  per_device = config.batch_size / jax.device_count()
  say(
    f'one step of {config.batch_size} images on {jax.device_count()} {jax.devices()[0].platform} '
    f'device(s): {flops / per_device / 1e9:.3f} GFLOP per image'
  )
  needed, free = memory.peak(compiled), free_bytes()
  say(
    f'memory per device: {size_in_words(needed)}, of which '
    f'{size_in_words(compiled.memory_analysis().temp_size_in_bytes)} for activations and gradients'
  )
  if config.data.on_device:
    say(f'the images take {size_in_words(dataset.images.nbytes)} more on each device')
  say(
    f'{config.steps:,} steps are {config.steps * config.batch_size / len(dataset.images):.1f} '
    f'passes over {len(dataset.images):,} images'
  )
  if free is not None and needed > free:
    say(f'warning: {memory.demand(config, needed, free)}')
  else:
    each = seconds_per_step(compiled, parallel.put_state(init(key)), batch, key)
    say(
      f'time: about {duration(config.steps * each)} at {config.batch_size / each:.0f} images/s on '
      'this machine, besides pictures and checkpoints'
    )
  say('Nothing was written.')
  return 0


def flops_of(compiled: Any, config: ConfigDict, size: int, arguments: tuple) -> float:
  """FLOPs per device of a compiled step."""
  if config.accumulate > 1:  # XLA counts a loop's operations once
    whole = programs.stages([settings.with_settings(config, dict(accumulate=1))], size)[-1]
    compiled = whole.programs[0].runner.one.step.lower(*arguments).compile()
  return compiled.cost_analysis()['flops']


def seconds_per_step(compiled: Callable, state: Any, batch: Any, key: jax.Array) -> float:
  """Of a compiled step, after one that does not count."""
  state, _ = jax.block_until_ready(compiled(state, batch, key))
  begin = time.monotonic()
  for _ in range(TIMED):
    state, _ = compiled(state, batch, key)
  jax.block_until_ready(state)
  return (time.monotonic() - begin) / TIMED


def describe_networks(params: Mapping[str, Any], say: Callable[[str], Any], verbose: bool) -> None:
  """Prints the parameters of each network; `verbose`: layer by layer."""
  for network, tree in params.items():
    say(f'{network}: {count(tree):,} parameters')
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree) if verbose else ():
      name = jax.tree_util.keystr(path, simple=True, separator='/')
      say(f'  {name:40s} {leaf.shape!s:>20s} {leaf.size:>12,}')


def count(tree: Any) -> int:
  """The number of parameters in a tree."""
  return sum(leaf.size for leaf in jax.tree.leaves(tree))
