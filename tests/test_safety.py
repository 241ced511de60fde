"""What a run has learnt stays: when it diverges, when files are damaged, moved, or do not fit."""

import json
import random
import resource
import shutil

import numpy as np
import pytest

from reliability import campaign, flips
from tests import test_population
from tests.test_population import members_of, state
from vaegan_jax import checkpoint, files, sample
from vaegan_jax.failures import RunFailed
from vaegan_jax.runs import saver, train
from vaegan_jax.runs.workdir import Claim, Member, begin

pytestmark = pytest.mark.slow

small_networks = test_population.small_networks  # the fixture, for this file too


def config_of(**changes):
  own = {'keep_checkpoints': 2, 'log_every_steps': 100, **changes}
  (config,) = members_of('vae', {}, '0', **own).values()
  return config


def run(workdir, say=lambda _: None, **changes):
  return train.train(config_of(**changes), workdir, say=say)


@pytest.fixture(scope='module')
def good(small_networks, tmp_path_factory):
  """A run of 4 steps with checkpoints 2 and 4."""
  workdir = tmp_path_factory.mktemp('good') / 'run'
  assert run(workdir) == 0
  return workdir


@pytest.fixture(scope='module')
def diverged(good, tmp_path_factory):
  """(The same run after steps at a rate that is far too high, the error)."""
  workdir = shutil.copytree(good, tmp_path_factory.mktemp('diverged') / 'run')
  with pytest.MonkeyPatch.context() as patch, pytest.raises(FloatingPointError) as error:
    patch.setattr(train.build, 'check', lambda _: None)  # it refuses such a rate
    run(workdir, steps=30, **{'optimizer.learning_rate': 1e10})
  return workdir, str(error.value)


@pytest.fixture
def copy(good, tmp_path):
  return shutil.copytree(good, tmp_path / 'run')


def by_hand(workdir, skipped):
  """Checkpoints without data: {step: steps skipped in a row}."""
  for step, count in skipped.items():
    (workdir / 'checkpoints' / str(step)).mkdir(parents=True)
    own = dict(step=step, files={'a': ''}, config={'a': 1}, about={'a': 1})
    own['health'] = dict(finite=True, skipped=count)
    path = workdir / 'checkpoints' / f'{step}.json'
    files.write_json(path, {**own, 'sha256': checkpoint.seal(own)})


# --- Divergence.


def test_a_run_that_diverges_keeps_its_sound_checkpoints(diverged):
  workdir, error = diverged
  assert checkpoint.sound_steps(workdir) == [2, 4]
  sick = checkpoint.sick(workdir)
  assert sick and min(sick) > 4
  # The run stops at the first save that finds it stuck, long before the next line of its log.
  assert error.startswith('step 16: ') and 'finite for 11 steps (' in error and '()' not in error
  for step in sick:
    assert checkpoint.manifest(workdir, step)['health']['skipped'] >= 1
    assert all(np.isfinite(a).all() for a in state(workdir, step).values())


def test_sampling_takes_the_newest_sound_checkpoint_and_says_so(diverged, caplog):
  workdir, _ = diverged
  assert sample.restore(workdir).step == 4
  assert 'were skipped' in caplog.text and 'taking checkpoint 4' in caplog.text
  assert sample.restore(workdir, 14).step == 14


def test_the_same_command_with_a_lower_rate_goes_on(diverged, tmp_path, caplog):
  workdir = shutil.copytree(diverged[0], tmp_path / 'run')
  said = []
  assert run(workdir, said.append, steps=6) == 0
  assert 'passing over it; taking step 4' in caplog.text
  assert any('sets aside' in line and '14' in line for line in said)
  assert checkpoint.steps(workdir) == [4, 6] == checkpoint.sound_steps(workdir)
  assert list((workdir / 'checkpoints').glob('14.aside-*'))


def test_resuming_from_a_step_sets_later_ones_aside(copy):
  member, said = Member('', config_of(), copy), []
  for step, words in ((3, 'no such checkpoint; it has 2, 4'), (9, 'no such checkpoint')):
    with pytest.raises(ValueError, match=words):
      begin([member], copy, False, said.append, step)
  assert checkpoint.steps(copy) == [2, 4]
  assert begin([member], copy, False, said.append, 2) == 2 and '[4]' in said[0]
  assert checkpoint.steps(copy) == [2]
  assert len(list((copy / 'checkpoints').glob('4*.aside-*'))) == 2


def test_a_checkpoint_of_other_networks_is_refused_before_anything_is_changed(copy, monkeypatch):
  """As where somebody resumes after a change of their own network."""
  shapes = checkpoint.shapes

  def other(*where):
    saved = shapes(*where)
    return {**saved, 'params': {**saved['params'], 'encoder': saved['params']['generator']}}

  monkeypatch.setattr(checkpoint, 'shapes', other)
  contents = lambda: {p: p.read_bytes() for p in copy.rglob('*') if p.is_file()}
  (copy / '.lock').unlink(missing_ok=True)
  before = contents()
  with pytest.raises(ValueError, match='2 does not fit the networks .*: params/encoder/.* here'):
    train.train(config_of(), copy, from_step=2)
  (copy / '.lock').unlink(missing_ok=True)
  assert contents() == before


def test_a_state_from_which_no_step_succeeded_is_sick(tmp_path, caplog):
  """A state of huge parameters is finite, but dead: its own step counted as sound."""
  by_hand(tmp_path, {48: 0, 49: 0, 50: 0, 51: 0, 52: 1})
  assert checkpoint.sound_steps(tmp_path) == [48, 49, 50]
  by_hand(tmp_path, {53: 0})  # the run went on: it was one bad batch
  assert checkpoint.sound_steps(tmp_path) == [48, 49, 50, 51, 53]


def test_without_a_sound_checkpoint_training_goes_on_and_sampling_refuses(tmp_path):
  by_hand(tmp_path, {2: 2, 4: 4})
  with pytest.raises(ValueError, match='is sound: the 4 steps up to 4.*--step=4'):
    sample.restore(tmp_path)


# --- Manifests.


def test_no_flipped_bit_of_a_manifest_is_believed(copy):
  path, draw = copy / 'checkpoints' / '4.json', random.Random(0)
  before = checkpoint.manifest(copy, 4)
  raw, wrong = path.read_bytes(), 0
  for _ in range(600):
    flipped = bytearray(raw)
    flipped[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
    path.write_bytes(flipped)
    try:
      assert checkpoint.manifest(copy, 4) == before  # a blank or a digit beyond float64
    except ValueError as e:
      assert 'damaged' in str(e)
      wrong += 1
  assert wrong > 400


def test_a_manifest_of_an_older_version_is_believed(copy):
  path = copy / 'checkpoints' / '4.json'
  old = json.loads(path.read_text())
  del old['health'], old['sha256']
  files.write_json(path, old)
  assert not checkpoint.damage(copy, 4) and checkpoint.sound_steps(copy) == [2, 4]


def test_a_checkpoint_under_another_number_is_damaged(copy, caplog):
  folder = copy / 'checkpoints'
  shutil.copytree(folder / '4', folder / '8')
  shutil.copy(folder / '4.json', folder / '8.json')
  assert 'it is the manifest of step 4' in checkpoint.damage(copy, 8)
  assert begin([Member('', config_of(), copy)], copy, False, print) == 4
  assert 'checkpoint 8 is damaged' in caplog.text


def test_a_deleted_manifest_is_told(copy, caplog):
  (copy / 'checkpoints' / '4.json').unlink()
  assert sample.restore(copy).step == 2
  assert '4 has no manifest (4.json)' in caplog.text
  with pytest.raises(ValueError, match='no checkpoint of step 4, which has no manifest; it has 2'):
    sample.restore(copy, 4)
  caplog.clear()
  assert begin([Member('', config_of(), copy)], copy, False, print) == 2
  assert '4 has no manifest (4.json)' in caplog.text


def test_damaged_checkpoints_hold(good, tmp_path):
  """Some tries of reliability/flips.py."""
  shared = tmp_path / 'shared'
  shared.mkdir()
  (shared / 'straight').symlink_to(good)
  kinds = set()
  for number in range(40):
    folder = tmp_path / str(number)
    folder.mkdir()
    own = campaign.Try(number, 0, folder, shared)
    assert not flips.attempt(own), own.moment
    kinds.add(own.moment.split(' ')[0])
  assert kinds == {'flip', 'truncation', 'deletion', 'step'}


def test_a_deleted_folder_is_told(copy, caplog):
  shutil.rmtree(copy / 'checkpoints' / '4')
  with pytest.raises(ValueError, match='checkpoints/4/.* is missing; intact: steps 2'):
    sample.restore(copy)
  assert begin([Member('', config_of(), copy)], copy, False, print) == 2
  assert 'checkpoint 4 is damaged' in caplog.text
  assert checkpoint.steps(copy) == [2] and not checkpoint.damage(copy, 2)


# --- The folder and the disk.


@pytest.mark.parametrize('deleted', [False, True], ids=['moved', 'deleted'])
def test_a_run_without_its_folder_stops_and_writes_nothing_there(tmp_path, deleted):
  workdir, moved = tmp_path / 'run', tmp_path / 'moved'

  def take_away(line):
    if line.startswith('step 1/'):
      shutil.rmtree(workdir) if deleted else workdir.rename(moved)
      if not deleted:
        workdir.mkdir()
        (workdir / '.lock').touch()  # of another run

  words = 'was deleted' if deleted else f'it is now {moved}'
  with pytest.raises(RunFailed, match=words):
    run(workdir, take_away)
  assert not workdir.exists() if deleted else [p.name for p in workdir.iterdir()] == ['.lock']
  if not deleted:  # what it had learnt is where the folder is
    assert checkpoint.steps(moved) and not checkpoint.damage(moved, checkpoint.steps(moved)[-1])


def test_a_save_into_a_folder_of_another_run_is_no_checkpoint(copy, monkeypatch):
  """The folder changes hands while Orbax writes."""

  def lost():
    raise RunFailed('gone')

  made = []
  monkeypatch.setattr(checkpoint.ocp, 'save_async', lambda path, _: made.append(path) or Done())
  step = type('State', (), dict(skipped=np.zeros(1)))

  class Done:
    def result(self):
      pass

  monkeypatch.setattr(checkpoint, '_finite', lambda _: True)
  step.skipped = type('A', (), dict(addressable_data=lambda self, _: np.zeros(())))()
  saved = checkpoint.save(copy, 6, step, keep=1, config={'a': 1}, about={'a': 1}, claimed=lost)
  with pytest.raises(RunFailed):
    saved.result()
  assert made and checkpoint.steps(copy) == [2, 4]


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')  # Orbax's threads
def test_a_save_that_fails_is_one_line(copy, caplog, capsys):
  """Files may not grow beyond some size, as on a full disk."""
  limit = resource.getrlimit(resource.RLIMIT_FSIZE)

  def shrink(line):
    if line.startswith('step 5/'):
      resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limit[1]))

  try:
    with pytest.raises(RunFailed, match='step [67].*Older checkpoints are intact') as error:
      run(copy, shrink, steps=8)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
  assert '\n' not in str(error.value)
  assert 'Traceback' not in caplog.text + ''.join(capsys.readouterr())
  assert checkpoint.steps(copy) == [2, 4] and not checkpoint.damage(copy, 4)
  assert list((copy / 'checkpoints').glob('6*'))
  assert begin([Member('', config_of(), copy)], copy, False, print) == 4
  assert not list((copy / 'checkpoints').glob('6*'))  # what the save left takes room


def test_a_full_disk_is_told_with_path_and_sizes(tmp_path, monkeypatch):
  usage = type('Usage', (), dict(free=3 << 20))
  monkeypatch.setattr(saver.shutil, 'disk_usage', lambda _: usage)
  own = saver.Saver([Member('', config_of(), tmp_path)], {}, Claim())
  assert own.measure([np.zeros(1 << 18, np.float32)]) == ''  # 3 times 1 MiB
  assert 'needs 6 MiB more for checkpoints (2 MiB each), but 3 MiB are free' in own.measure(
    [np.zeros(1 << 19, np.float32)]
  )
  words = f'{tmp_path} is full: a save needs 2 MiB, and 3 MiB are free'
  with pytest.raises(RunFailed, match=words), own.told(7, OSError):
    raise OSError(28, 'No space left on device')


def test_a_folder_of_pictures_that_became_a_file_is_one_line(tmp_path):
  def spoil(line):
    if line.startswith('step 1/'):
      (tmp_path / 'samples').touch()

  with pytest.raises(RunFailed, match='samples is a file, not a folder'):
    run(tmp_path, spoil, steps=2)
