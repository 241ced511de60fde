"""kill -9 of one run whose workdir is in a bucket, --n times, at random; the same command resumes.

    python -m reliability.bucket_kills --n=10 --seed=0

The bucket is that of an emulator, see emulator.py. Held: the run ends with the same last checkpoint
and the same log as a run in a local folder that nothing disturbed, equal in every bit, and wrote
nothing into its working folder.
"""

import os
import pathlib
import random
import sys
import tempfile
import time

from absl import flags

from reliability import campaign, emulator

STEPS = 200
campaign.LONGEST = 1800
FLAGS = flags.FLAGS


def kill(line: list[str], shared: pathlib.Path, log: pathlib.Path, until: int, draw) -> str:
  """Kills a run after it has logged step `until`, or while it saves that step; says when."""
  from vaegan_jax.paths import open_path

  saved = open_path(next(a for a in line if 'gs://' in a).partition('=')[2]) / 'checkpoints'
  told, before = f'\nstep {until}/'.encode(), log.stat().st_size if log.exists() else 0
  moment = draw.choice(('step', 'save'))
  process = campaign.start(line, shared, log)
  try:
    campaign.wait_for(process, lambda: told in log.read_bytes()[before:])
    if moment == 'save':
      campaign.wait_for(process, lambda: any((saved / str(until)).found()))
    time.sleep(draw.uniform(0, 0.3))
    if process.poll() is not None:
      raise RuntimeError(f'the run ended by itself: {campaign.last_line(log)}')
  finally:
    process.kill()
    process.wait()
  whole = (saved / f'{until}.json').exists()
  return f'step {until}, {"its checkpoint is whole" if whole else "no checkpoint of it"}'


def main(home: pathlib.Path) -> str:
  """What did not hold, in words; '' if all did."""
  from vaegan_jax.paths import open_path

  shared, empty, draw = home / 'shared', home / 'empty', random.Random(FLAGS.seed)
  shared.mkdir()
  empty.mkdir()
  log, url = empty / 'log', f'gs://{emulator.BUCKET}/run'
  local = campaign.command(shared / 'local', steps=STEPS, sample_every_steps=100)
  if campaign.finish(local, shared, shared / 'log'):
    return f'the local run failed: {campaign.last_line(shared / "log")}'
  line = [a if 'workdir' not in a else f'--workdir={url}' for a in local]
  every, n = campaign.EVERY, FLAGS.n
  for i, until in enumerate(sorted(draw.sample(range(every, STEPS, every), n)), 1):
    print(f'  kill {i}: {kill(line, shared, log, until, draw)}', flush=True)
  if campaign.finish(line, shared, log):
    return f'the run failed: {campaign.last_line(log)}'
  if wrong := campaign.difference(open_path(url), shared / 'local'):
    return wrong
  if others := [p.name for p in empty.iterdir() if p != log]:
    return f'files outside the bucket: {others}'
  return ''


if __name__ == '__main__':
  flags.DEFINE_integer('n', 10, 'Number of kills.', lower_bound=1, upper_bound=19)
  flags.DEFINE_integer('seed', 0, 'Seed of all random choices.')
  FLAGS(sys.argv)
  port = emulator.free_port()
  os.environ.update(emulator.environment(port))
  with tempfile.TemporaryDirectory(prefix='bucket_kills_') as home, emulator.running(port):
    os.environ.update(campaign.environment(pathlib.Path(home) / 'shared'))
    begun = time.monotonic()
    wrong = main(pathlib.Path(home))
  print(f'bucket_kills: {FLAGS.n} kills, {time.monotonic() - begun:.0f} s: {wrong or "held"}')
  sys.exit(bool(wrong))
