"""The parts of a page that tell of one run: what it was, how it does, its figures and commands.

All that comes from a run (names, paths, events) is escaped.
"""

from collections.abc import Iterable, Mapping
import html
import shlex
from typing import Any

from vaegan_jax import health
from vaegan_jax.page.read import Recorded


def text(value: Any) -> str:
  """A value as HTML; bytes of a path that are no UTF-8 become question marks."""
  return html.escape(str(value).encode(errors='replace').decode())


def section(title: str, content: str) -> str:
  """A section with a heading; `content` is HTML."""
  return f'<section><h2>{text(title)}</h2>{content}</section>'


def form(value: Any) -> str:
  """A number for a table; '' for None."""
  if isinstance(value, bool) or not isinstance(value, (int, float)):
    return '' if value is None else str(value)
  return 'not finite' if value != value else f'{value:.4g}'


def fields(config: Mapping[str, Any], prefix: str = '') -> Iterable[tuple[str, Any]]:
  """Pairs (dotted path, value) of a config as plain dicts."""
  for key, value in config.items():
    if isinstance(value, dict):
      yield from fields(value, f'{prefix}{key}.')
    else:
      yield prefix + key, value


def badge(run: Recorded) -> str:
  """The State as HTML."""
  state = health.state(run.history, run.config)
  return f'<span class="state {state.level}">{text(state.words)}</span>'


def step_of(run: Recorded) -> int:
  """The last logged step."""
  return run.history[-1]['step'] if run.history else 0


def facts(run: Recorded) -> dict[str, str]:
  """{name: value}: what was run, and on what."""
  config, started = run.config, run.started
  data, network, rate = config['data'], config['network'], [x for x in run.images_per_s if x == x]
  size = f'{data["image_size"]}x{data["image_size"]}x{data["channels"]}'
  found = {
    'Method': config['method_name'],
    'Data': started.get('data') or f'{data["name"]} ({data["split"]})',
    'Images': f'{size}, condition: {data["condition"]}',
    'Classes': ', '.join(started.get('classes') or []),
    'Steps logged': f'{step_of(run):,} of {config["steps"]:,}, batches of {config["batch_size"]}',
    'Speed': f'{rate[-1]:,.0f} images/s' if rate else '',
    'Network': f'{network["name"]}, width {network["width"]:g}, {network["latent_size"]} latents',
    'Parameters': started.get('parameters', ''),
    'Learning rate': f'{config["optimizer"]["learning_rate"]:g} ({config["optimizer"]["name"]})',
    'Seed': config['seed'],
    'Devices': started.get('devices', ''),
    'Versions': ', '.join(f'{k} {v}' for k, v in (started.get('versions') or {}).items()),
    'Folder': run.workdir,
  }
  return {k: str(v) for k, v in found.items() if v != ''}


def facts_list(run: Recorded) -> str:
  """The facts as HTML."""
  rows = ''.join(
    f'<div><dt>{text(k)}</dt><dd>{text(v[:600])}</dd></div>' for k, v in facts(run).items()
  )
  return f'<dl>{rows}</dl>'


def head(run: Recorded) -> str:
  """What was run and how it does, for a run alone."""
  share = min(100, 100 * step_of(run) / run.config['steps'])
  return (
    f'<header><h1>{text(run.name)}</h1><p>{badge(run)}</p>'
    f'<div class="bar"><i style="width:{share:.1f}%"></i></div>{facts_list(run)}</header>'
  )


def rest(run: Recorded) -> str:
  """What a page says of a run below its curves."""
  parts = (metrics_section, events_section, commands_section, config_section)
  return '\n'.join(part(run) for part in parts)


def metrics_section(run: Recorded) -> str:
  """The figures of evaluation.json; '' if the run was not judged."""
  if not run.evaluation:
    return ''
  e = run.evaluation
  groups = ('samples', 'real', 'ratio', 'attributes', 'reconstructions', 'latents')
  parts = []
  for group in (*groups, 'overfitting', 'held_out'):
    pairs = [(k, v) for k, v in (e.get(group) or {}).items() if isinstance(v, (int, float))]
    rows = ''.join(f'<tr><th scope="row">{text(k)}</th><td>{form(v)}</td></tr>' for k, v in pairs)
    if rows:
      parts.append(f'<div><h3>{text(group)}</h3><table>{rows}</table></div>')
  judges = '; '.join(f'{k}: {v}' for k, v in (e.get('judges') or {}).items())
  about = '; '.join(f'{k} {v}' for k, v in (e.get('settings') or {}).items())
  return section(
    'Metrics',
    (f'<p>{text(e["verdict"])}</p>' if e.get('verdict') else '')
    + f'<div class="grid">{"".join(parts)}</div>'
    + f'<p class="note">{text(about)}. Judged by {text(judges)}.</p>',
  )


def events_section(run: Recorded) -> str:
  """The newest events, as a list; '' without any."""
  if not run.events:
    return ''
  rows = ''.join(f'<li>step {step:,}: {text(what[:200])}</li>' for step, what in run.events[-50:])
  return section('Events', f'<ul>{rows}</ul>')


def commands_section(run: Recorded) -> str:
  """How to resume, sample, reconstruct, judge and hand on."""
  where = f'--workdir={shlex.quote(str(run.workdir))}'
  command, folder = run.started.get('command'), run.started.get('folder', '')
  if command:
    again = f'cd {shlex.quote(str(folder))}\n{shlex.join(map(str, command))}'
  else:
    again = '# call train() again with the config and the workdir of this run'
  reconstruct = f'vaegan-sample {where} --out=reconstructions.png --mode=reconstruct'
  encodes = bool(run.config['method'].get('encoder'))
  rows = {
    'Resume (the same command; it ends at once if all steps are done)': again,
    'Sample': f'vaegan-sample {where} --out=samples.png',
    **({'Reconstruct': reconstruct} if encodes else {}),
    'Interpolate': f'vaegan-sample {where} --out=interpolations.png --mode=interpolate',
    'Judge': f'vaegan-evaluate {where}',
    'Hand on': f'vaegan-export {where} --out=model.zip',
    'Renew this page': f'vaegan-report {where}',
  }
  shown = ''.join(f'<h3>{text(k)}</h3><pre>{text(v)}</pre>' for k, v in rows.items())
  return section('Commands', shown)


def config_section(run: Recorded) -> str:
  """All fields of the config."""
  rows = ''.join(
    f'<tr><th scope="row">{text(k)}</th><td>{text(v)}</td></tr>' for k, v in fields(run.config)
  )
  return section(
    'Config',
    f'<details><summary>all fields</summary><div class="wide">'
    f'<table>{rows}</table></div></details>',
  )
