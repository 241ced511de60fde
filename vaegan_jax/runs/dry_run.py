"""What a run would be: its config, its networks, its cost. Nothing is written."""

import contextlib
import tempfile

import jax

from vaegan_jax import build, settings


def describe(config, say=print):
  """Prints the resolved config, the parameters by network and layer, FLOPs per image, and memory.

  The step is compiled for this machine's devices and is not run. Returns 0, or raises as
  train.train does.
  """
  build.check(config)
  with tempfile.TemporaryDirectory() as folder:
    dataset = build.dataset(config, scratch=folder)
    build.check_memory(config, dataset)
    size = build.about(config, dataset)['size']
    one = settings.with_settings(config, dict(steps_per_dispatch=1))
    phases = build.phases(one, size)
    phase = phases[-1]
    with contextlib.closing(build.feed(one, dataset, 0, phase.parallel)) as batches:
      batch = next(batches)
  state = jax.eval_shape(build.init(config, size, phases), jax.random.key(config.seed))
  say(f'{config}\n')
  for network, params in state.params.items():
    leaves = jax.tree_util.tree_leaves_with_path(params)
    say(f'{network}: {sum(v.size for _, v in leaves):,} parameters')
    for path, leaf in leaves:
      say(
        f'  {jax.tree_util.keystr(path, simple=True, separator="/"):40s} {str(leaf.shape):>20s} {leaf.size:>12,}'
      )
  everything = jax.tree.leaves(state)
  say(
    f'\ntotal: {sum(v.size for v in jax.tree.leaves(state.params)):,} parameters; '
    f'a checkpoint takes {mib(sum(v.size * v.dtype.itemsize for v in everything))}'
  )
  arguments = phase.parallel.like_state(state), batch, jax.random.key(config.seed)
  compiled = phase.parallel.step.lower(*arguments).compile()
  memory, counted = compiled.memory_analysis(), compiled
  if config.accumulate > 1:  # a loop's operations are counted once
    whole = build.phases(settings.with_settings(one, dict(accumulate=1)), size)[-1]
    counted = whole.parallel.step.lower(*arguments).compile()
  flops = counted.cost_analysis()['flops']
  per_device = config.batch_size / jax.device_count()
  say(
    f'one step of {config.batch_size} images on {jax.device_count()} {jax.devices()[0].platform} device(s): '
    f'{flops / per_device / 1e9:.3f} GFLOP per image'
  )
  in_use = (
    memory.argument_size_in_bytes
    + memory.temp_size_in_bytes
    + memory.output_size_in_bytes
    - memory.alias_size_in_bytes
  )
  say(
    f'memory per device: {mib(in_use)}, of which {mib(memory.temp_size_in_bytes)} for activations and gradients'
  )
  if config.data.on_device:
    say(f'the images take {mib(dataset.images.nbytes)} more on each device')
  say(
    f'{config.steps} steps are {config.steps * config.batch_size / len(dataset.images):.1f} passes over '
    f'{len(dataset.images):,} images. Nothing was written.'
  )
  return 0


def mib(count):
  """Bytes as MiB, in words."""
  return f'{count / 2**20:,.1f} MiB'
