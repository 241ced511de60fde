"""Signals before the first step end a command at once; from then on the run saves first."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from vaegan_jax import files, interrupts
from vaegan_jax.runs.signals import StopSignals

ROOT = pathlib.Path(__file__).parents[1]
NUMBERS = pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])


def ended_by(process, number):
  """(exit code, seconds, stderr) after the signal, sent when the process prints 'ready'."""
  assert process.stdout.readline() == 'ready\n', process.communicate()
  start = time.monotonic()
  process.send_signal(number)
  try:
    _, said = process.communicate(timeout=20)
  finally:
    process.kill()
  return process.returncode, time.monotonic() - start, said


def python(*arguments, **options):
  return subprocess.Popen(
    [sys.executable, *arguments],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    **options,
  )


@NUMBERS
def test_a_call_into_c_does_not_delay_a_signal(number, tmp_path):
  """As a compilation: the main thread runs no Python for a minute. Unfinished files go, too."""
  code = f"""
import hashlib, pathlib
from vaegan_jax import files, interrupts
interrupts.leave_at_once()
part, whole = pathlib.Path({str(tmp_path)!r}, 'part'), pathlib.Path({str(tmp_path)!r}, 'whole')
whole.write_text('')
with files.unfinished(part), files.unfinished(part.with_name('x')):
  part.mkdir()
  (part / 'x.png').write_text('')
  print('ready', flush=True)
  hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)
"""
  code, seconds, said = ended_by(python('-c', code, cwd=ROOT), number)
  assert (code, said) == (128 + number, 'stopped\n') and seconds < 10
  assert os.listdir(tmp_path) == ['whole']


@pytest.mark.slow
@pytest.mark.parametrize(
  'script', ['train', 'evaluate', 'tables/bao_table_1', 'figures/toy_example']
)
def test_handlers_stand_before_the_heavy_imports(script, tmp_path):
  """An import of JAX that swallows exceptions, as callbacks do."""
  (tmp_path / 'jax.py').write_text(
    'import time\n'
    "print('ready', flush=True)\n"
    'while True:\n  try:\n    time.sleep(60)\n  except BaseException:\n    pass\n'
  )
  arguments = ['--config=digits:vae', f'--workdir={tmp_path}/run'] if script == 'train' else []
  arguments = [f'--workdir={tmp_path}/run'] if script == 'evaluate' else arguments
  process = python(
    f'experiments/{script}.py',
    *arguments,
    cwd=ROOT,
    env={**os.environ, 'PYTHONPATH': f'{tmp_path}:{ROOT}'},
  )
  code, seconds, said = ended_by(process, signal.SIGINT)
  assert (code, said) == (130, 'stopped\n') and seconds < 10


def test_a_run_holds_signals_from_its_first_step_on(monkeypatch):
  spared, told = [], []
  monkeypatch.setattr(interrupts, 'spare', spared.append)
  before = signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
  try:
    with StopSignals() as signals:
      os.kill(os.getpid(), signal.SIGTERM)  # before the first step: as without StopSignals
      assert told == [signal.SIGTERM] and not signals.stopping(1)
      signals.hold()
      signals.hold()
      os.kill(os.getpid(), signal.SIGTERM)
      assert len(told) == 1 and signals.stopping(2) and signals.number == signal.SIGTERM
      assert spared == [1]
    assert spared == [1, 0]
    os.kill(os.getpid(), signal.SIGTERM)
    assert len(told) == 2
  finally:
    signal.signal(signal.SIGTERM, before)


@NUMBERS
def test_a_second_signal_does_not_wait_for_the_first(number):
  code = """
import hashlib
from vaegan_jax import interrupts
interrupts.leave_at_once()
interrupts.spare(1)
print('ready', flush=True)
hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)
"""
  process = python('-c', code, cwd=ROOT)
  assert process.stdout.readline() == 'ready\n'
  process.send_signal(number)
  time.sleep(0.5)
  assert process.poll() is None
  process.send_signal(number)
  process.communicate(timeout=20)
  assert process.returncode == 128 + number


def test_each_line_of_a_command_is_flushed(tmp_path):
  """Into a file, too, and whatever bytes a name has: this process ends without a flush."""
  code = """
import os, sys
from vaegan_jax import command
def main():
  print('one line', os.fsdecode(b'\\xff'))
  os._exit(0)
sys.argv = ['x']
command.run(main)
"""
  with open(tmp_path / 'log', 'wb') as log:
    subprocess.run([sys.executable, '-c', code], cwd=ROOT, stdout=log, check=True)
  assert (tmp_path / 'log').read_text() == 'one line \\udcff\n'


def test_json_has_null_for_what_is_no_number(tmp_path):
  values = dict(a=[float('nan'), 1.5], b=(float('inf'), dict(c=np.float64('-inf'))), d='NaN', e=3)
  files.write_json(tmp_path / 'x.json', values)
  for text in (files.to_json(values), (tmp_path / 'x.json').read_text()):
    assert json.loads(text) == dict(a=[None, 1.5], b=[None, dict(c=None)], d='NaN', e=3)


def test_strays_of_killed_writers_go_and_those_of_living_ones_stay(tmp_path):
  dead, alive = (tmp_path / files.PART.format(name) for name in ('dead', 'alive'))
  dead.write_bytes(b'half a picture')
  (tmp_path / 'mine.part').write_bytes(b'')
  with alive.open('wb') as file:
    assert files.lock(file)
    files.write_json(tmp_path / 'x.json', [])
    assert not dead.exists() and alive.exists()
  files.write_json(tmp_path / 'x.json', [1])
  assert sorted(os.listdir(tmp_path)) == ['mine.part', 'x.json']
