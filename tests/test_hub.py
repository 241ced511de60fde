"""The Hub: its own client talks to a server on this host that keeps each repository in a folder."""

import base64
import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading

import pytest

from vaegan_jax import hub

ROOT = pathlib.Path(__file__).parents[1]
pytestmark = pytest.mark.slow


class Service(http.server.BaseHTTPRequestHandler):
  """As much of the service as one upload and one download need, without large-file storage."""

  home: pathlib.Path

  def log_message(self, *args):
    pass

  def answer(self, body, code=200, **headers):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    self.send_response(code)
    for name, value in {'Content-Length': len(body), **headers}.items():
      self.send_header(name.replace('_', '-'), str(value))
    self.end_headers()
    if self.command != 'HEAD':
      self.wfile.write(body)

  def do_POST(self):
    text = self.rfile.read(int(self.headers['Content-Length']))
    if self.path == '/api/repos/create':
      asked = json.loads(text)
      repo = f'{asked.get("organization") or "jane"}/{asked["name"]}'
      (self.home / repo).mkdir(parents=True)
      (self.home / 'visibility').write_text(json.dumps(asked))
      self.answer(dict(url=f'http://{self.headers["Host"]}/{repo}'))
    elif '/preupload/' in self.path:
      files = [f['path'] for f in json.loads(text)['files']]
      self.answer(
        dict(files=[dict(path=p, uploadMode='regular', shouldIgnore=False) for p in files])
      )
    elif '/commit/' in self.path:
      repo = self.home / '/'.join(self.path.split('/')[3:5])
      for line in map(json.loads, text.splitlines()):
        if line['key'] == 'file':
          (repo / line['value']['path']).write_bytes(base64.b64decode(line['value']['content']))
      url = f'http://{self.headers["Host"]}/{repo.relative_to(self.home)}/commit/1'
      self.answer(dict(commitUrl=url, commitOid='1' * 40))
    else:  # the client asks whether the front matter of the card is sound
      self.answer(dict(errors=[], warnings=[]))

  def do_GET(self):
    path = self.home / self.path.replace('/resolve/main', '').strip('/')
    if path.is_file():
      self.answer(path.read_bytes(), ETag='"1"', X_Repo_Commit='1' * 40)
    else:
      self.answer(b'', 404, X_Error_Code='RepoNotFound')

  do_HEAD = do_GET


SCRIPT = """
import pathlib, sys
from vaegan_jax import hub
home = pathlib.Path(sys.argv[1])
print(hub.upload(home / 'model.zip', 'jane/digits', {'README.md': b'# A card'}))
assert hub.fetched('hf://jane/digits').read_bytes() == (home / 'model.zip').read_bytes()
try:
  hub.fetched('hf://jane/nothing')
except OSError as e:
  print(e)
"""


def test_a_model_goes_there_and_comes_back(tmp_path):
  Service.home = tmp_path / 'service'
  Service.home.mkdir()
  (tmp_path / 'model.zip').write_bytes(os.urandom(1000))
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Service) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f'http://127.0.0.1:{server.server_port}'
    done = subprocess.run(
      [sys.executable, '-c', SCRIPT, str(tmp_path)],
      cwd=ROOT,
      capture_output=True,
      text=True,
      timeout=120,
      env={
        **os.environ,
        **dict(HF_ENDPOINT=address, HF_HOME=str(tmp_path / 'cache'), HF_TOKEN='hf_of_nobody'),
        **dict(NO_PROXY='127.0.0.1', no_proxy='127.0.0.1', HF_HUB_DISABLE_TELEMETRY='1'),
      },
    )
    server.shutdown()
  assert done.returncode == 0, done.stderr
  first, last = done.stdout.splitlines()
  assert first == f'{address}/jane/digits'
  assert last.startswith('hf://jane/nothing was not fetched: ')
  assert (Service.home / 'jane/digits/README.md').read_bytes() == b'# A card'
  assert (
    json.loads((Service.home / 'visibility').read_text()).get('private') is True
    or json.loads((Service.home / 'visibility').read_text()).get('visibility') == 'private'
  )


@pytest.mark.parametrize('name', ['digits', 'a/b/c', '../b', 'hf://', 'a/b c'])
def test_names_of_no_repository(name):
  with pytest.raises(ValueError, match='write hf://USER/NAME'):
    hub.repository(name)
