"""What the benchmarks compute from what they measure."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import differences, tpu_estimate

ROOT = pathlib.Path(__file__).parents[1]

# Three lines of a compiled program as XLA prints it, shortened.
PROGRAM = """
  %fusion.7 = (f32[], f32[16384,2048]{1,0:T(8,128)}) fusion(f32[] %p.1, bf16[8]{0} %p.2), \
metadata={op_name="jit(step)/jit(main)/reduce_sum"}, backend_config={"estimated_cycles":"1370832"}
  %add.1 = f32[] add(f32[] %a, f32[] %b), metadata={op_name="jit(step)/add"}
  ROOT %copy.2 = f32[64,3]{0,1} copy(f32[64,3] %q), backend_config={"estimated_cycles":"629168"}
"""


def test_operations_of_a_program_with_their_cycles():
  found = tpu_estimate.operations(PROGRAM)
  assert found == [
    (1370832, 'fusion', 'f32[], f32[16384,2048]', 'reduce_sum'),
    (629168, 'copy', 'f32[64,3]', ''),
  ]


def test_cycles_of_each_layer():
  path = 'transpose(jvp(Discriminator))/conv1/transpose(jvp())/conv_general_dilated'
  found = [tpu_estimate.Operation(n, 'fusion', '', where) for n, where in ((2, path), (3, 'add'))]
  assert tpu_estimate.by_part([*found, found[0]]) == [
    (4, 'Discriminator conv1'),
    (3, 'outside: fusion'),
  ]


def test_the_share_of_the_peak():
  """131,072 FLOP per cycle of a v5e: half of them in 2 million cycles are 131 GFLOP."""
  row = tpu_estimate.summary('vae', 'TPU v5 lite', 64, 2e6 * 131072 / 2, 2_000_000)
  assert row == '| vae | TPU v5 lite | 64 | 131 | 2.00 | 50% |'
  with pytest.raises(ValueError, match='TPU v9: its peak is not known'):
    tpu_estimate.summary('vae', 'TPU v9', 64, 1.0, 1)


def test_distances_of_curves_are_of_their_second_halves():
  a = dict(real=np.array([9.0, 9.0, 4.0, 6.0]), kl=np.array([0.0, 0.5]), pixel=np.array([1.0, 1.0]))
  b = dict(
    real=np.array([0.0, 0.0, 7.0, 8.0]), kl=np.array([0.0, 0.25]), pixel=np.array([1, np.nan])
  )
  found = differences.of_curves(a, b, ['real', 'kl', 'pixel', 'match_d'])
  assert found == dict(real=0.5, kl=0.25, pixel=np.inf, match_d=np.inf)


@pytest.mark.slow
def test_a_bad_truncation_is_told_before_training(tmp_path):
  flags = ['--config=configs/digits.py', f'--workdir={tmp_path}/run', '--truncation=0.7,7']
  line = [sys.executable, '-m', 'benchmarks.quality', *flags]
  done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60)
  assert done.returncode == 2 and '--truncation=0.7,7: use numbers over 0' in done.stderr
  assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_the_page_of_an_accelerator_in_small(tmp_path):
  """benchmarks/accelerator.sh runs all its parts, without TensorFlow."""
  for module in ('tensorflow', 'tensorflow_datasets'):
    (tmp_path / f'{module}.py').write_text('raise ImportError')
  page = tmp_path / 'page.md'
  environment = {k: v for k, v in os.environ.items() if k != 'XLA_FLAGS'}  # one device
  environment |= {'SMALL': '1', 'PYTHON': sys.executable, 'PYTHONPATH': str(tmp_path)}
  command = ['benchmarks/accelerator.sh', str(page)]
  done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout + done.stderr
  text = page.read_text()
  assert [line[3:] for line in text.splitlines() if line.startswith('## ')] == [
    'Tests',
    'bfloat16 beside float32',
    'A step in float32',
    'The training loop',
    'A population',
    'Sampling',
  ]
  assert '| vae |' in text and '| ours, apart |' in text
  again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
  assert again.returncode == 2 and 'exists: name a new page' in again.stderr
