"""Weights out of PyTorch's .pth files, without PyTorch and without unpickling.

Pickle is a language that can call anything. Here a file's instructions are read by pickletools, which
executes nothing, and the few that a dict of tensors needs are carried out on dicts, lists and tuples;
a file that wants anything else is refused. Both of PyTorch's layouts: one pickle after another
(before 1.6), and a zip archive.
"""

import io
import math
import pathlib
import pickletools
import zipfile

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C  # of the older layout
MARK = object()
DTYPES = {
  f'torch {name}Storage': dtype
  for name, dtype in dict(
    Float=np.float32,
    Double=np.float64,
    Half=np.float16,
    Long=np.int64,
    Int=np.int32,
    Short=np.int16,
    Char=np.int8,
    Byte=np.uint8,
    Bool=np.bool_,
  ).items()
}
REBUILD = 'torch._utils _rebuild_tensor_v2'
PARAMETER = 'torch._utils _rebuild_parameter'
ORDERED = 'collections OrderedDict'


class _Global(str):
  """The name of what a file wants to use; it is never imported."""


def read_state_dict(source) -> dict[str, np.ndarray]:
  """Arrays by name of a state_dict, from a path or a file's bytes.

  Raises:
    ValueError: no such file, damaged, of another kind, or it wants more than arrays by name.
  """
  try:
    content = source if isinstance(source, bytes) else pathlib.Path(source).read_bytes()
  except OSError as error:
    raise ValueError(f'{source} cannot be read: {error.strerror}') from error
  name = 'the file' if isinstance(source, bytes) else str(source)
  try:
    state = (_read_zip if zipfile.is_zipfile(io.BytesIO(content)) else _read_sequence)(content)
  except ValueError as error:
    raise ValueError(f'{name} is no file of PyTorch weights, or damaged: {error}') from error
  except Exception as error:  # a damaged program fails in any of its instructions
    raise ValueError(
      f'{name} is no file of PyTorch weights, or damaged ({type(error).__name__})'
    ) from error
  if not isinstance(state, dict) or not all(
    isinstance(k, str) and isinstance(v, np.ndarray) for k, v in state.items()
  ):
    raise ValueError(f'{name} holds no dict of tensors: give a state_dict')
  return state


def _read_zip(content):
  with zipfile.ZipFile(io.BytesIO(content)) as archive:
    program = [n for n in archive.namelist() if n.rpartition('/')[2] == 'data.pkl']
    if len(program) != 1:
      raise ValueError('the archive has no data.pkl')
    folder = program[0].removesuffix('data.pkl')
    if (
      f'{folder}byteorder' in archive.namelist() and archive.read(f'{folder}byteorder') != b'little'
    ):
      raise ValueError('its numbers are big-endian')

    def storage(dtype, key, count):
      return np.frombuffer(archive.read(f'{folder}data/{key}'), dtype, count)

    return _run(io.BytesIO(archive.read(program[0])), storage)


def _read_sequence(content):
  """The older layout, in which the numbers follow the program that uses them."""
  stream = io.BytesIO(content)
  if _run(stream) != MAGIC:
    raise ValueError('it does not begin as one')
  _run(stream)  # version
  if not _run(stream).get('little_endian'):
    raise ValueError('its numbers are big-endian')
  start, sizes = stream.tell(), {}
  # Once for the sizes of all storages, once with their numbers.
  _run(stream, lambda dtype, key, count: sizes.setdefault(key, np.zeros(count, dtype)))
  storages = {}
  for key in _run(stream):
    count = int.from_bytes(stream.read(8), 'little')
    if count != len(sizes[key]):
      raise ValueError(f'storage {key} has {count} numbers, not {len(sizes[key])}')
    storages[key] = np.frombuffer(stream.read(sizes[key].nbytes), sizes[key].dtype, count)
  stream.seek(start)
  return _run(stream, lambda dtype, key, count: storages[key])


def _run(stream, storage=None):
  """What one pickle makes, of dicts, lists, tuples, numbers and arrays; `storage` gives numbers."""
  stack, memo = [], {}

  def popped():
    """Everything above the topmost mark."""
    at = max(i for i, value in enumerate(stack) if value is MARK)
    values = stack[at + 1 :]
    del stack[at:]
    return values

  for op, arg, _ in pickletools.genops(stream):
    name = op.name
    if name in ('PROTO', 'FRAME'):
      continue
    elif name == 'STOP':
      return stack.pop()
    elif name == 'MARK':
      stack.append(MARK)
    elif name in (
      'BININT',
      'BININT1',
      'BININT2',
      'LONG1',
      'BINUNICODE',
      'SHORT_BINUNICODE',
      'BINFLOAT',
    ):
      stack.append(arg)
    elif name in CONSTANTS:
      stack.append(CONSTANTS[name]())
    elif name in ('BINPUT', 'LONG_BINPUT'):
      memo[arg] = stack[-1]
    elif name == 'MEMOIZE':
      memo[len(memo)] = stack[-1]
    elif name in ('BINGET', 'LONG_BINGET'):
      stack.append(memo[arg])
    elif name == 'GLOBAL':
      stack.append(_Global(arg))
    elif name == 'STACK_GLOBAL':
      attribute, module = stack.pop(), stack.pop()
      stack.append(_Global(f'{module} {attribute}'))
    elif name in ('TUPLE1', 'TUPLE2', 'TUPLE3'):
      count = int(name[-1])
      stack[-count:] = [tuple(stack[-count:])]
    elif name == 'TUPLE':
      stack.append(tuple(popped()))
    elif name == 'APPEND':
      value = stack.pop()
      stack[-1].append(value)
    elif name == 'APPENDS':
      values = popped()
      stack[-1].extend(values)
    elif name == 'SETITEM':
      value, key = stack.pop(), stack.pop()
      stack[-1][key] = value
    elif name == 'SETITEMS':
      values = popped()
      stack[-1].update(zip(values[::2], values[1::2]))
    elif name == 'BUILD':
      stack.pop()  # attributes of the dict, such as _metadata
    elif name == 'BINPERSID':
      stack.append(_storage(stack.pop(), storage))
    elif name == 'REDUCE':
      arguments, function = stack.pop(), stack.pop()
      stack.append(_called(function, arguments))
    else:
      raise ValueError(f'it has the instruction {name}, which weights do not need: refused')
  raise ValueError('it ends too early')


CONSTANTS = dict(
  NONE=lambda: None,
  NEWTRUE=lambda: True,
  NEWFALSE=lambda: False,
  EMPTY_DICT=dict,
  EMPTY_LIST=list,
  EMPTY_TUPLE=tuple,
)


def _storage(reference, storage):
  kind, dtype, key, _, count = reference[:5]
  if kind != 'storage' or dtype not in DTYPES or storage is None:
    raise ValueError(f'it refers to {kind} {dtype}, which is no array of a known type: refused')
  return storage(np.dtype(DTYPES[dtype]).newbyteorder('<'), key, count)


def _called(function, arguments):
  """The result of the three functions that a dict of tensors needs."""
  if isinstance(function, _Global):
    if function == ORDERED:
      return dict(*arguments)
    if function == REBUILD:
      return _tensor(*arguments[:4])
    if function == PARAMETER:
      return arguments[0]
  raise ValueError(f'it wants to call {function}: refused')


def _tensor(numbers, offset, shape, strides):
  if len(shape) != len(strides) or offset < 0 or min((*shape, *strides), default=0) < 0:
    raise ValueError(f'a tensor has shape {shape} and strides {strides}')
  last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides))
  if math.prod(shape) and last >= len(numbers):
    raise ValueError(f'a tensor of shape {shape} lies outside its {len(numbers)} numbers')
  if math.prod(shape) > len(numbers):  # repeats its numbers, which could be any amount of memory
    raise ValueError(f'a tensor of shape {shape} has only {len(numbers)} numbers')
  view = np.lib.stride_tricks.as_strided(
    numbers[offset:], shape, [s * numbers.itemsize for s in strides], writeable=False
  )
  return np.array(view, numbers.dtype.newbyteorder('='))
