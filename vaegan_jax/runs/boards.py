"""Curves and pictures of a run for viewers of others: TensorBoard, and W&B where the config asks.

W&B's client reads its own settings, such as WANDB_MODE=offline; it needs the extra [wandb].
"""

import importlib
import json
import secrets
import threading
from typing import Any

import numpy as np
import tensorboardX

from vaegan_jax import files, paths

IDENTITY = 'wandb.json'  # in the workdir: a run that resumes goes on with its own curves


class Board:
  """The viewers of one member; use it as a context manager.

  Args:
    workdir: of the member, a path, on a disk or in a bucket.
    config: of the member, as plain dicts.
    start: the step that it resumes from.
    group: the population's name, '' for a run alone.

  Raises ValueError if W&B refuses.
  """

  def __init__(self, workdir: Any, config: dict[str, Any], start: int, group: str = '') -> None:
    self.client: Any = None
    self.run: Any = None
    self.failed: Exception | None = None  # of TensorBoard's thread
    self.pending: dict[int, dict[str, Any]] = {}
    if config['wandb_project']:
      self.client = importlib.import_module('wandb')
      self.run = begun(self.client, workdir, config, group)
    folder = str(workdir / 'tensorboard')
    if paths.is_remote(workdir):
      from vaegan_jax import buckets

      for scheme in paths.CLIENTS:
        tensorboardX.record_writer.register_writer_factory(scheme, buckets.Events())
    self.events = tensorboardX.SummaryWriter(folder, purge_step=start + 1)

  def __enter__(self) -> 'Board':
    self.before, threading.excepthook = threading.excepthook, self._thread_failed
    return self

  def __exit__(self, kind: object, *error: object) -> None:
    try:
      self.flush()
    finally:
      threading.excepthook = self.before
      self.events.close()
      if self.run:
        self.run.finish(exit_code=int(kind is not None))

  def _thread_failed(self, told: threading.ExceptHookArgs) -> None:
    """Keeps the error of TensorBoard's thread for `flush`; it would print a traceback."""
    ours = type(told.thread).__module__.startswith('tensorboardX')
    if ours and isinstance(told.exc_value, OSError):
      self.failed = told.exc_value
    else:
      self.before(told)

  @property
  def where(self) -> str:
    """What W&B says of the run's place; '' without it."""
    if not self.run:
      return ''
    if self.run.offline:
      return f'wandb sync {self.run.settings.sync_dir}'
    return str(self.run.url)

  def add_scalar(self, name: str, value: float, step: int) -> None:
    """A point of a curve."""
    self.events.add_scalar(name, value, step)
    if self.run:
      self.pending.setdefault(step, {})[name] = value

  def add_image(self, name: str, grid: np.ndarray, step: int) -> None:
    """A picture uint8 [H, W] or [H, W, 3]."""
    colour = grid.ndim == 3 and grid.shape[2] == 3
    self.events.add_image(name, grid, step, dataformats='HWC' if colour else 'HW')
    if self.client:
      self.pending.setdefault(step, {})[name] = self.client.Image(grid)

  def flush(self) -> None:
    """Hands on what was added. Raises OSError if it cannot be written."""
    if self.failed:
      raise self.failed
    self.events.flush()
    pending, self.pending = self.pending, {}
    for step, values in pending.items():
      self.run.log(dict(values, step=step))


def begun(client: Any, workdir: Any, config: dict[str, Any], group: str) -> Any:
  """W&B's run of a workdir, the same one as before if it resumes."""
  path = workdir / IDENTITY
  if not path.is_file():
    files.write_json(path, dict(id=secrets.token_hex(8)))
  try:
    run = client.init(
      project=config['wandb_project'],
      id=json.loads(path.read_text())['id'],
      name=workdir.name,
      group=group or None,
      dir=str(paths.cache_home() if paths.is_remote(workdir) else workdir),
      config=config,
      resume='allow',
      reinit='create_new',  # the members of a population run side by side
      settings=client.Settings(console='off', silent=True),
    )
  except client.Error as e:
    raise ValueError(
      f'--config.wandb_project={config["wandb_project"]}: W&B refuses: '
      f'{" ".join(str(e).split())}; WANDB_MODE=offline needs no account'
    ) from e
  run.define_metric('*', step_metric='step')
  return run
