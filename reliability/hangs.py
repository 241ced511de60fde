"""A run that stands still shows where, and ends; the same command goes on, with the same bits.

    python -m reliability.hangs --count=20 --seed=0

A try lets a tiny run stand still at a random step, for ever: its loader of data, or its thread that
steps, saves and draws. It holds if the run prints what it waits for and the stacks of its threads
after LIMIT seconds, ends with exit code 3 after twice that, and the same command then comes to its
end with the bits of an undisturbed run. In every third try the process is stopped for longer than
that, as by Ctrl-Z, and goes on: such a run must come to its end by itself.
"""

import re
import signal
import subprocess
import sys
import time

from reliability import campaign
from vaegan_jax.runs import hangs

LIMIT = 3  # seconds, of --config.hang_seconds
# Python that makes the run of sys.argv stand still at step {step}.
LOADER = """
from vaegan_jax import data
first = data.batches
def batches(*args, **more):
  for number, batch in enumerate(first(*args, **more)):
    if number == {step}:
      time.sleep(1e6)
    yield batch
data.batches = batches
"""
STEPPER = """
from vaegan_jax.runs.report import Report
first = Report.after
def after(self, step, *args):
  if step == {step}:
    time.sleep(1e6)
  first(self, step, *args)
Report.after = after
"""
KINDS = {LOADER: hangs.DATA, STEPPER: hangs.STEP}
RUN = """
import runpy, sys, time
{}
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], None, '__main__')
"""


def attempt(own: campaign.Try) -> str:
  """Lets a run stand still, and come to its end."""
  workdir, log = own.folder / 'run', own.folder / 'log'
  line = campaign.command(workdir, hang_seconds=LIMIT)
  kind, step = own.draw.choice(list(KINDS)), own.draw.randint(3, campaign.STEPS - 2)
  if own.number % 3 == 2:
    own.moment = 'stopped and gone on'
    wrong = stopped(own, line, log)
  else:
    own.moment = f'{KINDS[kind]}, step {step}'
    program = RUN.format(kind.format(step=step))
    wrong = still([sys.executable, '-c', program, *line[1:]], own, log, KINDS[kind])
  if wrong:
    return wrong
  if code := campaign.finish(line, own.shared, log):
    return f'the same command ended with {code}: {campaign.last_line(log)}'
  return campaign.difference(workdir, own.shared / 'straight')


def still(line: list[str], own: campaign.Try, log, waits_for: str) -> str:
  """What is wrong with how a run that stands still ends; ''."""
  process = campaign.start(line, own.shared, log)
  campaign.wait_for(process, lambda: b'\nstep ' in log.read_bytes())
  begun = time.monotonic()
  try:
    code = process.wait(campaign.LONGEST)
  except subprocess.TimeoutExpired:
    return f'it had not ended {campaign.LONGEST} s after its first step'
  finally:
    process.kill()
  own.figures['longest seconds'] = time.monotonic() - begun
  told = log.read_text(errors='replace')
  if code != 3:
    return f'exit code {code}: {campaign.last_line(log)}'
  for wanted in (
    f'^warning: no step for .* the run waits for {waits_for}',
    r'^Thread 0x\w+ \(most recent call first\)',
    f'^error: no step for .* while the run waited for {waits_for}',
  ):
    if not re.search(wanted, told, re.M):
      return f'it did not say {wanted}'
  return ''


def stopped(own: campaign.Try, line: list[str], log) -> str:
  """What is wrong with a run that is stopped for a while; ''."""
  process = campaign.start(line, own.shared, log)
  campaign.wait_for(process, lambda: b'\nstep ' in log.read_bytes())
  process.send_signal(signal.SIGSTOP)
  time.sleep(2 * LIMIT + 1)
  process.send_signal(signal.SIGCONT)
  try:
    code = process.wait(campaign.LONGEST)
  finally:
    process.kill()
  return f'exit code {code}: {campaign.last_line(log)}' if code else ''


if __name__ == '__main__':
  campaign.define_flags(count=20)
  campaign.run('hangs', attempt, campaign.straight)
