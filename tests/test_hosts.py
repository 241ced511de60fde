"""Several processes of one run: they join, run the same, give one process's numbers, and end."""

import pathlib
import re
import shlex
import socket
import subprocess
import sys

import pytest

from reliability import campaign
from reliability import hosts as several
from tests.test_docs import check_arguments
from vaegan_jax import command, hosts, settings
from vaegan_jax.configs import digits

ROOT = pathlib.Path(__file__).parents[1]
# A run in small: `mode` says what goes wrong.
RUN = """
import os, signal, sys
from absl import flags
from vaegan_jax import command, hosts

mode = flags.DEFINE_string('mode', '', '')
command.define_hosts_flags()

def main():
  command.join_hosts()
  import jax
  from jax.experimental import multihost_utils
  own = jax.process_index()
  facts = {'a': 1, '--config.steps': own if mode.value == 'differ' else 5}
  hosts.check_same(facts, 'the remedy')
  if mode.value == 'bug' and own == 1:
    raise KeyError('a bug')
  if mode.value == 'bad data' and own == 1:
    raise ValueError('bad data')
  for i in range(1000):
    if mode.value == 'kill' and own == 1 and i == 3:
      os.kill(os.getpid(), signal.SIGKILL)
    multihost_utils.process_allgather(own)
  return 0

command.run(main)
"""


def logs_of(tmp_path, mode, count=2):
  """(exit codes, logs) of RUN as `count` processes."""
  line = [sys.executable, '-c', RUN, f'--mode={mode}']
  codes = several.ended(several.started(line, tmp_path, count, devices=1), 200)
  return codes, [(tmp_path / f'log{i}').read_text() for i in range(count)]


@pytest.mark.parametrize(
  'arguments,words',
  [
    (('10.0.0.1', 2, 0), '--coordinator_address=10.0.0.1: give HOST:PORT of process 0'),
    ((':80', 2, 0), '--coordinator_address=:80: give HOST:PORT'),
    (('a:65536', 2, 0), '--coordinator_address=a:65536: give HOST:PORT'),
    (('a:1', 2, 2), '--process_id=2: with --num_processes=2 the last one is 1'),
    ((None, 1, 5), '--process_id=5: with --num_processes=1 the last one is 0'),
  ],
)
def test_arguments_that_no_run_can_have(arguments, words):
  with pytest.raises(ValueError, match=f'^{re.escape(words)}'):
    hosts.check(*arguments)


def test_a_port_in_use_and_an_absent_process_0_are_told():
  with socket.create_server(('localhost', 0)) as s:
    port = s.getsockname()[1]
    address = f'localhost:{port}'
    with pytest.raises(ValueError, match=f'{address}: port {port} of this host is in use'):
      hosts.check(address, 2, 0)
    hosts.check(address, 2, 1)
    state = type('State', (), dict(coordinator_address=address, num_processes=4, process_id=1))
    there = hosts.awaited_words(state)
  assert there.startswith(f'all processes to join process 0 at {address}; this is 1 of 4')
  absent = hosts.awaited_words(state)
  assert absent.startswith(f'process 0, which does not listen at {address} yet')
  assert '--worker=all' in there and '--worker=all' in absent


def test_only_what_xla_says_of_other_processes_counts_as_a_lost_one(monkeypatch):
  gloo = ValueError('UNKNOWN: Gloo AllGather failed: Connection closed by peer')
  assert not hosts.lost(gloo)  # a process alone
  monkeypatch.setattr(hosts, 'several', lambda: True)
  assert (
    hosts.lost(gloo) and not hosts.lost(ValueError('--config.steps=0')) and not hosts.lost(None)
  )
  failed = RuntimeError('step 5: the save failed')
  for cause in (
    gloo,
    TimeoutError("Timeout waiting at barrier 'x'. The original error raised was"),
  ):
    failed.__cause__ = cause
    assert hosts.lost(failed)
  code, told = command.verdict(gloo)
  assert code == 3 and told.startswith(hosts.LOST) and 'Gloo' in told


def test_fields_of_a_host_exist():
  assert set(settings.OF_A_HOST) <= {path for path, _ in settings.fields(digits.get_config())}


@pytest.mark.parametrize('threads', [1, 4])
def test_abort_is_a_sentence_and_exit_code_3(threads):
  code = f"""
import ctypes, threading
from vaegan_jax import hosts
hosts.end_on_abort('what to do')
for _ in range({threads}):
  threading.Thread(target=ctypes.CDLL(None).abort).start()
threading.Event().wait()
"""
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
  assert done.returncode == 3 and set(done.stderr.splitlines()) == {'error: what to do'}


@pytest.mark.parametrize('on', ['processes', 'pod', 'spot', 'slurm', 'gke'])
def test_the_launcher_prints_commands_whose_flags_exist(on):
  train = '--config=configs/celeba64.py:vae_gan --workdir=shared/faces --config.batch_size=256'
  done = subprocess.run(
    [sys.executable, 'experiments/launch.py', f'--on={on}', '--hosts=3', f'--train={train}'],
    capture_output=True,
    text=True,
    cwd=ROOT,
  )
  assert done.returncode == 0, done.stderr
  found = re.findall(r"experiments/train\.py ([^'\n]*)", done.stdout)
  assert len(found) == (3 if on == 'processes' else 1)
  for arguments in found:
    own = arguments.replace('$JOB_COMPLETION_INDEX', '1')
    assert '--distributed' in own or '--num_processes=3' in own
    check_arguments(ROOT / 'experiments' / 'train.py', shlex.split(own))


@pytest.mark.slow
def test_four_processes_give_the_numbers_of_one(tmp_path):
  found = several.differences(['cvae'], 4, tmp_path)
  assert set(found) == {('cvae', 'mesh'), ('cvae', 'pmap')}
  assert max(found.values()) < several.LARGEST, found


@pytest.mark.slow
def test_processes_that_differ_are_refused(tmp_path):
  codes, logs = logs_of(tmp_path, 'differ')
  assert codes == [2, 2], logs
  for log in logs:
    told = 'error: the processes differ: --config.steps is 1 in process 1 and 0 in process 0: the'
    assert f'{told} remedy\n' in log and 'Traceback' not in log


@pytest.mark.slow
@pytest.mark.parametrize('mode,code', [('kill', -9), ('bad data', 2)])
def test_the_others_end_when_one_is_lost(mode, code, tmp_path):
  codes, logs = logs_of(tmp_path, mode)
  assert codes == [3, code], logs
  assert f'error: {hosts.LOST}' in logs[0]


@pytest.mark.slow
def test_a_process_alone_says_for_whom_it_waits(tmp_path):
  line = [sys.executable, '-c', RUN, '--initialization_timeout=4', '--num_processes=2']
  join = ['--coordinator_address=localhost:1', '--process_id=1']
  done = subprocess.run(
    [*line, *join], capture_output=True, text=True, cwd=ROOT, env=campaign.environment(tmp_path)
  )
  assert done.returncode == 3, done.stderr
  assert 'waiting for process 0, which does not listen at localhost:1 yet' in done.stdout
  assert done.stderr.endswith('larger --initialization_timeout\n')
  assert 'error: the other processes did not join within 4 s. Every host must' in done.stderr
