"""The processes of a run on several hosts: they join, run the same, and notice a lost one.

A process that dies or hangs leaves the others in a computation that never ends. After
HEARTBEAT_SECONDS JAX's coordination service ends them by abort(). A handler of SIGABRT makes that
one sentence and exit code 3, so that whatever restarts the run knows what to do.
"""

from collections.abc import Mapping
import ctypes
import functools
import hashlib
import json
import operator
import os
import pathlib
import re
import signal
import socket
import sys
import threading
import time
from typing import Any

HEARTBEAT_SECONDS = 60  # without a sign of life from a process, the others end
FAREWELL_SECONDS = 5  # that a process which failed waits for others that fail as well
SAY_EVERY_SECONDS = 15  # while waiting for the others
LOST = (
  'another process of this run died or stopped answering; its own log says more. Start the same '
  'command on every host again: the run resumes from its newest checkpoint, also with another '
  'number of processes'
)
SAME_COMMAND = (
  'Every host must run the same command at the same time (on a TPU slice: --worker=all), each with '
  'its own --process_id where that is given'
)
# What XLA raises when a collective or the coordination service fails, and what Orbax makes of it.
OF_XLA = re.compile(
  r'(UNKNOWN|UNAVAILABLE|ABORTED|INTERNAL|FAILED_PRECONDITION|CANCELLED|DEADLINE'
  r'|Timeout waiting at barrier)'
)

_keep: list[Any] = []  # the handler of SIGABRT, which C calls


def join(
  coordinator_address: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
  initialization_timeout: int = 900,
) -> None:
  """Joins the other processes of a run; JAX finds what is None, on TPU VMs and under Slurm.

  Says for what it waits, after 2 s and then every SAY_EVERY_SECONDS. Call it before any other use
  of JAX.

  Args:
    coordinator_address: HOST:PORT of process 0.
    initialization_timeout: seconds to wait; then the process ends with exit code 3.

  Raises:
    ValueError: the arguments cannot be used, or JAX finds no other hosts.
  """
  check(coordinator_address, num_processes, process_id)
  import jax
  from jax._src import distributed

  # Its handler of SIGTERM would replace ours: see runs/signals.py.
  jax.config.update('jax_enable_preemption_service', False)
  before = end_on_abort(
    f'the other processes did not join within {initialization_timeout} s. {SAME_COMMAND}; a slow '
    'start needs a larger --initialization_timeout'
  )
  joined, begun = threading.Event(), time.monotonic()

  def say():
    pause = 2
    while not joined.wait(pause):
      awaited, passed = awaited_words(distributed.global_state), time.monotonic() - begun
      print(f'waiting for {awaited}: {passed:.0f} of {initialization_timeout} s', flush=True)
      pause = SAY_EVERY_SECONDS

  threading.Thread(target=say, name='hosts', daemon=True).start()
  try:
    jax.distributed.initialize(
      coordinator_address,
      num_processes,
      process_id,
      initialization_timeout=initialization_timeout,
      heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
    )
  except (ValueError, RuntimeError) as e:
    on_abort(ctypes.c_void_p(before))
    raise ValueError(
      f'--distributed found no other hosts ({e}): start the same command on every host of a TPU '
      'slice or a Slurm job; elsewhere give --coordinator_address, --num_processes and '
      '--process_id; or leave --distributed out on a single host'
    ) from e
  finally:
    joined.set()
  end_on_abort(LOST)
  print(f'process {jax.process_index()} of {jax.process_count()} joined', flush=True)


def check(address: str | None, num_processes: int | None, process_id: int | None) -> None:
  """Raises ValueError for an address, a number or an id that no run can have."""
  if process_id is not None and num_processes is not None and process_id >= num_processes:
    raise ValueError(
      f'--process_id={process_id}: with --num_processes={num_processes} the last one is '
      f'{num_processes - 1}'
    )
  if address is None:
    return
  host, _, port = address.rpartition(':')
  if not host or not re.fullmatch(r'[0-9]{1,5}', port) or not 0 < int(port) < 2**16:
    raise ValueError(
      f'--coordinator_address={address}: give HOST:PORT of process 0, such as 10.0.0.1:8476'
    )
  if process_id == 0 and answers(f'localhost:{port}'):
    raise ValueError(
      f'--coordinator_address={address}: port {port} of this host is in use: give a free one, the '
      'same on every host'
    )


def answers(address: str) -> bool:
  """Whether a process listens at HOST:PORT."""
  host, _, port = address.rpartition(':')
  try:
    socket.create_connection((host.strip('[]'), int(port)), timeout=2).close()
    return True
  except OSError:
    return False


def awaited_words(state: Any) -> str:
  """For whom a process waits; `state`: JAX's, which knows no more than the flags at first."""
  address, count, own = state.coordinator_address, state.num_processes, state.process_id
  if not address:
    return f'the other hosts. {SAME_COMMAND}'
  if own and not answers(address):
    return f'process 0, which does not listen at {address} yet. {SAME_COMMAND}'
  of = f' of {count}' if count > 1 else ''
  return f'all processes to join process 0 at {address}; this is {own}{of}. {SAME_COMMAND}'


def end_on_abort(sentence: str, code: int = 3) -> int:
  """From now on abort() of a library prints this, unless it is '', and ends the process.

  Returns the address of the handler before. A callback of JAX's client would be the natural place,
  but jaxlib (0.10 to 0.12) cannot call one written in Python: its argument has no Python type.
  The handler calls functions of C alone: a frame of Python's needs memory, which may have run out.
  """
  calls = [functools.partial(os.write, 2, f'error: {sentence}\n'.encode())] if sentence else []
  calls.append(functools.partial(os._exit, code))
  one_by_one = functools.partial(min, calls, key=operator.call)  # several threads may abort at once
  handler = ctypes.CFUNCTYPE(None)(one_by_one)  # the number of the signal is left where it is
  _keep.append(handler)
  return on_abort(handler)


def on_abort(handler: Any) -> int:
  """Sets C's handler of SIGABRT, as Python's own would wait for the main thread; the one before."""
  set_handler = ctypes.CDLL(None).signal
  set_handler.restype = ctypes.c_void_p
  return set_handler(signal.SIGABRT, handler) or 0


def several() -> bool:
  """Whether this run has several processes."""
  jax = sys.modules.get('jax')
  return bool(jax) and jax.distributed.is_initialized() and jax.process_count() > 1


def lost(error: BaseException | None) -> bool:
  """Whether an error, or one that it came from, says that another process of the run is gone."""
  if not several() or error is None:
    return False
  told = isinstance(error, (RuntimeError, ValueError, OSError)) and OF_XLA.match(str(error))
  return bool(told) or lost(error.__cause__)


def leave(code: int) -> None:
  """Ends this process if it failed and others may wait for it; returns if all end alike.

  If all of them failed, each ends with its own code; otherwise the others notice, and end with 3.
  """
  if code in (0, 128 + signal.SIGINT, 128 + signal.SIGTERM) or not several():
    return
  import jax

  end_on_abort('', code)  # where the others are gone already, the farewell fails
  farewell = threading.Thread(target=jax.distributed.shutdown, daemon=True)
  farewell.start()
  farewell.join(FAREWELL_SECONDS)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)


def barrier(name: str) -> None:
  """Waits until all processes of the run are here."""
  import jax

  if jax.process_count() > 1:
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices(name)


def check_same(facts: Mapping[str, Any], remedy: str) -> None:
  """Raises ValueError, on all processes, unless all give the same facts; names those that differ.

  Every process of the run must make the call.

  Args:
    facts: {name: JSON value}.
    remedy: what to do, for the message.
  """
  if not several():
    return
  from jax.experimental import multihost_utils
  import numpy as np

  own = np.frombuffer(json.dumps(dict(facts), sort_keys=True).encode(), np.uint8)
  sizes = np.ravel(multihost_utils.process_allgather(np.int32(len(own))))
  padded = np.zeros(max(sizes), np.uint8)
  padded[: len(own)] = own
  rows = multihost_utils.process_allgather(padded)
  every = [json.loads(bytes(row[:size])) for row, size in zip(rows, sizes)]
  for i, other in enumerate(every):
    for name in dict.fromkeys([*every[0], *other]):
      if other.get(name) != every[0].get(name):
        raise ValueError(
          f'the processes differ: {name} is {other.get(name)} in process {i} and '
          f'{every[0].get(name)} in process 0: {remedy}'
        )


def appears(path: pathlib.Path, seconds: float = 30) -> bool:
  """Whether what another process wrote is here within `seconds`; network disks show it late."""
  until = time.monotonic() + seconds
  while not path.exists() and time.monotonic() < until:
    time.sleep(0.2)
  return path.exists()


def code_digest() -> str:
  """A digest of this package's sources and of the versions that compile its step."""
  import jax
  import jaxlib

  digest = hashlib.sha256(f'{jax.__version__} {jaxlib.__version__}'.encode())
  for path in sorted(pathlib.Path(__file__).parent.rglob('*.py')):
    digest.update(path.read_bytes())
  return digest.hexdigest()[:12]
