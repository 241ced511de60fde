"""What the watch over a run notices: healthy runs and runs that are made sick, by seeds.

    python -m benchmarks.health --config=configs/digits.py:cvae_gan --seeds=10
    python -m benchmarks.health --config=configs/digits.py:cvae_gan --seeds=10 --heal

The first command trains a population: each seed once as the config says (healthy), and once for
each change in SICK. It prints, for each rule, how many runs it flagged and when, as events.jsonl
tells it, and the range of each signal. The second trains the sick runs one by one with
--config.health.action=heal and prints what they went through and how they end. --kinds picks
some of the kinds.

Runs are kept in --workdir: the same command goes on where it was stopped. To try all of this in
minutes, with networks that are no good: --config.network.name=benchmarks.dense.
"""

import pathlib
import statistics
from typing import Any

from absl import flags
from ml_collections import config_flags

from benchmarks import machine
from vaegan_jax import command, health, settings
from vaegan_jax.page.read import read
from vaegan_jax.runs import events
from vaegan_jax.runs.train import train, train_members

CONFIG = config_flags.DEFINE_config_file('config', 'configs/digits.py:cvae_gan')
SEEDS = flags.DEFINE_integer('seeds', 2, 'Runs of each kind.', lower_bound=1)
KINDS = flags.DEFINE_list('kinds', [], 'Names in SICK, and healthy; none: all of them.')
HEAL = flags.DEFINE_boolean('heal', False, 'Heal the sick runs, one by one.')
WORKDIR = flags.DEFINE_string('workdir', 'runs/health', 'Where the runs are kept.')

SICK = {  # {kind: {field: factor on its value}}
  'discriminator x 10': {'optimizer.factor.discriminator': 10.0},
  'generator x 10': {'optimizer.factor.generator': 10.0},
  'KL x 100': {'method.encoder.kl': 100.0},
  'KL x 0': {'method.encoder.kl': 0.0},
  'all rates x 10': {'optimizer.learning_rate': 10.0},
}
SIGNALS = ('sample_distance', 'diversity_features', 'diversity_least', 'posterior_kl', 'prior_gap')
SIGNALS += ('active_units', 'real', 'fake_recon', 'fake_prior')
SETTLED = 200  # steps after which the ranges of signals are taken


def kinds() -> dict[str, dict[str, float]]:
  """{kind: changes} that the flags ask for."""
  every = {'healthy': {}, **SICK}
  for name in KINDS.value:
    if name not in every:
      raise ValueError(f'--kinds={name}: use some of {", ".join(every)}')
  return {k: v for k, v in every.items() if k in (KINDS.value or every)}


def changed(changes: dict[str, float], **more: Any) -> Any:
  """The config with fields multiplied, and others set."""
  known = dict(settings.fields(CONFIG.value))
  scaled = {path: known[path] * factor for path, factor in changes.items() if path in known}
  if len(scaled) < len(changes):
    raise ValueError(f'--config has no {", ".join(changes)}: leave this kind out by --kinds')
  return settings.with_settings(CONFIG.value, scaled | more)


def folder(kind: str, seed: int) -> str:
  """The name of a run."""
  return f'{kind.replace(" ", "_")},seed_{seed}'


def watched(home: pathlib.Path) -> None:
  """Trains all runs as one population, and prints when each was flagged, and its signals."""
  members = {
    folder(kind, seed): changed(changes, seed=seed, **{'health.action': 'warn'})
    for kind, changes in kinds().items()
    for seed in range(SEEDS.value)
  }
  train_members(members, home)
  head = f'{" | ".join(kinds())} |\n|---|{"---|" * len(kinds())}'
  print(f'| what is found | {head}')
  told = {k: [events.read(home / folder(k, s)) for s in range(SEEDS.value)] for k in kinds()}
  found = {(e['level'], e['kind']) for own in told.values() for run in own for e in run}
  for level, rule in sorted(f for f in found if f[0] != 'good'):
    cells = [first_steps(told[kind], level, rule) for kind in kinds()]
    print(f'| {level}: {rule} | {" | ".join(cells)} |')
  print(f'\n| signal | {head}')
  for name in SIGNALS:
    print(f'| {name} | {" | ".join(spread(home, kind, name) for kind in kinds())} |')


def first_steps(runs: list[list[events.Event]], level: str, rule: str) -> str:
  """How many of the runs with these events a rule flagged, and the range of the first steps."""
  first = [[e['step'] for e in run if (e['level'], e['kind']) == (level, rule)][:1] for run in runs]
  steps = sorted(step for own in first for step in own)
  return f'{len(steps)}: {steps[0]} to {steps[-1]}' if steps else '0'


def spread(home: pathlib.Path, kind: str, name: str) -> str:
  """The least, the median and the greatest value of a signal, over the seeds of a kind."""
  every = [read(home / folder(kind, s), '').history for s in range(SEEDS.value)]
  values = [t[name] for own in every for t in own if t['step'] > SETTLED and name in t]
  if not values:
    return ''
  return ' / '.join(f'{f(values):.3g}' for f in (min, statistics.median, max))


def healed(home: pathlib.Path) -> None:
  """Trains the sick runs with heals, one by one, and prints how they end."""
  print('| run | heals: step, back to | at the end |\n|---|---|---|')
  for kind, changes in kinds().items():
    for seed in range(SEEDS.value):
      workdir = home / 'healed' / folder(kind, seed)
      train(changed(changes, seed=seed, **{'health.action': 'heal'}), workdir)
      done = [f'{e["step"]} to {e["to"]}' for e in events.heals(events.read(workdir))]
      run = read(workdir, kind)
      state = health.state(run.history, run.config)
      print(f'| {kind}, seed {seed} | {", ".join(done) or "none"} | {state.level}: {state.words} |')


def main() -> int:
  command.keep_compiled_programs()
  print(machine.line())
  home = pathlib.Path(WORKDIR.value)
  (healed if HEAL.value else watched)(home)
  return 0


if __name__ == '__main__':
  command.run(main)
