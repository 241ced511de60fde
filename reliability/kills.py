"""kill -9 at a random moment: the same command goes on, and ends with the same bits.

    python -m reliability.kills --count=200 --seed=0

A try starts a tiny run, kills it (in its start-up, after a step, or while it saves), and gives the
same command again. It holds if the run comes to its end, its last checkpoint and its log equal
those of an undisturbed run to the bit, and at most one save interval was lost: from the step of the
resumed checkpoint to that of the last line of the killed run's log. A tiny run takes more than an
interval of steps while it writes a checkpoint; if one was unfinished, two intervals may be lost.
"""

import re
import signal

from reliability import campaign


def attempt(own: campaign.Try) -> str:
  """Kills a run and lets it come to its end."""
  workdir, log = own.folder / 'run', own.folder / 'log'
  line = campaign.command(workdir)
  campaign.disturb(own, line, log, signal.SIGKILL)
  own.figures.clear()
  saved = [path for path in (workdir / 'checkpoints').glob('*') if path.is_dir()]
  unfinished = [path for path in saved if not path.with_name(f'{path.name}.json').exists()]
  before = log.read_text(errors='replace')
  if code := campaign.finish(line, own.shared, log):
    return f'the same command ended with {code}: {campaign.last_line(log)}'
  seen = max(map(int, re.findall(r'^step (\d+)/', before, re.M)), default=0)
  after = log.read_text(errors='replace')[len(before) :]
  found = re.findall(r'^(?:resuming from step|done already:) (\d+)', after, re.M)
  lost = max(0, seen - max(map(int, found), default=0))
  own.figures['most steps lost in a save' if unfinished else 'most steps lost'] = lost
  if lost > campaign.EVERY * (2 if unfinished else 1):
    return f'{lost} steps were lost: it had told of step {seen}, and resumed from {found}'
  return campaign.difference(workdir, own.shared / 'straight')


if __name__ == '__main__':
  campaign.define_flags(count=200)
  campaign.run('kills', attempt, campaign.straight)
