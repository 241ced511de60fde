"""Mistakes: one line names the culprit and the remedy, with exit code 2, before anything starts."""

import importlib
import os
import pathlib
import subprocess
import sys
import types

from absl import flags
import jax
import numpy as np
from PIL import Image
import pytest

from tests import files
from vaegan_jax import bounds, build, checks, command, configs, methods, programs, settings
from vaegan_jax.configs import base
from vaegan_jax.configs import digits as digits_config
from vaegan_jax.configs import folder as folder_config
from vaegan_jax.runs import train

ROOT = pathlib.Path(__file__).parents[1]
DIGITS = '--config=configs/digits.py:cvae_gan'


def digits(method='cvae_gan', **changes):
  config = digits_config.get_config(method)
  config.batch_size = 8
  for path, value in changes.items():
    config.update_from_flattened_dict({path.replace('__', '.'): value})
  return config


def run(script, *arguments):
  return subprocess.run(
    [sys.executable, f'experiments/{script}.py', *map(str, arguments)],
    cwd=ROOT,
    text=True,
    capture_output=True,
    timeout=120,
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  'arguments,words',
  [
    ([], ['--config is missing', '--config=configs/digits.py:cvae_gan']),
    ([DIGITS], ['--workdir is missing']),
    ([DIGITS, '--workdir=x', '--config.stepss=3'], ['--config.stepss', 'did you mean steps?']),
    ([DIGITS, '--workdir=x', '--config.steps=many'], ['--config.steps=many']),
    (
      [DIGITS, '--workdir=x', '--config.optimizer.learning_rate=nan'],
      ['learning_rate=nan is not a finite number'],
    ),
    (
      ['--config=configs/digits.py:cvae_gam', '--workdir=x'],
      ["unknown method 'cvae_gam'", 'cvae_gan'],
    ),
    (
      ['--config=configs/digts.py:vae', '--workdir=x'],
      [
        '--config=configs/digts.py:vae: no such config file',
        'did you mean digits?',
        'celeba64, cifar10',
      ],
    ),
    (['--config=base:vae', '--workdir=x'], ['--config=base:vae: no such config file']),
    ([DIGITS, '--work=x'], ["Unknown command line flag 'work'"]),
    ([DIGITS, 'x'], ["'x' is not a flag"]),
  ],
)
def test_command_line(arguments, words):
  done = run('train', *arguments)
  assert done.returncode == 2 and 'Traceback' not in done.stderr
  message = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
  assert len(message) == 1 and all(word in message[0] for word in words), done.stderr
  assert not (ROOT / 'x').exists()


@pytest.mark.parametrize(
  'path,value,words',
  [
    ('steps', 0, 'more than 0'),
    ('batch_size', -5, 'more than 0'),
    ('batch_size', 12, '8 devices'),
    ('ema_decay', 1.0, 'at least 0, less than 1'),
    ('ema_decay', -0.1, 'at least 0'),
    ('optimizer.learning_rate', 0.0, 'at least 1e-12, at most 10'),
    ('optimizer.learning_rate', 1e-300, 'at least 1e-12, at most 10'),
    ('optimizer.learning_rate', 1e20, 'at most 10'),
    ('optimizer.factor.encoder', 1e-300, 'encoder=1e-300 gives a learning rate of 5e-304: use'),
    ('optimizer.weight_decay', 1e30, 'at least 0, at most 1'),
    ('optimizer.clip_norm', 1e-30, 'use 0 or at least 1e-06'),
    ('gate.equilibrium', 1e30, 'at least 0.01, at most 100'),
    ('steps', 10**20, 'less than 2.1'),
    ('optimizer.learning_rate', float('inf'), 'finite'),
    ('optimizer.name', 'adamm', 'did you mean adam?'),
    ('network.width', -1.0, 'at least 0.01'),
    ('network.width', 1e-9, 'at least 0.01'),
    ('network.name', 'bap', 'did you mean bao?'),
    ('network.name', 'larsen', 'has no classifier'),
    ('data.image_size', 24, '16, 32, 64, 128'),
    ('data.channels', 2, '1, 3'),
    ('data.name', 'digit', 'did you mean digits?'),
    ('data.condition', 'none', 'needs classes or attributes'),
    ('data.condition', 'attributes', 'attributes need .*shuffled'),
    ('parallel', 'xmap', 'mesh, pmap'),
    ('dtype', 'float16', 'bfloat16'),
    ('normalise.critics', 'both', 'joint, apart'),
    ('adversarial', 'bcee', 'did you mean bce?'),
    ('first.steps', 10, 'first phase'),
    ('match_c_decay', 2.0, 'at least 0, less than 1'),
    ('keep_checkpoints', 0, 'more than 0'),
    ('optimizer.b1', 1.0, 'at least 0, less than 1'),
    ('optimizer.eps', 1e-300, 'more than'),
    ('method.generator.pixel', float('nan'), 'finite'),
    (
      'method.generator.pixel',
      1e38,
      'generator.pixel=1e.38: use 0 or at least 1e-12, at most 1e.06',
    ),
    ('method.generator.feature_d', -1.0, 'generator.feature_d=-1.0: use 0 or at least 1e-12'),
    ('method.encoder.kl', -1.0, 'encoder.kl=-1.0: use 0 or at least 1e-12'),
    ('method.discriminator.real', -1.0, 'discriminator.real=-1.0: use 0 or at least 1e-12'),
    ('method_name', 'vae', 'method_name=vae: config.method has the rows and losses of cvae_gan; '),
    ('method_name', 'mine', 'method_name=mine: config.method has the rows and losses of cvae_gan'),
    ('first.method_name', 'gan', 'first.method_name=gan: config.first.method has no row'),
    ('data.label_table', 'x.csv', 'label_table=x.csv is for --config.data.name=folder, not for'),
    ('data.split', 'trainn', 'train, test'),
    ('data.path', 'x', 'folder'),
    ('accumulate', 0, 'more than 0'),
    ('accumulate', 2, 'batch_size=8 is not a multiple of the 8 devices times'),
    ('steps_per_dispatch', 0, 'more than 0'),
    ('steps_per_dispatch', 9, 'not a multiple of --config.steps_per_dispatch=9'),
    ('steps_per_dispatch', 25, 'a CPU compiles each of these steps separately'),
  ],
)
def test_values_are_refused_before_anything_is_written(path, value, words, tmp_path):
  config = digits()
  config.update_from_flattened_dict({path: value})
  with pytest.raises(ValueError, match=words):
    train.train(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  'method,changes,words',
  [
    (
      'vae',
      {f'optimizer.factor.{n}': 0.0 for n in ('encoder', 'generator')},
      'factor.encoder=0 --config.optimizer.factor.generator=0: nothing would be trained',
    ),
    (
      'vae_gan',
      {f'method.generator.{n}': 0.0 for n in ('feature_d', 'real', 'fake_recon', 'fake_prior')},
      'config.method.generator has no weight left',
    ),
    (
      'gan',
      {f'method.discriminator.{n}': 0.0 for n in ('real', 'fake_prior')},
      'config.method.discriminator has no weight left.*--config.optimizer.factor.discriminator=0',
    ),
    ('vae_gan', {'method.generator.fake_prior': 1.0}, 'use 0 or at least -1e.06, at most -1e-12'),
  ],
)
def test_configs_that_train_nothing_or_something_else(method, changes, words):
  with pytest.raises(ValueError, match=words):
    build.check(settings.with_settings(digits(method), changes))


def test_the_name_of_a_method_is_that_of_its_table():
  for name in methods.METHODS:
    checks.check_name('method', name, methods.METHODS[name])
  checks.check_name('first.method', '', {})
  checks.check_name('method', 'vae_gan_arxiv_v2', methods.VAE_GAN)  # the weights are free
  without = {network: dict.fromkeys(row, 0.0) for network, row in methods.CVAE_GAN.items()}
  checks.check_name('method', 'cvae_gan', without)
  more = dict(methods.VAE_GAN, discriminator=dict(methods.VAE_GAN['discriminator'], r1=1.0))
  for name in ('vae_gan', 'mine'):
    checks.check_name('method', name, more)
  for name in ('vae', 'gan', 'cvae_gan'):  # no more is it one of these
    with pytest.raises(ValueError, match='another method; give it a name of its own'):
      checks.check_name('method', name, more)
  for name in ('vae_gan_released', 'vae', ''):
    with pytest.raises(ValueError, match=f'method_name={name}: .* of vae_gan or vae_gan_arxiv_v2'):
      checks.check_name('method', name, methods.VAE_GAN)


def test_too_large_a_set_for_the_devices_is_refused(tmp_path, monkeypatch):
  config = digits(data__on_device=True)
  size = 1500 * 16 * 16 + 1500 * 4
  monkeypatch.setattr(build, 'free_bytes', lambda: 2 * size)
  build.check_feed(config, build.dataset(config))
  monkeypatch.setattr(build, 'free_bytes', lambda: 2 * size - 1)
  with pytest.raises(
    ValueError, match='--config.data.on_device=True: digits .train. takes 380.9 KiB on each device'
  ):
    train.train(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
  monkeypatch.setattr(build, 'free_bytes', lambda: None)  # unknown
  build.check_feed(config, build.dataset(config))


def test_a_run_from_before_a_field_was_added_is_the_same_run():
  config = digits()
  then = settings.to_dict(config)
  del (
    then['accumulate'],
    then['steps_per_dispatch'],
    then['data']['on_device'],
    then['data']['augment'],
  )
  assert settings.differences(config, then) == []
  config.accumulate = 2
  assert settings.differences(config, then) == ['accumulate: 2 now, 1 then']


def test_a_loss_of_weight_0_is_as_one_that_the_table_of_older_runs_lacks():
  config = digits('vae_gan_relativistic')
  then = settings.to_dict(config)
  del then['method']['encoder']['fool_recon']
  assert settings.differences(config, then) == [
    'method.encoder.fool_recon: 1000.0 now, (none) then'
  ]
  config.method.encoder.fool_recon = 0.0
  assert settings.differences(config, then) == []


def test_rows_are_checked_against_the_losses_there_are():
  config = digits()
  with config.unlocked():
    config.method.generator.mach_c = 1.0
  with pytest.raises(ValueError, match='mach_c.*did you mean match_c'):
    build.check(config)
  config = digits()
  with config.unlocked():
    config.method.decoder = dict(pixel=1.0)
  with pytest.raises(ValueError, match="'decoder', which is not a network"):
    build.check(config)
  config = digits()
  with config.unlocked():
    config.method.discriminator.classify = 1.0
  with pytest.raises(ValueError, match='does not depend on the discriminator'):
    build.check(config)


def test_data_that_cannot_be_used(tmp_path):
  with pytest.raises(ValueError, match='1500 images, fewer than --config.batch_size=1600'):
    train.train(digits(batch_size=1600), tmp_path / 'run')
  folder = tmp_path / 'images'
  folder.mkdir()
  config = digits('vae')
  config.data.name, config.data.path, config.data.held_out = 'folder', str(folder), ''
  with pytest.raises(ValueError, match='holds no image'):
    train.train(config, tmp_path / 'run')
  for i in range(10):
    Image.fromarray(np.full((20, 30), i, np.uint8)).save(folder / f'{i}.png')
  (folder / 'bad.png').write_bytes(b'not a picture')
  config.data.cache_dir = str(tmp_path / 'cache')
  with pytest.raises(ValueError, match='bad.png'):  # more than 1 % cannot be read
    train.train(config, tmp_path / 'run')
  (folder / 'bad.png').unlink()
  config = digits('cvae')
  config.data.name, config.data.path, config.data.held_out = 'folder', str(folder), ''
  config.data.cache_dir = str(tmp_path / 'cache')
  with pytest.raises(ValueError, match='no labels'):
    train.train(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_a_folder_too_small_for_a_held_out_part(tmp_path):
  config = folder_config.get_config('vae_gan')
  config.batch_size = 64
  config.data.path, config.data.cache_dir = str(tmp_path / 'images'), str(tmp_path / 'cache')
  files.write(tmp_path / 'images', {f'{i}.png': i for i in range(3)})  # none is in the tenth
  with pytest.raises(ValueError, match='tenth of its 3 would be empty. Add images, or train on'):
    train.train(config, tmp_path / 'run')
  assert not (tmp_path / 'cache').exists()
  files.write(tmp_path / 'images', {f'{i}.png': i for i in range(70)})  # seven are
  with pytest.raises(
    ValueError, match=r'\(nine_tenths\) has 63 images, fewer than .*: set it to 63'
  ):
    train.train(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_a_workdir_whose_name_is_no_utf_8(tmp_path, monkeypatch, capsys):
  odd = tmp_path / os.fsdecode(b'run\xff')
  for given in (dict(workdir=odd), dict(workdir=tmp_path / 'run', init_from=odd)):
    with pytest.raises(ValueError, match=r"=.*run.udcff'?: the absolute path .* must be UTF-8"):
      train.train(digits(), **given)
  assert not list(tmp_path.iterdir())
  odd.mkdir()
  monkeypatch.chdir(odd)
  with pytest.raises(ValueError, match='--workdir=.*must be UTF-8'):
    train.train(digits(), 'run')


def test_a_workdir_that_cannot_be_written(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(ValueError, match='cannot be written'):
    train.train(digits(), tmp_path / 'file')


@pytest.mark.slow
@pytest.mark.parametrize('script', ['train', 'sample', 'evaluate', 'tables/bao_table_1'])
def test_help_is_help(script):
  done = run(script, '--help')
  assert f'python experiments/{script}.py' in done.stdout and '--workdir' in done.stdout
  assert done.returncode == 0 and not done.stderr


def test_configs_are_found_from_any_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  packaged = f'{configs.FOLDER}/digits.py:vae'
  for value in ('digits:vae', 'digits.py:vae', 'configs/digits.py:vae', './configs/digits.py:vae'):
    assert command.config_path(value) == packaged
  assert command.config_path('digits') == packaged.removesuffix(':vae')
  for value in ('other/digits.py:vae', str(tmp_path / 'digits.py'), 'digits.txt:vae', ''):
    with pytest.raises(ValueError, match='no such config file.*the package has celeba64'):
      command.config_path(value)
  own = tmp_path / 'configs' / 'digits.py'
  own.parent.mkdir()
  own.write_text('')
  for value in ('configs/digits.py:vae', f'{own}:vae'):  # a file that exists wins
    assert command.config_path(value) == value


def test_the_config_comes_before_its_overrides():
  first = f'--config={configs.FOLDER}/digits.py:vae'
  rest = ['--config.steps=3', '--workdir=x', '--config.seed', '1']
  for given in (['--config=digits:vae'], ['--config', 'digits:vae'], ['-config=digits:vae']):
    for at in (0, 1, 2, 4):
      assert command.config_first([*rest[:at], *given, *rest[at:]]) == [first, *rest]
  assert command.config_first(rest) == rest


@pytest.mark.slow
def test_a_command_anywhere(tmp_path):
  """An own config file, and overrides before it, by the installed command's function."""
  (tmp_path / 'mine.py').write_text(
    'from vaegan_jax.configs import digits\n\n'
    'def get_config(method):\n  return digits.get_config(method)\n'
  )
  for config in ('mine.py:vae', f'{tmp_path}/mine.py:vae', 'digits:vae'):
    done = subprocess.run(
      [
        sys.executable,
        '-c',
        'from vaegan_jax.experiments import train; train.cli()',
        '--config.batch_size=0',
        f'--config={config}',
        '--workdir=run',
      ],
      cwd=tmp_path,
      text=True,
      capture_output=True,
      timeout=120,
    )
    assert done.returncode == 2 and 'error: --config.batch_size=0: use more than 0' in done.stderr
  assert not (tmp_path / 'run').exists()


@pytest.mark.slow
@pytest.mark.parametrize(
  'arguments,words',
  [
    (['--out=x.png'], '--workdir is missing'),
    (['--workdir=nowhere', '--out=x.png'], 'nowhere has no checkpoint'),
    (['--workdir=nowhere'], '--out is missing'),
  ],
)
def test_sampling_without_a_run(arguments, words):
  done = run('sample', *arguments)
  assert done.returncode == 2 and words in done.stderr and 'Traceback' not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
  'script,arguments,words',
  [
    *(
      (f'figures/{name}', ['--workdir=nowhere', '--out=x.json'], '--out=x.json: name a .png file')
      for name in (
        'bao_inpainting',
        'bao_morphing',
        'bao_super_resolution',
        'larsen_attributes',
      )
    ),
    ('figures/toy_example', ['--out=x.json'], '--out=x.json: name a .png file'),
    ('figures/larsen_attributes', ['--n=1'], '--n=1: 1 is not integer >= 2'),
    ('tables/bao_table_2', ['--generated=0'], '--generated=0: 0 is not a positive integer'),
    (
      'sample',
      ['--workdir=nowhere', '--out=x.png', '--n=10001'],
      '10,001 pictures are more than the 10,000 that a .png takes: name an .npy file or a folder/',
    ),
    (
      'sample',
      ['--workdir=nowhere', '--out=x.png', '--n=1001', '--mode=interpolate'],
      '10,010 pictures are more',
    ),
    *(
      ('sample', ['--workdir=nowhere', *flags], words)
      for flags, words in (
        (['--out=x.npy', '--scale=2'], '--scale=2: --out=x.npy with --mode=sample has none'),
        (['--out=x.png', '--mode=interpolate', '--columns=3'], '--columns=3: --out=x.png'),
        (['--out=x.png', '--steps=4'], '--steps=4: --out=x.png'),
      )
    ),
    ('report', ['--workdir=nowhere', '--out=missing/x.html'], 'name an HTML file in a folder'),
  ],
)
def test_what_scripts_refuse_before_they_import_much(script, arguments, words):
  done = run(script, *arguments)
  assert done.returncode == 2 and words in done.stderr and 'Traceback' not in done.stderr


@pytest.fixture
def script():
  """A function of a script's name to its module, whose flags go at the end.

  Flags that other tests' imports have defined, such as a benchmark's, would clash: they are back
  after the test.
  """
  others = [
    (module, flag)
    for module, own in flags.FLAGS.flags_by_module_dict().items()
    if module.startswith('benchmarks')
    for flag in own
  ]
  for _, flag in others:
    delattr(flags.FLAGS, flag.name)
  modules, before = [], set(flags.FLAGS)

  def load(name):
    modules.append(f'vaegan_jax.experiments.{name}')
    return importlib.import_module(modules[-1])

  yield load
  for name in modules:
    sys.modules.pop(name, None)
  for flag in set(flags.FLAGS) - before:
    delattr(flags.FLAGS, flag)
  for module, flag in others:
    flags.FLAGS[flag.name] = flag
    flags.FLAGS.register_flag_by_module(module, flag)


TOY = 'figures.toy_example'


@pytest.mark.filterwarnings('ignore:the load_module:DeprecationWarning')  # of ml_collections
@pytest.mark.parametrize(
  'name,arguments,words',
  [
    ('evaluate', ['--seed=4294967296'], '--seed=4294967296: 4294967296 is not'),
    ('evaluate', ['--features='], '--features= is empty: name efficientnet_lite0 or a file'),
    ('sample', ['--out=x.png', '--images=x'], '--images=x: samples are drawn from noise: add'),
    ('sample', ['--seed=-1'], '--seed=-1: -1 is not'),
    ('train', ['--config.method.decoder.pixel=1'], '--config.method.decoder.pixel: the config has'),
    ('train', ['--config.stepss=1'], '--config.stepss: the config has .* did you mean steps'),
    ('train', ['--distributed'], '--distributed found no other hosts .*on a single host'),
    ('tables.larsen_pretraining', ['--learning_rate=nan'], 'learning_rate=nan: use at least 1e-12'),
    ('tables.larsen_pretraining', ['--learning_rate=0'], 'learning_rate=0.0: use at least 1e-12'),
    ('figures.larsen_attributes', ['--out=x.png', '--strength=nan'], '--strength=nan: give a'),
    ('figures.larsen_samples', ['--data=../configs/digits'], '--data=../configs/digits: no such'),
    ('figures.toy_overfitting', ['--methods='], '--methods= is empty: use one or more of gan'),
    ('figures.toy_overfitting', ['--methods=cat'], "no method 'cat': use one of gan, wgan"),
    ('figures.bao_super_resolution', ['--out=x.png', '--of_samples', '--images=y'], 'leave it out'),
    (TOY, ['--shown=3', '--seeds=2'], '--shown=3: use at most --seeds=2'),
    (TOY, ['--methods='], '--methods= is empty: use one or more of gan, wgan, matching'),
    (TOY, ['--set=radius=-1'], '--set=radius=-1: use at least 1e-06, at most 1e.06'),
    (TOY, ['--set=radius=nan'], '--set=radius=nan: use at least 1e-06, at most 1e.06'),
    (TOY, ['--set=batch_size=1.5'], '--set=batch_size=1.5: give a whole number'),
    (TOY, ['--set=learning_rate=1e20'], '--set=learning_rate=1e20: use at least 1e-12, at most 10'),
  ],
)
def test_hostile_flags(name, arguments, words, script, monkeypatch):
  monkeypatch.setattr(command, 'keep_compiled_programs', lambda: None)
  module = script(name)
  if name == 'train':  # ml_collections reads sys.argv by itself
    arguments = ['--config=digits:vae', *arguments]
    monkeypatch.setattr(sys, 'argv', ['train', *arguments])
  with pytest.raises(ValueError, match=words):
    command.read_flags(['x', *arguments])
    module.main()


def test_fixed_points_of_the_toy_example_stand_beside_their_members(script):
  toy = script('figures.toy_overfitting')
  points = {
    (size, seed): (np.full((size, 2), size + seed), None) for size in toy.SIZES for seed in (0, 1)
  }
  fixed = toy.fixed_points(points, 2)
  assert list(fixed.count) == [0, 0, 64, 64, 512, 512, 4096, 4096]
  assert [float(p[0, 0]) for p in fixed.points] == [0, 0, 64, 65, 512, 513, 4096, 4097]
  assert float(fixed.points[2, 63, 1]) == 64 and float(abs(fixed.points[2, 64:]).max()) == 0
  train, held_out = toy.ring_points(64, 0, toy.toy.Toy())
  assert train.shape == held_out.shape == (64, 2) and abs(train - held_out).max() > 1


def test_stacked_digits_and_their_modes(script):
  table = script('tables.stacked_mnist')
  grey = np.repeat(np.arange(10, dtype=np.uint8) * 20, 16).reshape(10, 4, 4, 1)
  digits = types.SimpleNamespace(images=grey, labels=np.arange(10))
  images, modes = table.stacked(digits, 50, seed=0)
  assert images.shape == (50, 4, 4, 3) and len(set(modes)) > 40
  judge = types.SimpleNamespace(logits=lambda x: np.eye(10)[x[:, 0, 0, 0] // 20])
  np.testing.assert_array_equal(table.modes_of(judge, images), modes)
  assert table.figures(np.arange(1000)) == dict(modes=1000, kl=0)
  one = table.figures(np.full(9, 123))
  assert one['modes'] == 1 and one['kl'] == pytest.approx(np.log(1000))


def test_there_are_no_more_new_classes_than_mixtures(script):
  table = script('tables.bao_table_2')
  real = types.SimpleNamespace(images=[], labels=np.array([]))
  command.read_flags(['x', '--new_classes=1000'])
  with pytest.raises(ValueError, match='--new_classes=1000: 10 classes have 120 mixtures of three'):
    table.training_sets(None, real, 10)


@pytest.mark.slow
@pytest.mark.parametrize(
  'script,arguments,words',
  [
    ('figures/larsen_samples', ['--set=steps=abc'], '--set=steps=abc: give a whole number'),
    (
      'tables/larsen_table_2',
      ['--data=digits'],
      'digits (train) has no attributes: use data that has some',
    ),
  ],
)
def test_studies_that_cannot_begin(script, arguments, words, tmp_path):
  done = run(script, *arguments, '--fast', f'--workdir={tmp_path}')
  assert done.returncode == 2 and f'error: {words}' in done.stderr and not list(tmp_path.iterdir())


def test_where_a_picture_can_be_written(tmp_path):
  command.check_picture(tmp_path / 'new' / 'x.png')
  assert not list(tmp_path.iterdir())
  (tmp_path / 'file').write_text('')
  with pytest.raises(
    ValueError, match='--out=.*/file/x.png: cannot write to .*/file: name another folder'
  ):
    command.check_picture(tmp_path / 'file' / 'x.png')
  (tmp_path / 'x.png').mkdir()
  with pytest.raises(ValueError, match='--out=.*/x.png: name a .png file'):
    command.check_picture(tmp_path / 'x.png')


@pytest.mark.slow
@pytest.mark.parametrize('file', configs.NAMES)
def test_configs_of_every_method_can_be_built(file):
  module = importlib.import_module(f'vaegan_jax.configs.{file}')
  for method in methods.METHODS:
    config = module.get_config(method)
    assert config.is_locked and config.method_name == method
    build.check(config)
    size = 10 if config.data.condition != 'none' else 0
    (program,) = programs.stages([config], size)[-1].programs
    shapes = jax.eval_shape(programs.init(config, size, program), jax.random.key(0))
    assert set(shapes.opt_state) == set(settings.method(config)) | set(
      settings.method(config.first)
    )
    assert (
      settings.differences(config, settings.to_dict(settings.from_dict(settings.to_dict(config))))
      == []
    )


def test_base_config_names_only_fields_that_are_checked_or_free():
  """A new field of the base needs allowed values, or be a switch, or be listed here as free."""
  free = {
    'method_name',
    'first.method_name',
    'data.name',
    'data.path',
    'data.label_table',
    'data.data_dir',
    'data.cache_dir',
    'data.split',
    'data.held_out',
    'data.attributes',
    'sample_at_steps',
    'wandb_project',
  }
  for path, value in settings.fields(base.get_config('cvae_gan')):
    checked = path in bounds.BOUNDS or isinstance(value, bool)
    assert checked or path in free or path.startswith('method.'), path
