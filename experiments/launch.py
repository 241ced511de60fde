"""Prints, or runs, the commands that start one training run on many hosts.

    python experiments/launch.py --on=pod --name=my-slice --zone=us-central2-b \\
        --train='--config=configs/celeba64.py:vae_gan --workdir=gs://my-bucket/faces'

--on: `processes` of this machine; `pod`, a TPU slice of Google Cloud; `spot`, one that may be
preempted; `slurm`, a job script; `gke`, a manifest for kubectl. See docs/tpu_vms.md.

With --run, `processes`, `pod` and `spot` are started, and started again after a lost host, up to
--restarts times; exit codes 0 (done), 2 (unusable arguments) and 130 (Ctrl-C) end it.
"""

import shlex
import socket
import subprocess
import sys
import time

from absl import flags

from vaegan_jax import command

ON = flags.DEFINE_enum('on', 'processes', ['processes', 'pod', 'spot', 'slurm', 'gke'], 'Where.')
TRAIN = flags.DEFINE_string('train', None, 'Flags of experiments/train.py, in one text.')
NAME = flags.DEFINE_string('name', 'vaegan', 'Name of the slice or the job.')
ZONE = flags.DEFINE_string('zone', 'us-central2-b', 'Zone of the slice.')
TYPE = flags.DEFINE_string('accelerator', 'v4-32', 'Type of the slice; GKE: tpu-v4-podslice.')
TOPOLOGY = flags.DEFINE_string('topology', '2x2x4', 'Topology of the slice on GKE.')
CHIPS = flags.DEFINE_integer('chips', 4, 'TPU chips of a host on GKE.', lower_bound=1)
IMAGE = flags.DEFINE_string('image', 'IMAGE', 'Container image for GKE.')
HOSTS = flags.DEFINE_integer('hosts', 4, 'Number of hosts or processes.', lower_bound=1)
PYTHON = flags.DEFINE_string('python', '', 'Python of the hosts; .venv/bin/python by default.')
FOLDER = flags.DEFINE_string('folder', 'vaegan_jax', 'Folder of the project on each host.')
RUN = flags.DEFINE_bool('run', False, 'Run the commands instead of printing them.')
RESTARTS = flags.DEFINE_integer('restarts', 100, 'Most restarts of --run.', lower_bound=0)
PAUSE_SECONDS = 30  # before a restart
FINAL = (0, 2, 130)  # exit codes after which no restart helps

SLURM = """#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --nodes={hosts}
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --signal=TERM@60
# Sixty seconds before the time limit, or when preempted, each process saves and ends with 143.
srun --kill-on-bad-exit=0 {train}
code=$?
case $code in
  0|2) exit $code ;;
  *) scontrol requeue "$SLURM_JOB_ID" ;;
esac
"""
GKE = """apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{clusterIP: None, selector: {{job-name: {name}}}}}
---
apiVersion: batch/v1
kind: Job
metadata: {{name: {name}}}
spec:
  completionMode: Indexed
  completions: {hosts}
  parallelism: {hosts}
  backoffLimit: {retries}
  podFailurePolicy:
    rules:
    - action: FailJob
      onExitCodes: {{operator: In, values: [2]}}
  template:
    spec:
      subdomain: {name}
      restartPolicy: Never
      nodeSelector:
        cloud.google.com/gke-tpu-accelerator: {accelerator}
        cloud.google.com/gke-tpu-topology: {topology}
      terminationGracePeriodSeconds: 60
      containers:
      - name: train
        image: {image}
        workingDir: /{folder}
        command: [sh, -c]
        args: ['exec {train}']
        resources: {{limits: {{google.com/tpu: {chips}}}}}
"""


def train_line(python: str, *more: str) -> str:
  """The command of one process, for a shell."""
  return ' '.join([python, 'experiments/train.py', TRAIN.value, *more])


def script() -> str:
  """What --on=slurm submits, or --on=gke applies."""
  asked = dict(name=NAME.value, hosts=HOSTS.value, image=IMAGE.value, folder=FOLDER.value)
  if ON.value == 'slurm':
    python = PYTHON.value or '.venv/bin/python'
    return SLURM.format(**asked, train=train_line(python, '--distributed'))
  train = train_line(
    PYTHON.value or 'python',
    f'--coordinator_address={NAME.value}-0.{NAME.value}:8476',
    f'--num_processes={HOSTS.value}',
    '--process_id=$JOB_COMPLETION_INDEX',
  )
  asked.update(accelerator=TYPE.value, topology=TOPOLOGY.value, chips=CHIPS.value)
  return GKE.format(**asked, retries=RESTARTS.value * HOSTS.value, train=train)


def lines() -> list[list[str]]:
  """The commands of one start: those before the last prepare, and may fail."""
  python = PYTHON.value or '.venv/bin/python'
  if ON.value == 'processes':
    with socket.socket() as s:
      s.bind(('localhost', 0))
      port = s.getsockname()[1]
    join = f'--coordinator_address=localhost:{port} --num_processes={HOSTS.value}'
    python = PYTHON.value or sys.executable
    return [shlex.split(train_line(python, join, f'--process_id={i}')) for i in range(HOSTS.value)]
  remote = f'cd {FOLDER.value} && {train_line(python, "--distributed")}'
  tpu, zone = ['gcloud', 'compute', 'tpus'], f'--zone={ZONE.value}'
  start = [*tpu, 'tpu-vm', 'ssh', NAME.value, zone, '--worker=all', f'--command={remote}']
  if ON.value == 'pod':
    return [start]
  version = 'tpu-ubuntu2204-base'
  remove = [*tpu, 'tpu-vm', 'delete', NAME.value, zone, '--quiet']
  kind = [f'--accelerator-type={TYPE.value}', f'--version={version}', '--spot']
  create = [*tpu, 'tpu-vm', 'create', NAME.value, zone, *kind]
  install = (
    f'test -d {FOLDER.value} || git clone REPOSITORY {FOLDER.value}; cd {FOLDER.value} && '
    'python3 -m venv .venv && .venv/bin/pip install -e .[tpu]'
  )
  prepare = [*tpu, 'tpu-vm', 'ssh', NAME.value, zone, '--worker=all', f'--command={install}']
  return [remove, create, prepare, start]


def once() -> int:
  """Runs the commands; the exit code of the last one, or the largest of `processes`."""
  if ON.value == 'processes':
    processes = [subprocess.Popen(line) for line in lines()]
    try:
      return max(p.wait() % 256 for p in processes)
    finally:
      for p in processes:
        p.kill()
  return [subprocess.run(line).returncode for line in lines()][-1]


def main() -> int:
  if not TRAIN.value:
    raise ValueError("--train is missing: give the flags of experiments/train.py in one '...'")
  if not RUN.value:
    print(script() if ON.value in ('slurm', 'gke') else '\n'.join(map(shlex.join, lines())))
    return 0
  if ON.value in ('slurm', 'gke'):
    tool = dict(slurm='sbatch', gke='kubectl apply -f -')[ON.value]
    raise ValueError(f'--run: leave it out, and pipe what --on={ON.value} prints into `{tool}`')
  for left in range(RESTARTS.value, -1, -1):
    code = once()
    if code in FINAL or not left:
      break
    print(f'ended with exit code {code}: starting again in {PAUSE_SECONDS} s', file=sys.stderr)
    time.sleep(PAUSE_SECONDS)
  return code


if __name__ == '__main__':
  command.run(main)
