"""Populations: a member is its config's run alone, and its workdir a run like any other."""

import functools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import types

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from orbax.checkpoint import v1 as ocp
import pytest

from tests import tiny
from vaegan_jax import checkpoint, losses, methods, programs, sample, settings
from vaegan_jax.configs import digits
from vaegan_jax.networks import NETWORKS
from vaegan_jax.routing import Inputs, column_groups, gradients
from vaegan_jax.runs import report, train
from vaegan_jax.runs.workdir import POPULATION, Member, begin
from vaegan_jax.step import draw

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[1]


class Whole(nn.Module):
  """A network of tiny.py for images of 16x16, made with the fields that build.py gives."""

  kind: str
  latent_size: int
  num_classes: int = 0

  @nn.compact
  def __call__(self, x, c=None, *, train):
    outputs = dict(
      encoder=(self.latent_size,) * 2,
      generator=(256,),
      discriminator=(1,),
      classifier=(self.num_classes,),
    )[self.kind]
    features, out = tiny.Net(outputs, conditional=self.kind in ('encoder', 'generator'))(
      x, c, train=train
    )
    if self.kind == 'encoder':
      return tuple(out)
    return (
      jnp.tanh(out[0]).reshape(-1, 16, 16, 1)
      if self.kind == 'generator'
      else ((out[0][:, 0], features) if self.kind == 'discriminator' else (out[0], features))
    )


@pytest.fixture(autouse=True, scope='module')
def small_networks():
  kinds = {
    kind.capitalize(): lambda kind=kind, latent_size=0, **_: Whole(kind, latent_size)
    for kind in tiny.NETWORKS
  }
  with pytest.MonkeyPatch.context() as patch:
    for name in NETWORKS:
      patch.setitem(NETWORKS, name, types.SimpleNamespace(**kinds))
    yield


def members_of(method, values, seeds='01', **changes):
  changes = {
    'network.latent_size': 3,
    'batch_size': 8,
    'steps': 4,
    'log_every_steps': 1,
    'sample_every_steps': 100,
    'save_every_steps': 2,
    'optimizer.eps': 0.01,
    **changes,
  }  # eps: what is rounding only stays small
  return settings.members(
    settings.with_settings(digits.get_config(method), changes), list(seeds), values
  )


def state(workdir, step):
  """{path: array} of a checkpoint."""
  folder = pathlib.Path(workdir) / checkpoint.FOLDER / str(step)
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  like = jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here), ocp.metadata(folder).metadata
  )
  return {
    jax.tree_util.keystr(path): np.asarray(a)
    for path, a in jax.tree_util.tree_leaves_with_path(ocp.load(folder, like))
  }


def logged(workdir):
  lines = [
    json.loads(line) for line in (pathlib.Path(workdir) / 'metrics.jsonl').read_text().splitlines()
  ]
  return [{k: v for k, v in line.items() if k != 'images_per_s'} for line in lines]


def same_run(one, two, step, rtol=2e-3, atol=1e-5):
  """Asserts that two workdirs hold the same run, to rounding."""
  assert (one / 'config.json').read_text() == (two / 'config.json').read_text()
  a, b = (checkpoint.manifest(w, step) for w in (one, two))
  assert a['config'] == b['config'] and a['about'] == b['about']
  a, b = state(one, step), state(two, step)
  assert a.keys() == b.keys()
  for path in a:
    np.testing.assert_allclose(a[path], b[path], rtol=rtol, atol=atol, err_msg=path)
  for x, y in zip(logged(one), logged(two), strict=True):
    assert x.keys() == y.keys()
    np.testing.assert_allclose([x[k] for k in x], [y[k] for k in x], rtol=rtol, atol=atol)


# For vae_gan members of weight 0 share the step of the others; for cvae_gan the classifier of a
# member of weight 0 sees other images.
SWEEPS = dict(
  vae_gan=(
    {'method.generator.feature_d': ['0', '0.1'], 'optimizer.learning_rate': ['3e-4', '1e-3']},
    1,
    ('in_turn', 'side_by_side'),
  ),
  cvae_gan=({'method.generator.match_c': ['0', '0.1']}, 2, ('side_by_side',)),
)


@pytest.mark.parametrize('method', SWEEPS)
def test_a_member_is_its_config_trained_alone(method, tmp_path, monkeypatch):
  values, count, ways = SWEEPS[method]
  configs = members_of(method, values, steps=3, save_every_steps=100)
  names = list(configs)
  assert names[:2] == (
    ['seed_0,match_c_0', 'seed_0,match_c_0.1']
    if count == 2
    else ['seed_0,feature_d_0,learning_rate_3e-4', 'seed_0,feature_d_0,learning_rate_1e-3']
  )
  alone = (names[0], names[-1])
  for name in alone:
    assert train.train(configs[name], tmp_path / name, say=lambda _: None) == 0
  for way in ways:
    said, home = [], tmp_path / way
    monkeypatch.setattr(programs, 'side_by_side', lambda config, way=way: way == 'side_by_side')
    assert train.train_members(configs, home, say=said.append) == 0
    assert f' in {count} program(s)' in said[0]
    for name in alone:
      same_run(home / name, tmp_path / name, 3)
    ends = [
      state(home / name, 3)["['params']['generator']['Net_0']['first']['kernel']"] for name in names
    ]
    assert all(abs(a - b).max() > 1e-5 for i, a in enumerate(ends) for b in ends[:i])
    told = json.loads((home / POPULATION).read_text())['members']
    assert list(told) == names and told[names[-1]]['settings']['seed'] == 1


@pytest.mark.parametrize(
  'method,changes',
  [
    ('vae_dis', {'first.steps': 2}),
    ('vae', {'steps_per_dispatch': 2, 'log_every_steps': 2}),
    ('vae', {'data.on_device': True}),
    ('vae', {'parallel': 'pmap'}),
  ],
  ids=['first_phase', 'steps_per_dispatch', 'on_device', 'pmap'],
)
def test_members_train_in_every_way_that_a_run_alone_can(method, changes, tmp_path):
  configs = members_of(method, {'optimizer.learning_rate': ['3e-4', '1e-3']}, '0', **changes)
  for name, config in configs.items():
    assert train.train(config, tmp_path / 'alone' / name, say=lambda _: None) == 0
  said = []
  assert train.train_members(configs, tmp_path / 'together', say=said.append) == 0
  assert ('step 2: vae_dis begins' in ' '.join(said)) == (method == 'vae_dis')
  for name in configs:
    same_run(tmp_path / 'alone' / name, tmp_path / 'together' / name, 4)


@pytest.fixture(scope='module')
def finished(small_networks, tmp_path_factory):
  configs = members_of('vae', {'method.encoder.kl': ['1', '2']}, seeds='0', keep_checkpoints=1)
  train.train_members(configs, tmp_path_factory.mktemp('population'), say=lambda _: None)
  return configs, tmp_path_factory.getbasetemp() / 'population0'


@pytest.fixture
def whole(finished, tmp_path):
  """(configs, workdir) of a finished population, a copy to spoil."""
  configs, workdir = finished
  return configs, shutil.copytree(workdir, tmp_path / 'whole')


def test_members_are_taken_by_the_other_commands(whole):
  configs, workdir = whole
  name, config = next(iter(configs.items()))
  assert sample.restore(workdir / name).sample(2).shape == (2, 16, 16, 1)
  assert list((workdir / name / 'samples').glob('*.png')) and list(
    (workdir / name / 'reconstructions').glob('*.png')
  )
  assert (
    train.train(settings.with_settings(config, {'steps': 6}), workdir / name, say=lambda _: None)
    == 0
  )
  assert checkpoint.steps(workdir / name)[-1] == 6
  with pytest.raises(ValueError, match='is at step 6 already'):
    train.train_members(configs, workdir)


def test_sampling_from_a_population_is_told_of_its_members(whole):
  _, workdir = whole
  for folder in (workdir, workdir.parent):
    with pytest.raises(ValueError, match='holds 2 runs.*--workdir=.*whole/seed_0,kl_1$'):
      sample.restore(folder)


def test_a_population_in_the_folder_of_a_lone_run_is_refused(whole):
  configs, workdir = whole
  home = workdir / next(iter(configs))
  before = sorted(home.iterdir())
  with pytest.raises(ValueError, match='kl_1 is the folder of a run'):
    train.train_members(configs, home)
  assert sorted(home.iterdir()) == before


def test_what_one_member_refuses_changes_no_other(whole):
  configs, workdir = whole
  first, second = (workdir / name / 'config.json' for name in configs)
  before = first.read_text()
  second.write_text(second.read_text().replace('"batch_size": 8', '"batch_size": 16'))
  longer = {name: settings.with_settings(config, {'steps': 6}) for name, config in configs.items()}
  with pytest.raises(ValueError, match='batch_size: 8 now, 16 then'):
    train.train_members(longer, workdir)
  assert first.read_text() == before


def resume(config, workdir):
  return begin([Member('', config, workdir)], workdir, False, print)


def test_another_config_is_told_before_damaged_checkpoints(whole):
  configs, workdir = whole
  name, config = next(iter(configs.items()))
  for path in (workdir / name / 'checkpoints').glob('*.json'):
    path.write_text('{}')
  with pytest.raises(ValueError, match='holds a run of another config'):
    resume(settings.with_settings(config, {'batch_size': 16}), workdir / name)
  with pytest.raises(ValueError, match='every checkpoint .* is damaged'):
    resume(config, workdir / name)


def test_a_signal_saves_all_members_and_the_same_call_goes_on(whole, tmp_path):
  configs, workdir = whole

  def stop(line):
    if line.startswith('step 1/'):
      os.kill(os.getpid(), signal.SIGTERM)

  assert train.train_members(configs, tmp_path / 'cut', say=stop) == 143
  (step,) = {checkpoint.steps(tmp_path / 'cut' / name)[-1] for name in configs}
  assert 1 <= step < 4
  assert train.train_members(configs, tmp_path / 'cut', say=lambda _: None) == 0
  for name in configs:
    same_run(workdir / name, tmp_path / 'cut' / name, 4, rtol=0, atol=0)


def test_a_damaged_member_does_not_send_all_back_to_the_start(whole):
  configs, workdir = whole
  homes = [workdir / name for name in configs]
  for home in homes:
    assert checkpoint.steps(home) == [2, 4]
    (home / 'checkpoints' / '2.json').unlink()
  largest = max(
    (homes[1] / 'checkpoints' / '4').rglob('*'), key=lambda p: p.is_file() and p.stat().st_size
  )
  largest.write_bytes(b'x' + largest.read_bytes()[1:])
  with pytest.raises(ValueError, match='every checkpoint .* that can be resumed from is damaged'):
    train.train_members(configs, workdir, say=lambda _: None)
  assert checkpoint.steps(homes[0]) == [4]


def test_a_run_does_not_settle_in_the_folder_of_a_population(whole):
  configs, workdir = whole
  with pytest.raises(ValueError, match='is the folder of a population'):
    train.train(next(iter(configs.values())), workdir)
  assert not (workdir / 'config.json').exists()


def test_it_goes_on_from_what_all_members_have(whole, tmp_path):
  """As after kill -9 while the last checkpoints were written."""
  configs, workdir = whole
  names = list(configs)
  before = state(workdir / names[0], 4), state(workdir / names[1], 4)
  (workdir / names[0] / 'checkpoints' / '4.json').unlink()
  said = []
  assert train.train_members(configs, workdir, say=said.append) == 0
  assert any('sets aside' in line and line.startswith(names[1]) for line in said) and any(
    'from step 2' in line for line in said
  )
  for name, want in zip(names, before):
    jax.tree.map(np.testing.assert_array_equal, state(workdir / name, 4), want)
    assert [line['step'] for line in logged(workdir / name)] == [1, 2, 3, 4]
  assert train.train_members(configs, workdir, say=said.append) == 0 and 'done already' in said[-1]
  more = members_of('vae', {'method.encoder.kl': ['1', '2', '3']}, seeds='0', keep_checkpoints=1)
  with pytest.raises(ValueError, match='were trained already.*population of their own'):
    train.train_members(more, workdir)


def test_what_aids_the_critic_is_saved_and_each_members_own(tmp_path):
  changes = dict(mode='adaptive', strength=0.4, images=64)
  changes = {f'critic_augment.{k}': v for k, v in changes.items()}
  configs = members_of('gan', {'optimizer.learning_rate': ['3e-4', '1e-2']}, '0', **changes)
  for weight, config in zip((0.1, 0.3), configs.values()):
    with config.unlocked():
      config.method.discriminator.lecam = weight
  home, names = tmp_path / 'together', list(configs)
  assert train.train_members(configs, home, say=lambda _: None) == 0
  before = [state(home / name, 4) for name in names]
  kept = [{k: v for k, v in end.items() if k.startswith("['averages']")} for end in before]
  assert [len(k) for k in kept] == [4, 4] and kept[0]["['averages']['lecam_steps']"] == 4
  assert kept[0]["['averages']['lecam_real']"] != kept[1]["['averages']['lecam_real']"]
  assert all(k["['averages']['augment_strength']"] != np.float32(0.4) for k in kept)
  (home / names[0] / 'checkpoints' / '4.json').unlink()
  assert train.train_members(configs, home, say=lambda _: None) == 0  # from step 2
  for name, want in zip(names, before):
    jax.tree.map(np.testing.assert_array_equal, state(home / name, 4), want)
  assert train.train(configs[names[1]], tmp_path / 'alone', say=lambda _: None) == 0
  same_run(home / names[1], tmp_path / 'alone', 4)


def test_a_member_that_diverges_stands_still_and_the_others_go_on(tmp_path, monkeypatch):
  monkeypatch.setattr(train.build, 'check', lambda _: None)  # it refuses such a rate
  configs, said = members_of('vae', {'optimizer.learning_rate': ['1e-3', '1e30']}, seeds='0'), []
  with pytest.raises(FloatingPointError, match='learning_rate_1e30 stood still'):
    train.train_members(configs, tmp_path, say=said.append)
  ends = {name: state(tmp_path / name, 4) for name in configs}
  assert all(np.isfinite(a).all() for end in ends.values() for a in end.values())
  assert [int(end["['skipped']"]) for end in ends.values()] == [0, 3]


@pytest.mark.parametrize(
  'path,words',
  [
    ('network.width', 'run of its own.*method.generator.pixel'),
    ('method.generator.pixl', 'no such field.*did you mean method.generator.pixel'),
    ('seed', 'run of its own'),
  ],
)
def test_what_cannot_vary_is_refused(path, words):
  with pytest.raises(ValueError, match=words):
    members_of('cvae_gan', {path: ['1', '2']})


def test_a_second_phase_has_a_schedule_to_itself(tmp_path):
  """Of its five steps, the last one has the last rate."""
  phases = {'first.steps': 4, 'steps': 9, 'save_every_steps': 1}
  rates = {'optimizer.schedule': 'step', 'optimizer.end': 1e-12}
  (config,) = members_of('vae_dis', {}, '0', **phases, **rates).values()
  assert train.train(config, tmp_path, say=lambda _: None) == 0
  before, then, last = (state(tmp_path, step) for step in (7, 8, 9))
  moved = lambda a, b: max(np.abs(b[k] - a[k]).max() for k in a if k.startswith("['params']"))
  assert moved(before, then) > 1e-6 > 1e-9 > moved(then, last)


@pytest.mark.parametrize('mode,count', [('off', 1), ('on', 2)])
def test_members_that_balance_other_losses_train_apart(mode, count):
  """The averages of a program are those of all its members."""
  values = {'method.generator.fool_prior': ['0', '1']}
  others = {'method.generator.fool_recon': 0.0, 'balance.mode': mode}
  configs = members_of('cvae_gan_relativistic', values, '0', **others)
  (stage,) = programs.stages(list(configs.values()), 10)
  assert len(stage.programs) == count


def test_members_must_be_alike_in_all_else(tmp_path):
  configs = members_of('vae', {}, seeds='01')
  configs['seed_1'] = settings.with_settings(configs['seed_1'], {'batch_size': 16})
  with pytest.raises(ValueError, match='batch_size is 16 for seed_1 and 8 for seed_0'):
    train.train_members(configs, tmp_path)
  with pytest.raises(ValueError, match='twice'):
    members_of('vae', {}, seeds='00')
  with pytest.raises(ValueError, match='kl_1e-1 is asked for twice: it is seed_0,kl_0.1'):
    members_of('vae', {'method.encoder.kl': ['0.1', '1e-1']}, seeds='0')
  with pytest.raises(ValueError, match='cannot be the name of a folder'):
    members_of('vae', {'method.encoder.kl': ['0.1#/../../elsewhere']}, seeds='0')
  with pytest.raises(ValueError, match='give a finite number'):
    members_of('vae', {'method.encoder.kl': ['1' + 320 * '0']}, seeds='0')
  assert not list(tmp_path.iterdir())


def test_columns_are_proportional_only_if_they_are_for_all_members():
  table = dict(
    generator=dict(
      real=np.array([-1.0, -2.0]),
      fake_prior=np.array([-1.0, -2.0]),
      fake_recon=-1.0,
      feature_d=np.array([0.0, 3.0]),
    ),
    discriminator=dict(real=1.0, fake_prior=1.0, fake_recon=1.0),
  )
  groups = column_groups(table, ('real', 'fake_recon', 'fake_prior', 'feature_d'))
  assert [set(weights) for _, weights in groups] == [
    {'real', 'fake_prior'},
    {'fake_recon'},
    {'feature_d'},
  ]
  for share, weights in groups:
    assert all(np.all(weight) for weight in weights.values())
    for loss, weight in weights.items():
      for network, part in share.items():
        np.testing.assert_allclose(part * weight, table[network][loss])


def test_an_infinite_derivative_behind_a_zero_weight_is_harmless(monkeypatch):
  """For the member that does not weigh the loss, while another one does."""
  table = methods.VAE_GAN
  model = tiny.model(table, joint_critics=False)
  start = tiny.state(model, table, False)
  noise = draw(tiny.draws(False), jax.random.key(1), tiny.batch(False)['x'], None)[1]
  arguments = (start, Inputs(tiny.batch(False)['x'], None, noise))
  monkeypatch.setattr(
    losses, 'gaussian_nll', lambda a, b: jnp.sqrt(0.0 * (a - b).reshape(len(a), -1).sum(1))
  )
  row = {**table['generator'], 'feature_d': np.array([0.0, 1e-5])}
  both = jax.jit(
    jax.vmap(lambda member: gradients(model, {**table, 'generator': row}, *arguments, member)[0])
  )(jnp.arange(2))
  without = {k: v for k, v in table['generator'].items() if k != 'feature_d'}
  alone = jax.jit(functools.partial(gradients, model, {**table, 'generator': without}))(*arguments)[
    0
  ]
  for got, want in zip(jax.tree.leaves(both['generator']), jax.tree.leaves(alone['generator'])):
    np.testing.assert_allclose(got[0], want, rtol=1e-4, atol=1e-6)
    assert not np.isfinite(got[1]).all()


def test_the_command_line_tells_mistakes_in_one_line():
  done = subprocess.run(
    [
      sys.executable,
      'experiments/population.py',
      '--config=configs/digits.py:vae',
      '--workdir=x',
      '--vary=steps=1,2',
    ],
    cwd=ROOT,
    text=True,
    capture_output=True,
    timeout=120,
  )
  assert (
    done.returncode == 2
    and done.stderr.startswith('error: --vary=steps: give each')
    and not (ROOT / 'x').exists()
  )


@pytest.mark.parametrize(
  'seeds,values,words',
  [
    ('0x', {}, '--seeds=x: give a whole number'),
    ('0', {'method.encoder.kl': ['1', 'x']}, '--vary=method.encoder.kl=x: give a finite number'),
    (
      '0',
      {'optimizer.learning_rate': ['nan']},
      '--vary=optimizer.learning_rate=nan: give a finite number',
    ),
  ],
)
def test_a_value_that_cannot_be_is_told_with_its_flag(seeds, values, words):
  with pytest.raises(ValueError, match=f'^{words}$'):
    members_of('vae', values, seeds=seeds)


def test_a_long_run_says_how_long_it_takes(tmp_path, monkeypatch):
  monkeypatch.setattr(report, 'LONG', 0)
  configs, said = members_of('vae', {}, '0', steps=14, log_every_steps=14), []
  assert train.train_members(configs, tmp_path, say=said.append) == 0
  (line,) = [line for line in said if 'For less' in line]
  assert line.startswith('3 steps more at ') and 'about 0:00:0' in line
