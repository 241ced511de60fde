"""Forks: a run that starts from the weights of another one."""

import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest

from tests import test_population
from tests.test_population import logged, members_of, state
from vaegan_jax import checkpoint, settings
from vaegan_jax.runs import train

pytestmark = pytest.mark.slow

small_networks = test_population.small_networks  # the fixture, for this file too
WEIGHTS = ("['params']", "['stats']", "['ema']")
OTHER = {'optimizer.learning_rate': 1e-3, 'method.generator.match_c': 0.5}


class Stop(Exception):
  """Ends a run before it compiles its step."""


def config_of(method, seed='0', **changes):
  (config,) = members_of(method, {}, seed, **changes).values()
  return config


def starts(configs, monkeypatch, workdir, **arguments):
  """([state as {path: array}] with which the members begin, what the run said)."""
  found, said = [], []

  def stop(run, dataset, stages, states):
    for own in states:
      leaves = jax.tree_util.tree_leaves_with_path(vars(own))
      found.append({jax.tree_util.keystr(path): np.asarray(a) for path, a in leaves})
    raise Stop

  with monkeypatch.context() as patch, pytest.raises(Stop):
    patch.setattr(train, 'say_what_trains', stop)
    train.train_members(configs, workdir, say=said.append, **arguments)
  return found, ' '.join(said)


@pytest.fixture(scope='module')
def trained(small_networks, tmp_path_factory):
  """{method: folder of a run with checkpoints of steps 2 and 4}."""
  home = tmp_path_factory.mktemp('trained')
  for method in ('cvae', 'cvae_gan'):
    assert train.train(config_of(method), home / method, say=lambda _: None) == 0
  return {method: home / method for method in ('cvae', 'cvae_gan')}


@pytest.fixture
def source(trained, tmp_path):
  """The folder of a run of cvae_gan, a copy to spoil."""
  return shutil.copytree(trained['cvae_gan'], tmp_path / 'source')


def seal(path, manifest):
  """Writes a manifest with the checksum that belongs to it."""
  path.write_text(json.dumps({**manifest, 'sha256': checkpoint.seal(manifest)}))


def refused(source, workdir, words, config=None, **arguments):
  with pytest.raises(ValueError, match=words) as error:
    train.train(config or config_of('cvae_gan'), workdir, init_from=source, **arguments)
  assert '\n' not in str(error.value) and not workdir.exists()


def test_a_fork_starts_with_the_weights_alone(trained, tmp_path, monkeypatch):
  run, members = trained['cvae_gan'], {'': config_of('cvae_gan', '1', **OTHER)}
  (got,), said = starts(members, monkeypatch, tmp_path / 'fork', init_from=run)
  (fresh,), _ = starts(members, monkeypatch, tmp_path / 'fresh')
  there = state(run, 4)
  assert got.keys() == fresh.keys()
  assert {p for p in got if p.startswith(WEIGHTS)} == {p for p in there if p.startswith(WEIGHTS)}
  assert all(any(p.startswith(w) for p in got) for w in (*WEIGHTS, "['opt_state']", "['centres']"))
  for path, value in got.items():
    want = (there if path.startswith(WEIGHTS) else fresh)[path]
    np.testing.assert_array_equal(value, want, err_msg=path)
  assert said == f'starting from the weights of step 4 of {run}'
  kernel = "['params']['generator']['Net_0']['first']['kernel']"
  assert abs(got[kernel] - fresh[kernel]).max() > 0.01


def test_every_member_starts_from_it_and_networks_it_lacks_are_fresh(
  trained, tmp_path, monkeypatch
):
  members = members_of('cvae_gan', {'optimizer.learning_rate': ['1e-4', '1e-3']}, '01')
  both, said = starts(members, monkeypatch, tmp_path / 'fork', init_from=trained['cvae'])
  fresh, _ = starts(members, monkeypatch, tmp_path / 'fresh')
  assert said.endswith('which lacks and leaves fresh: classifier, discriminator')
  there = state(trained['cvae'], 4)
  assert len(both) == 4
  for got, own in zip(both, fresh):
    for path, value in got.items():
      taken = path.startswith(WEIGHTS) and path.split("'")[3] in ('encoder', 'generator')
      np.testing.assert_array_equal(value, (there if taken else own)[path], err_msg=path)


def test_a_fork_that_stopped_resumes_and_does_not_fork_again(source, tmp_path):
  config, said = config_of('cvae_gan', **OTHER), []

  def stop(line):
    if line.startswith('step 1/'):
      os.kill(os.getpid(), signal.SIGTERM)

  whole, cut = tmp_path / 'whole', tmp_path / 'cut'
  assert train.train(config, whole, init_from=source, say=lambda _: None) == 0
  assert train.train(config, cut, init_from=source, say=stop) == 143
  shutil.rmtree(source)
  assert train.train(config, cut, init_from=source, say=said.append) == 0
  assert said[0] == f'--init_from is ignored: {cut} has checkpoints of its own'
  assert [line['step'] for line in logged(cut)][-1] == 4
  jax.tree.map(np.testing.assert_array_equal, state(whole, 4), state(cut, 4))


def test_a_fork_that_heals_starts_from_the_same_weights(source, tmp_path, monkeypatch):
  """Without the flag, and whatever the newest checkpoint is; not from others of the same step."""
  fork, members = tmp_path / 'fork', {'': config_of('cvae_gan', **OTHER)}
  path = source / 'checkpoints' / '2.json'
  newer = source / 'checkpoints' / '4.json'
  newer.rename(tmp_path / '4.json')
  starts(members, monkeypatch, fork, init_from=source)
  (tmp_path / '4.json').rename(newer)
  heal = dict(step=9, heals=0, level='heal', kind='', event='', to=0, rates={}, kl=1.0)
  (fork / 'events.jsonl').write_text(json.dumps(heal) + '\n')
  told = f'starting from the weights of step 2 of {source}'
  (got,), said = starts(members, monkeypatch, fork)
  assert said == told and starts(members, monkeypatch, fork, init_from=source)[1] == told
  there = state(source, 2)
  assert all((got[p] == there[p]).all() for p in got if p.startswith(WEIGHTS))
  written = json.loads(path.read_text())
  seal(path, {**written, 'about': {**written['about'], 'size': 11}})
  with pytest.raises(ValueError, match='but the checkpoint of this step is another one now.*'):
    train.train_members(members, fork)
  path.unlink()
  with pytest.raises(ValueError, match='step 2 of .*source, but .*2.json cannot be read'):
    train.train_members(members, fork)
  (fork / 'origin.json').write_text('{"workdir": "/runs/so')
  with pytest.raises(ValueError, match='origin.json is damaged .*start in another --workdir'):
    train.train_members(members, fork)
  (fork / 'events.jsonl').unlink()
  assert starts(members, monkeypatch, fork)[1] == ''
  assert json.loads((fork / 'origin.json').read_text()) == {}


def test_a_folder_without_a_run_is_refused(trained, tmp_path):
  fork = tmp_path / 'fork'
  refused(tmp_path / 'nowhere', fork, 'nowhere has no checkpoint: .*--init_from')
  refused(trained['cvae'].parent, fork, 'holds 2 runs.*--init_from=.*/cvae$')
  run = trained['cvae_gan']
  before = sorted(run.rglob('*'))
  with pytest.raises(ValueError, match='is the --workdir itself'):
    train.train(config_of('cvae_gan'), run, init_from=f'{run}/../{run.name}')
  assert sorted(run.rglob('*')) == before


@pytest.mark.parametrize(
  'method,changes,words',
  [
    ('cvae_gan', {'network.latent_size': 5}, 'config.network.latent_size is 3 there and 5 here'),
    ('cvae_gan', {'data.image_size': 32}, 'config.data.image_size is 16 there and 32 here'),
    ('vae', {'network.name': 'bao'}, 'config.data.condition is label there and none here'),
  ],
)
def test_other_networks_are_refused(method, changes, words, trained, tmp_path):
  refused(trained['cvae_gan'], tmp_path / 'fork', words, config_of(method, **changes))


def test_other_classes_and_other_shapes_are_refused(source, tmp_path, monkeypatch):
  path = source / 'checkpoints' / '4.json'
  written = json.loads(path.read_text())
  there = {**written['about'], 'names': ['cat', *written['about']['names'][1:]]}
  seal(path, {**written, 'about': there})
  refused(source, tmp_path / 'fork', 'another condition: its names is cat, 1.* there and 0, 1.*cat')
  seal(path, written)
  shapes = checkpoint.shapes

  def other(*where):
    saved = shapes(*where)
    saved['params']['encoder'] = saved['params']['generator']
    return saved

  monkeypatch.setattr(checkpoint, 'shapes', other)
  refused(source, tmp_path / 'fork', 'params/encoder/.* has the shape .* though the configs')


def test_a_damaged_checkpoint_is_passed_over_or_refused(source, tmp_path, monkeypatch):
  fork = tmp_path / 'fork'
  (source / 'checkpoints' / '4.json').write_text('{}')
  refused(source, fork, 'checkpoint 4 is damaged: .*intact: steps 2', strict=True)
  _, said = starts({'': config_of('cvae_gan')}, monkeypatch, fork, init_from=source)
  assert said.startswith('starting from the weights of step 2 of')
  shutil.rmtree(fork)
  (source / 'checkpoints' / '2.json').write_text('{}')
  refused(source, fork, 'every checkpoint is damaged, such as')


def test_a_config_from_before_a_field_was_added_is_taken(source, tmp_path, monkeypatch):
  path = source / 'checkpoints' / '4.json'
  written = json.loads(path.read_text())
  for field in settings.ADDED:
    group, _, name = field.rpartition('.')
    (written['config'][group] if group else written['config']).pop(name)
  seal(path, written)
  _, said = starts({'': config_of('cvae_gan')}, monkeypatch, tmp_path / 'fork', init_from=source)
  assert said.startswith('starting from the weights of step 4 of')
