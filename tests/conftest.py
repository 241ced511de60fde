"""Eight virtual CPU devices, and programs compiled without most optimisations: small tests spend
their time compiling. All workers, and the processes that tests start, share the compiled programs.

TEST_PLATFORM=cuda (or tpu) takes the devices of that backend; benchmarks/accelerator.sh chooses the
tests that need no more of them.
"""

import atexit
import collections
import os
import pathlib
import shutil
import tempfile

if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
  PROGRAMS = os.environ['JAX_COMPILATION_CACHE_DIR'] = tempfile.mkdtemp(prefix='vaegan_jax_tests_')
  atexit.register(shutil.rmtree, PROGRAMS, ignore_errors=True)
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.3')
os.environ['JAX_PLATFORMS'] = os.environ.get('TEST_PLATFORM', 'cpu')

import jax
import pytest

from vaegan_jax import data

ON_CPU = os.environ['JAX_PLATFORMS'] == 'cpu'
# Halves the time that jax 0.10 compiles; jax 0.12 does not know it.
QUICK = '--xla_cpu_use_fusion_emitters=false' if jax.__version_info__ < (0, 11) and ON_CPU else ''
os.environ['XLA_FLAGS'] = (
  f'{os.environ.get("XLA_FLAGS", "")} --xla_force_host_platform_device_count=8 {QUICK}'
)
jax.config.update('jax_disable_most_optimizations', ON_CPU)


def pytest_collection_modifyitems(items):
  """Files with the most slow tests come first: one worker runs a file, and none is to end late."""
  slow = collections.Counter(item.path for item in items if item.get_closest_marker('slow'))
  items.sort(key=lambda item: -slow[item.path])


@pytest.fixture
def key():
  return jax.random.key(0)


@pytest.fixture
def load(tmp_path):
  """load of a folder or zip, with a cache of its own."""

  def call(path, size=8, channels=1, **options):
    return data.load(
      'folder',
      path=str(path),
      image_size=size,
      channels=channels,
      cache_dir=str(tmp_path / '.cache'),
      **options,
    )

  return call


@pytest.fixture(scope='module')
def browser():
  """Headless Chromium: the system's, or Playwright's own."""
  api = pytest.importorskip('playwright.sync_api', reason='pip install playwright')
  names = ('chromium', 'chromium-browser', 'google-chrome')
  found = next((path for name in names if (path := shutil.which(name))), None)
  with api.sync_playwright() as playwright:
    if not found and not pathlib.Path(playwright.chromium.executable_path).exists():
      pytest.skip('no browser: apt-get install chromium, or python -m playwright install chromium')
    started = playwright.chromium.launch(executable_path=found, args=['--no-sandbox'])
    yield started
    started.close()
