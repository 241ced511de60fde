"""The networks: published sizes, features, where the condition enters, batch norm, gradients."""

import functools
import itertools
import math
import operator

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest

from vaegan_jax import parallel
from vaegan_jax.networks import bao, convolutions, larsen, layers, mlp, pools

Z, K = 8, 3
SIZES = (16, 32, 64, 128)
CONV = dict(dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


def nets(module, size=16, channels=1, **fields):
  """{name: (network, *inputs without c)} of a module, small, for a batch of 4."""
  x = jax.random.normal(jax.random.key(0), (4, size, size, channels))
  z = jax.random.normal(jax.random.key(1), (4, Z))
  if module is mlp:
    x = x.reshape(4, -1)[:, :2]
    return dict(
      encoder=(mlp.Encoder(Z, **fields), x),
      generator=(mlp.Generator(**fields), z),
      discriminator=(mlp.Discriminator(**fields), x),
    )
  fields = dict(image_size=size, channels=channels, width=0.125) | fields
  made = dict(
    encoder=(module.Encoder(latent_size=Z, **fields), x),
    generator=(module.Generator(**fields), z),
    discriminator=(module.Discriminator(**fields), x),
  )
  if module is bao:
    made['classifier'] = (bao.Classifier(num_classes=K, **fields), x)
  return made


def condition(name, c):
  """The inputs after the first one."""
  return () if name == 'classifier' else (c,)


@functools.cache
def case(module, name, size=16, conditional=False):
  """network, x or z, c, variables, and jitted `apply` in train mode -> (outputs, batch_stats)."""
  fields = dict(conditional=True) if conditional else {}
  net, x = nets(module, size)[name]
  net = net.clone(**fields)
  c = jax.nn.one_hot(jnp.arange(4) % K, K)
  variables = layers.init(net, jax.random.key(7), x, *condition(name, c))

  @jax.jit
  def apply(variables, *inputs):
    outputs, moved = net.apply(variables, *inputs, train=True, mutable=['batch_stats'])
    return outputs, moved.get('batch_stats', {})

  return net, x, c, variables, apply


def initialise(net, *inputs):
  """Shapes and types of a network's variables, without computing them."""
  return jax.eval_shape(lambda: net.init(jax.random.key(0), *inputs, train=False))


def count(net, *inputs):
  """Number of parameters of a network."""
  return sum(leaf.size for leaf in jax.tree.leaves(initialise(net, *inputs)['params']))


# Published sizes.


def test_larsen_networks_have_the_published_numbers_of_parameters():
  x, z = jnp.zeros((2, 64, 64, 3)), jnp.zeros((2, 128))
  encoder = larsen.Encoder(64, 3, latent_size=128)
  assert count(encoder, x, None) == 35_112_768
  assert count(encoder.clone(units=1024), x, None) == 18_071_360
  assert count(larsen.Generator(64, 3), z, None) == 4_693_155
  assert count(larsen.Discriminator(64, 3), x, None) == 10_953_857


def test_larsen_conditions_enter_at_the_top_full_layers():
  x, z, c = jnp.zeros((2, 64, 64, 3)), jnp.zeros((2, 128)), jnp.zeros((2, 10))
  assert count(larsen.Encoder(64, 3, 128), x, c) == 35_112_768 + 10 * 2048
  assert count(larsen.Generator(64, 3), z, c) == 4_693_155 + 10 * 16384
  assert count(larsen.Discriminator(64, 3), x, c) == 10_953_857  # not conditional: c is not seen
  assert count(larsen.Discriminator(64, 3, conditional=True), x, c) == 10_953_857 + 10 * 512


def test_bao_encoder_is_googlenet():
  # Caffe's GoogLeNet has 6,998,552 parameters, 1,025,000 of them in the classifier. Batch norm's
  # 2 * 7,280 scales and offsets replace its 7,280 biases. The two heads see c.
  trunk = 6_998_552 - 1_025_000 + 7_280
  heads = 2 * ((1024 + 10) * 256 + 256)
  x, c = jnp.zeros((2, 128, 128, 3)), jnp.zeros((2, 10))
  assert count(bao.Encoder(128, 3, 256), x, c) == trunk + heads


def test_bao_other_networks_count_by_hand():
  x, z, c = jnp.zeros((2, 128, 128, 3)), jnp.zeros((2, 256)), jnp.zeros((2, 10))
  full = (256 + 10) * 1024 + 2 * 1024 + 1024 * 1024 + 2 * 1024
  rows = ((3, 256, 256), (3, 256, 256), (5, 256, 128), (5, 128, 92), (5, 92, 64))
  up = sum(k * k * i * o + 2 * o for k, i, o in rows) + 25 * 64 * 3 + 3
  assert count(bao.Generator(128, 3), z, c) == full + up
  chain = (3, 64, 128, 256, 512, 1024)
  down = sum(25 * i * o for i, o in itertools.pairwise(chain)) + 64 + 2 * sum(chain[2:])
  assert count(bao.Discriminator(128, 3), x, None) == down + 16384 + 1
  rows = ((11, 3, 96), (5, 96, 256), (3, 256, 384), (3, 384, 384), (3, 384, 256))
  alexnet = sum(k * k * i * o + 2 * o for k, i, o in rows) + 2 * (4096 * 4096 + 4096)
  assert count(bao.Classifier(128, 3, 530), x) == alexnet + 4096 * 530 + 530


FEATURES = {
  larsen: {16: 4096, 32: 4096, 64: 16384, 128: 16384},
  bao: {16: 2048, 32: 4096, 64: 8192, 128: 16384},
}


@pytest.mark.slow
@pytest.mark.parametrize('channels', (1, 3))
@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('module', (larsen, bao))
def test_outputs_have_the_promised_shapes_and_types(module, size, channels):
  got = {}
  for name, (net, x) in nets(module, size, channels, width=1.0, dtype=jnp.bfloat16).items():
    inputs = (x, *condition(name, jnp.zeros((4, K))))
    variables = initialise(net, *inputs)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
    got[name] = jax.eval_shape(functools.partial(net.apply, train=False), variables, *inputs)
  f32, bf16 = jnp.dtype('float32'), jnp.dtype('bfloat16')
  shape = jax.tree.map(lambda a: (a.shape, a.dtype), got)
  assert shape['encoder'] == (((4, Z), f32), ((4, Z), f32))
  assert shape['generator'] == ((4, size, size, channels), f32)
  assert shape['discriminator'] == (((4,), f32), ((4, FEATURES[module][size]), bf16))
  if module is bao:
    assert shape['classifier'] == (((4, K), f32), ((4, 1024 if size == 16 else 4096), bf16))


def test_mlp_outputs_have_the_promised_shapes():
  got = {}
  for name, (net, x) in nets(mlp).items():
    variables = initialise(net, x, None)
    outputs = jax.eval_shape(functools.partial(net.apply, train=True), variables, x, None)
    got[name] = jax.tree.map(jnp.shape, outputs)
  assert got == dict(encoder=((4, Z), (4, Z)), generator=(4, 2), discriminator=((4,), (4, 64)))


def test_the_last_maps_of_the_bao_critics_have_4x4_pixels():
  for size in SIZES:
    for name, kernel in (('discriminator', 'logit'), ('classifier', 'full0')):
      net, x = nets(bao, size, width=1.0)[name]
      rows = initialise(net, x, *condition(name, None))['params'][kernel]['kernel'].shape[0]
      assert rows == 16 * (256 if name == 'classifier' else 32 * size // 4), (size, name)


def test_width_scales_to_multiples_of_four():
  cases = {(92, 1): 92, (92, 0.25): 24, (16, 0.1): 4, (256, 0.5): 128, (32, 2): 64}
  assert {case: layers.scaled(*case) for case in cases} == cases


# What the features are.


def test_dis_l_is_the_raw_output_of_the_last_strided_convolution():
  _, x, _, variables, apply = case(larsen, 'discriminator')
  features = apply(variables, x, None)[0][1]
  assert (features < 0).mean() > 0.2  # no ReLU
  params = variables['params']
  kernel = params['conv2']['kernel']
  doubled = {**variables, 'params': {**params, 'conv2': {'kernel': 2 * kernel}}}
  np.testing.assert_allclose(apply(doubled, x, None)[0][1], 2 * features, rtol=1e-5)
  assert set(params) == {'conv0', 'conv1', 'norm1', 'conv2', 'norm2', 'full', 'norm_full', 'logit'}
  assert set(params['conv0']) == {'kernel', 'bias'} and set(params['conv1']) == {'kernel'}


@pytest.mark.parametrize(
  'module, name, last, conditional',
  (
    (bao, 'discriminator', 'logit', False),
    (bao, 'discriminator', 'logit', True),
    (bao, 'classifier', 'logits', False),
    (mlp, 'discriminator', 'logit', False),
  ),
)
def test_bao_features_are_the_input_of_the_last_full_layer(module, name, last, conditional):
  _, x, c, variables, apply = case(module, name, conditional=conditional)
  logits, features = apply(variables, x, *condition(name, c))[0]
  head = variables['params'][last]
  expected = features @ head['kernel'] + head['bias']
  np.testing.assert_allclose(logits, expected.reshape(logits.shape), rtol=1e-5, atol=1e-6)


# Padding and gradients of the convolutions.


def test_larsen_convolutions_pad_two_zeros_at_each_side():
  conv = larsen.Conv(4, strides=2, use_bias=False)
  x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
  kernel = jax.random.normal(jax.random.key(1), (5, 5, 3, 4))
  padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
  windows = np.stack(
    [padded[:, i : i + 7 : 2, j : j + 7 : 2] for i in range(5) for j in range(5)], 3
  )
  expected = np.einsum('bhwkc,kco->bhwo', windows, np.asarray(kernel).reshape(25, 3, 4))
  got = conv.apply({'params': {'kernel': kernel}}, x)
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('k', (3, 5))
def test_transposed_convolution_is_the_adjoint_of_the_strided_one(k):
  images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
  maps = jax.random.normal(jax.random.key(1), (2, 4, 4, 5))
  kernel = jax.random.normal(jax.random.key(2), (k, k, 3, 5))
  strided = lax.conv_general_dilated(images, kernel, (2, 2), [(k // 2, k // 2)] * 2, **CONV)
  flipped = kernel[::-1, ::-1].swapaxes(2, 3)
  transposed = layers.ConvTranspose(3, k).apply({'params': {'kernel': flipped}}, maps)
  np.testing.assert_allclose(jnp.vdot(strided, maps), jnp.vdot(images, transposed), rtol=1e-4)


def sines(function):
  """Gradient by x and kernel of the summed sines of function(x, kernel)."""
  return jax.grad(lambda x, kernel: jnp.sum(jnp.sin(function(x, kernel))), (0, 1))


def traced_convolutions(function, *arguments):
  """Parameters of each lax convolution in the program of function(*arguments), nested ones too."""

  def walk(jaxpr):
    for equation in jaxpr.eqns:
      if equation.primitive is lax.conv_general_dilated_p:
        yield equation.params
      for value in jax.tree.leaves(equation.params, is_leaf=lambda v: hasattr(v, 'eqns')):
        if hasattr(value, 'eqns'):
          yield from walk(value)

  return list(walk(jax.make_jaxpr(function)(*arguments)))


def close(a, b, rtol=1e-5):
  """Asserts that two arrays differ by less than rtol times the largest of the second."""
  np.testing.assert_allclose(a, b, rtol=0, atol=rtol * float(jnp.abs(b).max()))


@pytest.mark.parametrize('k', (3, 4, 5))
@pytest.mark.parametrize('same', (True, False))
def test_gradients_of_the_transposed_convolution_are_those_of_lax(k, same):
  padding = ((k + 1) // 2, k // 2) if same else (k // 2, k - k // 2)
  own = lambda x, kernel: convolutions.conv_transpose(x, kernel, padding)
  native = lambda x, kernel: lax.conv_transpose(
    x, kernel, (2, 2), 'SAME' if same else [padding] * 2
  )
  x = jax.random.normal(jax.random.key(0), (2, 4, 5, 3))
  kernel = jax.random.normal(jax.random.key(1), (k, k, 3, 4))
  close(own(x, kernel), native(x, kernel))
  jax.tree.map(close, *(jax.jit(sines(f))(x, kernel) for f in (own, native)))


@pytest.mark.slow
def test_the_transposed_convolution_under_vmap_pmap_bfloat16_and_twice():
  own = lambda x, kernel: convolutions.conv_transpose(x, kernel, (2, 3))
  native = lambda x, kernel: lax.conv_transpose(x, kernel, (2, 2), [(2, 3)] * 2)
  x = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
  kernel = jax.random.normal(jax.random.key(1), (5, 5, 3, 4))
  expected = jax.jit(sines(native))(x, kernel)
  two = [jnp.stack([a, -a]) for a in (x, kernel)]
  for mapped in (jax.jit(jax.vmap(sines(own))), jax.pmap(sines(own))):
    jax.tree.map(lambda a, b: close(a[0], b), mapped(*two), expected)
  half = jax.jit(sines(own))(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
  assert {a.dtype for a in half} == {jnp.dtype('bfloat16')}
  jax.tree.map(lambda a, b: close(a.astype(jnp.float32), b, 0.1), half, expected)
  twice = lambda f: jax.jit(jax.grad(lambda x: jnp.sum(sines(f)(x, kernel)[1] ** 2)))(x)
  close(twice(own), twice(native), 1e-4)


@pytest.mark.parametrize(
  'k, strides, channels',
  [
    (5, 2, 4),
    (5, 1, 4),
    (3, 1, 4),
    (3, 2, 1),
    (1, 1, 4),
    (1, 2, 4),
    (11, 4, 4),
    (5, 1, 1),
    (4, 2, 3),
  ],
)
@pytest.mark.parametrize('padding', ['same', 'SAME', 'uneven'])
def test_the_convolution_and_its_gradients_are_those_of_lax(
  monkeypatch, k, strides, channels, padding
):
  monkeypatch.setattr(jax, 'device_count', lambda: 1)  # one CPU device works in chunks
  monkeypatch.setattr(convolutions, 'CHUNK', 2)
  padding = {'same': ((k // 2, k // 2),) * 2, 'uneven': ((0, 2), (k // 2, 1))}.get(padding, padding)
  own = lambda x, kernel: convolutions.conv(x, kernel, (strides, strides), padding)
  native = lambda x, kernel: lax.conv_general_dilated(
    x, kernel, (strides, strides), padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )
  x = jax.random.normal(jax.random.key(0), (5, 12, 16, 3))
  kernel = jax.random.normal(jax.random.key(1), (k, k, 3, channels))
  close(own(x, kernel), native(x, kernel))
  jax.tree.map(close, *(jax.jit(sines(f))(x, kernel) for f in (own, native)))
  twice = lambda f: jax.jit(jax.grad(lambda x: jnp.sum(sines(f)(x, kernel)[0] ** 2)))(x)
  close(twice(own), twice(native), 1e-4)

  def count():
    weight_gradient = lambda x, g: convolutions._weight_gradient(
      x, kernel, (strides, strides), padding, g
    )
    return len(traced_convolutions(weight_gradient, x, native(x, kernel)))

  chunked = count()
  monkeypatch.setattr(convolutions, 'CHUNK', len(x))
  assert k == 1 or chunked == 2 * count() > 0


@pytest.mark.slow
def test_empty_arrays_and_what_the_convolution_does_not_support():
  nothing, kernel = jnp.zeros((0, 8, 8, 5)), jnp.ones((5, 5, 5, 3))
  same = lambda x, kernel: convolutions.conv(x, kernel, (1, 1), ((2, 2), (2, 2)))
  up = lambda x, kernel: convolutions.conv_transpose(x, kernel, (2, 3))
  for f, side in ((same, 8), (up, 16)):
    assert f(nothing, kernel).shape == (0, side, side, 3)
    assert not any(a.any() for a in sines(f)(nothing, kernel))
  small, four = jnp.ones((2, 5, 3, 5)), jnp.ones((4, 4, 5, 3))  # VALID: the output is empty
  assert (
    jax.grad(lambda x: convolutions.conv(x, four, (2, 2), 'VALID').sum())(small).shape
    == small.shape
  )
  for own in (dict(kernel_dilation=2), dict(feature_group_count=5)):
    net = nn.Conv(5, (3, 3), conv_general_dilated=convolutions.conv_for_linen, **own)
    with pytest.raises(ValueError, match='neither dilations nor groups'):
      net.init(jax.random.key(0), jnp.ones((1, 8, 8, 5)))


def test_the_form_of_a_convolution_depends_on_the_backend(monkeypatch):
  x, kernel, image = (jnp.ones(shape) for shape in ((2, 8, 8, 6), (5, 5, 6, 8), (5, 5, 6, 3)))

  def forms():
    """Input dilations of the transposed convolution, and strides of that to an image."""
    up = lambda x, v: convolutions.conv_transpose(x, v, (2, 3))
    to_image = lambda x, v: convolutions.conv(x, v, (1, 1), 'SAME')
    return (
      [found['lhs_dilation'] for found in traced_convolutions(up, x, kernel)],
      [found['window_strides'] for found in traced_convolutions(to_image, x, image)],
    )

  assert forms() == ([(1, 1)] * 4, [(1, convolutions.COLUMNS)])  # no zeros between the inputs
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  assert forms() == ([(2, 2)], [(1, 1)])
  assert parallel.compiler_options() == {}


def test_xla_accepts_the_compiler_options_and_uses_its_own_convolutions(monkeypatch):
  monkeypatch.setattr(jax, 'device_count', lambda: 1)
  x, kernel = jnp.ones((8, 16, 16, 32)), jnp.ones((3, 3, 32, 64))
  step = jax.jit(
    lambda x, kernel: convolutions.conv(x, kernel, (1, 1), 'SAME'),
    compiler_options=parallel.compiler_options(),
  )
  program = step.lower(x, kernel).compile().as_text()
  assert 'ynn' not in program or jax.__version_info__ >= (0, 11)


@pytest.mark.parametrize('backend', ('cpu', 'tpu'))
@pytest.mark.parametrize('strides, size', ((1, 6), (2, 6), (2, 5)))
def test_pool_is_max_pool_and_so_is_its_gradient(strides, size, backend, monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  x = jax.random.normal(jax.random.key(0), (2, size, size, 3)) - 3.0  # below zeros, if they padded
  flax_pool = functools.partial(
    nn.max_pool, window_shape=(3, 3), strides=(strides,) * 2, padding='SAME'
  )
  own = functools.partial(pools.pool, strides=strides)
  np.testing.assert_array_equal(own(x), flax_pool(x))
  gradient = lambda f: jax.jit(jax.grad(lambda x: jnp.sum(jnp.sin(f(x)))))(x)
  grads = [gradient(f) for f in (own, flax_pool)]
  np.testing.assert_allclose(*grads, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('strides', (1, 2))
def test_on_a_tpu_ties_of_a_pool_share_its_gradient_and_no_gradient_costs_nothing(
  strides, monkeypatch
):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'tpu')
  own = functools.partial(pools.pool, strides=strides)
  x = jnp.zeros((1, 4, 4, 2)).at[0, 1, 1:3].set(1.0)  # two maxima side by side
  weights = jax.random.uniform(jax.random.key(0), own(x).shape)
  gradient = jax.grad(lambda x: (weights * own(x)).sum())
  np.testing.assert_allclose(gradient(x).sum((1, 2)), weights.sum((1, 2)), rtol=1e-6)
  below = weights[0, 0, 1 // strides]  # of a window that holds both
  only = jax.grad(lambda x: (own(x)[0, 0, 1 // strides] * below).sum())(x)
  np.testing.assert_allclose(only[0, 1, 1:3], np.stack([below / 2] * 2), rtol=1e-6)
  unused = jax.make_jaxpr(jax.grad(lambda x: (own(x), x.sum())[1]))(x)
  assert 'select_n' not in str(unused) and 'select_n' in str(jax.make_jaxpr(gradient)(x))


# The condition.


@pytest.mark.slow
@pytest.mark.parametrize(
  'module, name',
  (
    (larsen, 'encoder'),
    (larsen, 'generator'),
    (larsen, 'discriminator'),
    (bao, 'encoder'),
    (bao, 'generator'),
    (bao, 'discriminator'),
    (mlp, 'encoder'),
  ),
)
def test_networks_depend_on_the_condition(module, name):
  conditional = name == 'discriminator'
  _, x, c, variables, apply = case(module, name, conditional=conditional)
  one, other = (jax.tree.leaves(apply(variables, x, k)[0])[0] for k in (c, c[::-1]))
  assert jnp.abs(one - other).max() > 1e-4


@pytest.mark.parametrize('module', (larsen, bao))
def test_the_encoder_sees_the_condition_after_its_convolutions(module):
  _, x, c, variables, apply = case(module, 'encoder')
  (mean, _), stats = apply(variables, x, c)
  (other, _), other_stats = apply(variables, x, c[::-1])
  if module is larsen:  # at the top full layer
    assert jnp.abs(stats.pop('norm_full')['mean'] - other_stats.pop('norm_full')['mean']).max() > 0
  else:  # at the last full layer, whose last rows are c's
    rows = variables['params']['mean']['kernel'][-K:]
    np.testing.assert_allclose(mean - other, (c - c[::-1]) @ rows, atol=1e-5)
  jax.tree.map(np.testing.assert_array_equal, stats, other_stats)


def test_a_conditional_critic_judges_image_and_condition_together():
  # A sum f(x) + g(c) could not tell that a condition does not fit its image.
  for module in (larsen, bao):
    _, x, c, variables, apply = case(module, 'discriminator', conditional=True)
    one, other = (apply(variables, x, k)[0][0] for k in (c, jnp.roll(c, 1, 1)))
    difference = one - other
    assert jnp.abs(difference[0] - difference[3]) > 1e-5  # images 0 and 3 have the same c


# Batch norm.


def test_running_statistics_keep_nine_tenths():
  _, x, c, variables, apply = case(larsen, 'encoder')
  stats = {
    layer: dict(mean=jnp.full_like(old['mean'], 3.0), var=jnp.full_like(old['var'], 5.0))
    for layer, old in variables['batch_stats'].items()
  }
  moved = apply({**variables, 'batch_stats': stats}, x, c)[1]['norm0']
  kernel = variables['params']['conv0']['kernel']
  h = lax.conv_general_dilated(x, kernel, (2, 2), [(2, 2)] * 2, **CONV)
  np.testing.assert_allclose(moved['mean'], 0.9 * 3 + 0.1 * h.mean((0, 1, 2)), rtol=1e-4)
  np.testing.assert_allclose(moved['var'], 0.9 * 5 + 0.1 * h.var((0, 1, 2)), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
  'module, name',
  ((larsen, 'generator'), (larsen, 'discriminator'), (bao, 'encoder'), (bao, 'classifier')),
)
def test_in_eval_mode_an_output_does_not_depend_on_its_batch_mates(module, name):
  net, x, c, variables, apply = case(module, name)
  inputs = (x, *condition(name, c))
  first = lambda tree: jax.tree.leaves(tree)[0]
  evaluate = jax.jit(lambda *inputs: first(net.apply(variables, *inputs, train=False)))
  whole = evaluate(*inputs)
  mates = evaluate(*(jnp.concatenate([a[:1], 2 * a[1:]]) for a in inputs))
  np.testing.assert_allclose(whole[0], mates[0], rtol=1e-4, atol=1e-6)
  assert jnp.abs(whole[1:] - mates[1:]).max() > 1e-4
  trained = first(apply(variables, *inputs)[0])
  assert jnp.abs(trained[0] - whole[0]).max() > 1e-5  # in train mode it does


def test_statistics_are_of_all_devices_under_pmap():
  net, x, c, variables, apply = case(larsen, 'encoder')
  net = net.clone(axis_name='devices')
  halves = jax.tree.map(lambda a: a.reshape(2, 2, *a.shape[1:]), (x, c))
  step = lambda x, c: net.apply(variables, x, c, train=True, mutable=['batch_stats'])
  (mean, _), moved = jax.pmap(step, 'devices')(*halves)
  (expected, _), stats = apply(variables, x, c)
  close(mean.reshape(expected.shape), expected, 1e-4)
  for half in range(2):
    of_device = jax.tree.map(operator.itemgetter(half), moved['batch_stats'])
    jax.tree.map(functools.partial(close, rtol=1e-4), of_device, stats)


# Initialisation and training.


def test_init_has_the_structure_and_the_constants_of_linen():
  constants = dict(bias=0.0, scale=1.0, mean=0.0, var=1.0)
  for module in (larsen, bao, mlp):
    for name in nets(module):
      net, x, c, variables, _ = case(module, name)
      shapes = initialise(net, x, *condition(name, c))
      shape = functools.partial(jax.tree.map, lambda a: (a.shape, a.dtype))
      assert shape(shapes) == shape(variables)
      for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        if path[-1].key != 'kernel':
          assert set(np.unique(leaf)) == {constants[path[-1].key]}, path


@pytest.mark.parametrize('name', ('encoder', 'generator', 'discriminator'))
def test_larsen_kernels_are_uniform_within_the_published_bounds(name):
  net, x = nets(larsen, width=0.5)[name]
  params = layers.init(net, jax.random.key(1), x, None)['params']
  kernels = {layer: p['kernel'] for layer, p in params.items() if 'kernel' in p}
  for layer, kernel in kernels.items():
    transposed = name == 'generator' and layer.startswith('conv')
    fan = 25 * kernel.shape[3] if transposed else math.prod(kernel.shape[:-1])
    unit = np.asarray(kernel).ravel() * (3 * fan) ** 0.5
    assert np.abs(unit).max() <= 1
    if unit.size > 2000:
      assert np.abs(unit).max() > 0.99
      np.testing.assert_allclose(np.quantile(unit, (0.25, 0.5, 0.75)), (-0.5, 0, 0.5), atol=0.05)


def test_bao_kernels_are_normal_with_deviation_002():
  params = case(bao, 'encoder')[3]['params']
  unit = np.asarray(params['inception_4a']['three']['conv']['kernel']).ravel() / 0.02
  measured = unit.mean(), unit.std(), (np.abs(unit) < 1).mean()
  assert np.abs(np.array(measured) - (0.0, 1.0, 0.683)).max() < 0.04, measured
  full = np.asarray(case(bao, 'classifier')[3]['params']['full1']['kernel'])
  np.testing.assert_allclose(full.std(), (2 / full.shape[0]) ** 0.5, rtol=0.02)


def test_init_depends_on_the_key_alone_and_on_all_of_it():
  net, x = nets(larsen)['generator']
  start = lambda key: layers.init(net, key, x, None)
  eager, again, other = start(jax.random.key(0)), start(jax.random.key(0)), start(jax.random.key(1))
  jax.tree.map(np.testing.assert_array_equal, eager, again)
  assert jnp.abs(eager['params']['full']['kernel'] - other['params']['full']['kernel']).max() > 0.1
  one, two = (eager['params'][k]['kernel'].ravel()[:64] for k in ('conv0', 'conv1'))
  assert abs(np.corrcoef(one, two)[0, 1]) < 0.5  # kernels do not share their noise
  keys = jax.random.split(jax.random.key(5), 2)
  mapped = jax.jit(jax.vmap(start))(keys)
  jax.tree.map(
    lambda m, *e: np.testing.assert_allclose(m, np.stack(e), rtol=1e-5, atol=1e-7),
    mapped,
    *map(start, keys),
  )


def test_a_network_with_other_initialisers_is_left_to_its_own_init():

  class Other(nn.Module):
    @nn.compact
    def __call__(self, x, train):
      return nn.Dense(3, bias_init=nn.initializers.constant(2.0))(x)

  key, x = jax.random.key(0), jnp.zeros((2, 4))
  expected = Other().init(key, x, train=False)
  jax.tree.map(np.testing.assert_array_equal, layers.init(Other(), key, x), expected)


@pytest.mark.slow
@pytest.mark.parametrize('module', (larsen, bao, mlp))
def test_every_parameter_has_a_gradient(module):
  cases = {name: case(module, name, conditional=name == 'discriminator') for name in nets(module)}
  draw = np.random.default_rng(0).standard_normal

  @jax.jit
  @jax.grad
  def grads(params):
    total = 0.0
    for name, (_, x, c, variables, apply) in cases.items():
      outputs = apply({**variables, 'params': params[name]}, x, *condition(name, c))[0]
      total += sum(jnp.vdot(a, draw(a.shape, np.float32)) for a in jax.tree.leaves(outputs))
    return total

  found = grads({name: variables['params'] for name, (_, _, _, variables, _) in cases.items()})
  assert not [
    jax.tree_util.keystr(path)
    for path, g in jax.tree_util.tree_leaves_with_path(found)
    if not jnp.abs(g).max() > 1e-6
  ]


# Bad input.


@pytest.mark.parametrize('module', (larsen, bao))
def test_unknown_image_size_names_the_known_ones(module):
  for name, (net, x) in nets(module).items():
    with pytest.raises(ValueError, match='image_size=48.*16, 32, 64, 128'):
      initialise(net.clone(image_size=48), x, *condition(name, None))


def test_wrong_inputs_are_named():
  critic, x = nets(bao)['discriminator']
  with pytest.raises(ValueError, match=r'\(16, 16, 3\).*\(16, 16, 1\)'):
    initialise(critic, x.repeat(3, -1), None)
  for module in (larsen, bao, mlp):
    critic, x = nets(module)['discriminator']
    with pytest.raises(ValueError, match='conditional discriminator needs a condition'):
      initialise(critic.clone(conditional=True), x, None)
  classifier, x = nets(bao)['classifier']
  with pytest.raises(ValueError, match='num_classes=0'):
    initialise(classifier.clone(num_classes=0), x)
