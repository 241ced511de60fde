"""A run whose steps stop coming shows where it stands, and ends."""

import subprocess
import sys
import time

import pytest

from vaegan_jax.runs.hangs import Watchdog

STILL = """
import time
from vaegan_jax.runs.hangs import Watchdog

def batches():
  yield from range(3)
  {there}

with Watchdog(0.4) as dog:
  for batch in dog.watched(batches()):
    if batch == 2:
      {here}
print('the end')
"""
FOR_EVER = 'time.sleep(60)'


@pytest.mark.parametrize(
  'there, here, waits_for',
  [(FOR_EVER, 'pass', 'the next batch'), ('pass', FOR_EVER, 'the devices')],
)
def test_a_run_that_stands_still_shows_where_and_ends(there, here, waits_for):
  program = STILL.format(there=there, here=here)
  done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, timeout=50)
  assert done.returncode == 3 and not done.stdout, done.stderr
  warning, *stacks, error = done.stderr.splitlines()
  assert warning.startswith('warning: no step for 0') and f'waits for {waits_for}' in warning
  assert any('File "<string>"' in line for line in stacks)
  assert error.startswith('error: no step for ') and f'waited for {waits_for}' in error
  assert error.endswith('resumes from the newest sound checkpoint, if there is one')


@pytest.mark.parametrize('seconds', [0.0, 0.2])
def test_the_first_step_and_one_of_the_usual_length_may_take_longer_than_the_limit(seconds, capfd):
  with Watchdog(seconds) as dog:
    for number in dog.watched(range(4)):
      time.sleep([0.7, 0.15, 0.3, 0.0][number])  # 0.3 s: less than ten times 0.15 s
  assert not capfd.readouterr().err
