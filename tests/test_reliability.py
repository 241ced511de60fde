"""The cheap campaigns of reliability/ hold for some tries, and a broken promise is told."""

import subprocess
import sys

import pytest

from reliability import campaign, images

pytestmark = pytest.mark.slow


def run(module, *arguments):
  return subprocess.run(
    [sys.executable, '-c' if '\n' in module else '-m', module, *arguments],
    cwd=campaign.ROOT,
    text=True,
    capture_output=True,
  )


def test_mutated_images_hold(tmp_path):
  read = [campaign.Try(number, 0, tmp_path, tmp_path) for number in range(300)]
  assert not list(filter(None, map(images.attempt, read)))
  assert len({own.moment for own in read}) == len(images.ORIGINALS)


def test_hostile_flags_hold():
  """Tries of train.py and population.py, which need no trained run."""
  done = run('reliability.configs', '--count=5', '--first=62')
  assert done.returncode == 0 and 'configs: 5 / 5' in done.stdout, done.stdout + done.stderr


def test_what_does_not_hold_is_told_with_its_command():
  program = """
from reliability import campaign

def attempt(own):
  own.figures['most'] = own.number
  return ['', 'it broke', ''][own.number % 3]

campaign.define_flags(count=3)
campaign.run('nothing', attempt)
"""
  done = run(program, '--seed=5')
  assert done.returncode == 1 and 'nothing: 2 / 3; most 2' in done.stdout, done.stderr
  assert 'not held: it broke' in done.stdout
  assert 'python -m reliability.nothing --seed=5 --first=1 --count=1' in done.stdout
