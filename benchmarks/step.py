"""Speed of one VAE/GAN step beside the same step in PyTorch; and whether the two have the same gradients.

    python benchmarks/step.py --twin_python=TORCH_ENVIRONMENT/bin/python --twin=FOLDER
    python benchmarks/step.py --twin_python=... --twin=... --device=cuda --dtype=bfloat16
    python benchmarks/step.py                          # ours alone
    python benchmarks/step.py --ceilings               # what each convolution reaches alone
    python benchmarks/step.py --profile --ours=apart   # where a step's time goes
    python benchmarks/step.py --check=gold.npz         # gradients, leaf by leaf

The work: Larsen's networks at 64x64 with all widths as published, batches of 64, float32; encoder, generator and
discriminator all updated by RMSProp at 3e-4; the table vae_gan_released with weights 1 and 1 in the discriminator's
row, gamma 1e-6. Ours is what training runs, so with the moving average of weights and the check for finiteness, which
the twin has not; its discriminator normalises x, x_f and x_p jointly, or each apart. FOLDER has the twin,
bench_torch_vaegan.py: `luca` goes back through the whole graph three times, as the usual reimplementation does,
`minimal` is the least arithmetic found in PyTorch. The twin normalises [x_f, x] jointly for the features, and in a
pass of its own [x, x_p] for the logits.

Every measurement is a process of its own, on the same cores; the ways take turns within a repeat, and the ratios are
those of the two sides of a repeat. Where the machine does other work, too, processor time tells more than the clock.

--profile runs on one core, where nothing overlaps, and adds up the time of XLA's operations by kind.

--check takes what `bench_torch_vaegan.py --dump=gold.npz` wrote: float64 gradients of the twin's losses. The step of
ours has one pass of the discriminator and a target that takes no gradient, so these losses are no table of ours: here
our networks and losses are put together in the twin's two passes, with the twin's epsilon in batch norm. They are had in
float64, and in float32 beside: one unit that rounding puts on the other side of a ReLU's kink moves all gradients
below it by some 1e-3. Exit status 1 where a leaf differs by more than 1e-4, in norm, in float64.
"""

import datetime
import functools
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time
from unittest import mock

from absl import flags

from benchmarks import machine
from vaegan_jax import command, settings
from vaegan_jax.model import ADVERSARIAL

TWIN_PYTHON = flags.DEFINE_string(
  'twin_python', '', 'Python of an environment with PyTorch; empty: ours train.'
)
TWIN = flags.DEFINE_string('twin', '', 'Folder of bench_torch_vaegan.py.')
OURS = flags.DEFINE_list('ours', ['joint', 'apart'], 'How our discriminator normalises its groups.')
VARIANTS = flags.DEFINE_list('variants', ['luca', 'minimal'], "The twin's.")
MODES = flags.DEFINE_list('modes', ['eager', 'compile'], "The twin's.")
LAYOUTS = flags.DEFINE_list('layouts', ['contiguous', 'channels_last'], "The twin's.")
DEVICE = flags.DEFINE_enum('device', 'cpu', ['cpu', 'cuda'], 'Of both sides.')
DTYPE = flags.DEFINE_enum(
  'dtype', 'float32', ['float32', 'bfloat16'], 'Of the arithmetic of both; the twin has autocast.'
)
BATCH_SIZE = flags.DEFINE_integer('batch_size', 64, 'Images of a step.', lower_bound=2)
STEPS = flags.DEFINE_integer(
  'steps', 5, 'Timed in a measurement, which is their median.', lower_bound=1
)
WARMUP = flags.DEFINE_integer('warmup', 2, 'Steps before, which compile.', lower_bound=1)
REPEATS = flags.DEFINE_integer('repeats', 5, 'Measurements of each way.', lower_bound=1)
CORES = flags.DEFINE_integer('cores', 2, 'Processor cores that both may use.', lower_bound=1)
CEILINGS = flags.DEFINE_bool('ceilings', False, 'Time each convolution instead.')
PROFILE = flags.DEFINE_bool('profile', False, 'Take one step apart instead.')
CHECK = flags.DEFINE_string('check', '', "Compare gradients with this file of the twin's instead.")
ONE = flags.DEFINE_string(
  'one', '', 'For the processes that this script starts: one measurement of joint or apart.'
)

# Kinds of XLA's operations, by what is in their names; the first that fits.
KINDS = {
  'convolutions': 'conv',
  'full layers and reductions': 'ynn_fusion|dot|reduce',
  'phases put together': 'concatenate',
  'layouts for weight gradients': 'transpose|copy',
  'all else: batch norm, activations, optimizer': '',
}
LIMIT = 1e-4  # relative, of --check
# Layers by name, the twin's and ours; every number stands for itself.
NAMES = dict(
  enc=(
    'encoder',
    {
      'conv.0': 'conv0',
      'conv.1': 'norm0',
      'conv.3': 'conv1',
      'conv.4': 'norm1',
      'conv.6': 'conv2',
      'conv.7': 'norm2',
      'fc.0': 'full',
      'fc.1': 'norm_full',
      'mu': 'mean',
      'lv': 'logvar',
    },
  ),
  dec=(
    'generator',
    {
      'fc.0': 'full',
      'fc.1': 'norm_full',
      'conv.0': 'conv0',
      'conv.1': 'norm0',
      'conv.3': 'conv1',
      'conv.4': 'norm1',
      'conv.6': 'conv2',
      'conv.7': 'norm2',
      'conv.9': 'image',
    },
  ),
  dis=(
    'discriminator',
    {
      'lower.0': 'conv0',
      'lower.2': 'conv1',
      'lower.3': 'norm1',
      'lower.5': 'conv2',
      'lower.6': 'norm2',
      'lower.8': 'conv3',
      'bn': 'norm3',
      'fc.0': 'full',
      'fc.1': 'norm_full',
      'fc.3': 'logit',
    },
  ),
)
MAP = (256, 8, 8)  # channels, height, width of the maps that meet a full layer, flattened


def config_of(critics, dtype):
  """The config of the step that is timed."""
  from vaegan_jax.configs import base

  config = base.get_config('vae_gan_released')
  config.data.image_size, config.data.channels = 64, 3
  config.network.latent_size = 128
  config.normalise.critics, config.dtype = critics, dtype
  config.method.discriminator.real = config.method.discriminator.fake_prior = 1.0
  return config.lock()


def timed(call, warmup, count):
  """(seconds of `warmup` calls, [seconds] and [processor seconds] of `count` more), each waited for."""
  import jax

  begun = time.perf_counter()
  for _ in range(warmup):
    jax.block_until_ready(call())
  warm, walls, cpus = time.perf_counter() - begun, [], []
  for _ in range(count):
    wall, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(call())
    walls.append(time.perf_counter() - wall)
    cpus.append(time.process_time() - cpu)
  return warm, walls, cpus


def stepper(critics):
  """Function () -> (state, terms) that trains on by a step, each time it is called."""
  import jax
  import numpy as np

  from vaegan_jax import build

  command.keep_compiled_programs()
  config = config_of(critics, DTYPE.value)
  phases = build.phases(config, 0)
  on, key = phases[0].parallel, jax.random.key(0)
  state = on.put_state(build.init(config, 0, phases)(key))
  images = np.random.default_rng(0).integers(0, 256, (BATCH_SIZE.value, 64, 64, 3), np.uint8)
  batch = on.put_batch(dict(x=images))

  def step():
    nonlocal state
    state, terms = on.step(state, batch, key)
    return state, terms

  return step


def profile(critics):
  """Prints the time of a step by kind of operation."""
  os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
  import collections
  import tempfile

  import jax

  step, spent = stepper(critics), collections.Counter()
  _, walls, _ = timed(step, WARMUP.value, STEPS.value)
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      jax.block_until_ready(step())
    (file,) = pathlib.Path(folder).rglob('*.xplane.pb')
    for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
      for event in (event for line in plane.lines for event in line.events):
        if name := dict(event.stats).get('hlo_op'):
          spent[next(kind for kind, words in KINDS.items() if re.search(words, name))] += (
            event.duration_ns / 1e9
          )
  print(
    f'{critics}, batch {BATCH_SIZE.value}, {DTYPE.value}, one core of {machine.line()}: {statistics.median(walls):.2f} s '
    f'per step, {sum(spent.values()):.2f} s in operations\n\n| operations | seconds | share |\n|---|---|---|'
  )
  for kind, seconds in spent.most_common():
    print(f'| {kind} | {seconds:.2f} | {seconds / sum(spent.values()):.0%} |')


def measure(critics):
  """Prints one measurement of our step, as JSON with the twin's names."""
  import jax

  step = stepper(critics)
  warm, walls, cpus = timed(step, WARMUP.value, STEPS.value)
  print(
    json.dumps(
      dict(
        images_per_s=BATCH_SIZE.value / statistics.median(walls),
        warmup_s=warm,
        cpu_s_median=statistics.median(cpus),
        jax=jax.__version__,
        device=jax.devices()[0].device_kind,
      )
    )
  )


def ways():
  """{name: command line of one measurement}."""
  us = [sys.executable, __file__] + [
    f'--{f}={flags.FLAGS[f].value}' for f in ('dtype', 'batch_size', 'steps', 'warmup')
  ]
  made = {f'ours, {critics}': [*us, f'--one={critics}'] for critics in OURS.value}
  if TWIN_PYTHON.value:
    script = pathlib.Path(TWIN.value) / 'bench_torch_vaegan.py'
    if not script.exists():
      raise ValueError(f'--twin={TWIN.value}: there is no bench_torch_vaegan.py')
    them = [
      TWIN_PYTHON.value,
      str(script),
      '--no-flops',
      f'--batch={BATCH_SIZE.value}',
      f'--steps={STEPS.value}',
      f'--warmup={WARMUP.value}',
      f'--threads={CORES.value}',
      f'--device={DEVICE.value}',
    ]
    them += ['--amp=bf16'] if DTYPE.value == 'bfloat16' else []
    for variant in VARIANTS.value:
      for mode in MODES.value:
        for layout in LAYOUTS.value:
          made[f'PyTorch, {variant}, {mode}, {layout}'] = [
            *them,
            f'--variant={variant}',
            f'--mode={mode}',
            *(['--channels-last'] if layout == 'channels_last' else []),
          ]
  return made


def run_one(name, line):
  """The record (dict) that a measurement prints, with `peak_mib`: the largest resident memory of its process."""
  cores = set(sorted(os.sched_getaffinity(0))[: CORES.value])
  environment = {
    **os.environ,
    'JAX_PLATFORMS': DEVICE.value,
    'PYTHONPATH': os.pathsep.join(sys.path[:1]),
  }
  if line[0] != sys.executable:
    environment.pop('PYTHONPATH')
  with subprocess.Popen(
    line,
    stdout=subprocess.PIPE,
    text=True,
    env=environment,
    preexec_fn=lambda: os.sched_setaffinity(0, cores),
  ) as process:
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
  records = [text for text in output.splitlines() if text.startswith('{')]
  if process.returncode or not records:
    raise ValueError(f'{name} ended with exit code {process.returncode}: {" ".join(line)}')
  return dict(json.loads(records[-1]), peak_mib=usage.ru_maxrss / 1024)


def compare():
  """Prints the speeds of all ways, and ours over the twin's."""
  lines, records = ways(), {}
  for _ in range(REPEATS.value):
    for name, line in lines.items():
      records.setdefault(name, []).append(run_one(name, line))
  of = lambda name, field: [r[field] for r in records[name]]
  versions = {f'{k} {r[0][k]}' for r in records.values() for k in ('jax', 'torch') if k in r[0]}
  kinds = {r[0].get('gpu', r[0].get('device')) for r in records.values()} - {'cpu'}
  print(
    f'{CORES.value} cores of {machine.processor()}, {", ".join(sorted(kinds | versions))}, Python {platform.python_version()}, '
    f'{datetime.date.today()}; {DTYPE.value}, batch {BATCH_SIZE.value}, {REPEATS.value} repeats of {STEPS.value} steps, '
    f'load average {os.getloadavg()[0]:.1f}\n'
  )
  print(
    '| way | images/s | processor seconds per step | seconds to compile and warm up | peak memory, MiB |\n|---|---|---|---|---|'
  )
  for name in records:
    print(
      f'| {name} | {machine.spread(of(name, "images_per_s"), ".2f")} | {machine.spread(of(name, "cpu_s_median"), ".2f")} | '
      f'{machine.spread(of(name, "warmup_s"), ".0f")} | {max(of(name, "peak_mib")):.0f} |'
    )
  twins = [name for name in records if name.startswith('PyTorch')]
  if twins:
    print('\n| ours over | times as fast by the clock | times less processor time |\n|---|---|---|')
  for ours in [name for name in records if name not in twins]:
    for twin in twins:
      ratio = lambda field, one, other: [a / b for a, b in zip(of(one, field), of(other, field))]
      print(
        f'| {ours}, over {twin} | {machine.spread(ratio("images_per_s", ours, twin), ".2f")} | '
        f'{machine.spread(ratio("cpu_s_median", twin, ours), ".2f")} |'
      )


def to_ours(layer, network, value):
  """One array of the twin's (a parameter or its gradient) in our layout."""
  import numpy as np

  transposed = network == 'dec' and layer in ('conv.0', 'conv.3', 'conv.6')
  if (
    value.ndim == 4
  ):  # [out, in, k, k]; of a transposed convolution [in, out, k, k], and flipped against ours
    value = value.transpose(2, 3, 0, 1)[::-1, ::-1] if transposed else value.transpose(2, 3, 1, 0)
  elif value.ndim == 2:
    value = value.T
  for axis in range(value.ndim):  # flattened [C, H, W] there, [H, W, C] here
    if value.ndim < 4 and value.shape[axis] == np.prod(MAP):
      apart = value.reshape(*value.shape[:axis], *MAP, *value.shape[axis + 1 :])
      value = np.moveaxis(apart, axis, axis + 2).reshape(value.shape)
  return value


def our_tree(gold, prefix):
  """{network: {layer: {leaf: array}}} of the arrays PREFIX/NETWORK.LAYER.weight and .bias of a file of the twin's."""
  tree = {}
  for short, (network, layers) in NAMES.items():
    for theirs, layer in layers.items():
      for kind in ('weight', 'bias'):
        if (key := f'{prefix}/{short}.{theirs}.{kind}') in gold:
          value = to_ours(theirs, short, gold[key])
          leaf = 'bias' if kind == 'bias' else 'kernel' if value.ndim > 1 else 'scale'
          tree.setdefault(network, {}).setdefault(layer, {})[leaf] = value
  return tree


def check(path):
  """Prints the relative differences of losses and gradients from the twin's; returns 1 where one is over LIMIT, else 0."""
  import jax
  import jax.numpy as jnp
  import numpy as np

  from vaegan_jax import build, losses
  from vaegan_jax.networks import larsen

  jax.config.update('jax_default_matmul_precision', 'highest')
  jax.config.update('jax_enable_x64', True)
  gold, config = np.load(path), config_of('joint', 'float32')
  networks = build.model(config, 0, settings.method(config)).networks
  params, expected = (our_tree(gold, prefix) for prefix in ('w', 'g'))
  inputs = {k: gold[k] for k in ('x', 'eps', 'zp')} | {'params': params}

  def terms(params, networks, x, posterior, prior):
    run = lambda name, *inputs: networks[name].apply(
      {'params': params[name]}, *inputs, None, train=True, mutable=['batch_stats']
    )[0]
    mean, logvar = run('encoder', x)
    fakes = [run('generator', z) for z in (mean + jnp.exp(logvar / 2) * posterior, prior)]
    features = run('discriminator', jnp.concatenate([fakes[0], x]))[1]
    logits = run('discriminator', jnp.concatenate([x, fakes[1]]))[0]
    on_real, on_fake, _ = ADVERSARIAL['bce']
    made = dict(
      kl=losses.gaussian_kl(mean, logvar),
      like=losses.gaussian_nll(*jnp.split(features, 2)),
      gan=on_real(logits[: len(x)]) + on_fake(logits[len(x) :]),
    )
    return {k: v.mean() for k, v in made.items()}

  def everything(dtype):
    """(losses, {network: gradient of its row}) in this arithmetic."""
    given = jax.tree.map(lambda a: jnp.asarray(np.ascontiguousarray(a), dtype), inputs)
    own = {name: network.clone(dtype=dtype) for name, network in networks.items()}
    rows = dict(
      encoder=(1.0, 1.0, 0.0),
      generator=(0.0, float(gold['gamma']), -1.0),
      discriminator=(0.0, 0.0, 1.0),
    )
    row = lambda weights: dict(zip(('kl', 'like', 'gan'), map(dtype, weights)))

    @jax.jit
    def run(params, x, posterior, prior):
      values, pull = jax.vjp(lambda p: terms(p, own, x, posterior, prior), params)
      return values, {n: pull(row(weights))[0][n] for n, weights in rows.items()}

    # PyTorch's epsilon is 1e-5 everywhere. What our code puts in float32 by name is put in `dtype`.
    with mock.patch.object(larsen, 'CONV', larsen.FULL), mock.patch.object(jnp, 'float32', dtype):
      return run(given['params'], given['x'].transpose(0, 2, 3, 1), given['eps'], given['zp'])

  def errors(values, grads):
    """{leaf: relative difference}."""
    pairs = {f'loss {k}': (v, gold[f'loss/{k}']) for k, v in values.items()}
    for (at, got), want in zip(
      jax.tree_util.tree_leaves_with_path(grads), jax.tree.leaves(expected), strict=True
    ):
      pairs[jax.tree_util.keystr(at, simple=True, separator='/')] = got, want
    return {
      k: float(np.linalg.norm(np.asarray(got, np.float64) - want) / np.linalg.norm(want))
      for k, (got, want) in pairs.items()
    }

  double, single = (errors(*everything(dtype)) for dtype in (jnp.float64, jnp.float32))
  print(f'{"relative difference":32s}{"float64":>10s}{"float32":>10s}')
  for name in double:
    print(f'{name:32s}{double[name]:10.1e}{single[name]:10.1e}')
  worst = max(double.values())
  print(
    f'{"worst":32s}{worst:10.1e}{max(single.values()):10.1e}  '
    + ('good' if worst <= LIMIT else 'BAD')
  )
  return int(not worst <= LIMIT)


def ceilings():
  """Prints what each convolution reaches alone, in the form in which networks/layers.py has it."""
  from flax import linen as nn
  import jax

  from vaegan_jax import build, parallel
  from vaegan_jax.networks import layers

  config, found = config_of('joint', DTYPE.value), {}
  networks = build.model(config, 0, settings.method(config)).networks
  inputs = dict(encoder=(64, 64, 3), generator=(128,), discriminator=(64, 64, 3))

  def note(call, arguments, options, context):
    if (
      isinstance(context.module, (nn.Conv, layers.ConvTranspose))
      and context.method_name == '__call__'
    ):
      found[f'{network} {context.module.name}'] = (
        context.module.clone(parent=None, name=None),
        arguments[0].shape,
      )
    return call(*arguments, **options)

  for network, shape in inputs.items():
    with nn.intercept_methods(note):
      jax.eval_shape(
        lambda k, n=networks[network], s=shape: n.init(
          k, jax.numpy.zeros((BATCH_SIZE.value, *s)), None, train=True
        ),
        jax.random.key(0),
      )
  print(
    f'batch {BATCH_SIZE.value}, {DTYPE.value}, {jax.devices()[0].device_kind}, JAX {jax.__version__}; GFLOP/s by the clock '
    '(by processor seconds)\n\n| convolution | input | GFLOP | forward | input gradient | weight gradient |\n|---|---|---|---|---|---|'
  )
  for name, (module, shape) in found.items():
    x = jax.random.normal(jax.random.key(0), shape).astype(module.dtype)
    variables = jax.jit(module.init)(jax.random.key(1), x)
    jit = functools.partial(jax.jit, compiler_options=parallel.compiler_options())
    forward = jit(lambda v, x, _: module.apply(v, x))
    y = forward(variables, x, None)
    ways = [
      forward,
      jit(lambda v, x, g: jax.vjp(lambda x: module.apply(v, x), x)[1](g)),
      jit(lambda v, x, g: jax.vjp(lambda v: module.apply(v, x), v)[1](g)),
    ]
    gflop, cells = forward.lower(variables, x, None).cost_analysis()['flops'] / 1e9, []
    for way in ways:
      _, walls, cpus = timed(lambda: way(variables, x, y), WARMUP.value, STEPS.value)
      cells.append(
        f'{gflop / statistics.median(walls):.1f} ({gflop / max(statistics.median(cpus), 1e-9):.1f})'
      )
    print(
      f'| {name} | {" x ".join(map(str, shape[1:]))} | {gflop:.2f} | {" | ".join(cells)} |',
      flush=True,
    )


def main():
  if CEILINGS.value or PROFILE.value or CHECK.value or ONE.value:
    os.environ.setdefault('JAX_PLATFORMS', DEVICE.value)
  if CHECK.value:
    return check(CHECK.value)
  for wanted, function in (
    (CEILINGS.value, ceilings),
    (PROFILE.value, lambda: [profile(c) for c in OURS.value]),
    (ONE.value, lambda: measure(ONE.value)),
  ):
    if wanted:
      function()
      return 0
  if bool(TWIN_PYTHON.value) != bool(TWIN.value):
    raise ValueError('--twin_python and --twin go together: the one runs the other')
  compare()
  return 0


if __name__ == '__main__':
  command.run(main)
