"""The explorer's web server, for this machine alone.

It answers requests whose Host is its own, so that no page on the web reaches it by a name that
leads to 127.0.0.1 (DNS rebinding), and whose Origin, if any, is its own page. It serves three files
by fixed names, and what Explorer computes; a request names no path.
"""

from collections.abc import Callable, Mapping
import http.server
import json
import logging
import pathlib
import threading
from typing import Any

from vaegan_jax.explore.views import Explorer

LARGEST = 2**24  # bytes of a request: a photograph in base64
SECONDS = 30  # for a client to send its request
HOME = pathlib.Path(__file__).parent
FILES = {
  '/': ('explore.html', 'text/html'),
  '/explore.css': ('explore.css', 'text/css'),
  '/explore.js': ('explore.js', 'text/javascript'),
}
HEADERS = {
  'Content-Security-Policy': "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Cache-Control': 'no-store',
}
Calls = Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]


class Refused(Exception):
  """A request that is not answered: (status, why)."""


def server(explorer: Explorer, port: int) -> http.server.ThreadingHTTPServer:
  """A server on 127.0.0.1; call its serve_forever. Port 0 takes a free one.

  Raises OSError if the port is taken.
  """
  calls: Calls = {
    '/about': lambda asked: explorer.about(),
    '/samples': explorer.samples,
    '/encode': explorer.encode,
    '/show': explorer.show,
    '/code': explorer.code,
  }
  own = type('Own', (Handler,), dict(calls=calls, lock=threading.Lock()))
  made = http.server.ThreadingHTTPServer(('127.0.0.1', port), own)
  made.daemon_threads = True
  return made


class Handler(http.server.BaseHTTPRequestHandler):
  """Answers requests by a table {path: function of JSON}, one call at a time."""

  calls: Calls
  lock: threading.Lock
  timeout = SECONDS
  protocol_version = 'HTTP/1.1'
  wbufsize = -1  # one packet per answer: two would wait for the client's acknowledgement

  def do_GET(self) -> None:
    self.answer(self.file)

  def do_POST(self) -> None:
    self.answer(self.call)

  def answer(self, respond: Callable[[], tuple[str, bytes]]) -> None:
    """Sends what `respond` gives, or says in one line why not."""
    address: Any = self.server.server_address
    try:
      check_origin(self.headers, address[1])
      status, (kind, content) = 200, respond()
    except Refused as e:
      (status, why), kind = e.args, 'application/json'
      content = json.dumps(dict(error=why)).encode()
      self.close_connection = True  # the rest of the request is not read
    self.send_response(status)
    for name, value in HEADERS.items():
      self.send_header(name, value)
    self.send_header('Content-Type', f'{kind}; charset=utf-8')
    self.send_header('Content-Length', str(len(content)))
    self.end_headers()
    self.wfile.write(content)

  def file(self) -> tuple[str, bytes]:
    if self.path not in FILES:
      raise Refused(404, 'there is no such page')
    name, kind = FILES[self.path]
    return kind, (HOME / name).read_bytes()

  def call(self) -> tuple[str, bytes]:
    if self.path not in self.calls:
      raise Refused(404, 'there is no such call')
    asked = self.asked()
    try:
      with self.lock:
        made = self.calls[self.path](asked)
    except ValueError as e:
      raise Refused(400, str(e)) from e
    return 'application/json', json.dumps(made).encode()

  def asked(self) -> dict[str, Any]:
    """The JSON object of a request."""
    if self.headers.get_content_type() != 'application/json':
      raise Refused(415, 'send JSON')
    length = self.headers.get('Content-Length', '')
    if not (length.isascii() and length.isdigit()):
      raise Refused(411, 'say how long the request is')
    if len(length) > 9 or int(length) > LARGEST:
      raise Refused(413, f'a request takes up to {LARGEST // 2**20} MiB: use a smaller picture')
    try:
      asked = json.loads(self.rfile.read(int(length)))
    except (ValueError, RecursionError) as e:
      raise Refused(400, 'the request is not JSON') from e
    if not isinstance(asked, dict):
      raise Refused(400, 'the request is not a JSON object')
    return asked

  def log_message(self, format: str, *args: Any) -> None:
    logging.getLogger(__name__).debug(format, *args)


def check_origin(headers: Any, port: int) -> None:
  """Raises Refused unless a request comes from the explorer's own page, or from no page."""
  hosts = [f'{name}:{port}' for name in ('127.0.0.1', 'localhost')]
  if port == 80:
    hosts += ['127.0.0.1', 'localhost']
  if headers.get('Host') not in hosts:
    raise Refused(403, 'this server answers to 127.0.0.1 alone')
  origin = headers.get('Origin')
  if origin is not None and origin not in [f'http://{host}' for host in hosts]:
    raise Refused(403, 'this server answers its own page alone')
