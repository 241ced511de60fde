"""A training step on one fixed batch, for the benchmarks that time it."""

from typing import Any

import jax
import numpy as np

from vaegan_jax import programs


class Stepper:
  """The last stage of a config's training; each call trains on by one dispatch."""

  def __init__(self, config: Any, size: int):
    """`size` is that of the condition, 0 without one. Set `batch` before the first call."""
    (self.program,) = programs.stages([config], size)[-1].programs
    self.parallel, self.key = self.program.runner.one, jax.random.key(0)
    init = programs.init(config, size, self.program)
    self.state = self.parallel.put_state(init(self.key))
    self.batch = None

  def __call__(self) -> Any:
    self.state, terms = self.parallel.step(self.state, self.batch, self.key)
    return self.state, terms

  def compile(self) -> Any:
    """The compiled program of the step."""
    return self.parallel.step.lower(self.state, self.batch, self.key).compile()


def colour_config(method: str, image_size: int, width: float = 1.0) -> Any:
  """The unlocked config of a method for colour images, at a factor on the published widths."""
  from vaegan_jax.configs import base

  config = base.get_config(method)
  config.data.image_size, config.data.channels = image_size, 3
  config.network.width = width
  return config


def random_batch(count: int, image_size: int, classes: int = 0, seed: int = 0) -> dict[str, Any]:
  """{'x': uint8 [count, H, W, 3], 'c': int32 [count] if there are classes}, at random."""
  rng = np.random.default_rng(seed)
  batch = dict(x=rng.integers(0, 256, (count, image_size, image_size, 3), np.uint8))
  return {**batch, 'c': rng.integers(0, classes, count, np.int32)} if classes else batch
