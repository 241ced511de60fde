"""The docs site: Sphinx reads the Markdown pages of docs/ and the docstrings; see `make docs`.

The source folder is the repository, so that a link works on the site as in a repository browser.
Nothing is loaded from a network: formulas become MathML, and furo's fonts are the system's.
"""

import pathlib
import re
import sys

from docutils import nodes
from latex2mathml import converter

# What jax.typing.ArrayLike and numpy.typing.ArrayLike spell out.
UNIONS = r'[~\w.]*Array \| [~\w.]*ndarray \| [~|\w. ]*complex|[~\w.]*_Buffer \|.*?\| str\]'
ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import vaegan_jax  # noqa: E402

project, author = 'vaegan_jax', 'the vaegan_jax authors'
version = release = vaegan_jax.__version__
project_copyright = author
root_doc = 'docs/index'
include_patterns = ['docs/*.md', 'docs/api/*.md', 'CONTRIBUTING.md', 'CHANGELOG.md']
exclude_patterns = ['.*', 'build', 'runs', 'tests', 'vaegan_jax', '*.egg-info']
extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode']

myst_enable_extensions = ['dollarmath']
myst_heading_anchors = 4
highlight_language = 'text'
toc_object_entries_show_parents = 'hide'

autodoc_member_order = 'bysource'
autodoc_default_options = {'members': True, 'undoc-members': False}
autodoc_typehints_format = 'short'
maximum_signature_line_length = 70
napoleon_numpy_docstring = False

html_theme = 'furo'
html_title = f'vaegan_jax {release}'
html_static_path = ['_static']
html_css_files = ['site.css']
html_math_renderer = 'mathml'
html_show_sphinx = html_show_copyright = html_copy_source = html_show_sourcelink = False


# --- Formulas


def write_math(display):
  """A visitor of formulas that writes MathML, which browsers draw by themselves."""

  def visit(translator, node):
    made = converter.convert(node.astext(), display=display)
    box = 'div' if display == 'block' else 'span'
    translator.body.append(f'<{box} class="math">{made}</{box}>')
    raise nodes.SkipNode

  return visit


def formulas(page):
  """{function: LaTeX} of the tables of a page whose rows are | `function` | $formula$ |."""
  rows = re.findall(r'^\| `(\w+)` \| \$(.+?)\$ \|', (ROOT / page).read_text(), re.M)
  return {name: formula.replace(r'\|', '|') for name, formula in rows}


# --- Docstrings: plain text with `code`, lists and indented formulas, turned into what Sphinx reads


def escaped(line):
  """A line as reStructuredText: `code` as ``code``, and no other markup."""
  pieces = re.split(r'``?([^`]+)``?', line)
  text = [re.sub(r'([*|\\]|_(?!\w))', r'\\\1', piece) for piece in pieces[::2]]
  code = [f'``{piece}``' for piece in pieces[1::2]]
  return ''.join(part for pair in zip(text, [*code, '']) for part in pair)


def paragraphs(lines):
  """The lines grouped between blank ones."""
  group = []
  for line in [*lines, '']:
    if line.strip():
      group.append(line)
    elif group:
      yield group
      group = []


def converted(lines):
  """The lines of a docstring as reStructuredText."""
  for group in paragraphs(lines):
    first = group[0]
    if first.lstrip().startswith('>>> '):
      yield from [*group, '']
    elif first.startswith('    ') or all(re.search(r'\S {3,}\S', line) for line in group):
      yield from ['::', '', *('  ' + line for line in group), '']
    else:
      item = False
      for line in group:
        starts = re.match(r' *(- |\d\. )', line)
        if (starts and not item) or (item and not starts and line[0] != ' '):
          yield ''
        item = bool(starts) or (item and line[0] == ' ')
        yield escaped(line)
      yield ''


def on_docstring(app, what, name, of, options, lines):
  """Converts a docstring; the formula of a loss or metric takes the place of that in plain text."""
  formula = app.formulas.get(name)
  groups = list(paragraphs(lines))
  if formula and len(groups) > 1 and groups[1][0].startswith('    '):
    del groups[1]
  new = [list(converted(group)) for group in groups]
  if formula:
    new.insert(1, ['.. math::', '', f'   {formula}', ''])
  lines[:] = [line for group in new for line in group]


def on_signature(app, what, name, of, options, signature, returned):
  """Names the unions of JAX and NumPy that signatures spell out."""
  short = lambda text: text and re.sub(UNIONS, 'ArrayLike', text)
  return short(signature), short(returned)


def on_member(app, what, name, of, skip, options):
  """Leaves out the fields of named tuples, which the class's own lines describe."""
  return True if (getattr(of, '__doc__', '') or '').startswith('Alias for field number') else None


def on_finish(app, exception):
  """Makes index.html of the site's folder lead to the first page."""
  if not exception:
    text = '<!doctype html><meta http-equiv="refresh" content="0; url=docs/index.html">'
    (pathlib.Path(app.outdir) / 'index.html').write_text(text)


def setup(app):
  losses, metrics = formulas('docs/losses.md'), formulas('docs/evaluation.md')
  app.formulas = {f'vaegan_jax.losses.{k}': v for k, v in losses.items()}
  app.formulas |= {f'vaegan_jax.metrics.{k}': v for k, v in metrics.items()}
  app.add_html_math_renderer('mathml', (write_math('inline'), None), (write_math('block'), None))
  app.connect('autodoc-process-docstring', on_docstring, priority=400)
  app.connect('autodoc-process-signature', on_signature)
  app.connect('autodoc-skip-member', on_member)
  app.connect('build-finished', on_finish)
