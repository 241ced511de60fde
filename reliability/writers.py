"""Two runs race for one workdir: one gets it, the other is told who has it.

    python -m reliability.writers --count=100 --seed=0

The second starts up to a second after the first; in every third try the one that has the workdir is
then killed by kill -9. A try holds if the other ends with exit code 2 and names the process that
has it (or finds the run done), and the bits in the end are those of one undisturbed run.
"""

import subprocess
import time

from reliability import campaign


def attempt(own: campaign.Try) -> str:
  """Races two runs, and lets the same command come to its end."""
  workdir = own.folder / 'run'
  line, racers = campaign.command(workdir), []
  try:
    for name in ('one', 'two'):
      log = own.folder / name
      racers.append((campaign.start(line, own.shared, log), log))
      time.sleep(own.draw.uniform(0, 1))
    if wrong := decided(own, racers):
      return wrong
  finally:
    for process, _ in racers:
      process.kill()
      process.wait()
  if code := campaign.finish(line, own.shared, own.folder / 'last'):
    return f'the same command ended with {code}: {campaign.last_line(own.folder / "last")}'
  return campaign.difference(workdir, own.shared / 'straight')


def decided(own: campaign.Try, racers: list) -> str:
  """What is wrong with how a race ended; ''."""
  while all(process.poll() is None for process, _ in racers):
    time.sleep(0.01)
  (loser, told), (winner, log) = sorted(racers, key=lambda r: r[0].poll() is None)
  words = campaign.last_line(told)
  refused = f'is in use by process {winner.pid} on '
  if loser.returncode != 2 or refused not in words:
    if loser.returncode:
      return f'the first to end did so with {loser.returncode}: {words}'
    # It did all of the run before the other one looked.
    winner.wait(campaign.LONGEST)
    words = campaign.last_line(log)
    alone = words.startswith('done already') or f'in use by process {loser.pid} on ' in words
    return '' if alone else f'both trained; the second ended with {winner.returncode}: {words}'
  if own.number % 3 == 0:
    winner.kill()
    winner.wait()
    return ''
  try:
    code = winner.wait(campaign.LONGEST)
  except subprocess.TimeoutExpired:
    return 'the run that has the workdir does not end'
  return (
    f'the run that has the workdir ended with {code}: {campaign.last_line(log)}' if code else ''
  )


if __name__ == '__main__':
  campaign.define_flags(count=100)
  campaign.run('writers', attempt, campaign.straight)
