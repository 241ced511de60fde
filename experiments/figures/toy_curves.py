"""The picture of toy_overfitting.py: a row per method, a column per measure, over iterations."""

from collections.abc import Mapping
import itertools
from typing import Any

import numpy as np

from vaegan_jax.experiments.figures import toy_picture

WIDTH, HEIGHT, GAP = 300, 190, 60  # pixels of a panel and between panels
LEFT, TOP, BOTTOM = 110, 96, 44
COLOURS = ((213, 94, 0), (0, 114, 178), (0, 158, 115))  # of the sizes
TITLES = dict(
  c_t='C_T (below -3: copies)',
  energy_gap='energy gap x points / radius (above 0: overfits)',
  logit_gap='D(train) - D(held-out), mean logits',
)


def picture(result: Mapping[str, Any]) -> np.ndarray:
  """uint8 [H, W, 3] of the result of toy_overfitting.py."""
  names = list(result['measures'])
  canvas = toy_picture.Canvas(
    LEFT + len(TITLES) * (WIDTH + GAP), TOP + len(names) * (HEIGHT + GAP) + BOTTOM
  )
  canvas.text(14, 18, 'Ring of fixed points: does it overfit?', 17, 'lm')
  x = 14.0
  for size, colour in zip(result['sizes'], COLOURS):
    stroke(canvas, [(x, 44), (x + 24, 44)], colour, 2.5)
    canvas.text(x + 30, 44, f'{size:,} points', 13, 'lm')
    x += 130
  words = 'solid: trained on them; dashed: on new points (null); dot: copycat; bands: all seeds'
  canvas.text(x, 44, words, 13, 'lm')
  for row, name in enumerate(names):
    y = TOP + row * (HEIGHT + GAP)
    canvas.upright_text(14, y, toy_picture.TITLES[name], 14, HEIGHT)
    for column, (measure, title) in enumerate(TITLES.items()):
      place = LEFT + column * (WIDTH + GAP), y
      if row == 0:
        canvas.text(place[0], TOP - 14, title, 13, 'lm')
      draw(canvas, place, result, name, measure)
  below = TOP + len(names) * (HEIGHT + GAP) - GAP + 32
  canvas.text(LEFT + WIDTH / 2, below, 'iterations', 12)
  return canvas.reduced()


def draw(
  canvas: toy_picture.Canvas,
  place: tuple[float, float],
  result: Mapping[str, Any],
  name: str,
  measure: str,
) -> None:
  """One panel, its upper left corner at `place`."""
  of_method, times = result['measures'][name], np.array(result['iterations'], float)
  copycat = [np.median(row[measure]) for row in result['copycat'].values() if measure in row]
  low, high = limits([of_method[kind][measure] for kind in of_method], copycat)
  last = max(times[-1], 1.0)

  def at(time: float, value: float) -> tuple[float, float]:
    share = (np.clip(value, low, high) - low) / (high - low)
    return place[0] + time / last * WIDTH, place[1] + (1 - share) * HEIGHT

  for tick in ticks(low, high):
    stroke(canvas, [at(0, tick), at(last, tick)], (120,) * 3 if tick == 0 else (228,) * 3, 1)
    canvas.text(place[0] - 6, at(0, tick)[1], f'{tick:g}', 11, 'rm')
  for tick in ticks(0, last):
    canvas.text(at(tick, low)[0], place[1] + HEIGHT + 12, f'{tick:,.0f}', 11)
  for size, colour, i in zip(result['sizes'], COLOURS, range(len(COLOURS))):
    for kind, dashed in ((f'fresh_{size}', True), (str(size), False)):
      values = np.array(of_method[kind][measure], float)
      middle = [at(t, v) for t, v in zip(times, np.median(values, 1))]
      band(canvas, times, values, at, (*colour, 14 if dashed else 32))
      stroke(canvas, middle, colour, 2.2, dashed)
    if copycat:
      x, y = at(last, copycat[i])
      canvas.dot(x + 8, y, colour, 4)


def limits(values: list[Any], marks: list[float]) -> tuple[float, float]:
  """Of an axis that holds the second half of the curves, and the marks."""
  late = np.concatenate([np.ravel(v[len(v) // 2 :]) for v in values] + [marks, [0.0]])
  late = late[np.isfinite(late)]
  room = 0.06 * max(np.ptp(late), 1e-6)
  return float(late.min() - room), float(late.max() + room)


def ticks(low: float, high: float) -> list[float]:
  """Four to eight round numbers from low to high."""
  step = 10.0 ** np.floor(np.log10((high - low) / 2))
  step *= next(f for f in (1, 0.5, 0.25) if (high - low) / (f * step) >= 4)
  while (high - low) / step > 8:
    step *= 2
  return [float(round(i * step, 10)) for i in range(int(np.ceil(low / step)), int(high / step) + 1)]


def band(canvas, times, values, at, colour) -> None:
  """The range over the seeds [T, S]."""
  if len(times) > 1:
    edge = [at(t, v) for t, v in zip(times, values.max(1))]
    edge += [at(t, v) for t, v in zip(times[::-1], values.min(1)[::-1])]
    canvas.pen.polygon([(x * toy_picture.SCALE, y * toy_picture.SCALE) for x, y in edge], colour)


def stroke(canvas, points, colour, width, dashed=False) -> None:
  """A line through points of the picture."""
  scale, ends = toy_picture.SCALE, [np.array(p) for p in points]
  for start, end in itertools.pairwise(ends):
    pieces = max(1, int(np.linalg.norm(end - start) // 4)) if dashed else 1
    for i in range(0, pieces, 2):
      a, b = (start + (end - start) * share / pieces for share in (i, min(i + 1, pieces)))
      line = [tuple(a * scale), tuple(b * scale)]
      canvas.pen.line(line, fill=colour, width=round(width * scale), joint='curve')
