"""Hands a trained model on: one zip that needs no run folder, and to sample not even this library.

    python experiments/export.py --workdir=runs/demo --out=model.zip

The zip holds the EMA weights (safetensors), generator and encoder as StableHLO with a free batch
(for CPUs, NVIDIA GPUs and TPUs), model_card.md with pictures, and run.py, which samples with JAX
alone. `vaegan_jax.load('model.zip')` gives what `vaegan_jax.restore` gives. See docs/sampling.md.
"""

import json
from typing import Any

from absl import flags

from vaegan_jax import command, paths

WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of a run of train.py.')
OUT = flags.DEFINE_string('out', None, 'Zip to write, such as model.zip.')
CHECKPOINT = flags.DEFINE_integer('step', None, 'Checkpoint to export; the newest by default.')
LICENCE = flags.DEFINE_string(
  'licence', '', 'Licence of the model, for its card, such as cc-by-4.0; empty: not stated.'
)
TO_HUB = flags.DEFINE_string(
  'to_hub', '', 'USER/NAME: also upload it to the Hugging Face Hub; a new repository is private.'
)


def main() -> int:
  out = paths.open_path(OUT.value, '--out=')
  if out.suffix != '.zip' or out.is_dir() or not paths.takes_files(out.parent):
    raise ValueError(f'--out={OUT.value}: name a .zip file in a folder that exists')
  if TO_HUB.value and paths.is_remote(out):
    raise ValueError(f'--out={out}: --to_hub uploads a local file: name one')
  from vaegan_jax import card, export, hub, sample

  export.check_installed()
  if TO_HUB.value:
    hub.repository(TO_HUB.value)
    hub.client()
  command.keep_compiled_programs()
  model = sample.restore(WORKDIR.value, CHECKPOINT.value)
  workdir = paths.open_path(WORKDIR.value)
  pictures = pictures_of(model, workdir)
  said = card.text(
    model,
    licence=LICENCE.value,
    terms=terms_of(workdir, model.step),
    evaluation=evaluation_of(workdir, model.step),
    pictures=list(pictures),
  )
  export.save(model, out, card=said, pictures=pictures)
  print(f'{out}: {", ".join(model.networks)} of step {model.step}, {paths.size(out):,} bytes')
  if TO_HUB.value:
    beside = {'README.md': said.encode(), **pictures}
    print(f'uploaded to {hub.upload(out, TO_HUB.value, beside)}')
  return 0


def pictures_of(model: Any, workdir: Any) -> dict[str, bytes]:
  """{name of card.PICTURES: PNG}: samples, and the run's reconstructions of this step, if any."""
  from vaegan_jax import files, sheets

  found = {'samples.png': files.png(sheets.samples(model))}
  drawn = workdir / 'reconstructions' / f'step_{model.step:08d}.png'
  if drawn.is_file():
    found['reconstructions.png'] = drawn.read_bytes()
  return found


def terms_of(workdir: Any, step: int) -> dict[str, float]:
  """The losses and logits that the run logged at a step, {} if it logged none."""
  from vaegan_jax.model import SEES

  path = workdir / 'metrics.jsonl'
  lines = path.read_text().splitlines() if path.is_file() else []
  row = next((row for row in map(json.loads, reversed(lines)) if row['step'] == step), {})
  return {k: v for k, v in row.items() if v is not None and (k in SEES or k.startswith('logit_'))}


def evaluation_of(workdir: Any, step: int) -> list[str]:
  """The lines of the run's evaluation.json, [] if there is none of this step."""
  from vaegan_jax import evaluate

  path = workdir / 'evaluation.json'
  if not path.is_file():
    return []
  result = json.loads(path.read_text())
  result['settings'].pop('data', None)  # for images of your own it is a path of this host
  return list(evaluate.lines(result)) if result['settings'].get('step') == step else []


def cli() -> None:
  command.run(main, needs=dict(command.NEEDS_RUN, out='--out is missing: name a zip to write'))


if __name__ == '__main__':
  cli()
