"""A run as several processes: the numbers of one process, and what follows when one is lost.

    python -m reliability.hosts                      the table: method x mesh / pmap
    python -m reliability.hosts --faults --n=10 --seed=0

The table: PROCESSES processes of 2 CPU devices each take 5 steps of each method on tiny networks
with batch norm, as one process of as many devices does. It shows the largest difference of an array
of the final state, or of a term, as a share of the array's largest number; it must stay below 1e-4.

The faults: a tiny run of PROCESSES processes is disturbed at a random moment after a step. A try
holds if all processes end within 150 s with the right exit codes, and the same command then comes
to its end with another number of processes. CPU devices notice a closed connection at once; only
`freeze` waits for the heartbeat.
"""

from collections.abc import Sequence
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import flags
import numpy as np

from reliability import campaign
from vaegan_jax import command, hosts

DEVICES, BATCH, STEPS = 2, 16, 5
MODES = ('mesh', 'pmap')
METHODS = ('vae', 'gan', 'vae_dis', 'vae_gan', 'cvae', 'cgan', 'fm_cgan', 'cvae_gan')
LARGEST = 1e-4  # difference that is rounding
LONGEST = 150  # seconds until all processes have ended
# {fault: exit code of the others}
FAULTS = {'SIGTERM to one': 143, 'kill -9 of one': 3, 'kill -9 of process 0': 3, 'freeze one': 3}


def started(
  line: Sequence[str], folder: pathlib.Path, count: int, devices: int = DEVICES, **environment: str
) -> list[subprocess.Popen]:
  """`count` processes of one command line that join each other; logs in FOLDER/log0 and so on."""
  with socket.socket() as s:
    s.bind(('localhost', 0))
    port = s.getsockname()[1]
  own = campaign.environment(folder)
  own['XLA_FLAGS'] = f'--xla_force_host_platform_device_count={devices}'
  own.update(environment)
  made = []
  for i in range(count):
    join = [f'--coordinator_address=localhost:{port}', f'--num_processes={count}']
    with (folder / f'log{i}').open('wb') as out:
      made.append(
        subprocess.Popen(
          [*line, *(join + [f'--process_id={i}'] if count > 1 else [])],
          env=own,
          stdout=out,
          stderr=subprocess.STDOUT,
          cwd=campaign.ROOT,
        )
      )
  return made


def ended(processes: Sequence[subprocess.Popen], seconds: float) -> list[int | None]:
  """Their exit codes once all have ended; None for those that `seconds` did not suffice for."""
  until = time.monotonic() + seconds
  while any(p.poll() is None for p in processes) and time.monotonic() < until:
    time.sleep(0.05)
  codes = [p.returncode for p in processes]
  for p in processes:
    p.kill()
    p.wait()
  return codes


# --- The table.


def work(folder: pathlib.Path, methods: Sequence[str]) -> int:
  """Takes the steps of each method and mode; process 0 writes FOLDER/METHOD_MODE.npz."""
  command.join_hosts()
  import jax

  for method in methods:
    first = start(method)
    for mode in MODES:
      arrays = steps(method, mode, first)
      if jax.process_index() == 0:
        np.savez(folder / f'{method}_{mode}.npz', **arrays)
  return 0


def start(method: str) -> Any:
  """A state of tiny networks at step 0, on the host."""
  import jax

  from tests import tiny
  from vaegan_jax import methods, optim

  table = methods.METHODS[method]
  adam, conditional = optim.optimizer('adam', 1e-3), method in methods.CONDITIONAL
  return jax.device_get(tiny.state(tiny.model(table), table, conditional, adam))


def steps(method: str, mode: str, first: Any) -> dict[str, np.ndarray]:
  """{name: array} of the state after STEPS steps from `first`, and of the last one's terms."""
  import jax

  from tests import tiny
  from vaegan_jax import data, methods, optim, parallel
  from vaegan_jax.step import train_step

  table, conditional = methods.METHODS[method], method in methods.CONDITIONAL
  model = tiny.model(table, axis_name=parallel.AXIS if mode == 'pmap' else None)
  adam = {network: optim.optimizer('adam', 1e-3) for network in table}
  on = parallel.PARALLEL[mode](train_step(model, table, adam, tiny.draws(conditional)))
  state = on.put_state(jax.device_put(first, on.at_rest))
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (100, tiny.SIDE, tiny.SIDE, 1), np.uint8)
  labels = rng.integers(0, tiny.K, 100).astype(np.int32)
  dataset = data.Dataset('toy', images, labels=labels, class_names=list('abcd'))
  order = data.indices(
    100,
    batch_size=BATCH,
    seed=3,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
  )
  for _, at in zip(range(STEPS), order):
    batch = on.put_batch(data.take(dataset, at, 'label' if conditional else 'none'))
    state, terms = on.step(state, batch, jax.random.key(7))
  leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(on.take_state(state)))
  arrays = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
  return {**arrays, **{k: np.asarray(v) for k, v in on.take_terms(terms).items()}}


def differences(
  methods: Sequence[str], processes: int, folder: pathlib.Path
) -> dict[tuple[str, str], float]:
  """{(method, mode): largest relative difference of `processes` processes from one}."""
  line = [sys.executable, '-m', 'reliability.hosts', f'--methods={",".join(methods)}']
  made = []
  for count in (1, processes):  # side by side
    own = folder / str(count)
    own.mkdir()
    made += started([*line, f'--worker={own}'], own, count, DEVICES * processes // count)
  if any(codes := ended(made, campaign.LONGEST * 10)):
    told = [campaign.last_line(log) for log in sorted(folder.glob('*/log*'))]
    raise RuntimeError(f'exit codes {codes}: {told}')
  found = {}
  for method in methods:
    for mode in MODES:
      one, many = (np.load(folder / str(n) / f'{method}_{mode}.npz') for n in (1, processes))
      if set(one) != set(many):
        raise RuntimeError(f'{method} {mode}: other arrays')
      share = [
        float(np.max(np.abs(many[k] - one[k]), initial=0) / max(np.max(np.abs(one[k])), 1e-6))
        for k in one
        if one[k].size
      ]
      found[method, mode] = max(share)
  return found


# --- The faults.


def attempt(fault: str, own: campaign.Try, processes: int) -> str:
  """Disturbs a run and lets it come to its end: '' if the promise held, otherwise what happened."""
  workdir = own.folder / 'run'
  line = campaign.command(workdir, steps=100_000)
  made = started(line, own.folder, processes)
  step = own.draw.randrange(campaign.EVERY, campaign.STEPS, campaign.EVERY)
  try:
    told = f'\nstep {step}/'.encode()
    campaign.wait_for(made[0], lambda: told in (own.folder / 'log0').read_bytes())
    time.sleep(own.draw.uniform(0, 0.5))
    victim = 0 if '0' in fault else own.draw.randrange(1, processes)
    number = dict(S=signal.SIGTERM, k=signal.SIGKILL, f=signal.SIGSTOP)[fault[0]]
    made[victim].send_signal(number)
    begun = time.monotonic()
    others = made if number == signal.SIGTERM else made[:victim] + made[victim + 1 :]
    codes = ended(others, LONGEST)
    own.figures['seconds'] = time.monotonic() - begun
  finally:
    ended(made, 0)
  logs = [(own.folder / f'log{made.index(p)}').read_text() for p in others]
  own.moment = f'codes {codes}'
  if set(codes) != {FAULTS[fault]}:
    return f'exit codes {codes}: {[log[-300:] for log in logs]}'
  if number != signal.SIGTERM and not all(hosts.LOST in log for log in logs):
    told = [re.findall('^(?:error|.*Error).*', log, re.M) or log[-300:] for log in logs]
    return f'no sentence that says what to do: {told}'
  from vaegan_jax import checkpoint

  saved = max(checkpoint.steps(workdir), default=0)  # 0: it was killed before its first save ended
  if number == signal.SIGTERM and not re.search(rf'stopped at step {saved} and saved', logs[0]):
    return f'step {saved} is saved, and the log says {campaign.last_line(own.folder / "log0")}'
  again = campaign.command(workdir, steps=saved + campaign.EVERY)
  codes = ended(started(again, own.folder, processes // 2), campaign.LONGEST * 2)
  log = (own.folder / 'log0').read_text()
  if set(codes) != {0} or (f'resuming from step {saved} ' in log) != bool(saved):
    return f'with {processes // 2} processes it ended with {codes}: {log[-300:]}'
  return ''


def faults(count: int, seed: int, processes: int, chosen: Sequence[str]) -> int:
  """Prints a line per try, then the table of all faults; 1 if one try did not hold."""
  rows = []
  for fault in chosen:
    times, held = [], 0
    for number in range(count):
      with tempfile.TemporaryDirectory(prefix='hosts_') as home:
        own = campaign.Try(number, seed, pathlib.Path(home), pathlib.Path(home))
        own.draw = random.Random(f'{seed}/{fault}/{number}')
        wrong = attempt(fault, own, processes)
      times.append(own.figures.get('seconds', float('nan')))
      held += not wrong
      told = f'{times[-1]:.1f} s, {own.moment}; {wrong or "resumed"}'
      print(f'{fault}, try {number}: {told}', flush=True)
    rows.append(f'| {fault} | {FAULTS[fault]} | {max(times):.1f} | {held} / {count} |')
  print('\n'.join(['| Fault | Exit code | Seconds | Held |', '|---|---|---|---|', *rows]))
  return int(any(f'| {count} / {count} |' not in row for row in rows))


def main() -> int:
  methods = flags.FLAGS.methods
  if unknown := set(methods) - set(METHODS):
    raise ValueError(f'--methods={",".join(unknown)}: the methods are {", ".join(METHODS)}')
  if flags.FLAGS.worker:
    return work(pathlib.Path(flags.FLAGS.worker), methods)
  if flags.FLAGS.faults:
    chosen = flags.FLAGS.fault or FAULTS
    return faults(flags.FLAGS.n, flags.FLAGS.seed, flags.FLAGS.processes, chosen)
  with tempfile.TemporaryDirectory(prefix='hosts_') as home:
    found = differences(methods, flags.FLAGS.processes, pathlib.Path(home))
  print('| Method | mesh | pmap |\n|---|---|---|')
  for method in methods:
    print(f'| `{method}` | ' + ' | '.join(f'{found[method, mode]:.1e}' for mode in MODES) + ' |')
  return int(max(found.values()) > LARGEST)


if __name__ == '__main__':
  flags.DEFINE_bool('faults', False, 'Make the faults instead of the table.')
  flags.DEFINE_multi_enum('fault', [], list(FAULTS), 'Only this fault; may be repeated.')
  flags.DEFINE_integer('n', 10, 'Number of tries of each fault.', lower_bound=1)
  flags.DEFINE_integer('seed', 0, 'Seed of all random choices.')
  flags.DEFINE_integer('processes', 4, 'Number of processes.', lower_bound=2, upper_bound=8)
  flags.DEFINE_list('methods', ','.join(METHODS), 'Methods of the table.')
  flags.DEFINE_string('worker', None, 'A process of the table writes its arrays to this folder.')
  command.define_hosts_flags()
  command.run(main)
