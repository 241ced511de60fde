"""Out of memory: the run ends in one message that says what it needs and how to need less.

    python -m reliability.memory --count=10 --seed=0

A try sets a limit on the memory of a run (`ulimit -d`; Linux), with a network and a batch of random
size that need more. It holds if the run ends with exit code 3 and one line of error that names the
batch, the peak, what can be had, and three remedies.
"""

import re
import shlex
import subprocess

from reliability import campaign

REMEDIES = ('--config.accumulate', '--config.batch_size', '--config.network.width')


def attempt(own: campaign.Try) -> str:
  """Trains with less memory than the run needs."""
  width, batch, size = own.draw.choice([(8, 64, 16), (4, 256, 32), (1, 1500, 64)])
  limit = own.draw.randint(3_500, 4_500)  # MiB; compiling takes some 2,000
  own.moment = f'width {width}, {batch} images of {size} pixels, {limit} MiB'
  fields = {'network.width': width, 'batch_size': batch, 'data.image_size': size}
  line = shlex.join(campaign.command(own.folder / 'run', **fields))
  done = subprocess.run(
    ['bash', '-c', f'ulimit -d {limit * 1024}; exec {line}'],
    env=campaign.environment(own.shared),
    cwd=own.folder,
    capture_output=True,
    text=True,
    timeout=2 * campaign.LONGEST,
  )
  errors = re.findall(r'^error: .*', done.stderr, re.M)
  if done.returncode != 3 or len(errors) != 1 or 'Traceback' in done.stderr:
    return f'exit code {done.returncode}: {errors or done.stderr[-300:]}'
  wanted = ('out of memory', f'batch_size={batch}', 'can be had', *REMEDIES)
  if missing := [word for word in wanted if word not in errors[0]]:
    return f'no word of {missing}: {errors[0]}'
  return ''


if __name__ == '__main__':
  campaign.define_flags(count=10)
  campaign.run('memory', attempt)
