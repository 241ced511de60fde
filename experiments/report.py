"""Writes the page of a run, or of several side by side: curves, pictures, metrics, commands.

    python experiments/report.py --workdir=runs/demo
    python experiments/report.py --workdir=runs/demo --workdir=runs/other --out=both.html

The page is one HTML file that needs no network. Training renews WORKDIR/report.html by itself. The
folder of a population stands for all its members.
"""

from absl import flags

from vaegan_jax import command, paths, words

WORKDIR = flags.DEFINE_multi_string('workdir', [], 'Folder of a run; may be repeated.')
OUT = flags.DEFINE_string(
  'out', None, 'HTML file to write; by default report.html in the folder of the first run.'
)


def main() -> int:
  if not WORKDIR.value:
    raise ValueError(command.NEEDS_RUN['workdir'])
  if not OUT.value and len(WORKDIR.value) > 1:
    raise ValueError('--out is missing: name an HTML file for several runs, e.g. --out=both.html')
  if OUT.value:
    out = paths.open_path(OUT.value, '--out=')
    if out.is_dir() or not paths.takes_files(out.parent):
      raise ValueError(f'--out={OUT.value}: name an HTML file in a folder that exists')
  from vaegan_jax import page

  out = page.write(WORKDIR.value, OUT.value or paths.open_path(WORKDIR.value[0]) / 'report.html')
  print(f'{out}: {words.size_in_words(paths.size(out))}; open it in a browser')
  return 0


def cli() -> None:
  command.run(main)


if __name__ == '__main__':
  cli()
