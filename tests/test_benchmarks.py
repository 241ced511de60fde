"""What the benchmarks compute from what they measure."""

import pytest

from benchmarks import tpu_estimate

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
