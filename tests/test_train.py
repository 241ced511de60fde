"""Runs as a person starts them: trained, stopped, killed, gone on with, sampled from."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
from PIL import Image
import pytest

from tests.conftest import QUICK
from vaegan_jax import checkpoint

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[1]
SMALL = [
  '--config.network.width=0.0625',
  '--config.batch_size=8',
  '--config.log_every_steps=5',
  '--config.sample_every_steps=1000',
  '--config.network.latent_size=4',
]


def environment(tmp):
  """One device, and one cache of compiled programs for all runs of the tests."""
  return {
    **os.environ,
    'XLA_FLAGS': QUICK,
    'JAX_PLATFORMS': 'cpu',
    'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
    'XDG_CACHE_HOME': str(tmp),
  }


@pytest.fixture(scope='session')
def cache(tmp_path_factory):
  return tmp_path_factory.mktemp('cache')


def command(script, *arguments):
  return [sys.executable, f'experiments/{script}.py', *map(str, arguments)]


def call(cache, script, *arguments, timeout=300):
  return subprocess.run(
    command(script, *arguments),
    cwd=ROOT,
    env=environment(cache),
    text=True,
    capture_output=True,
    timeout=timeout,
  )


def trained(cache, workdir, *arguments, method='cvae_gan'):
  done = call(
    cache,
    'train',
    f'--config=configs/digits.py:{method}',
    f'--workdir={workdir}',
    *SMALL,
    *arguments,
  )
  assert done.returncode == 0, done.stderr
  return done


def digest(workdir, step):
  """The values of a checkpoint, all of them, as bytes."""
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  from orbax.checkpoint import v1 as ocp

  folder = workdir / checkpoint.FOLDER / str(step)
  like = jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here), ocp.metadata(folder).metadata
  )
  return [np.asarray(a).tobytes() for a in jax.tree.leaves(ocp.load(folder, like))]


@pytest.fixture(scope='session')
def straight(cache, tmp_path_factory):
  """A run of 30 steps that nothing disturbed."""
  workdir = tmp_path_factory.mktemp('runs') / 'straight'
  trained(cache, workdir, '--config.steps=30', '--config.save_every_steps=5')
  return workdir


def test_a_run_leaves_all_that_a_person_looks_for(straight):
  config = json.loads((straight / 'config.json').read_text())
  assert config['method_name'] == 'cvae_gan' and config['network']['width'] == 0.0625
  lines = [json.loads(line) for line in (straight / 'metrics.jsonl').read_text().splitlines()]
  assert [line['step'] for line in lines] == [1, 5, 10, 15, 20, 25, 30]
  for loss in (
    'kl',
    'pixel',
    'feature_d',
    'feature_c',
    'match_d',
    'match_c',
    'classify',
    'real',
    'fake_recon',
    'fake_prior',
  ):
    assert all(np.isfinite(line[loss]) for line in lines), loss
  assert lines[-1]['images_per_s'] > 0
  for name in ('samples', 'reconstructions'):
    grid = np.asarray(Image.open(straight / name / 'step_00000030.png'))
    assert grid.std() > 10
  assert checkpoint.steps(straight) == [20, 25, 30]
  assert list((straight / 'tensorboard').glob('events*'))
  report = (straight / 'report.html').read_text()
  assert 'configs/digits.py:cvae_gan' in report and '1,500 images' in report


def test_kills_at_random_moments_change_nothing(cache, straight, tmp_path):
  """kill -9, some of them while a checkpoint is written; the end is the same to the bit."""
  moments = random.Random(0)
  kills = 0
  arguments = command(
    'train',
    '--config=configs/digits.py:cvae_gan',
    f'--workdir={tmp_path}',
    *SMALL,
    '--config.steps=30',
    '--config.save_every_steps=5',
  )
  for attempt in range(12):
    process = subprocess.Popen(
      arguments,
      cwd=ROOT,
      env=environment(cache),
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    if attempt < 5:
      wait_for_step(process)
      time.sleep(moments.uniform(0, 0.6))
      kills += process.poll() is None
      process.kill()
      process.communicate()
    else:
      output, _ = process.communicate(timeout=300)
      assert process.returncode == 0, output
      break
  assert kills >= 3
  assert digest(tmp_path, 30) == digest(straight, 30)
  logged = lambda workdir: [
    {k: v for k, v in json.loads(line).items() if k != 'images_per_s'}
    for line in (workdir / 'metrics.jsonl').read_text().splitlines()
  ]
  own = [line for line in logged(tmp_path) if line['step'] % 5 == 0]
  assert own == [line for line in logged(straight) if line['step'] % 5 == 0]


def wait_for_step(process):
  """Reads the output up to the first step that it tells of."""
  for line in process.stdout:
    if line.startswith('step '):
      return


@pytest.mark.parametrize('number,code', [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_leaves(cache, tmp_path, number, code):
  process = subprocess.Popen(
    command(
      'train',
      '--config=configs/digits.py:cvae_gan',
      f'--workdir={tmp_path}',
      *SMALL,
      '--config.steps=100000',
      '--config.save_every_steps=50000',
    ),
    cwd=ROOT,
    env=environment(cache),
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  wait_for_step(process)
  process.send_signal(number)
  output, _ = process.communicate(timeout=60)
  assert process.returncode == code, output
  (step,) = checkpoint.steps(tmp_path)
  assert 1 <= step < 100000 and not checkpoint.damage(tmp_path, step)
  assert f'stopped at step {step}' in output


def test_images_on_the_devices_change_nothing(cache, straight, tmp_path):
  """To the bit, over a stop, too."""
  for steps in (10, 30):
    trained(
      cache,
      tmp_path,
      f'--config.steps={steps}',
      '--config.save_every_steps=5',
      '--config.data.on_device',
    )
  assert digest(tmp_path, 30) == digest(straight, 30)


def test_several_steps_in_a_dispatch_keep_to_what_is_due(cache, tmp_path):
  own = lambda steps, each: (
    f'--config.steps={steps}',
    '--config.save_every_steps=5',
    f'--config.steps_per_dispatch={each}',
  )
  trained(cache, tmp_path, *own(10, 5), '--config.sample_at_steps=(3,)', method='vae')
  assert [
    json.loads(line)['step'] for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()
  ] == [5, 10]
  assert checkpoint.steps(tmp_path) == [5, 10]
  trained(cache, tmp_path, *own(12, 1), '--config.sample_every_seconds=1e-6', method='vae')
  pictures = sorted(int(p.stem.removeprefix('step_')) for p in tmp_path.glob('samples/*.png'))
  assert pictures == [5, 10, 11, 12]
  done = call(
    cache, 'train', '--config=configs/digits.py:vae', f'--workdir={tmp_path}', *SMALL, *own(15, 5)
  )
  assert (
    done.returncode == 2
    and 'is at step 12, which is not a multiple of --config.steps_per_dispatch=5' in done.stderr
  )


def test_a_second_run_in_the_same_workdir_is_refused(cache, tmp_path):
  arguments = (
    'train',
    '--config=configs/digits.py:cvae_gan',
    f'--workdir={tmp_path}',
    *SMALL,
    '--config.steps=100000',
  )
  first = subprocess.Popen(
    command(*arguments),
    cwd=ROOT,
    env=environment(cache),
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  try:
    wait_for_step(first)
    second = call(cache, *arguments)
    assert second.returncode == 2 and f'process {first.pid} on' in second.stderr, second.stderr
  finally:
    first.kill()
    first.communicate()


def test_another_config_in_the_same_workdir_is_refused(cache, straight):
  before = {p: p.stat().st_mtime_ns for p in straight.rglob('*') if p.name != '.lock'}
  done = call(
    cache,
    'train',
    '--config=configs/digits.py:cvae_gan',
    f'--workdir={straight}',
    *SMALL,
    '--config.steps=40',
    '--config.network.latent_size=5',
  )
  assert done.returncode == 2 and 'network.latent_size: 5 now, 4 then' in done.stderr
  assert before == {p: p.stat().st_mtime_ns for p in straight.rglob('*') if p.name != '.lock'}


def test_a_damaged_checkpoint_is_passed_over_by_training_and_refused_by_sampling(cache, tmp_path):
  trained(cache, tmp_path, '--config.steps=10', '--config.save_every_steps=5', method='vae')
  files = [p for p in (tmp_path / 'checkpoints/10').rglob('*') if p.is_file()]
  largest = max(files, key=lambda p: p.stat().st_size)
  data = bytearray(largest.read_bytes())
  data[len(data) // 2] ^= 1
  largest.write_bytes(data)
  done = call(cache, 'sample', f'--workdir={tmp_path}', f'--out={tmp_path}/x.png')
  assert (
    done.returncode == 2
    and 'checkpoint 10 is damaged' in done.stderr
    and 'intact: steps 5' in done.stderr
  )
  strict = call(
    cache,
    'train',
    '--config=configs/digits.py:vae',
    f'--workdir={tmp_path}',
    *SMALL,
    '--config.steps=10',
    '--resume=strict',
  )
  assert strict.returncode == 2 and 'checkpoint 10 is damaged' in strict.stderr
  again = trained(cache, tmp_path, '--config.steps=10', '--config.save_every_steps=5', method='vae')
  assert 'resuming from step 5' in again.stdout and 'damaged' in again.stderr
  assert checkpoint.steps(tmp_path) == [5, 10] and not checkpoint.damage(tmp_path, 10)
  assert list((tmp_path / 'checkpoints').glob('10.aside-*'))


def test_vae_dis_trains_a_gan_first_and_keeps_its_discriminator(cache, tmp_path):
  done = trained(
    cache,
    tmp_path,
    '--config.steps=10',
    '--config.first.steps=5',
    '--config.save_every_steps=5',
    '--config.log_every_steps=1',
    method='vae_dis',
  )
  assert 'step 5: vae_dis begins' in done.stdout
  lines = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
  assert 'fake_prior' in lines[4] and 'feature_d' not in lines[4]
  assert 'fake_prior' not in lines[5] and 'feature_d' in lines[5]


@pytest.mark.parametrize('on_device', [False, True], ids=['images_on_the_host', 'on_the_devices'])
def test_two_processes_are_one_run(cache, straight, tmp_path, on_device):
  """Two hosts (of one CPU device each) give the numbers of one."""
  with_port = random.randint(20000, 60000)
  code = """
import sys
import jax
jax.distributed.initialize(f'127.0.0.1:{sys.argv[2]}', 2, int(sys.argv[1]))
from vaegan_jax.configs import digits
from vaegan_jax.runs import train
config = digits.get_config('cvae_gan')
config.network.width, config.batch_size, config.network.latent_size = 0.0625, 8, 4
config.steps = config.log_every_steps = config.save_every_steps = 5
config.sample_every_steps = 1000
config.data.on_device = bool(int(sys.argv[4]))
sys.exit(train.train(config, sys.argv[3]))
"""
  both = [
    subprocess.Popen(
      [sys.executable, '-c', code, str(i), str(with_port), str(tmp_path), str(int(on_device))],
      cwd=ROOT,
      env=environment(cache),
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for i in range(2)
  ]
  outputs = [p.communicate(timeout=300)[0] for p in both]
  assert [p.returncode for p in both] == [0, 0], outputs
  assert checkpoint.steps(tmp_path) == [5]
  logged = lambda workdir: [
    json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()
  ]
  for one, two, rounding in zip(logged(straight), logged(tmp_path), (1e-4, 0.05)):  # steps 1 and 5
    for k in ('kl', 'pixel', 'real', 'classify', 'match_c'):
      assert two[k] == pytest.approx(one[k], rel=rounding), k


def test_dry_run_tells_the_cost_and_writes_nothing(cache, tmp_path):
  done = call(
    cache,
    'train',
    '--config=configs/digits.py:vae',
    '--dry_run',
    '--verbose',
    f'--workdir={tmp_path}/new',
    *SMALL,
  )
  assert done.returncode == 0, done.stderr
  for word in (
    'latent_size: 4',
    'encoder/',
    'GFLOP per image',
    'memory per device',
    'time: about 0:0',
    'Nothing was written',
  ):
    assert word in done.stdout.replace('encoder:', 'encoder/'), word
  assert not (tmp_path / 'new').exists()
