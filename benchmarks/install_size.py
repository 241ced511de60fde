"""What `pip install` brings: packages and MB of the core, and what each extra adds to it.

    python -m benchmarks.install_size --extras=export,hub,video,wandb,metrics,data

It installs this repository into fresh environments under a temporary folder, so it needs a package
registry and some GB of disk.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

from absl import flags

from vaegan_jax import command

EXTRAS = flags.DEFINE_list('extras', ['export', 'hub', 'video'], 'Extras of setup.cfg.')
ROOT = pathlib.Path(__file__).parents[1]
TOOLS = {'pip', 'setuptools', 'vaegan_jax', 'vaegan-jax'}  # what a fresh environment has; ours


def environment(folder: pathlib.Path, base: pathlib.Path | None = None) -> pathlib.Path:
  """The site-packages of a fresh environment, which sees the packages of `base`."""
  subprocess.run([sys.executable, '-m', 'venv', folder], check=True)
  (packages,) = (folder / 'lib').glob('*/site-packages')
  if base:
    (packages / 'base.pth').write_text(f'{base}\n')
  return packages


def install(folder: pathlib.Path, packages: pathlib.Path, what: str) -> dict[str, float]:
  """Installs `what` with pip; {'packages', 'mb'} of the packages of others that it adds."""
  pip = [folder / 'bin' / 'python', '-m', 'pip', '--disable-pip-version-check']
  subprocess.run([*pip, 'install', '--quiet', '--no-compile', what], check=True, cwd=ROOT)
  listed = subprocess.run(
    [*pip, 'list', '--format=json', f'--path={packages}'],
    check=True,
    capture_output=True,
    text=True,
  )
  names = {p['name'].lower() for p in json.loads(listed.stdout)} - TOOLS
  apart = {packages / name for name in ('pip', 'setuptools', 'pkg_resources', 'vaegan_jax')}
  files = [f for f in packages.rglob('*') if f.is_file() and not apart & set(f.parents)]
  return dict(packages=len(names), mb=round(sum(f.stat().st_size for f in files) / 1e6, 1))


def main() -> int:
  with tempfile.TemporaryDirectory() as scratch:
    home = pathlib.Path(scratch)
    core = environment(home / 'core')
    print(json.dumps(dict(core=install(home / 'core', core, '.'))), flush=True)
    for extra in EXTRAS.value:
      packages = environment(home / extra, core)
      print(json.dumps({extra: install(home / extra, packages, f'.[{extra}]')}), flush=True)
  return 0


if __name__ == '__main__':
  command.run(main)
