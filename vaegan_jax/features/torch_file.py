"""Weights from PyTorch's .pth files, without PyTorch and without unpickling.

Pickle is a language that can call anything. Here pickletools parses a file's instructions, which
executes nothing, and _Interpreter carries out the few that a dict of tensors needs. Files with
anything else are refused. Reads both of PyTorch's layouts: consecutive pickles (before 1.6) and a
zip archive.
"""

import io
import math
import os
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
# Instructions that push a constant or an empty container.
CONSTANTS = dict(
  NONE=lambda: None,
  NEWTRUE=lambda: True,
  NEWFALSE=lambda: False,
  EMPTY_DICT=dict,
  EMPTY_LIST=list,
  EMPTY_TUPLE=tuple,
)


class _Global(str):
  """The name of something a file refers to; never imported."""


def read_state_dict(source: bytes | str | os.PathLike) -> dict[str, np.ndarray]:
  """{name: array} of a state_dict, from a path or a file's bytes.

  Raises:
    ValueError: the file does not exist, is damaged, or holds anything but a dict of tensors.
  """
  try:
    content = source if isinstance(source, bytes) else pathlib.Path(source).read_bytes()
  except OSError as error:
    raise ValueError(f'{source} cannot be read: {error.strerror}') from error
  name = 'the file' if isinstance(source, bytes) else str(source)
  try:
    state = (_read_zip if zipfile.is_zipfile(io.BytesIO(content)) else _read_sequence)(content)
  except ValueError as error:
    raise ValueError(f'{name} is not a file of PyTorch weights, or damaged: {error}') from error
  except Exception as error:  # a damaged program can fail in any instruction
    raise ValueError(
      f'{name} is not a file of PyTorch weights, or damaged ({type(error).__name__})'
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

    return _Interpreter(storage).run(io.BytesIO(archive.read(program[0])))


def _read_sequence(content):
  """The older layout, where the numbers follow the program that uses them."""
  stream = io.BytesIO(content)
  if _Interpreter().run(stream) != MAGIC:
    raise ValueError('it does not begin with the magic number')
  _Interpreter().run(stream)  # version
  if not _Interpreter().run(stream).get('little_endian'):
    raise ValueError('its numbers are big-endian')
  start, sizes = stream.tell(), {}
  # Run once for the sizes of all storages, and again with their numbers.
  collect = lambda dtype, key, count: sizes.setdefault(key, np.zeros(count, dtype))
  _Interpreter(collect).run(stream)
  storages = {}
  for key in _Interpreter().run(stream):
    count = int.from_bytes(stream.read(8), 'little')
    if count != len(sizes[key]):
      raise ValueError(f'storage {key} has {count} numbers, not {len(sizes[key])}')
    storages[key] = np.frombuffer(stream.read(sizes[key].nbytes), sizes[key].dtype, count)
  stream.seek(start)
  return _Interpreter(lambda dtype, key, count: storages[key]).run(stream)


class _Interpreter:
  """Runs one pickle on dicts, lists, tuples, numbers and arrays; `storage` supplies the numbers."""

  def __init__(self, storage=None):
    self.stack, self.memo, self.storage = [], {}, storage

  def run(self, stream):
    """The object that the pickle at the stream's position builds."""
    for op, arg, _ in pickletools.genops(stream):
      if op.name == 'STOP':
        return self.stack.pop()
      if not (self._push(op.name, arg) or self._fill(op.name)):
        raise ValueError(f'refused: it has the instruction {op.name}, which weights do not need')
    raise ValueError('it ends too early')

  def _push(self, name, arg):
    """Runs an instruction that pushes or stores one value; False for other instructions."""
    match name:
      case 'PROTO' | 'FRAME':
        pass
      case 'MARK':
        self.stack.append(MARK)
      case (
        'BININT' | 'BININT1' | 'BININT2' | 'LONG1' | 'BINFLOAT' | 'BINUNICODE' | 'SHORT_BINUNICODE'
      ):
        self.stack.append(arg)
      case 'BINPUT' | 'LONG_BINPUT':
        self.memo[arg] = self.stack[-1]
      case 'MEMOIZE':
        self.memo[len(self.memo)] = self.stack[-1]
      case 'BINGET' | 'LONG_BINGET':
        self.stack.append(self.memo[arg])
      case 'GLOBAL':
        self.stack.append(_Global(arg))
      case _ if name in CONSTANTS:
        self.stack.append(CONSTANTS[name]())
      case _:
        return False
    return True

  def _fill(self, name):
    """Runs an instruction that combines values of the stack; False for other instructions."""
    stack = self.stack
    match name:
      case 'STACK_GLOBAL':
        attribute, module = stack.pop(), stack.pop()
        stack.append(_Global(f'{module} {attribute}'))
      case 'TUPLE1' | 'TUPLE2' | 'TUPLE3':
        count = int(name[-1])
        stack[-count:] = [tuple(stack[-count:])]
      case 'TUPLE':
        stack.append(tuple(self._popped()))
      case 'APPEND':
        value = stack.pop()
        stack[-1].append(value)
      case 'APPENDS':
        values = self._popped()
        stack[-1].extend(values)
      case 'SETITEM':
        value, key = stack.pop(), stack.pop()
        stack[-1][key] = value
      case 'SETITEMS':
        values = self._popped()
        stack[-1].update(zip(values[::2], values[1::2]))
      case 'BUILD':
        stack.pop()  # attributes of the dict, such as _metadata
      case 'BINPERSID':
        stack.append(_storage(stack.pop(), self.storage))
      case 'REDUCE':
        arguments, function = stack.pop(), stack.pop()
        stack.append(_called(function, arguments))
      case _:
        return False
    return True

  def _popped(self):
    """Everything above the topmost mark, removed from the stack with it."""
    at = max(i for i, value in enumerate(self.stack) if value is MARK)
    values = self.stack[at + 1 :]
    del self.stack[at:]
    return values


def _storage(reference, storage):
  kind, dtype, key, _, count = reference[:5]
  if kind != 'storage' or dtype not in DTYPES or storage is None:
    raise ValueError(f'refused: it refers to {kind} {dtype}, which is not an array of a known type')
  return storage(np.dtype(DTYPES[dtype]).newbyteorder('<'), key, count)


def _called(function, arguments):
  """What function(*arguments) returns, for the three functions that a dict of tensors needs."""
  if isinstance(function, _Global):
    if function == ORDERED:
      return dict(*arguments)
    if function == REBUILD:
      return _tensor(*arguments[:4])
    if function == PARAMETER:
      return arguments[0]
  raise ValueError(f'refused: it calls {function}')


def _tensor(numbers, offset, shape, strides):
  if len(shape) != len(strides) or offset < 0 or min((*shape, *strides), default=0) < 0:
    raise ValueError(f'a tensor has shape {shape} and strides {strides}')
  last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides))
  if math.prod(shape) and last >= len(numbers):
    raise ValueError(f'a tensor of shape {shape} lies outside its {len(numbers)} numbers')
  if math.prod(shape) > len(numbers):  # repeated numbers could fill any amount of memory
    raise ValueError(f'a tensor of shape {shape} has only {len(numbers)} numbers')
  view = np.lib.stride_tricks.as_strided(
    numbers[offset:], shape, [s * numbers.itemsize for s in strides], writeable=False
  )
  return np.array(view, numbers.dtype.newbyteorder('='))
