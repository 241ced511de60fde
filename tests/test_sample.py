"""Restored models: what they return, and what they refuse."""

from fractions import Fraction
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
from PIL import Image
import pytest

from vaegan_jax import (
  checkpoint,
  conditions,
  dispatch,
  export,
  files,
  images,
  programs,
  restore,
  settings,
  sheets,
)
from vaegan_jax.configs import digits

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[1]


def saved(workdir, method, about, **changes):
  """A workdir with a checkpoint of an untrained model."""
  config = digits.get_config(method)
  config.network.width, config.network.latent_size = 0.0625, 4
  with config.unlocked():
    config.update_from_flattened_dict(changes)
  (stage,) = programs.stages([config], about['size'])
  init = programs.init(config, about['size'], stage.programs[0])
  state, saved_config = init(jax.random.key(0)), settings.to_dict(config)
  checkpoint.save(workdir, 7, state, keep=1, config=saved_config, about=about).result()
  return workdir


@pytest.fixture(scope='module')
def conditional(tmp_path_factory):
  about = dict(condition='label', names=list('0123456789'), size=10)
  return restore(saved(tmp_path_factory.mktemp('run'), 'cvae', about))


@pytest.fixture(scope='module')
def by_attributes(tmp_path_factory):
  about = dict(
    condition='attributes', names=['Male', 'Smiling'], size=2, examples=[[0, 1], [1, 0], [1, 1]]
  )
  return restore(
    saved(
      tmp_path_factory.mktemp('run'),
      'cvae',
      about,
      **{'data.condition': 'attributes', 'prior_condition': 'shuffled'},
    )
  )


def test_samples(conditional):
  images = conditional.sample(70)
  assert images.shape == (70, 16, 16, 1) and images.dtype == np.uint8
  np.testing.assert_array_equal(images[:10], conditional.sample(10))  # the first do not depend on n
  assert (images[:10] != conditional.sample(10, seed=1)).any()
  np.testing.assert_array_equal(
    conditional.sample(4, labels='3'), conditional.sample(4, labels=[3, 3, 3, 3])
  )
  mixed = np.zeros((1, 10))
  mixed[0, [1, 2, 3]] = 1 / 3
  assert conditional.sample(1, labels=mixed).shape == (1, 16, 16, 1)


def test_a_class_by_number_or_by_name():
  names = ['1', '2', 'two']
  assert [conditions.class_number(given, names) for given in (1, '1', 'two', '0')] == [1, 0, 2, 0]
  with pytest.raises(ValueError, match='no class 3; classes are 0=1, 1=2, 2=two'):
    conditions.class_number(3, names)


def test_labels_take_turns():
  about = dict(condition='label', names=['cat', 'dog', 'eel'], size=3)
  rows = conditions.rows(about, 5, ['dog', 2])
  assert rows.argmax(1).tolist() == [1, 2, 1, 2, 1]
  assert conditions.rows(about, 4).argmax(1).tolist() == [0, 1, 2, 0]


def test_attributes_that_are_not_asked_for_are_those_of_real_images(by_attributes):
  rows = conditions.rows(by_attributes.about, 200, attributes=dict(Smiling=1))
  assert (rows[:, 1] == 1).all() and 0 < rows[:, 0].mean() < 1
  assert by_attributes.sample(3, attributes=dict(Smiling=1)).shape == (3, 16, 16, 1)


def test_encode_decode_reconstruct_interpolate(conditional):
  images = conditional.sample(6)
  labels = list(range(6))
  mean, logvar = conditional.encode(images, labels=labels)
  assert mean.shape == logvar.shape == (6, 4)
  again = conditional.reconstruct(images, labels=labels)
  np.testing.assert_array_equal(again, conditional.decode(mean, labels=labels))
  lines = conditional.interpolate(images[:2], images[2:4], steps=5, labels=[1, 2])
  assert lines.shape == (2, 5, 16, 16, 1)
  np.testing.assert_array_equal(lines[:, 0], conditional.reconstruct(images[:2], labels=[1, 2]))
  np.testing.assert_array_equal(lines[:, -1], conditional.reconstruct(images[2:4], labels=[1, 2]))


def test_latents_of_another_shape_or_not_finite_are_refused(conditional):
  for wrong in (np.zeros((1, 5)), np.zeros(4), np.full((1, 4), np.nan)):
    with pytest.raises(ValueError, match=r'latents must be finite numbers \[N, 4\]'):
      conditional.decode(wrong, labels=1)
    with pytest.raises(ValueError, match=r'latents must be finite numbers \[N, 4\]'):
      conditional.interpolate(np.zeros((1, 4)), wrong, labels=1)


@pytest.mark.parametrize('value', ['yes', [0, 1], None, np.nan])
def test_attributes_that_are_no_number_are_named(by_attributes, value):
  with pytest.raises(ValueError, match='attribute Smiling: .* is not '):
    by_attributes.sample(1, attributes=dict(Smiling=value))


def test_a_truncated_model_draws_shorter_latents(conditional):
  z = dispatch.latents(5, 4, seed=2)
  half = conditional.truncated(0.5)
  np.testing.assert_array_equal(
    half.sample(5, labels=1, seed=2), conditional.decode(z / 2, labels=1)
  )
  again = conditional.truncated(0.25).sample(5, labels=1)
  np.testing.assert_array_equal(half.truncated(0.5).sample(5, labels=1), again)
  assert conditional.truncated(1).networks == conditional.networks
  images = conditional.sample(2)
  for a, b in zip(half.encode(images, labels=1), conditional.encode(images, labels=1)):
    np.testing.assert_array_equal(a, b)
  with pytest.raises(ValueError, match='a truncated model: export the whole one'):
    export.save(half, 'x.zip')


@pytest.mark.parametrize(
  'call,words',
  [
    (lambda m: m.truncated(0.0), 'truncation=0.0: use a number over 0, at most 1'),
    (lambda m: m.truncated(float('nan')), 'truncation=nan'),
    (lambda m: m.sample(3, labels=10), 'no class 10'),
    (lambda m: m.sample(3, labels=-1), 'no class -1'),
    (lambda m: m.sample(3, labels='x'), "no class 'x'"),
    (lambda m: m.sample(3, attributes=dict(Male=1)), 'condition label'),
    (lambda m: m.sample(0), 'at least one image'),
    (lambda m: m.decode(np.zeros((2, 5)), labels=1), r'latents must be finite numbers \[N, 4\]'),
    (lambda m: m.decode(np.zeros((2, 4))), 'conditional: pass labels'),
    (lambda m: m.encode(np.zeros((2, 16, 16, 1)), labels=1), 'uint8'),
    (lambda m: m.encode(np.zeros((2, 8, 8, 1), np.uint8), labels=1), '16, 16, 1'),
    (lambda m: m.sample(2, labels=np.full((2, 10), np.nan)), 'finite'),
  ],
)
def test_requests_that_cannot_be_met(conditional, call, words):
  with pytest.raises(ValueError, match=words):
    call(conditional)


def test_attributes_that_do_not_exist_are_named(by_attributes):
  with pytest.raises(ValueError, match="no attribute 'Smilin'; did you mean Smiling"):
    by_attributes.sample(2, attributes=dict(Smilin=1))


def test_a_gan_has_no_encoder(tmp_path):
  model = restore(saved(tmp_path, 'gan', dict(condition='none', names=[], size=0)))
  assert model.sample(3).shape == (3, 16, 16, 1)
  with pytest.raises(ValueError, match='gan has no encoder'):
    model.encode(model.sample(3))


def test_restoring_what_is_not_there(tmp_path):
  with pytest.raises(ValueError, match='has no checkpoint'):
    restore(tmp_path)
  workdir = saved(tmp_path / 'run', 'vae', dict(condition='none', names=[], size=0))
  (workdir / 'checkpoints/9999').mkdir()  # a stray folder is not a checkpoint
  assert restore(workdir).step == 7
  with pytest.raises(ValueError, match='no checkpoint of step 8; it has 7'):
    restore(workdir, 8)


@pytest.mark.parametrize(
  ('part', 'field', 'value', 'words'),
  [
    ('network', 'latent_size', 5, r'generator/.* \(4, 256\) there and .* \(5, 256\) here'),
    ('network', 'name', 'residual', 'generator/.* (is missing there and|and is missing here)'),
    ('method', 'encoder', {'kl': 1.0}, 'encoder/.* is missing there and has the shape'),
  ],
)
def test_a_checkpoint_of_other_networks_is_named(tmp_path, part, field, value, words):
  workdir = saved(tmp_path, 'gan', dict(condition='none', names=[], size=0))
  written = checkpoint.manifest(workdir, 7)
  written['config'][part][field] = value
  path = workdir / 'checkpoints/7.json'
  path.write_text(json.dumps({**written, 'sha256': checkpoint.seal(written)}))
  with pytest.raises(ValueError, match=f'7 does not fit the networks of its config: ema/{words}'):
    restore(workdir)


def test_restore_reads_the_ema_weights_alone(tmp_path):
  workdir = saved(tmp_path, 'vae', dict(condition='none', names=[], size=0))
  model = restore(workdir)
  assert set(model.weights) == {'encoder', 'generator'} and set(model.weights['generator']) == {
    'params',
    'stats',
  }
  before = model.sample(2)
  (workdir / 'config.json').unlink(missing_ok=True)
  np.testing.assert_array_equal(restore(workdir).sample(2), before)


# --- Many samples.


def test_a_stream_of_samples_is_the_samples(conditional, by_attributes):
  for model in (conditional, by_attributes):
    whole = model.sample(150, seed=3)
    parts = list(model.samples(150, seed=3))
    assert [len(p) for p in parts] == [64, 64, 22]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    wide = np.concatenate(list(model.samples(400, seed=3, batch=192)))
    assert len(wide) == 400
    np.testing.assert_array_equal(wide[:150].astype(int), whole)  # to rounding, on some devices
  with pytest.raises(ValueError, match='multiple of 64'):
    conditional.samples(10, batch=100)
  with pytest.raises(ValueError, match="no class 'x'"):
    conditional.samples(10, labels='x')  # at the call, not at the first image


def test_conditions_in_batches_are_those_of_all(conditional, by_attributes):
  for about, asked in (
    (conditional.about, dict(labels=['3', 5, 7])),
    (by_attributes.about, dict(attributes=dict(Male=1))),
  ):
    parts = list(conditions.batches(about, 1000, 64, seed=2, **asked))
    assert [len(p) for p in parts] == [64] * 15 + [40]
    np.testing.assert_array_equal(
      np.concatenate(parts), conditions.rows(about, 1000, seed=2, **asked)
    )
  about = dict(condition='none', names=[], size=0)
  assert list(conditions.batches(about, 100, 64)) == [None, None]


def written(workdir, out, *arguments):
  """What experiments/sample.py prints while it writes `out`."""
  done = subprocess.run(
    [sys.executable, 'experiments/sample.py', f'--workdir={workdir}', f'--out={out}', *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=120,
    env={**os.environ, 'XLA_FLAGS': '', 'XDG_CACHE_HOME': str(workdir)},
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


def test_samples_as_files(tmp_path):
  about = dict(condition='label', names=['an, apple', *'bcdefghij'], size=10)
  workdir = saved(tmp_path / 'run', 'cvae', about)
  said = written(workdir, tmp_path / 'x.npy', '--n=300', '--batch=128')
  assert '300 of 300 samples' in said and 'images/s' in said
  images, labels = np.load(tmp_path / 'x.npy'), np.load(tmp_path / 'x_labels.npy')
  assert images.shape == (300, 16, 16, 1) and images.dtype == np.uint8 and labels.dtype == np.int32
  np.testing.assert_array_equal(labels, np.arange(300) % 10)
  written(workdir, f'{tmp_path}/pictures/', '--n=70', '--labels=d,0')
  written(workdir, f'{tmp_path}/pictures.npy/', '--n=1')
  assert [p.name for p in (tmp_path / 'pictures.npy').glob('*.png')] == ['0000.png']
  from vaegan_jax import data  # you can train on a folder of samples

  again = data.load(
    'folder',
    path=str(tmp_path / 'pictures'),
    image_size=16,
    channels=1,
    cache_dir=str(tmp_path / 'cache'),
  )
  assert again.class_names == ['an, apple', 'd'] and again.labels.tolist() == [1, 0] * 35
  np.testing.assert_array_equal(again.images, restore(workdir).sample(70, labels=[3, 0]))
  assert sorted(p.name for p in tmp_path.iterdir()) == [
    'cache',
    'pictures',
    'pictures.npy',
    'run',
    'x.npy',
    'x_labels.npy',
  ]
  (tmp_path / 'y.npy.part').mkdir()  # the images cannot be written: neither are the labels
  with pytest.raises(AssertionError, match=r'y\.npy cannot be written'):
    written(workdir, tmp_path / 'y.npy', '--n=70')
  assert not (tmp_path / 'y_labels.npy').exists()


MEMORY = """
import resource, sys
import numpy as np
from vaegan_jax import files, restore
model = restore(sys.argv[1])
for n in (2000, 20000):
  files.save_npy(sys.argv[1] + '/x.npy', model.samples(n), (n, 32, 32, 3))
  print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_number_of_samples(tmp_path):
  """18,000 more images of 32x32 would take 55 MB."""
  changes = {'data.image_size': 32, 'data.channels': 3, 'network.width': 0.03}
  workdir = saved(tmp_path, 'vae', dict(condition='none', names=[], size=0), **changes)
  done = subprocess.run(
    [sys.executable, '-c', MEMORY, str(workdir)],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=300,
    env={**os.environ, 'XLA_FLAGS': '', 'PYTHONPATH': str(ROOT)},
  )
  assert done.returncode == 0, done.stderr
  small, large = map(int, done.stdout.split())
  assert large - small < 15_000  # KiB


def test_holes_are_filled_and_morphs_move(tmp_path):
  about = dict(condition='label', names=list('0123456789'), size=10)
  workdir = saved(tmp_path / 'run', 'cvae', about)
  mask = np.zeros((32, 48), np.uint8)
  mask[8:16, 16:32] = 255
  files.save_png(tmp_path / 'mask.png', mask)
  said = written(
    workdir, tmp_path / 'x.png', '--mode=inpaint', f'--mask={tmp_path}/mask.png', '--n=3'
  )
  assert 'x.png' in said
  sheet = images.read_image(tmp_path / 'x.png', 1)[:, -(3 * 66 + 2) :]  # without the rows' names
  original, cut, *filled = (sheet[i : i + 64, 2:66, 0] for i in range(2, 5 * 66, 66))
  hole = np.zeros((64, 64), bool)
  hole[16:32, 16:48] = True  # of the central 32x32 pixels of the mask
  assert (cut[hole] == 128).all()
  for picture in (cut, *filled):
    np.testing.assert_array_equal(picture[~hole], original[~hole])
  assert all((picture[hole] != 128).any() for picture in filled)
  folder = tmp_path / 'photos'
  for i, name in enumerate(('3/a', '3/b', '7/c', '3/d')):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    files.save_png(folder / f'{name}.png', np.full((16, 16, 3), 60 * i, np.uint8))
  morph = ('--mode=interpolate', f'--images={folder}', '--steps=2')
  with pytest.raises(AssertionError, match='images 3 and 4 in order of name are of two classes'):
    written(workdir, tmp_path / 'y.png', *morph)
  assert 'y.png' in written(workdir, tmp_path / 'y.png', *morph, '--labels=3,7')
  said = written(workdir, tmp_path / 'x.gif', '--mode=video', '--n=4', '--steps=3')
  assert '4 frames of 134x134' in said
  with Image.open(tmp_path / 'x.gif') as film:
    assert film.n_frames == 4 and film.info['loop'] == 0


@pytest.mark.parametrize('shape', [(33, 48), (33, 48, 3)])
def test_films_hold_their_frames(tmp_path, shape):
  av = pytest.importorskip('av', reason='pip install vaegan_jax[video]')
  frames = [np.full(shape, grey, np.uint8) for grey in (0, 80, 160)]
  frames[2][:, :20] = 40
  sheets.save_mp4(tmp_path / 'x.mp4', frames, 80)
  with av.open(tmp_path / 'x.mp4') as film:
    (stream,) = film.streams
    assert stream.codec_context.name == 'h264' and stream.average_rate == Fraction(25, 2)
    found = [frame.to_ndarray(format='rgb24') for frame in film.decode(stream)]
  assert [f.shape for f in found] == [(34, 48, 3)] * 3
  for frame, again in zip(frames, found):
    grey = frame if frame.ndim == 2 else frame[..., 0]
    assert np.abs(again[:30, ..., 1].astype(int) - grey[:30]).mean() < 4


def test_a_film_without_its_codec(monkeypatch):
  monkeypatch.setitem(sys.modules, 'av', None)  # as if it were not installed
  with pytest.raises(ValueError, match=r'pip install "vaegan_jax\[video\]", or name a .gif'):
    sheets.codec()


@pytest.mark.parametrize(
  'arguments,words',
  [
    (['--mode=video', '--out=x.png'], 'x.png: name a .gif or .mp4 file'),
    (['--mode=inpaint', '--out=x.png'], '--mode=inpaint needs --mask'),
    (['--mask=x', '--out=x.png'], 'only --mode=inpaint takes a mask'),
    (['--mode=reconstruct', '--out=x.png', '--truncation=0.5'], '--truncation=0.5 is for samples'),
    (['--mode=reconstruct', '--out=x.npy'], 'x.npy: --mode=reconstruct draws a .png'),
  ],
)
def test_flags_that_contradict_each_other(arguments, words):
  line = [sys.executable, 'experiments/sample.py', '--workdir=nowhere', *arguments]
  done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60)
  assert done.returncode == 2 and words in done.stderr
