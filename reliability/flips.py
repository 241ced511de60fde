"""Damaged checkpoint files: each is named, none is loaded, and the run falls back to an older one.

    python -m reliability.flips --count=1000 --seed=0

A try spoils the newest checkpoint of a finished run, in this process: a flipped bit (7 of 10
tries), a truncation, a deletion, or the checkpoint under another number. A third of the tries spoil
the manifest. It holds if sampling refuses, or takes the older checkpoint and says so; if resuming
takes the older one; and if both name what is damaged. A damaged manifest that still reads as the
same values holds: a flip may change a digit beyond the precision of a number.
"""

import os
import pathlib
import random
import shutil

from reliability import campaign


def attempt(own: campaign.Try) -> str:
  """Spoils a copy of the finished run."""
  from vaegan_jax import checkpoint, sample, settings
  from vaegan_jax.runs import workdir

  straight, run = own.shared / 'straight', own.folder / 'run'
  shutil.copytree(straight / 'checkpoints', run / 'checkpoints', copy_function=os.link)
  older, newest = checkpoint.steps(straight)[-2:]
  own.moment, bad = spoil(own.draw, run / 'checkpoints' / str(newest))
  try:
    same = checkpoint.manifest(run, newest) == checkpoint.manifest(straight, newest)
    if same and not checkpoint.damage(run, newest):
      return '' if own.moment.startswith('flip in a manifest') else 'the damage is not seen'
  except ValueError:
    pass

  def named(words):
    return any(str(path) in word for path in bad for word in words)

  with campaign.warnings() as told:
    try:
      if (taken := sample.restore(run).step) != older or not named(told):
        return f'sampling took step {taken} and told {told}'
    except ValueError as e:
      if not named([str(e)]):
        return f'sampling does not name {bad}: {e}'
  with campaign.warnings() as told:
    config = settings.from_dict(checkpoint.manifest(run, older)['config'])
    member = workdir.Member('', config, run)
    step = workdir.begin([member], run, False, told.append)
  if step != older or not named(told):
    return f'it resumes from step {step} and told {told}'
  return ''


def spoil(draw: random.Random, folder: pathlib.Path) -> tuple[str, list[pathlib.Path]]:
  """(What was done to a checkpoint, in words; what of it a message must name one of)."""
  manifest = folder.with_suffix('.json')
  in_manifest = draw.random() < 1 / 3
  files = sorted(path for path in folder.rglob('*') if path.is_file())
  weights = [path.stat().st_size + 1 for path in files]
  path = manifest if in_manifest else draw.choices(files, weights)[0]
  what = 'a manifest' if in_manifest else 'the data'
  kind = draw.choices(['flip', 'truncation', 'deletion', 'number'], [70, 12, 12, 6])[0]
  raw = bytearray(path.read_bytes())
  if kind == 'number':
    other = folder.with_name(str(int(folder.name) + draw.randrange(1, 1000)))
    folder.rename(other)
    manifest.rename(other.with_suffix('.json'))
    return f'step {folder.name} as {other.name}', [other]
  if kind == 'deletion' and draw.random() < 0.2:
    shutil.rmtree(folder)
    return f'deletion of {folder.name}/', [folder]
  path.unlink()  # it is a link to the file of the undisturbed run
  if kind == 'deletion':
    return f'deletion in {what}: {path.name}', [path, folder]
  if kind == 'truncation' or not raw:
    path.write_bytes(raw[: draw.randrange(len(raw))] if raw else b'x')
    return f'truncation in {what}: {path.name}', [path]
  at, bit = draw.randrange(len(raw)), draw.randrange(8)
  raw[at] ^= 1 << bit
  path.write_bytes(raw)
  return f'flip in {what}: bit {bit} of byte {at} of {path.name}', [path]


if __name__ == '__main__':
  campaign.define_flags(count=1000)
  campaign.run('flips', attempt, campaign.straight)
