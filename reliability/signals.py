"""SIGTERM or Ctrl-C at a random moment: the run leaves in time, and goes on with the same bits.

    python -m reliability.signals --count=100 --seed=0

A third of the signals come in the start-up. A try holds if the exit code is 143 or 130 (or 0 where
the run was done), the process left within 15 s, an intact checkpoint exists if the log says so, and
the same command ends with the bits of an undisturbed run.
"""

import re
import signal

from reliability import campaign

LONGEST = 15  # seconds from the signal to the end of the process


def attempt(own: campaign.Try) -> str:
  """Signals a run and lets it come to its end."""
  workdir, log = own.folder / 'run', own.folder / 'log'
  line = campaign.command(workdir)
  number = own.draw.choice([signal.SIGTERM, signal.SIGINT])
  code = campaign.disturb(own, line, log, number)
  told = log.read_text(errors='replace')
  from vaegan_jax import checkpoint

  if code != 128 + number and not (code == 0 and '\ndone: ' in told):
    return f'{number.name} ended it with {code}: {campaign.last_line(log)}'
  if (seconds := own.figures['seconds to leave']) > LONGEST:
    return f'{number.name} took {seconds:.1f} s'
  for step in map(int, re.findall(r'^stopped at step (\d+) and saved', told, re.M)):
    if step not in checkpoint.steps(workdir):
      return f'it told that step {step} is saved; there is {checkpoint.steps(workdir)}'
  if code := campaign.finish(line, own.shared, log):
    return f'the same command ended with {code}: {campaign.last_line(log)}'
  return campaign.difference(workdir, own.shared / 'straight')


if __name__ == '__main__':
  campaign.define_flags(count=100)
  campaign.run('signals', attempt, campaign.straight)
