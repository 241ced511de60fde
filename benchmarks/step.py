"""Speed of one VAE/GAN step against the same step in PyTorch, and whether their gradients agree.

    python -m benchmarks.step --twin_python=TORCH_ENVIRONMENT/bin/python --twin=FOLDER
    python -m benchmarks.step --twin_python=... --twin=... --device=cuda --dtype=bfloat16
    python -m benchmarks.step                          # ours alone
    python -m benchmarks.step --ceilings               # what each convolution reaches alone
    python -m benchmarks.step --profile --ours=apart   # where a step's time goes
    python -m benchmarks.step --check=gold.npz         # gradients, leaf by leaf

The work: Larsen's networks at 64x64 with all widths as published, batches of 64, float32; RMSProp
at 3e-4 updates encoder, generator and discriminator; the table vae_gan_released with weights 1 and
1 in the discriminator's row, gamma 1e-6. Ours is what training runs, so it includes the moving
average of weights and the check for finiteness, which the twin lacks; its discriminator normalises
x, x_f and x_p jointly, or each separately (`apart`). FOLDER holds the twin, bench_torch_vaegan.py:
`luca` goes back through the whole graph three times, as the usual reimplementation does; `minimal`
is the least arithmetic found in PyTorch. The twin normalises [x_f, x] jointly for the features and
[x, x_p] in a separate pass for the logits.

Every measurement is its own process, on the same cores; the ways take turns within a repeat, and a
ratio compares the two sides of one repeat. Processor time tells more on a busy machine.

--profile runs on one core, where nothing overlaps, and adds up the time of XLA's operations by
kind.

--check takes what `bench_torch_vaegan.py --dump=gold.npz` wrote: float64 gradients of the twin's
losses (see benchmarks/twin_gradients.py). It computes ours in float64, and in float32 for
comparison: one unit that rounding moves across a ReLU's kink shifts all gradients below it by some
1e-3. Exit status 1 if a leaf differs by more than 1e-4, in norm, in float64.
"""

import functools
import json
import os
import pathlib
import statistics
import subprocess
import sys
from typing import Any

from absl import flags
import jax
import numpy as np

from benchmarks import machine, step_parts, twin_gradients
from benchmarks.stepper import Stepper, colour_config, random_batch
from vaegan_jax import build, command, settings

TWIN_PYTHON = flags.DEFINE_string(
  'twin_python', '', 'Python of an environment with PyTorch; if empty, ours alone.'
)
TWIN = flags.DEFINE_string('twin', '', 'Folder of bench_torch_vaegan.py.')
OURS = flags.DEFINE_list('ours', ['joint', 'apart'], 'How our discriminator normalises its groups.')
VARIANTS = flags.DEFINE_list('variants', ['luca', 'minimal'], "The twin's.")
MODES = flags.DEFINE_list('modes', ['eager', 'compile'], "The twin's.")
LAYOUTS = flags.DEFINE_list('layouts', ['contiguous', 'channels_last'], "The twin's.")
DEVICE = flags.DEFINE_enum(
  'device', 'cpu', ['cpu', 'cuda', 'tpu'], 'Of both sides; the twin knows no tpu.'
)
DTYPE = flags.DEFINE_enum(
  'dtype', 'float32', ['float32', 'bfloat16'], 'Of the arithmetic of both; the twin uses autocast.'
)
BATCH_SIZE = flags.DEFINE_integer('batch_size', 64, 'Images of a step.', lower_bound=2)
STEPS = flags.DEFINE_integer(
  'steps', 5, 'Steps timed in a measurement, which is their median.', lower_bound=1
)
WARMUP = flags.DEFINE_integer('warmup', 2, 'Steps before; the first compiles.', lower_bound=1)
REPEATS = flags.DEFINE_integer('repeats', 5, 'Measurements of each way.', lower_bound=1)
CORES = flags.DEFINE_integer('cores', 2, 'Processor cores that both may use.', lower_bound=1)
CEILINGS = flags.DEFINE_bool('ceilings', False, 'Time each convolution instead.')
PROFILE = flags.DEFINE_bool('profile', False, 'Take one step apart instead.')
CHECK = flags.DEFINE_string('check', '', "Compare gradients with this file of the twin's instead.")
ONE = flags.DEFINE_string(
  'one', '', 'For the processes that this script starts: one measurement of joint or apart.'
)


def config_of(critics: str, dtype: str) -> Any:
  """The config of the step that is timed."""
  config = colour_config('vae_gan_released', 64)
  config.network.latent_size = 128
  config.normalise.critics, config.dtype = critics, dtype
  config.method.discriminator.real = config.method.discriminator.fake_prior = 1.0
  return config.lock()


def stepper(critics: str) -> Stepper:
  """Our step on random images."""
  command.keep_compiled_programs()
  step = Stepper(config_of(critics, DTYPE.value), 0)
  step.batch = step.parallel.put_batch(random_batch(BATCH_SIZE.value, 64))
  return step


def networks(dtype: str) -> dict[str, Any]:
  """Our networks."""
  config = config_of('joint', dtype)
  return build.model(config, 0, settings.method(config)).networks


def measure(critics: str) -> None:
  """Prints one measurement of our step, as JSON with the twin's names."""
  taken = machine.timed(stepper(critics), WARMUP.value, STEPS.value)
  record = dict(
    images_per_s=BATCH_SIZE.value / statistics.median(taken.wall),
    warmup_s=taken.warmup,
    cpu_s_median=statistics.median(taken.cpu),
    jax=jax.__version__,
    device=jax.devices()[0].device_kind,
  )
  print(json.dumps(record))


def our_ways() -> dict[str, list[str]]:
  """{name: command line of one measurement} of ours."""
  shared = [f'--{f}={flags.FLAGS[f].value}' for f in ('dtype', 'batch_size', 'steps', 'warmup')]
  return {
    f'ours, {critics}': machine.command('step', [*shared, f'--one={critics}'])
    for critics in OURS.value
  }


def twin_ways() -> dict[str, list[str]]:
  """{name: command line of one measurement} of the twin's; {} without it."""
  if not TWIN_PYTHON.value:
    return {}
  if DEVICE.value == 'tpu':
    raise ValueError(
      '--device=tpu: the twin does not run there; leave --twin and --twin_python out'
    )
  script = pathlib.Path(TWIN.value) / 'bench_torch_vaegan.py'
  if not script.exists():
    raise ValueError(f'--twin={TWIN.value}: this folder has no bench_torch_vaegan.py')
  shared = [
    TWIN_PYTHON.value,
    str(script),
    '--no-flops',
    f'--batch={BATCH_SIZE.value}',
    f'--steps={STEPS.value}',
    f'--warmup={WARMUP.value}',
    f'--threads={CORES.value}',
    f'--device={DEVICE.value}',
    *(['--amp=bf16'] if DTYPE.value == 'bfloat16' else []),
  ]
  return {
    f'PyTorch, {variant}, {mode}, {layout}': [
      *shared,
      f'--variant={variant}',
      f'--mode={mode}',
      *(['--channels-last'] if layout == 'channels_last' else []),
    ]
    for variant in VARIANTS.value
    for mode in MODES.value
    for layout in LAYOUTS.value
  }


def run_one(name: str, line: list[str]) -> dict[str, Any]:
  """What a measurement prints, with `peak_mib`: the largest resident memory of its process."""
  cores = set(sorted(os.sched_getaffinity(0))[: CORES.value])
  environment = {**os.environ, 'JAX_PLATFORMS': DEVICE.value}
  if line[0] != sys.executable:
    environment.pop('PYTHONPATH', None)
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


def compare() -> None:
  """Prints the speeds of all ways, and ours over the twin's."""
  if bool(TWIN_PYTHON.value) != bool(TWIN.value):
    raise ValueError('--twin_python and --twin go together: the one runs the other')
  ours, twins = our_ways(), twin_ways()
  records = {name: [] for name in ours | twins}
  for _ in range(REPEATS.value):
    for name, line in (ours | twins).items():
      records[name].append(run_one(name, line))
  report(records)
  if twins:
    report_ratios({name: records[name] for name in ours}, {name: records[name] for name in twins})


def column(records: list[dict[str, Any]], field: str) -> np.ndarray:
  """One field of the repeats of a way."""
  return np.array([record[field] for record in records])


def report(records: dict[str, list[dict[str, Any]]]) -> None:
  """Prints the table of speeds, of {way: its repeats}."""
  first = [repeats[0] for repeats in records.values()]
  versions = {f'{k} {r[k]}' for r in first for k in ('jax', 'torch') if k in r}
  kinds = {r.get('gpu', r.get('device')) for r in first} - {'cpu'}
  print(
    f'{CORES.value} cores of {machine.processor()}, {", ".join(sorted(kinds | versions))}, '
    f'{machine.versions()}; {DTYPE.value}, batch {BATCH_SIZE.value}, {REPEATS.value} repeats of '
    f'{STEPS.value} steps\n'
  )
  columns = ('images/s', 'processor seconds per step', 'seconds to compile and warm up')
  print(machine.table('way', *columns, 'peak memory, MiB'))
  for name, repeats in records.items():
    cells = (
      machine.spread(column(repeats, field), form)
      for field, form in (('images_per_s', '.2f'), ('cpu_s_median', '.2f'), ('warmup_s', '.0f'))
    )
    print(machine.row(name, *cells, f'{column(repeats, "peak_mib").max():.0f}'))


def report_ratios(
  ours: dict[str, list[dict[str, Any]]], twins: dict[str, list[dict[str, Any]]]
) -> None:
  """Prints the table of ours over the twin's."""
  columns = ('times as fast by the clock', 'times less processor time')
  print('\n' + machine.table('ours over', *columns))
  for name, us in ours.items():
    for twin, them in twins.items():
      speed = column(us, 'images_per_s') / column(them, 'images_per_s')
      work = column(them, 'cpu_s_median') / column(us, 'cpu_s_median')
      cells = machine.spread(speed, '.2f'), machine.spread(work, '.2f')
      print(machine.row(f'{name}, over {twin}', *cells))


def main() -> int:
  inside = CEILINGS.value or PROFILE.value or CHECK.value or ONE.value
  if inside and not os.environ.get('JAX_PLATFORMS'):
    jax.config.update('jax_platforms', DEVICE.value)
  title = f'batch {BATCH_SIZE.value}, {DTYPE.value}'
  if CHECK.value:
    return twin_gradients.check(CHECK.value, networks('float32'))
  if CEILINGS.value:
    step_parts.ceilings(networks(DTYPE.value), BATCH_SIZE.value, title, WARMUP.value, STEPS.value)
  elif PROFILE.value:
    for critics in OURS.value:
      make_step = functools.partial(stepper, critics)
      step_parts.profile(make_step, f'{critics}, {title}', WARMUP.value, STEPS.value)
  elif ONE.value:
    measure(ONE.value)
  else:
    compare()
  return 0


if __name__ == '__main__':
  command.run(main)
