"""The picture of the toy example: a row per method and seed, a column per number of iterations."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vaegan_jax import images, toy

SCALE = 3  # drawn this many times as large, then reduced
SIDE, GAP = 250, 12  # pixels of a panel and between panels
LEFT, TOP, BOTTOM = 92, 74, 34  # margins
REAL, GENERATED = (70, 120, 200), (215, 60, 45)
PAPER, GRID, FRAME = (250, 250, 250), (228, 228, 228), (120, 120, 120)
TITLES = dict(gan='GAN', wgan='WGAN, clipped weights', matching='mean feature matching')


class Panel(NamedTuple):
  """A square that shows low..high of both coordinates, at a place of the canvas."""

  x: float
  y: float
  low: float
  high: float

  def place(self, point: Sequence[float]) -> tuple[float, float]:
    """A point of the plane on the canvas."""
    span = self.high - self.low
    return self.x + (point[0] - self.low) / span * SIDE, self.y + (
      self.high - point[1]
    ) / span * SIDE


class Canvas:
  """A white picture to draw on; lengths are in pixels of the picture after it is reduced."""

  def __init__(self, width: int, height: int):
    self.size = width, height
    self.image = Image.new('RGB', (width * SCALE, height * SCALE), 'white')
    self.pen = ImageDraw.Draw(self.image, 'RGBA')

  def text(self, x: float, y: float, words: str, size: int = 15, anchor: str = 'mm') -> None:
    font = ImageFont.load_default(size * SCALE)
    self.pen.text((x * SCALE, y * SCALE), words, font=font, anchor=anchor, fill=images.INK)

  def upright_text(self, x: int, y: int, words: str, size: int, height: int) -> None:
    font = ImageFont.load_default(size * SCALE)
    strip = images.upright(words, font, height * SCALE, font.getbbox(words)[3] + 8)
    self.image.paste(strip, (x * SCALE, y * SCALE))

  def line(self, x0: float, y0: float, x1: float, y1: float) -> None:
    self.pen.line([x0 * SCALE, y0 * SCALE, x1 * SCALE, y1 * SCALE], fill=GRID, width=SCALE)

  def square(self, panel: Panel, **style) -> None:
    corners = panel.x, panel.y, panel.x + SIDE, panel.y + SIDE
    self.pen.rectangle([corner * SCALE for corner in corners], **style)

  def dot(self, x: float, y: float, colour: tuple[int, int, int], radius: float = 1.3) -> None:
    corners = x - radius, y - radius, x + radius, y + radius
    self.pen.ellipse([corner * SCALE for corner in corners], fill=(*colour, 130))

  def reduced(self) -> np.ndarray:
    """uint8 [H, W, 3]."""
    return np.asarray(self.image.resize(self.size, Image.Resampling.LANCZOS))


def picture(
  shown: Mapping[int, Mapping[tuple[str, int], np.ndarray]], real: np.ndarray, options: toy.Toy
) -> np.ndarray:
  """uint8 [H, W, 3]: a panel for each number of iterations and each method and seed.

  Args:
    shown: {iterations: {(method, seed): points [N, 2]}}.
    real: points [N, 2].
    options: settings of the run.
  """
  rows = list(next(iter(shown.values())))
  canvas = Canvas(LEFT + len(shown) * (SIDE + GAP), TOP + len(rows) * (SIDE + GAP) + BOTTOM)
  canvas.text(
    LEFT, 18, f'Toy example of CVAE-GAN: a ring, batches of {options.batch_size}', 17, 'lm'
  )
  canvas.text(LEFT, 40, 'real points blue, generated ones red', 13, 'lm')
  # The panels show the ring and the place where the generator starts.
  low, high = -0.2 * toy.CENTRE[0], toy.CENTRE[0] + 1.7 * options.radius
  for row, (name, seed) in enumerate(rows):
    y = TOP + row * (SIDE + GAP)
    canvas.upright_text(14, y, f'{TITLES[name]}, seed {seed}', 14, SIDE)
    for column, (iterations, points) in enumerate(shown.items()):
      panel = Panel(LEFT + column * (SIDE + GAP), y, low, high)
      canvas.square(panel, fill=PAPER)
      draw_grid(canvas, panel, below=row == len(rows) - 1, beside=column == 0)
      draw_points(canvas, panel, real, points[name, seed], options)
      canvas.square(panel, outline=FRAME, width=SCALE)
      if row == 0:
        title = f'{iterations:,} iterations' if iterations else 'start'
        canvas.text(panel.x + SIDE / 2, TOP - 13, title, 14)
  return canvas.reduced()


def draw_grid(canvas: Canvas, panel: Panel, below: bool, beside: bool) -> None:
  """Lines every 50 units; their numbers `below` and `beside` the panel."""
  for tick in range(0, int(panel.high) + 1, 50):
    x, _ = panel.place((tick, panel.low))
    _, y = panel.place((panel.low, tick))
    canvas.line(x, panel.y, x, panel.y + SIDE)
    canvas.line(panel.x, y, panel.x + SIDE, y)
    if below:
      canvas.text(x, panel.y + SIDE + 12, str(tick), 11)
    if beside:
      canvas.text(panel.x - 6, y, str(tick), 11, 'rm')


def draw_points(
  canvas: Canvas, panel: Panel, real: np.ndarray, generated: np.ndarray, options: toy.Toy
) -> None:
  """1,000 real points, 1,000 generated ones, and what these cover of the ring."""
  outside = 0
  for points, colour in ((real, REAL), (generated, GENERATED)):
    for point in points[:1000]:
      if panel.low < min(point) <= max(point) < panel.high:
        canvas.dot(*panel.place(point), colour)
      else:
        outside += 1
  found = toy.measures(generated, options.radius)
  words = (
    f'{found["coverage"] * toy.BINS:.0f}/{toy.BINS} angles, radius error '
    f'{found["radius_error"]:.0%}'
  )
  if outside:
    words += f', {outside / 10:.0f} % outside'
  canvas.text(panel.x + 6, panel.y + SIDE - 10, words, 10, 'lm')
