"""W&B gets the curves and pictures that TensorBoard gets."""

import importlib.machinery
import sys
import threading
import time
import types

import numpy as np
import pytest

from vaegan_jax import checks
from vaegan_jax.runs.boards import Board

GRID = np.zeros((8, 8, 3), np.uint8)


class Run:
  """W&B's run, as far as Board uses it."""

  offline, url = False, 'https://wandb.example/run'

  def __init__(self):
    self.logged, self.ended, self.by = [], None, None

  def define_metric(self, name, step_metric):
    self.by = name, step_metric

  def log(self, values):
    self.logged.append(values)

  def finish(self, exit_code):
    self.ended = exit_code


@pytest.fixture
def client(monkeypatch):
  """A stand-in for the module wandb; `asked` holds the arguments of init."""
  made = types.ModuleType('wandb')
  made.__spec__ = importlib.machinery.ModuleSpec('wandb', None)
  made.asked, made.runs = [], []

  def init(**asked):
    made.asked.append(asked)
    made.runs.append(Run())
    return made.runs[-1]

  made.init, made.Image, made.Settings, made.Error = init, lambda a: a, dict, type(
    'Error', (Exception,), {}
  )  # fmt: skip
  monkeypatch.setitem(sys.modules, 'wandb', made)
  return made


@pytest.fixture
def home(tmp_path):
  for name in ('a', 'b'):
    (tmp_path / name).mkdir()
  return tmp_path


def write(board):
  """Two logged steps; a picture comes with the first, another between them."""
  board.add_image('samples', GRID, 5)
  board.add_scalar('kl', 2.0, 5)
  board.add_scalar('pixel', 3.0, 5)
  board.flush()
  board.add_image('samples', GRID, 7)
  board.add_scalar('kl', 1.0, 10)
  board.flush()


def test_curves_and_pictures(client, home):
  with Board(home / 'a', dict(wandb_project='mine', seed=3), 0, 'sweep') as board:
    write(board)
  (asked,), (run,) = client.asked, client.runs
  assert [sorted(row) for row in run.logged] == [
    ['kl', 'pixel', 'samples', 'step'],
    ['samples', 'step'],
    ['kl', 'step'],
  ]
  assert [row['step'] for row in run.logged] == [5, 7, 10] and run.by == ('*', 'step')
  assert (asked['project'], asked['name'], asked['group']) == ('mine', 'a', 'sweep')
  assert asked['config']['seed'] == 3 and run.ended == 0 and board.where == run.url
  assert list((home / 'a' / 'tensorboard').iterdir())


def test_a_run_that_resumes_goes_on_with_its_curves(client, home):
  for name in ('a', 'a', 'b'):
    with Board(home / name, dict(wandb_project='mine'), 0):
      pass
  first, again, other = (asked['id'] for asked in client.asked)
  assert first == again != other and client.asked[1]['resume'] == 'allow'


def test_a_run_that_fails_says_so(client, home):
  with pytest.raises(FloatingPointError), Board(home, dict(wandb_project='mine'), 0):
    raise FloatingPointError
  assert client.runs[0].ended == 1


def test_without_a_project_it_is_not_even_imported(client, home):
  with Board(home, dict(wandb_project=''), 0) as board:
    write(board)
  assert not client.asked and not board.where


def test_a_full_disk_in_the_thread_of_tensorboard_is_raised_by_flush(home, monkeypatch, capfd):
  def full(self, data):
    raise OSError(28, 'No space left on device')

  hook = threading.excepthook
  with pytest.raises(OSError, match='No space'), Board(home, dict(wandb_project=''), 0) as board:
    monkeypatch.setattr('tensorboardX.record_writer.RecordWriter.write', full)
    write(board)
    while not board.failed:
      time.sleep(0.01)
  assert not capfd.readouterr().err and threading.excepthook == hook


def test_a_refusal_is_one_line(client, home):
  def init(**asked):
    raise client.Error('no API key\nconfigured')

  client.init = init
  with pytest.raises(ValueError, match='wandb_project=mine: W&B refuses: no API key configured; '):
    Board(home, dict(wandb_project='mine'), 0)


def test_what_is_checked_before_a_run(client, monkeypatch):
  checks.check_wandb('')
  checks.check_wandb('my-project_2.0')
  for name in ('a/b', 'a b', 'x' * 129):
    with pytest.raises(ValueError, match='use up to 128 letters'):
      checks.check_wandb(name)
  monkeypatch.setitem(sys.modules, 'wandb', None)  # as if it were not installed
  with pytest.raises(ValueError, match=r'mine: wandb is not installed: run pip install'):
    checks.check_wandb('mine')


@pytest.mark.slow
def test_the_real_client_offline(home, monkeypatch):
  pytest.importorskip('wandb', reason='pip install vaegan_jax[wandb]')
  monkeypatch.setenv('WANDB_MODE', 'offline')
  with Board(home / 'a', dict(wandb_project='mine', seed=3), 0) as board:
    write(board)
    assert board.where.startswith(f'wandb sync {home}/a/wandb/offline-run-')
    assert dict(board.run.summary)['kl'] == 1.0 and dict(board.run.summary)['step'] == 10
  (path,) = (home / 'a' / 'wandb').glob('offline-run-*/*.wandb')
  pictures = list(path.parent.glob('files/media/images/*.png'))
  assert len(pictures) == 2
