"""A full disk, of a random size: the run says so, older checkpoints stay, and it goes on later.

    python -m reliability.disks --count=30 --seed=0

A try mounts a tmpfs for the workdir, in a mount namespace of its own (`unshare -rm`; Linux), and
trains there. The size lies between a tenth of a checkpoint and the room that the whole run takes.
Then the disk grows, and the same command is given again. The try holds if the first command ended
well, or with exit code 3 (2 before the first step) and one line of error that names the workdir and
tells of the full disk; if every checkpoint that it left is intact; and if the second one ends with
the bits of an undisturbed run.
"""

import re
import shlex
import subprocess

from reliability import campaign

SCRIPT = """
mount -t tmpfs -o size={size} none {disk} || exit 90
{train} > {first} 2>&1; echo $? > {code}
mkdir {before}; [ -e {run}/checkpoints ] && cp -r {run}/checkpoints {before}
mount -o remount,size=1g {disk} || exit 90
{train} > {second} 2>&1; again=$?
cp -r {run} {kept}
exit $again
"""


def attempt(own: campaign.Try) -> str:
  """Trains on a full disk, then on a larger one."""
  names = ('disk', 'first', 'second', 'code', 'before', 'kept')
  paths = {name: own.folder / name for name in names}
  paths['disk'].mkdir()
  each, whole = map(int, (own.shared / 'sizes').read_text().split())
  size = own.draw.randint(each // 10, whole)
  own.moment = f'{size:,} bytes; a checkpoint takes {each:,}'
  run = paths['disk'] / 'run'
  train = shlex.join(campaign.command(run))
  script = SCRIPT.format(
    size=size, train=train, run=run, **{k: shlex.quote(str(v)) for k, v in paths.items()}
  )
  done = subprocess.run(
    ['unshare', '-rm', 'sh', '-c', script],
    env=campaign.environment(own.shared),
    capture_output=True,
    text=True,
    timeout=2 * campaign.LONGEST,
  )
  if done.returncode == 90:
    return f'no tmpfs: {done.stderr}'
  code, told = int(paths['code'].read_text()), paths['first'].read_text(errors='replace')
  if wrong := unclear(code, told, str(run)):
    return wrong
  if wrong := damaged(paths['before']):
    return f'after the full disk: {wrong}'
  if done.returncode:
    return f'with room, it ended with {done.returncode}: {campaign.last_line(paths["second"])}'
  return campaign.difference(paths['kept'], own.shared / 'straight')


def unclear(code: int, told: str, run: str) -> str:
  """What is wrong with what a run said of a full disk; ''."""
  errors = re.findall(r'^error: .*', told, re.M)
  if code == 0:
    return ''
  if code != 3 and (code != 2 or '\nstep ' in told):
    return f'exit code {code}: {errors or told[-300:]}'
  if len(errors) != 1 or 'Traceback' in told:
    shown = told[told.find('Traceback') :][:2000] if 'Traceback' in told else told[-300:]
    return f'{len(told.splitlines())} lines with {len(errors)} errors: {shown}'
  if run not in errors[0] or not re.search(r'full|[Nn]o space|free', errors[0]):
    return f'unclear: {errors[0]}'
  return ''


def damaged(workdir) -> str:
  """What is wrong with the checkpoints of a workdir; ''."""
  from vaegan_jax import checkpoint

  found = [checkpoint.damage(workdir, step) for step in checkpoint.steps(workdir)]
  return '; '.join(filter(None, found))


def prepare(shared) -> None:
  """An undisturbed run, and the sizes of a checkpoint and of its workdir in bytes."""
  campaign.straight(shared)
  size = lambda folder: sum(-(-p.stat().st_size // 4096) * 4096 for p in folder.rglob('*'))
  workdir = shared / 'straight'
  each = size(workdir / 'checkpoints' / str(campaign.STEPS))
  (shared / 'sizes').write_text(f'{each} {size(workdir) + each}')


if __name__ == '__main__':
  campaign.define_flags(count=30)
  campaign.run('disks', attempt, prepare)
