"""The explorer: strangers are refused, views are checked, the code draws what one saw."""

import base64
import http.client
import io
import json
import pathlib
import runpy
import socket
import subprocess
import sys
import threading
import types

import numpy as np
from PIL import Image
import pytest

from tests.tiny import run_of
import vaegan_jax
from vaegan_jax import export, files, settings
from vaegan_jax.configs import digits
from vaegan_jax.explore import directions, server, views

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope='module')
def serve():
  """serve(explorer) -> (host, port) of a server in the background."""
  started = []

  def start(explorer):
    made = server.server(explorer, 0)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    started.append(made)
    return made.server_address

  yield start
  for made in started:
    made.shutdown()
    made.server_close()


# --- The server, without a model.


@pytest.fixture(scope='module')
def stub(serve):
  def show(asked):
    if 'bad' in asked:
      raise ValueError('bad is bad')
    return dict(image=asked)

  calls = dict.fromkeys(('about', 'samples', 'encode', 'code'), lambda asked=None: {})
  return serve(types.SimpleNamespace(show=show, **calls))


def request(address, method='POST', path='/show', body=b'{}', **headers):
  """(status, content) of a request; a header of None is left out."""
  own = {'Host': f'127.0.0.1:{address[1]}', 'Content-Type': 'application/json'}
  connection = http.client.HTTPConnection(*address, timeout=10)
  connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
  asked = {**own, 'Content-Length': str(len(body)), **headers}
  for name, value in asked.items():
    if value is not None:
      connection.putheader(name.replace('_', '-'), value)
  connection.endheaders(body)
  answer = connection.getresponse()
  content = answer.read()
  connection.close()
  return answer.status, content


@pytest.mark.parametrize(
  'status,changes',
  [
    (200, {}),
    (200, dict(Origin='http://localhost:PORT', Host='localhost:PORT')),
    (403, dict(Host='evil.example:PORT')),  # DNS rebinding
    (403, dict(Host='127.0.0.1.evil.example:PORT')),
    (403, dict(Host=None)),
    (403, dict(Origin='http://evil.example')),
    (403, dict(Origin='null')),
    (403, dict(Origin='http://127.0.0.1:1')),
    (403, dict(method='GET', path='/', Host='evil.example')),
    (404, dict(path='/elsewhere')),
    (404, dict(method='GET', path='/../server.py')),
    (404, dict(method='GET', path='/server.py')),
    (415, dict(Content_Type='text/plain')),  # what a form of another page can send
    (411, {'Content-Length': None}),
    (411, {'Content-Length': '-1'}),
    (413, {'Content-Length': str(2**24 + 1)}),
    (413, {'Content-Length': '9' * 30}),
    (400, dict(body=b'[]')),
    (400, dict(body=b'{')),
    (400, dict(body=b'[' * 100_000)),
    (400, dict(body=b'{"bad": 1}')),
    (501, dict(method='PUT')),
  ],
)
def test_requests(stub, status, changes):
  if 'Content_Type' in changes:
    changes = {'Content-Type': changes['Content_Type']}
  changes = {
    k: v.replace('PORT', str(stub[1])) if isinstance(v, str) else v for k, v in changes.items()
  }
  got, content = request(stub, **changes)
  assert got == status
  if status not in (200, 501):
    assert set(json.loads(content)) == {'error'}


def test_it_listens_on_this_machine_alone(stub):
  assert stub[0] == '127.0.0.1'
  with socket.socket() as other, pytest.raises(OSError):
    other.connect((socket.gethostbyname(socket.gethostname()), stub[1]))
    if socket.gethostbyname(socket.gethostname()).startswith('127.0.0.1'):
      raise OSError('this host has no other address')


def test_the_page_loads_nothing_from_elsewhere(stub):
  for path in server.FILES:
    status, content = request(stub, method='GET', path=path, body=b'')
    assert status == 200 and b'http' not in content.replace(b'http-equiv', b''), path


# --- Views and code.


@pytest.fixture(scope='module')
def explorer(tmp_path_factory):
  workdir = run_of(tmp_path_factory.mktemp('explore') / 'digits')
  return views.Explorer(vaegan_jax.restore(workdir), workdir, seen=10)


ONE_HOT = np.eye(10)[3].tolist()
LATENT = dict(z=[0.5, -1.25, 0.1, 2], condition=ONE_HOT, directions=[1, 0, -2.5, 0], vectors=[0.7])
OTHER = dict(LATENT, z=[0.0, 0, 1, -1], condition=np.eye(10)[5].tolist())


def inpainting():
  picture = np.random.default_rng(0).integers(0, 256, (16, 16, 1), np.uint8)
  hole = np.zeros((16, 16, 1), np.uint8)
  hole[4:9, 2:12] = 255
  return dict(
    picture=views.to_base64(picture),
    hole=views.to_base64(hole),
    condition=ONE_HOT,
    iterations=3,
  )


VIEWS = dict(latent=LATENT, morph={'from': LATENT, 'to': OTHER, 't': 0.3}, hole=inpainting())


@pytest.mark.slow
@pytest.mark.parametrize('name', VIEWS)
def test_the_code_draws_what_one_saw(explorer, tmp_path, monkeypatch, name):
  """To rounding: the explorer decodes one picture per dispatch, the code fills it up to 64."""
  (tmp_path / 'made.py').write_text(explorer.code(VIEWS[name])['code'])
  monkeypatch.chdir(tmp_path)
  runpy.run_path('made.py')
  drawn = np.asarray(Image.open(tmp_path / 'picture.png')).astype(int)
  shown = base64.b64decode(explorer.show(VIEWS[name])['image'])
  assert np.abs(drawn - np.asarray(Image.open(io.BytesIO(shown)))).max() <= 1
  assert drawn.std() > 0


@pytest.mark.slow
def test_the_code_truncates_as_the_explorer_does(explorer):
  short = views.Explorer(explorer.model.truncated(0.5), explorer.source)
  assert f'step={explorer.model.step}).truncated(0.5)\n' in short.code(VIEWS['latent'])['code']
  assert short.show(VIEWS['latent']) != explorer.show(VIEWS['latent'])


@pytest.mark.slow
def test_sliders_move_the_latent(explorer):
  moved = explorer.latent(LATENT).z[0]
  wanted = np.float32(LATENT['z']) + explorer.principal[0] - 2.5 * explorer.principal[2]
  np.testing.assert_allclose(moved, wanted + 0.7 * explorer.vectors['brightness'], rtol=1e-5)
  half = explorer.latent({'from': LATENT, 'to': OTHER, 't': 0.5})
  np.testing.assert_allclose(half.z[0], (moved + explorer.latent(OTHER).z[0]) / 2, rtol=1e-5)
  assert half.c[0, 3] == half.c[0, 5] == 0.5 and half.c.sum() == 1


@pytest.mark.slow
def test_a_zip_is_explored_likewise(explorer, tmp_path):
  export.save(explorer.model, tmp_path / 'model.zip')
  again = views.Explorer(vaegan_jax.load(tmp_path / 'model.zip'), tmp_path / 'model.zip')
  assert again.show(LATENT) == explorer.show(LATENT)
  assert f"load('{tmp_path}/model.zip')" in again.code(LATENT)['code']


@pytest.mark.slow
@pytest.mark.parametrize(
  'call,asked,words',
  [
    ('show', {}, 'z must be 4 numbers'),
    ('show', dict(LATENT, z=[0, 0, 0, float('nan')]), 'z must be 4 numbers'),
    ('show', dict(LATENT, z=[0, 0, 0, 1e9]), 'from -100 to 100'),
    ('show', dict(LATENT, z=[0, 0, 0, [0]]), 'z must be 4 numbers'),
    ('show', dict(LATENT, z=['1', '1', '1', '1']), 'z must be 4 numbers'),
    ('show', dict(LATENT, condition=[1]), 'condition must be 10 numbers'),
    ('show', dict(LATENT, directions=[0] * 99), 'directions must be 4 numbers'),
    ('show', {'from': LATENT, 't': 0}, 'to is no view'),
    ('code', {'from': {'t': 1}, 'to': LATENT, 't': 0}, 'from is no view'),
    ('show', dict(inpainting(), iterations=10**9), 'iterations=1000000000: use 1 to 30'),
    ('show', dict(inpainting(), hole='x'), 'hole must be a picture in base64'),
    ('show', dict(inpainting(), picture=base64.b64encode(b'GIF').decode()), 'not a JPEG'),
    ('encode', dict(picture='/etc/passwd', condition=ONE_HOT), 'not a JPEG|in base64'),
    ('encode', dict(condition=ONE_HOT), 'picture must be a picture in base64'),
    ('samples', dict(seed=-1, condition=ONE_HOT), 'seed=-1'),
    ('samples', dict(seed='x', condition=ONE_HOT), 'seed=x'),
  ],
)
def test_a_request_that_cannot_be_used(explorer, call, asked, words):
  with pytest.raises(ValueError, match=words):
    getattr(explorer, call)(asked)


class Painted:
  """Pixels follow two latents: the first one most, and the second the other way round."""

  latent_size, about = 3, dict(condition='none', names=[], size=0)

  def decode(self, z):
    pixels = np.stack([128 + 20 * z[:, 0], 128 + 20 * z[:, 0], 128 - 6 * z[:, 1]], 1)
    return pixels.clip(0, 255).round().astype(np.uint8)[..., None, None]


def test_principal_directions_are_those_of_the_pixels():
  found, bright = directions.principal(Painted(), count=2)
  np.testing.assert_allclose(found @ found.T, np.eye(2), atol=1e-5)
  assert found[0, 0] > 0.99 and found[1, 1] < -0.95  # to the right, it gets brighter
  assert bright[0] > 1 and abs(bright[2]) < 0.3


class WithAttributes(Painted):
  """Its images are as bright as its second attribute says, and it cannot encode."""

  about = types.MappingProxyType(
    dict(condition='attributes', names=['Male', 'Smiling'], size=2, examples=[[1, 0]])
  )
  networks = types.MappingProxyType(dict(generator=None))
  config = types.MappingProxyType(dict(method_name='cgan', data=dict(image_size=1, channels=1)))
  workdir, step = '/runs/faces', 9

  def _replace(self, batch):
    return self

  def decode(self, z, attributes):
    return np.round(10 * z[:, :1] + 100 * attributes[:, 1:]).astype(np.uint8)[..., None, None]


def test_a_model_that_takes_attributes():
  explorer = views.Explorer(WithAttributes(), 'faces')
  said = explorer.about()
  assert (said['kind'], said['names'], said['condition']) == (
    'attributes', ['Male', 'Smiling'], [1, 0]
  )  # fmt: skip
  assert not said['encoder'] and json.dumps(said)
  view = dict(z=[1.5, 0, 0], condition=[0, 0.5])
  assert explorer.image(view).item() == 65
  code = explorer.code(view)['code']
  assert "restore('" in code and 'step=9)' in code and 'attributes=[[0.0, 0.5]])' in code


class Encoded:
  """Latents are the means of the upper and of the lower half."""

  def __init__(self, condition='none', names=()):
    self.config = settings.to_dict(digits.get_config('vae_gan'))
    self.about = dict(condition=condition, names=names, size=len(names))

  def encode(self, images, labels=None, attributes=None):
    z = np.stack([images[:, :8].mean((1, 2, 3)), images[:, 8:].mean((1, 2, 3))], 1)
    return z.astype(np.float32), z


def test_attribute_vectors_of_the_data_set():
  """A model without a condition moves along the classes of its images."""
  found = directions.of_data(Encoded(), 200)
  assert list(found) == list('0123456789')
  assert found['7'][0] > 0 > found['7'][1]  # a 7 has its ink above
  assert directions.of_data(Encoded('label', list('0123456789')), 200) == {}


@pytest.mark.slow
def test_the_command_says_that_its_port_is_taken(explorer, stub):
  done = subprocess.run(
    [sys.executable, 'experiments/explore.py', f'--workdir={explorer.source}', f'--port={stub[1]}'],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 2 and 'Z=4, condition label>: compiling' in done.stdout
  assert done.stderr.startswith(f'error: --port={stub[1]} cannot be used'), done.stderr


# --- In a browser.


@pytest.mark.slow
def test_a_browser_explores(browser, explorer, serve, tmp_path):
  host, port = serve(explorer)
  files.save_png(tmp_path / 'mine.png', np.tile(np.arange(0, 256, 8, np.uint8), (32, 1)))
  for width, scheme in ((1280, 'light'), (390, 'dark')):
    shown = browser.new_page(viewport=dict(width=width, height=800), color_scheme=scheme)
    wrong = []
    shown.on('console', lambda message, wrong=wrong: wrong.append(message.text))
    shown.on('pageerror', lambda error, wrong=wrong: wrong.append(str(error)))
    shown.on('request', lambda request, wrong=wrong: wrong.append(request.url))
    shown.goto(f'http://{host}:{port}/')
    use(shown, tmp_path)
    own = (f'http://{host}:{port}/', 'data:', 'blob:')
    (refused,) = [w for w in wrong if not w.startswith(own)]
    assert '400 (Bad Request)' in refused  # the file that is no picture
    shown.close()


def use(page, folder):
  """Moves each control once; each must change the picture."""
  page.wait_for_selector('body[data-shown="1"]')
  seen, count = {page.get_attribute('#image', 'src')}, 1

  def changed(action, moves=1):
    nonlocal count
    action()
    count += moves
    page.wait_for_selector(f'body[data-shown="{count}"]')
    src = page.get_attribute('#image', 'src')
    assert src not in seen
    seen.add(src)

  changed(lambda: page.locator('#directions input').first.fill('3'))
  changed(lambda: page.locator('#vectors input').first.fill('-2'))
  changed(lambda: page.select_option('#class', '7'))
  page.click('#from')
  changed(lambda: page.set_input_files('#file', folder / 'mine.png'))
  assert page.is_visible('#own') and page.text_content('#caption') == 'its reconstruction'
  page.click('#to')
  changed(lambda: page.fill('#t', '0.5'))
  page.click('#hole')
  page.locator('#paint').scroll_into_view_if_needed()
  box = page.locator('#paint').bounding_box()
  page.mouse.move(box['x'] + 60, box['y'] + 60)
  page.mouse.down()
  page.mouse.move(box['x'] + 120, box['y'] + 90, steps=3)
  page.mouse.up()
  changed(lambda: page.click('#fill'))
  page.click('#code')
  page.wait_for_selector('#text', state='visible')
  assert 'edit.inpaint(model' in page.text_content('#text')
  with page.expect_download() as download:
    page.click('#save')
  saved = base64.b64encode(download.value.path().read_bytes()).decode()
  assert page.get_attribute('#image', 'src').endswith(saved)
  (folder / 'none.png').write_bytes(b'no picture')
  page.set_input_files('#file', folder / 'none.png')
  page.wait_for_selector('#error', state='visible')
  assert 'not a JPEG' in page.text_content('#error')
  assert page.evaluate('document.documentElement.scrollWidth <= innerWidth')
