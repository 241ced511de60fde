"""Requests, order, batches and prefetching; the order of examples never changes."""

import hashlib
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from vaegan_jax import data


@pytest.mark.parametrize(
  'options, message',
  [
    (
      dict(name='mnits'),
      r'unknown data set .mnits.: set --config.data.name to .*digits.*; did you mean mnist\?',
    ),
    (dict(name='zzz'), '--config.data.name to one of digits, folder, mnist'),
    (dict(channels=2), 'channels 2: use'),
    (dict(image_size=0), 'image_size 0'),
    (dict(path='x'), '--config.data.path=x is for --config.data.name=folder'),
    (dict(attributes=('Smiling',)), 'digits .train. has no attribute .Smiling.; it has none'),
  ],
)
def test_bad_requests(options, message):
  with pytest.raises(ValueError, match=message):
    data.load(**{**dict(name='digits', image_size=16, channels=1), **options})


# --- Order.


def test_each_epoch_has_its_own_permutation():
  orders = [data.example_order(1003, e, 7) for e in range(3)] + [data.example_order(1003, 0, 8)]
  for order in orders:
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(1003))
  assert len({o.tobytes() for o in orders}) == 4
  assert abs(np.corrcoef(orders[0], np.arange(1003))[0, 1]) < 0.1
  assert abs(np.corrcoef(orders[0], orders[1])[0, 1]) < 0.1


GOLDEN_10 = [0, 2, 9, 1, 8, 5, 4, 3, 6, 7]
GOLDEN_STEP_1000 = [771, 1051, 1444, 651, 1718, 1511, 1356, 660]
GOLDEN_HASH = 'f6eaa6ee94b4e9d1'


def test_order_never_changes():
  """Golden values: if this fails, stopped runs would resume with other batches."""
  np.testing.assert_array_equal(data.example_order(10, 0, 0), GOLDEN_10)
  np.testing.assert_array_equal(data.batch_indices(1797, 8, 1000, 3), GOLDEN_STEP_1000)
  order = data.example_order(202_599, 5, 2**40).astype('<i8')
  assert hashlib.sha256(order.tobytes()).hexdigest()[:16] == GOLDEN_HASH


def test_batches_are_one_stream_of_epochs():
  stream = np.concatenate([data.batch_indices(1003, 64, s, 7) for s in range(60)])
  assert stream.dtype == np.int64
  for epoch in range(3):
    np.testing.assert_array_equal(
      stream[epoch * 1003 : (epoch + 1) * 1003], data.example_order(1003, epoch, 7)
    )


def test_any_step_is_computed_directly():
  data.example_order.cache_clear()
  start = time.perf_counter()
  at = data.batch_indices(200_000, 256, 10**9, 0)
  assert time.perf_counter() - start < 1 and at.min() >= 0 and at.max() < 200_000
  three_epochs = data.batch_indices(7, 21, 10**12, 0)
  np.testing.assert_array_equal(np.sort(three_epochs), np.repeat(np.arange(7), 3))


def dataset(count=100, **kind):
  x = np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(4, 1).repeat(4, 2)
  return data.Dataset('toy', x, **kind)


LABELS = dict(labels=np.arange(100, dtype=np.int32) % 3, class_names=['a', 'b', 'c'])
ATTRIBUTES = dict(
  attributes=np.arange(200, dtype=np.uint8).reshape(100, 2) // 3 % 2, attribute_names=['p', 'q']
)


def take(iterator, count):
  return [b for _, b in zip(range(count), iterator)]


def test_resumed_batches_equal_those_of_the_whole_run():
  kind = dict(batch_size=16, seed=1, condition='label')
  whole = take(data.batches(dataset(**LABELS), **kind), 40)
  for start in (1, 6, 7, 39):  # epochs end within batches 6, 12, ...
    again = take(data.batches(dataset(**LABELS), start_step=start, **kind), 3)
    for one, two in zip(again, whole[start:]):
      np.testing.assert_array_equal(one['x'], two['x'])
      np.testing.assert_array_equal(one['c'], two['c'])


def test_four_hosts_see_the_batch_of_one_in_order():
  kind = dict(batch_size=16, seed=1, start_step=3, condition='label')
  whole = take(data.batches(dataset(**LABELS), **kind), 9)
  hosts = [
    take(data.batches(dataset(**LABELS), process_index=i, process_count=4, **kind), 9)
    for i in range(4)
  ]
  for parts, one in zip(zip(*hosts), whole):
    assert {len(p['x']) for p in parts} == {4}
    for key in ('x', 'c'):
      np.testing.assert_array_equal(np.concatenate([p[key] for p in parts]), one[key])


def test_conditions_belong_to_their_images():
  for condition, source, dtype in (
    ('label', LABELS['labels'], np.int32),
    ('attributes', ATTRIBUTES['attributes'], np.float32),
  ):
    toy = dataset(**LABELS, **ATTRIBUTES)
    batch = next(data.batches(toy, batch_size=50, seed=0, condition=condition))
    assert batch['x'].dtype == np.uint8 and batch['x'].shape == (50, 4, 4, 1)
    assert batch['c'].dtype == dtype
    np.testing.assert_array_equal(batch['c'], source[batch['x'][:, 0, 0, 0]])
  assert set(next(data.batches(dataset(**LABELS), batch_size=5, seed=0))) == {'x'}


@pytest.mark.parametrize(
  'toy, options, message',
  [
    (
      dataset(),
      dict(batch_size=101),
      'toy has 100 images, fewer than --config.batch_size=101: set it to 100 or less',
    ),
    (dataset(), dict(batch_size=0), 'batch_size=0 is not a positive multiple'),
    (
      dataset(),
      dict(batch_size=10, process_count=4),
      'batch_size=10 is not a positive multiple of the 4 processes',
    ),
    (dataset(), dict(condition='label'), 'toy has no labels: .*labels.csv.*vae_gan'),
    (dataset(**LABELS), dict(condition='attributes'), 'toy has no attributes: .*labels.csv'),
    (dataset(), dict(condition='class'), 'condition=class: use one of none, label, attributes'),
    (
      dataset(labels=np.full(100, -1, np.int32), class_names=['a']),
      {},
      'label of image 0 is -1, not in 0..0',
    ),
    (
      dataset(labels=np.arange(100, dtype=np.int32) // 99, class_names=['a']),
      {},
      'label of image 99 is 1',
    ),
    (dataset(labels=np.zeros(99, np.int32), class_names=['a']), {}, '100 images but 99 labels'),
    (
      dataset(attributes=np.full((100, 1), 2, np.uint8), attribute_names=['a']),
      {},
      'must be 0 or 1',
    ),
    (data.Dataset('toy', np.zeros((9, 4, 4, 1))), {}, 'not uint8'),
    (dataset(0), dict(batch_size=1), 'toy has 0 images'),
  ],
)
def test_check_refuses_before_the_first_batch(toy, options, message):
  options = dict(dict(batch_size=8), **options)
  with pytest.raises(ValueError, match=message):
    data.check(toy, **options)
  with pytest.raises(ValueError, match=message):
    data.batches(toy, seed=0, **options)  # at the call, not at the first next()


# --- Prefetch.


def threads():
  return [t for t in threading.enumerate() if t.name == 'prefetch']


def test_prefetch_keeps_the_order_and_applies_put():
  assert list(data.prefetch(iter(range(50)), lambda x: x * 2)) == list(range(0, 100, 2))
  assert list(data.prefetch(iter(()), lambda x: x)) == [] and not threads()


def test_prefetch_works_ahead_but_not_far():
  made = []
  batches = data.prefetch((made.append(i) or i for i in range(100)), lambda x: x, depth=2)
  assert next(batches) == 0
  time.sleep(0.3)
  assert 3 <= len(made) <= 4
  batches.close()
  assert not threads()


@pytest.mark.parametrize('where', ['iterator', 'put'])
def test_prefetch_raises_what_the_thread_raised(where):
  def items():
    yield 1
    if where == 'iterator':
      raise OSError('the disk is gone')
    yield 2

  def put(x):
    if x == 2:
      raise OSError('the disk is gone')
    return x

  batches = data.prefetch(items(), put)
  assert next(batches) == 1
  with pytest.raises(OSError, match='the disk is gone'):
    next(batches)
  assert not threads()


def test_prefetch_ends_with_its_consumer():
  batches = data.prefetch(iter(range(10**9)), lambda x: x)
  next(batches)
  assert threads()
  del batches
  assert not threads()
  data.prefetch(iter(range(9)), lambda x: x).close()
  assert not threads()


def test_prefetch_does_not_hang_the_exit():
  code = (
    'import itertools; from vaegan_jax import data; '
    'b = data.prefetch(itertools.count(), lambda x: x); print(next(b))'
  )
  start = time.perf_counter()
  out = subprocess.run(
    [sys.executable, '-c', code],
    capture_output=True,
    text=True,
    timeout=60,
    check=True,
    env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
  )
  assert out.stdout == '0\n' and out.stderr == '' and time.perf_counter() - start < 30


def test_a_class_without_an_image_is_named():
  data.check_classes(dataset(**LABELS))
  rare = dataset(labels=np.zeros(100, np.int32), class_names=['a', 'rare'])
  with pytest.raises(ValueError, match="toy has no image of the class 'rare': add"):
    data.check_classes(rare)
