"""Convolutions whose gradients use the fastest form of the backend."""

import functools

import jax
from jax import lax
from jax.custom_derivatives import SymbolicZero
import jax.numpy as jnp

CHUNK = 16  # examples, see _weight_gradient


COLUMNS = 4  # see _forward


def _strided(x, kernel, strides, padding):
  """lax's convolution of x [B, H, W, in] by kernel [k, k, in, out]."""
  return lax.conv_general_dilated(
    x, kernel, strides, padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )


def _forward(x, kernel, strides, padding):
  """_strided in the form that is fastest: on a CPU to few channels (an image's) several columns at a time.

  Such are channels of one pixel in 4; the kernel is in it as often, each time one column further. Three channels
  alone would leave most of a vector unit idle.
  """
  pads = _pads(x, kernel, strides, padding)
  width = x.shape[2] + sum(pads[1]) - kernel.shape[1] + 1
  plain = (
    strides != (1, 1) or kernel.shape[-1] >= COLUMNS or kernel.shape[1] == 1 or width % COLUMNS
  )
  if plain or jax.default_backend() != 'cpu':
    return _strided(x, kernel, strides, pads)
  shifted = [
    jnp.pad(kernel, [(0, 0), (i, COLUMNS - 1 - i), (0, 0), (0, 0)]) for i in range(COLUMNS)
  ]
  y = _strided(x, jnp.concatenate(shifted, -1), (1, COLUMNS), pads)
  return y.reshape(*y.shape[:2], width, kernel.shape[-1])


def _upsampled(x, kernel, padding):
  """lax.conv_transpose of x [B, H, W, in] by kernel [k, k, in, out], strides 2, in the form that is fastest.

  On a CPU that is four convolutions, for even and odd rows and columns: each has the taps that meet no zero between
  the inputs. padding: two pairs.
  """
  k, sizes = (
    kernel.shape[0],
    [2 * n + sum(pads) - kernel.shape[0] for n, pads in zip(x.shape[1:3], padding)],
  )
  if jax.default_backend() != 'cpu' or k == 1 or any(size % 2 for size in sizes):
    return lax.conv_transpose(x, kernel, (2, 2), padding)

  def every_other(axis, start):
    """(taps, padding) that make the outputs start, start + 2, ... of an axis."""
    before, n = padding[axis][0], x.shape[1 + axis]
    tap = (before - start) % 2  # the first that meets an input, which is number:
    first = (start + tap - before) // 2
    taps = len(range(tap, k, 2))
    return slice(tap, None, 2), (-first, sizes[axis] // 2 + taps - 1 + first - n)

  rows = []
  for row_taps, above in (every_other(0, start) for start in (0, 1)):
    columns = [
      _strided(x, kernel[row_taps, taps], (1, 1), (above, beside))
      for taps, beside in (every_other(1, start) for start in (0, 1))
    ]
    rows.append(jnp.stack(columns, 3))
  return jnp.stack(rows, 2).reshape(len(x), *sizes, kernel.shape[-1])


def _pads(x, kernel, strides, padding):
  """Two pairs, of 'SAME' or pairs."""
  if isinstance(padding, str):
    padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
  return tuple(map(tuple, padding))


def _adjoint_pads(x, kernel, strides, padding, g):
  """Of the (dilated) g, so that the convolution by _flipped(kernel) is the adjoint of _strided, with x's size."""
  befores = [kernel.shape[0] - 1 - before for before, _ in _pads(x, kernel, strides, padding)]
  return tuple(
    (before, n - s * (m - 1) - before + kernel.shape[0] - 2)
    for before, n, m, s in zip(befores, x.shape[1:3], g.shape[1:3], strides)
  )


def _input_gradient(x, kernel, strides, padding, g):
  """The gradient by x of <_strided(x, kernel), g>."""
  if jax.default_backend() != 'cpu' or strides not in ((1, 1), (2, 2)) or not g.size:
    return jax.vjp(lambda v: _strided(v, kernel, strides, padding), x)[1](g)[0]
  pads = _adjoint_pads(x, kernel, strides, padding, g)
  if strides == (1, 1):
    return _forward(g, _flipped(kernel), strides, pads)
  return _upsampled(g, _flipped(kernel), pads)


def _weight_gradient(x, kernel, strides, padding, g):
  """The gradient by `kernel` of <_strided(x, kernel), g>.

  On a CPU summed over every n-th example: 16 at a time, they are some 4 % faster than of 64 by XLA's own kernels, and
  2 times by those of YNNPACK (see parallel.compiler_options); several (virtual) devices have few examples each as it
  is. And, where x has the more channels by far (as before an image), with x and g exchanged.
  """
  if jax.default_backend() == 'cpu' and strides == (1, 1) and kernel.shape[2] > 2 * kernel.shape[3]:
    pads = _adjoint_pads(x, kernel, strides, padding, g)
    return _flipped(_weight_gradient(g, _flipped(kernel), strides, pads, x))
  pull = lambda x, g: jax.vjp(lambda v: _strided(x, v, strides, padding), kernel)[1](g)[0]
  whole = jax.default_backend() != 'cpu' or jax.device_count() > 1 or kernel.shape[0] == 1
  n = 1 if whole else max(1, len(x) // CHUNK)
  return sum((pull(x[i::n], g[i::n]) for i in range(1, n)), pull(x[::n], g[::n]))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv(x, kernel, strides, padding):
  """[B, H', W', out]: the convolution of x [B, H, W, in] by kernel [k, k, in, out].

  strides (two numbers) and padding (two pairs, or 'SAME') as for lax.conv_general_dilated, whose
  numbers this gives (where x is finite); it and its gradients are had as is fastest. Reverse mode only, of any order.
  """
  return _forward(x, kernel, strides, padding)


def _kept(function):
  """The forward rule of a custom_vjp(x, kernel, ...) with symbolic zeros, whose backward rule needs x and kernel.

  Without symbolic zeros a cotangent that is known to be zero would become an array here, and be pulled through
  all layers below for nothing: e.g. that of x_p under a loss of x_f.
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


conv.defvjp(_kept(conv), _conv_backward, symbolic_zeros=True)


def conv_of_linen(
  x, kernel, strides, padding, lhs_dilation=None, rhs_dilation=None, feature_group_count=1, **rest
):
  """conv in the form that nn.Conv takes as its conv_general_dilated; ValueError for dilations and groups."""
  if feature_group_count != 1 or any(set(d or {1}) != {1} for d in (lhs_dilation, rhs_dilation)):
    raise ValueError(
      'layers.conv has neither dilations nor groups: leave conv_general_dilated out of this nn.Conv'
    )
  return conv(
    x, kernel, tuple(strides), padding if isinstance(padding, str) else tuple(map(tuple, padding))
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv_transpose(x, kernel, padding):
  """[B, H', W', out]: lax.conv_transpose of x [B, H, W, in] by kernel [k, k, in, out], strides 2.

  `padding` (before, after) is that of both axes: H' = 2 H + before + after - k. Gradients are had
  through the strided convolution whose adjoint this is: XLA's own weight gradient of a transposed
  convolution is 15 to 50 times slower on a CPU. Reverse mode only, of any order.
  """
  return _upsampled(x, kernel, [padding] * 2)


def _flipped(kernel):
  """The kernel [k, k, out, in] of the convolution whose adjoint is conv_transpose by `kernel`."""
  return kernel[::-1, ::-1].swapaxes(2, 3)


def _transpose_backward(padding, residuals, g):
  # With A(v) the strided convolution by v: y = A(v)^T x, so <y, g> = <x, A(v) g>, whose gradient by
  # x is A(v) g, and by v what A's own weight gradient makes of the cotangent x.
  if isinstance(g, SymbolicZero):
    return None, None
  x, kernel = residuals
  before = kernel.shape[0] - 1 - padding[0]
  pads = tuple(
    (before, 2 * (n - 1) + kernel.shape[0] - m - before) for n, m in zip(x.shape[1:3], g.shape[1:3])
  )
  v = _flipped(kernel)
  return _strided(g, v, (2, 2), pads), _flipped(_weight_gradient(g, v, (2, 2), pads, x))


conv_transpose.defvjp(_kept(conv_transpose), _transpose_backward, symbolic_zeros=True)
