"""The HTML of a page of one run or several."""

from collections.abc import Iterable, Mapping, Sequence
import json
import os
import pathlib
import time
from typing import Any

from vaegan_jax import files, paths, rules
from vaegan_jax.page import curves, pictures
from vaegan_jax.page.read import PICTURES, Recorded, runs
from vaegan_jax.page.sections import (
  badge,
  facts_list,
  fields,
  form,
  head,
  rest,
  section,
  step_of,
  text,
)

LARGEST = 5_000_000  # bytes of a page
HOME = pathlib.Path(__file__).parent
TITLES = dict(
  samples='Samples over time',
  reconstructions='Originals above their reconstructions',
  interpolations='Interpolations',
)


def write(workdirs: Iterable[str | os.PathLike], out: str | os.PathLike) -> Any:
  """Writes the page of the runs in some folders to `out`, whole or not at all; returns its path.

  The folder of a population stands for its members.

  Raises:
    ValueError: a folder is not that of a run.
    OSError: `out` cannot be written.
  """
  out = paths.open_path(out)
  files.write_text(out, page(runs(workdirs)))
  return out


def page(recorded: Sequence[Recorded]) -> str:
  """The page of some runs: HTML of at most LARGEST bytes that loads nothing else."""
  title = recorded[0].name if len(recorded) == 1 else f'{len(recorded)} runs'
  terms = list(dict.fromkeys(k for r in recorded for row in r.history for k in row if k != 'step'))
  tables = [t for r in recorded for t in (r.config['method'], first_table(r.config))]
  content = dict(
    names=[r.name for r in recorded],
    groups=curves.groups(tables, terms),
    runs=[
      dict(
        curves.thinned(r.history, terms, curves.points(len(recorded), len(terms))),
        events=[dict(step=step, text=what[:200]) for step, what in r.events[-200:]],
      )
      for r in recorded
    ],
    pictures=pictures_of(recorded),
  )
  shown = [kind for kind in PICTURES if content['pictures'][kind]]
  body = [
    head(recorded[0]) if len(recorded) == 1 else members_table(recorded),
    *(picture_section(kind) for kind in shown if kind == 'samples'),
    curve_section(len(recorded)),
    *(picture_section(kind) for kind in shown if kind != 'samples'),
    *(rest(r) for r in recorded if len(recorded) == 1),
    *(folded(r) for r in recorded if len(recorded) > 1),
  ]
  # No text of a run can close the script: JSON has no use for <, > and & outside of texts.
  data = json.dumps(content, separators=(',', ':'))
  data = data.replace('<', '\\u003c').replace('>', '\\u003e').replace('&', '\\u0026')
  return (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f'<title>{text(title)}</title>\n<link rel="icon" href="data:,">'
    f'<style>{(HOME / "page.css").read_text()}</style></head>\n<body><main>\n'
    + '\n'.join(part for part in body if part)
    + f'<footer>Written {time.strftime("%Y-%m-%d %H:%M:%S")} by vaegan_jax.</footer></main>\n'
    f'<script type="application/json" id="data">{data}</script>\n'
    f'<script>{(HOME / "page.js").read_text()}</script>\n</body></html>\n'
  )


def first_table(config: Mapping[str, Any]) -> Mapping[str, Any]:
  """The table of the first phase, {} without one."""
  return (config.get('first') or {}).get('method') or {}


def folded(run: Recorded) -> str:
  """All of one run among several, folded."""
  return (
    f'<details class="run"><summary><b>{text(run.name)}</b></summary>{facts_list(run)}'
    f'{rest(run)}</details>'
  )


def members_table(recorded: Sequence[Recorded]) -> str:
  """One row per run: the fields in which they differ, their state, and their last terms."""
  flat = [dict(fields(r.config)) for r in recorded]
  shared = [k for k in flat[0] if all(k in own for own in flat)]  # older runs lack some fields
  varied = [
    k
    for k in shared
    if k != 'steps' and not k.endswith('_every_steps') and any(own[k] != flat[0][k] for own in flat)
  ]
  if 'method_name' in varied:  # its name says what its table is
    varied = [k for k in varied if not k.startswith(('method.', 'first.method.'))]
  terms = list(
    dict.fromkeys(
      k for r in recorded for k in rules.shown_terms(r.config['method'], r.config['adversarial'])
    )
  )
  figures = list(dict.fromkeys(k for r in recorded for k in headline(r.evaluation)))
  top = ['run', 'state', 'step', *varied[:8], *terms, *figures]
  rows = []
  for index, (run, own) in enumerate(zip(recorded, flat)):
    last, judged = (run.history[-1] if run.history else {}), headline(run.evaluation)
    cells = [
      f'<th scope="row"><i class="key" data-run="{index}"></i>{text(run.name)}</th>',
      f'<td>{badge(run)}</td><td>{step_of(run):,} of {run.config["steps"]:,}</td>',
      *(f'<td>{text(own.get(k, ""))}</td>' for k in varied[:8]),
      *(f'<td>{text(form(last.get(k)))}</td>' for k in terms),
      *(f'<td>{text(form(judged.get(k)))}</td>' for k in figures),
    ]
    rows.append('<tr>' + ''.join(cells) + '</tr>')
  heads = ''.join(f'<th>{text(k)}</th>' for k in top)
  return (
    f'<header><h1>{len(recorded)} runs</h1><div class="wide"><table>'
    f'<thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody>'
    '</table></div></header>'
  )


def headline(evaluation: Mapping[str, Any]) -> dict[str, float]:
  """{figure: value} of samples that stand in the table of runs."""
  own = evaluation.get('samples') or {}
  return {k: own[k] for k in ('frechet_distance', 'top1', 'recall') if k in own}


def pictures_of(recorded: Sequence[Recorded]) -> dict[str, list[dict[str, Any]]]:
  """{kind: [dict(run, shots=[(step, data URI)])]} of the runs that have such pictures."""
  places = [(kind, i) for kind in PICTURES for i, r in enumerate(recorded) if r.pictures[kind]]
  made = pictures.embedded([recorded[i].pictures[kind] for kind, i in places])
  found: dict[str, list] = {kind: [] for kind in PICTURES}
  for (kind, i), shots in zip(places, made):
    if shots:
      found[kind].append(dict(run=i, shots=shots))
  return found


def picture_section(kind: str) -> str:
  """Filled by page.js: a slider over steps, and a picture per run."""
  return section(TITLES[kind], f'<div class="pictures" data-kind="{kind}"></div>')


def curve_section(count: int) -> str:
  """Filled by page.js: the curves by network."""
  return section(
    'Curves',
    '<noscript><p>The curves and pictures need JavaScript.</p></noscript><div class="tools">'
    '<label>scale <select id="scale"><option>automatic</option><option>linear</option>'
    '<option>logarithmic</option></select></label>'
    '<button id="whole" type="button" disabled>show all steps</button>'
    f'<span id="legend"></span></div><p class="note">Drag over a curve to zoom into its steps.</p>'
    f'<div id="curves" data-runs="{count}"></div>',
  )
