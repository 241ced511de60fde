"""The model card of an exported model: what it was trained on, how, and how it looks."""

from collections.abc import Iterator, Mapping, Sequence
import math
from typing import Any

import jax

from vaegan_jax import settings
from vaegan_jax.sample import Trained

PICTURES = {
  'samples.png': 'Samples',
  'reconstructions.png': 'Held-out images, each above its reconstruction',
}
UNKNOWN_LICENCE = (
  'Not stated: ask whoever gave you this file. The weights derive from the training images, whose '
  'own terms may bind you.'
)
LIMITS = (
  'The model draws from the distribution of its training images and repeats their biases; nothing '
  'checks that a sample is no copy of one. The figures of training describe the fit, not the '
  'quality: compare models by `vaegan-evaluate`. Edits and inpainting invent what they fill in.'
)


def text(
  model: Trained,
  *,
  licence: str = '',
  terms: Mapping[str, float] | None = None,
  evaluation: Sequence[str] = (),
  pictures: Sequence[str] = (),
) -> str:
  """The card as Markdown, with the front matter of the Hugging Face Hub.

  Args:
    licence: its name, or '' if it is not stated.
    terms: the figures of the step that the model was saved at.
    evaluation: lines of evaluate.lines.
    pictures: names of PICTURES that lie beside the card.
  """
  return '\n'.join(_lines(model, licence, terms or {}, evaluation, pictures)) + '\n'


def _lines(
  model: Trained,
  licence: str,
  terms: Mapping[str, float],
  evaluation: Sequence[str],
  pictures: Sequence[str],
) -> Iterator[str]:
  """Yields the card's lines."""
  c: Any = settings.from_dict(model.config)
  yield from ['---', 'library_name: vaegan_jax', 'pipeline_tag: unconditional-image-generation']
  yield from [f'license: {licence.lower() or "other"}', 'tags: [jax, vae-gan, cvae-gan]', '---', '']
  yield from [f'# {c.method_name} on {c.data.name}', '', '| | |', '|---|---|']
  yield from (f'| {what} | {value} |' for what, value in _facts(model, c))
  yield from ['', '## Method', '', 'Each network descends the gradient of this sum of losses:', '']
  for network, row in settings.method(c).items():
    yield f'- {network}: ' + ', '.join(f'{loss} {weight:g}' for loss, weight in row.items())
  for name in pictures:
    yield from ['', f'## {PICTURES[name]}', '', f'![{PICTURES[name]}]({name})']
  if terms:
    yield from ['', f'## Figures of training at step {model.step}', '', '| | |', '|---|---|']
    yield from (f'| {name} | {value:.4g} |' for name, value in terms.items())
  if evaluation:
    yield from ['', '## Evaluation', '', '```', *evaluation, '```']
  yield from ['', '## Use', '', *_use(model), '', '## Licence', '', licence or UNKNOWN_LICENCE]
  yield from ['', '## Limits', '', LIMITS]


def _facts(model: Trained, c: Any) -> Iterator[tuple[str, Any]]:
  """Yields rows (what, value) of the card's first table."""
  d, about = c.data, model.about
  held = f', held out: {d.held_out}' if d.held_out else ''
  yield 'Data', f'{d.name}, split {d.split}{held}, {d.image_size}x{d.image_size}x{d.channels}'
  names = ', '.join(about['names'][:50]) + (', ...' if about['size'] > 50 else '')
  yield 'Condition', f'{about["condition"]}' + (f': {names}' if names else '')
  yield 'Networks', f'{c.network.name}, width {c.network.width:g}, Z = {model.latent_size}'
  for name in model.networks:
    count = sum(math.prod(a.shape) for a in jax.tree.leaves(model.weights[name]['params']))
    yield f'Parameters of the {name}', f'{count:,}'
  yield 'Steps', f'{model.step} of {c.steps}, {c.batch_size} images each, seed {c.seed}'
  yield 'Weights', f'moving average, decay {c.ema_decay:g}'


def _use(model: Trained) -> Iterator[str]:
  """Yields what to type."""
  conditional = ', labels=0' if model.about['condition'] == 'label' else ''
  yield 'Without this library, in the unpacked folder:'
  yield from ['', '    pip install jax flatbuffers pillow', '    python run.py', '']
  yield 'It takes SEED COUNT TRUNCATION; a truncation of 0.6 to 0.8 breaks fewer samples.'
  yield ''
  yield from [
    'With it:',
    '',
    '```python',
    'import vaegan_jax',
    '',
    "model = vaegan_jax.load('model.zip')",
  ]
  yield from [f'images = model.sample(64{conditional})', '```']
