"""What the explorer shows: views, as the browser describes them, turned into pictures and code.

A view is JSON. Its numbers are checked here, and no path is ever read from it.

    {z, condition, directions, vectors}     a latent, moved along directions and attribute vectors
    {from: view, to: view, t}               a morph between two of them
    {picture, hole, condition, iterations}  a picture (PNG, base64) whose hole the model fills
"""

import base64
import binascii
from collections.abc import Mapping
import io
import math
import os
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from vaegan_jax import conditions, dispatch, edit, functions, images
from vaegan_jax.explore import directions
from vaegan_jax.sample import Trained

View = Mapping[str, Any]
DRAWN = 8  # samples to choose from
ITERATIONS = 10  # of inpainting
MOST_ITERATIONS = 30
FARTHEST = 100.0  # in standard deviations of the prior


class Latent(NamedTuple):
  """A view that is one latent."""

  z: np.ndarray  # float32 [1, Z]
  c: np.ndarray | None  # float32 [1, A]


class Explorer:
  """A trained model with directions to move along. It decodes one picture per dispatch.

  Args:
    model: the model.
    source: what the code names: a run's folder or a model's zip.
    seen: images of the run's data set whose attributes become directions; 0 for none.

  Methods raise ValueError for a request that they cannot use.
  """

  def __init__(self, model: Trained, source: str | os.PathLike[str], seen: int = 0) -> None:
    self.model, self.source = model._replace(batch=1), os.path.abspath(source)
    self.principal, bright = directions.principal(self.model)
    self.vectors, self.missing = {'brightness': bright}, ''
    if seen:
      try:
        self.vectors |= directions.of_data(model, seen)
      except (ValueError, OSError) as e:
        self.missing = str(e)
    if 'encoder' in model.networks:  # compiled now, not at the first picture
      self.encode(dict(picture=to_base64(self.model.sample(1)[0]), condition=self.default))

  @property
  def default(self) -> list[float] | None:
    """The condition that a page starts with: the first class, or a training image's attributes."""
    c = conditions.rows(self.model.about, 1, seed=0)
    return None if c is None else c[0].tolist()

  def about(self) -> dict[str, Any]:
    """What the page must know of the model, for JSON."""
    model = self.model
    return dict(
      title=f'{model.config["method_name"]} at step {model.step:,}',
      source=os.path.basename(self.source),
      size=model.config['data']['image_size'],
      kind=model.about['condition'],
      names=list(model.about['names']),
      condition=self.default,
      directions=len(self.principal),
      vectors=list(self.vectors),
      missing=self.missing,
      encoder='encoder' in model.networks,
    )

  def samples(self, asked: View) -> dict[str, Any]:
    """{'samples': [dict(z, image)]} of a seed and a condition."""
    seed = asked.get('seed')
    if not isinstance(seed, int):
      raise ValueError(f'seed={seed}: use a whole number')
    z, c = dispatch.latents(DRAWN, self.model.latent_size, seed), self.condition(asked)
    given = {} if c is None else conditions.keyword(self.model.about, c.repeat(DRAWN, 0))
    shown = self.model.decode(z, **given)
    return dict(samples=[dict(z=a.tolist(), image=to_base64(b)) for a, b in zip(z, shown)])

  def encode(self, asked: View) -> dict[str, Any]:
    """{'z', 'picture'}: a picture of any size as the model sees it, and its latent."""
    d = self.model.config['data']
    raw = from_base64(asked.get('picture'), 'picture')
    fitted = images.read_image(raw, d['channels'], square=d['image_size'])
    z, _ = self.model.encode(fitted[None], **self.given(self.condition(asked)))
    return dict(z=z[0].tolist(), picture=to_base64(fitted))

  def show(self, view: View) -> dict[str, Any]:
    """{'image': PNG in base64} of a view."""
    return dict(image=to_base64(self.image(view)))

  def image(self, view: View) -> np.ndarray:
    """uint8 [H, W, C] of a view."""
    if 'hole' in view:
      picture, hole, iterations, c = self.inpainting(view)
      filled = edit.inpaint(self.model, picture[None], hole, iterations=iterations, **self.given(c))
      return filled[-1, 0]
    z, c = self.latent(view)
    return self.model.decode(z, **self.given(c))[0]

  # --- Requests, checked.

  def latent(self, view: View) -> Latent:
    """The latent of a view, with all that moves it."""
    if 't' in view:
      first, second = (self.latent(mapping(view.get(k), k)) for k in ('from', 'to'))
      t = numbers([view['t']], 1, 't')
      z = (1 - t) * first.z + t * second.z
      if first.c is None or second.c is None:
        return Latent(z, None)
      return Latent(z, (1 - t) * first.c + t * second.c)
    z = numbers(view.get('z'), self.model.latent_size, 'z')
    for name, rows in (
      ('directions', self.principal),
      ('vectors', np.stack(list(self.vectors.values()))),
    ):
      if name in view:
        z = z + numbers(view[name], len(rows), name) @ rows
    return Latent(z[None], self.condition(view))

  def condition(self, view: View) -> np.ndarray | None:
    """float32 [1, A], or None for an unconditional model."""
    size = self.model.about['size']
    return numbers(view.get('condition'), size, 'condition')[None] if size else None

  def given(self, c: np.ndarray | None) -> dict[str, np.ndarray]:
    """A condition as the keyword argument of the model."""
    return conditions.keyword(self.model.about, c)

  def inpainting(self, view: View) -> tuple[np.ndarray, np.ndarray, int, np.ndarray | None]:
    """(picture uint8 [H, W, C], hole bool [H, W], iterations, condition) of a view."""
    d = self.model.config['data']
    picture, hole = (
      images.read_image(from_base64(view.get(name), name), channels, square=d['image_size'])
      for name, channels in (('picture', d['channels']), ('hole', 1))
    )
    iterations = view.get('iterations', ITERATIONS)
    if not isinstance(iterations, int) or not 1 <= iterations <= MOST_ITERATIONS:
      raise ValueError(f'iterations={iterations}: use 1 to {MOST_ITERATIONS}')
    return picture, hole[..., 0] > 127, iterations, self.condition(view)

  # --- Code.

  def code(self, view: View) -> dict[str, str]:
    """{'code'}: a Python program that writes the view's picture as picture.png."""
    model = self.model
    call = f'load({self.source!r})'
    if model.workdir:
      call = f'restore({self.source!r}, step={model.step})'
    if isinstance(generator := model.networks['generator'], functions.Truncated):
      call += f'.truncated({generator.factor})'
    if 'hole' in view:
      picture, hole, iterations, c = self.inpainting(view)
      body = INPAINT.format(
        picture=wrapped(to_base64(picture)),
        hole=wrapped(to_base64(np.where(hole, np.uint8(255), np.uint8(0))[..., None])),
        channels=picture.shape[2],
        rest=f', iterations={iterations}{self.argument(c)}',
      )
    else:
      z, c = self.latent(view)
      body = DECODE.format(z=rows_of(z[0]), rest=self.argument(c))
    return dict(code=HEAD[('hole' in view)].format(call=call) + body + TAIL)

  def argument(self, c: np.ndarray | None) -> str:
    """A condition as the text of an argument of a call."""
    about = self.model.about
    if c is None:
      return ''
    if about['condition'] == 'label' and c.max() == 1 and c.sum() == 1:
      return f', labels={about["names"][int(c.argmax())]!r}'
    name = 'labels' if about['condition'] == 'label' else 'attributes'
    return f', {name}=[{[float(str(v)) for v in c[0]]}]'


HEAD = (
  'import numpy as np\nfrom PIL import Image\nimport vaegan_jax\n\nmodel = vaegan_jax.{call}\n',
  'import base64\n\nfrom PIL import Image\nimport vaegan_jax\nfrom vaegan_jax import edit, images\n'
  '\nmodel = vaegan_jax.{call}\n',
)
DECODE = """z = np.array([[
{z}
]], np.float32)
image = model.decode(z{rest})[0]
"""
INPAINT = """picture = images.read_image(base64.b64decode(
{picture}
), {channels})
hole = images.read_image(base64.b64decode(
{hole}
), 1)[..., 0] > 127
image = edit.inpaint(model, picture[None], hole{rest})[-1][0]
"""
TAIL = "Image.fromarray(image.squeeze()).save('picture.png')\n"


def rows_of(values: np.ndarray, width: int = 8) -> str:
  """Lines of float32 numbers that read back as the same bits."""
  said = [str(v) for v in values]
  return '\n'.join(f'  {", ".join(said[i : i + width])},' for i in range(0, len(said), width))


def wrapped(text: str, width: int = 88) -> str:
  """A long text as lines of Python."""
  return '\n'.join(f'  {text[i : i + width]!r}' for i in range(0, len(text), width))


def mapping(value: Any, name: str) -> View:
  """A JSON object; ValueError for anything else."""
  if not isinstance(value, dict) or 't' in value:
    raise ValueError(f'{name} is no view of one latent')
  return value


def numbers(value: Any, count: int, name: str) -> np.ndarray:
  """float32 [count] of a JSON list; ValueError if it is anything else, or far from the prior."""
  good = isinstance(value, list) and len(value) == count
  if not good or not all(
    type(v) in (int, float) and math.isfinite(v) and abs(v) <= FARTHEST for v in value
  ):
    raise ValueError(f'{name} must be {count} numbers from -{FARTHEST:g} to {FARTHEST:g}')
  return np.array(value, np.float32)


def to_base64(image: np.ndarray) -> str:
  """A PNG in base64 of uint8 [H, W, C]."""
  buffer = io.BytesIO()
  Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(buffer, 'PNG')
  return base64.b64encode(buffer.getvalue()).decode()


def from_base64(value: Any, name: str) -> bytes:
  """The bytes of a text in base64; ValueError for anything else."""
  try:
    return base64.b64decode(value, validate=True)
  except (TypeError, ValueError, binascii.Error) as e:
    raise ValueError(f'{name} must be a picture in base64') from e
