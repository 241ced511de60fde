"""Convolutions with custom gradients that use the backend's fastest form.

`conv` and `conv_transpose` compute what lax computes. On CPUs the forms below are faster than XLA's
own gradients and transposed convolutions (docs/speed.md); other backends get lax's.
"""

from collections.abc import Callable, Sequence
import functools
from typing import Any

import jax
from jax import lax
from jax.custom_derivatives import SymbolicZero
import jax.numpy as jnp

CHUNK = 16  # examples per weight gradient on a CPU, see _weight_gradient
COLUMNS = 4  # adjacent outputs computed as channels of one on a CPU, see _forward

Pads = Sequence[tuple[int, int]]  # (before, after) of height and of width


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv(
  x: jax.Array, kernel: jax.Array, strides: tuple[int, int], padding: str | Pads
) -> jax.Array:
  """[B, H', W', out]: the convolution of x [B, H, W, in] with kernel [k, k, in, out].

  Equals lax.conv_general_dilated with the same strides and padding ('SAME', 'VALID' or pairs) up to
  rounding, for finite x. Supports reverse mode only, to any order.
  """
  return _forward(x, kernel, strides, padding)


def conv_for_linen(
  x: jax.Array,
  kernel: jax.Array,
  strides: tuple[int, int],
  padding: str | Pads,
  lhs_dilation: tuple[int, ...] | None = None,
  rhs_dilation: tuple[int, ...] | None = None,
  feature_group_count: int = 1,
  **rest: Any,
) -> jax.Array:
  """`conv` with the signature that nn.Conv expects of its `conv_general_dilated`.

  Raises:
    ValueError: the layer asks for dilations or groups.
  """
  if feature_group_count != 1 or any(set(d or {1}) != {1} for d in (lhs_dilation, rhs_dilation)):
    raise ValueError(
      'convolutions.conv supports neither dilations nor groups: leave conv_general_dilated out of '
      'this nn.Conv'
    )
  return conv(
    x, kernel, tuple(strides), padding if isinstance(padding, str) else tuple(map(tuple, padding))
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv_transpose(x: jax.Array, kernel: jax.Array, padding: tuple[int, int]) -> jax.Array:
  """[B, H', W', out]: lax.conv_transpose of x [B, H, W, in], kernel [k, k, in, out], strides 2.

  `padding` is (before, after) on both axes: H' = 2 H + before + after - k. The gradients use the
  strided convolution whose adjoint this is, because XLA's own weight gradient of a transposed
  convolution is 15 to 50 times slower on a CPU. Supports reverse mode only, to any order.
  """
  return _transposed(x, kernel, (padding, padding))


# --- Gradient rules


def _forward_rule(function: Callable) -> Callable:
  """The custom_vjp forward rule of function(x, kernel, ...), which saves x and kernel.

  The rules see symbolic zeros. Otherwise a cotangent known to be zero (say, of x_p under a loss of
  x_f) would become an array here and be pulled back through every layer below for nothing.
  """
  return lambda x, kernel, *static: (
    function(x.value, kernel.value, *static),
    (x.value, kernel.value),
  )


def _conv_backward(strides, padding, residuals, g):
  if isinstance(g, SymbolicZero):
    return None, None
  x, kernel = residuals
  return _input_gradient(x, kernel, strides, padding, g), _weight_gradient(
    x, kernel, strides, padding, g
  )


def _transpose_backward(padding, residuals, g):
  # With A(v) the strided convolution by v: y = A(v)^T x, so <y, g> = <x, A(v) g>. Its gradient by x
  # is A(v) g; its gradient by v is A's weight gradient for the cotangent x.
  if isinstance(g, SymbolicZero):
    return None, None
  x, kernel = residuals
  before = kernel.shape[0] - 1 - padding[0]
  pads = tuple(
    (before, 2 * (n - 1) + kernel.shape[0] - m - before) for n, m in zip(x.shape[1:3], g.shape[1:3])
  )
  v = _flipped(kernel)
  return _lax_conv(g, v, (2, 2), pads), _flipped(_weight_gradient(g, v, (2, 2), pads, x))


conv.defvjp(_forward_rule(conv), _conv_backward, symbolic_zeros=True)
conv_transpose.defvjp(_forward_rule(conv_transpose), _transpose_backward, symbolic_zeros=True)


# --- The form for each backend


def _forward(x, kernel, strides, padding):
  """_lax_conv, on a CPU with COLUMNS adjacent outputs at a time if there are few channels.

  Three output channels (an image's) leave most of a vector unit idle. Four adjacent columns of the
  output become the channels of one, and the kernel is repeated, shifted by one column each time.
  """
  pads = _explicit_padding(x, kernel, strides, padding)
  width = x.shape[2] + sum(pads[1]) - kernel.shape[1] + 1
  plain = (
    strides != (1, 1) or kernel.shape[-1] >= COLUMNS or kernel.shape[1] == 1 or width % COLUMNS
  )
  if plain or jax.default_backend() != 'cpu':
    return _lax_conv(x, kernel, strides, pads)
  shifted = [
    jnp.pad(kernel, [(0, 0), (i, COLUMNS - 1 - i), (0, 0), (0, 0)]) for i in range(COLUMNS)
  ]
  y = _lax_conv(x, jnp.concatenate(shifted, -1), (1, COLUMNS), pads)
  return y.reshape(*y.shape[:2], width, kernel.shape[-1])


def _transposed(x, kernel, padding):
  """lax.conv_transpose with strides 2, on a CPU as four convolutions without inserted zeros.

  Each of the four makes the even or odd rows and the even or odd columns, with the taps that meet
  an input there. `padding` has a pair for each axis.
  """
  k = kernel.shape[0]
  sizes = [2 * n + sum(pads) - k for n, pads in zip(x.shape[1:3], padding)]
  if jax.default_backend() != 'cpu' or k == 1 or any(size % 2 for size in sizes):
    return lax.conv_transpose(x, kernel, (2, 2), padding)

  def phase(axis, start):
    """(taps, padding) that make the outputs start, start + 2, ... of an axis."""
    before, n = padding[axis][0], x.shape[1 + axis]
    tap = (before - start) % 2  # the first tap that meets an input
    first = (start + tap - before) // 2  # the index of that input
    taps = len(range(tap, k, 2))
    return slice(tap, None, 2), (-first, sizes[axis] // 2 + taps - 1 + first - n)

  rows = []
  for row_taps, row_pads in (phase(0, start) for start in (0, 1)):
    columns = [
      _lax_conv(x, kernel[row_taps, column_taps], (1, 1), (row_pads, column_pads))
      for column_taps, column_pads in (phase(1, start) for start in (0, 1))
    ]
    rows.append(jnp.stack(columns, 3))
  return jnp.stack(rows, 2).reshape(x.shape[0], *sizes, kernel.shape[-1])


def _input_gradient(x, kernel, strides, padding, g):
  """The gradient by x of <_lax_conv(x, kernel), g>."""
  if jax.default_backend() != 'cpu' or strides not in ((1, 1), (2, 2)) or not g.size:
    return jax.vjp(lambda v: _lax_conv(v, kernel, strides, padding), x)[1](g)[0]
  pads = _adjoint_padding(x, kernel, strides, padding, g)
  if strides == (1, 1):
    return _forward(g, _flipped(kernel), strides, pads)
  return _transposed(g, _flipped(kernel), pads)


def _weight_gradient(x, kernel, strides, padding, g):
  """The gradient by `kernel` of <_lax_conv(x, kernel), g>.

  On a single CPU device it is a sum over chunks, each of every n-th example. Chunks of 16 examples
  are 4 % faster than a batch of 64 with XLA's kernels, twice as fast with YNNPACK's (see
  parallel.compiler_options). Several virtual devices already have few examples each. On a CPU x and
  g swap places if x has far more channels, as before an image.
  """
  if jax.default_backend() == 'cpu' and strides == (1, 1) and kernel.shape[2] > 2 * kernel.shape[3]:
    pads = _adjoint_padding(x, kernel, strides, padding, g)
    return _flipped(_weight_gradient(g, _flipped(kernel), strides, pads, x))
  pull = lambda x, g: jax.vjp(lambda v: _lax_conv(x, v, strides, padding), kernel)[1](g)[0]
  b = x.shape[0]  # no number in an export whose batch is free
  whole = jax.default_backend() != 'cpu' or jax.device_count() > 1 or kernel.shape[0] == 1
  n = 1 if whole or not isinstance(b, int) else max(1, b // CHUNK)
  return sum((pull(x[i::n], g[i::n]) for i in range(1, n)), pull(x[::n], g[::n]))


def _lax_conv(x, kernel, strides, padding):
  """lax's convolution of x [B, H, W, in] with kernel [k, k, in, out]."""
  return lax.conv_general_dilated(
    x, kernel, strides, padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )


def _flipped(kernel):
  """The kernel [k, k, out, in] of the convolution whose adjoint is conv_transpose by `kernel`."""
  return kernel[::-1, ::-1].swapaxes(2, 3)


def _explicit_padding(x, kernel, strides, padding):
  """`padding` as pairs, whether it is 'SAME', 'VALID' or pairs already."""
  if isinstance(padding, str):
    padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
  return tuple(map(tuple, padding))


def _adjoint_padding(x, kernel, strides, padding, g):
  """Padding of the dilated g that makes the convolution by _flipped(kernel) _lax_conv's adjoint."""
  pads = _explicit_padding(x, kernel, strides, padding)
  befores = [kernel.shape[0] - 1 - before for before, _ in pads]
  return tuple(
    (before, n - s * (m - 1) - before + kernel.shape[0] - 2)
    for before, n, m, s in zip(befores, x.shape[1:3], g.shape[1:3], strides)
  )
