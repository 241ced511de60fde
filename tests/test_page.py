"""report.html: whole, small, escaped, and drawn by a browser without a complaint."""

import json
import math

import numpy as np
import pytest

from vaegan_jax import files, page, settings
from vaegan_jax.configs import digits
from vaegan_jax.page import curves, pictures
from vaegan_jax.page.read import runs
from vaegan_jax.runs import pages

HOSTILE = '</script><script>window.hacked = 1</script>&"\''


def make_run(workdir, *, shots=3, side=64, method='cvae_gan', steps=300, name=HOSTILE, **changes):
  """A folder as training leaves it, with made-up curves and pictures."""
  config = settings.with_settings(digits.get_config(method), dict(steps=steps, **changes))
  workdir.mkdir(parents=True)
  files.write_json(workdir / 'config.json', settings.to_dict(config))
  files.write_json(workdir / 'started.json', dict(data=name, classes=[name], command=['x', name]))
  rows = [
    dict(step=s, images_per_s=None, kl=s / 9, pixel=90 * 0.99**s, fake_prior=0.4, real=0.5)
    for s in range(5, steps + 1, 5)
  ]
  lines = [json.dumps(row) for row in rows]
  lines[3] = '{"step": 20, "kl": NaN, "pixel": null, "real": "Infinity"}'
  (workdir / 'metrics.jsonl').write_text('\n'.join(lines) + '\n{"step": 305, "kl')
  (workdir / 'events.jsonl').write_text(json.dumps(dict(step=100, event=f'resumed {name}')) + '\n')
  files.write_json(
    workdir / 'evaluation.json', dict(verdict='fair', samples=dict(top1=0.9), judges={'a': name})
  )
  noise = np.random.default_rng(0)
  for kind in ('samples', 'reconstructions'):
    for i in range(shots):
      image = noise.integers(0, 256, (side, side, 3), np.uint8)
      files.save_png(workdir / kind / f'step_{i * 100 + 100:08d}.png', image)
  return workdir


def test_a_page_loads_nothing_and_escapes_what_a_run_says(tmp_path):
  out = page.write([make_run(tmp_path / '<b>run</b>')], tmp_path / 'x.html')
  text = out.read_text()
  assert '<script>window' not in text and '<b>run' not in text
  for loads in ('src="', 'href="http', 'url(http', '@import', 'fetch('):
    assert loads not in text, loads
  assert 'fair' in text and 'resumed' in text and 'vaegan-sample' in text


@pytest.mark.parametrize('method', ['vae', 'gan'])
def test_a_page_offers_reconstructions_where_there_is_an_encoder(tmp_path, method):
  text = page.write([make_run(tmp_path / 'run', method=method)], tmp_path / 'x.html').read_text()
  assert ('--mode=reconstruct' in text) == (method == 'vae') and '--mode=interpolate' in text


def test_a_page_stays_small(tmp_path, monkeypatch):
  """Noise hardly shrinks: 12 such pictures of each kind and two runs are over this budget."""
  monkeypatch.setattr(pictures, 'BUDGET', 250_000)
  folders = [make_run(tmp_path / name, shots=12, side=128) for name in 'ab']
  text = page.write(folders, tmp_path / 'x.html').read_text()
  content = json.loads(text.split('id="data">')[1].split('</script>')[0])
  shots = content['pictures']['samples'][0]['shots']
  assert shots[-1][0] == 1200 and len(shots) < 12 and len(text) < 350_000
  assert 3_000_000 + 9 * curves.NUMBERS < page.LARGEST


def test_a_folder_that_is_no_run_is_named(tmp_path):
  with pytest.raises(ValueError, match='nothing is not the folder of a run'):
    page.write([tmp_path / 'nothing'], tmp_path / 'x.html')


def test_a_population_is_its_members(tmp_path):
  for name in ('seed_0', 'seed_1'):
    make_run(tmp_path / 'sweep' / name)
  files.write_json(tmp_path / 'sweep' / 'population.json', dict(members=dict(seed_0={}, seed_1={})))
  assert [run.name for run in runs([tmp_path / 'sweep'])] == ['seed_0', 'seed_1']


def test_the_table_of_runs_shows_where_they_differ(tmp_path):
  folders = [
    make_run(tmp_path / 'a'),
    make_run(tmp_path / 'b', steps=200, **{'optimizer.learning_rate': 0.5}),
  ]
  text = page.write(folders, tmp_path / 'x.html').read_text()
  heads = text.split('<thead>')[1].split('</thead>')[0]
  assert '<th>optimizer.learning_rate</th>' in heads and '<th>steps</th>' not in heads
  assert '<td>0.5</td>' in text


def test_what_is_not_finite_or_half_written(tmp_path):
  (run,) = runs([make_run(tmp_path / 'run')])
  assert [row['step'] for row in run.history][:5] == [5, 10, 15, 20, 25] and len(run.history) == 60
  assert all(math.isnan(run.history[3][name]) for name in ('kl', 'pixel', 'real'))


def test_fewer_points_keep_spikes_and_mark_what_is_not_finite():
  history = [dict(step=i, a=1.0, b=1.0) for i in range(1000)]
  history[501]['a'], history[700]['b'] = 99.0, math.nan
  made = curves.thinned(history, ['a', 'b'], 100)
  assert len(made['steps']) == len(made['terms']['a']) == 100
  assert made['steps'][0] == 0 and made['steps'][-1] == 999 and 99.0 in made['terms']['a']
  assert made['terms']['b'].count(False) == 1 and None not in made['terms']['b']


def test_terms_stand_by_their_networks():
  table = dict(generator=dict(real=-1.0, feature_d=1e-5), discriminator=dict(real=1.0, r1=0.0),
               encoder=dict(kl=1.0, feature_d=1.0))  # fmt: skip
  made = curves.groups([table], ['kl', 'real', 'feature_d', 'gradient_encoder', 'odd'])
  assert [(g['title'], [name for name, _ in g['terms']]) for g in made] == [
    ('Encoder', ['kl']),
    ('Encoder and generator', ['feature_d']),
    ('Generator and discriminator', ['real']),
    ('Norms of the gradients', ['gradient_encoder']),
    ('More', ['odd']),
  ]


def test_thinning_keeps_the_ends():
  assert pictures.thinned(list(range(100)), 4) == [0, 33, 66, 99]
  assert pictures.thinned(list(range(100)), 1) == [99] and pictures.thinned([1, 2], 4) == [1, 2]


def test_pages_take_their_share_of_the_time(tmp_path, monkeypatch):
  """With 0.2 s per page, ten are due in the first 200 s."""
  now, written = [1000.0], []
  monkeypatch.setattr(pages.time, 'monotonic', lambda: now[0])
  made = pages.Pages(tmp_path, [tmp_path])

  def write(folders):
    written.append(now[0])
    made.last = 0.2
    made.spent += 0.2

  monkeypatch.setattr(made, '_write', write)
  for now[0] in range(1000, 1201):
    made.renew()
    made.thread and made.thread.join()
  assert len(written) == 10
  assert all(0.2 * i < 0.01 * (at - 1000) + 1e-9 for i, at in enumerate(written, 1))


def test_a_page_that_cannot_be_written_warns(tmp_path, caplog):
  made = pages.Pages(make_run(tmp_path / 'run'), [])
  (tmp_path / 'run' / 'report.html').mkdir()
  made.finish()
  assert 'report.html cannot be written' in caplog.text


# --- In a browser.


@pytest.mark.slow
def test_a_browser_shows_the_page(browser, tmp_path):
  folders = [make_run(tmp_path / name) for name in ('one', HOSTILE.replace('/', ' '))]
  for count in (1, 2):
    out = page.write(folders[:count], tmp_path / f'{count}.html')
    for width, scheme in ((1280, 'light'), (390, 'dark')):
      shown = browser.new_page(viewport=dict(width=width, height=800), color_scheme=scheme)
      wrong = []
      shown.on('console', lambda message, wrong=wrong: wrong.append(message.text))
      shown.on('pageerror', lambda error, wrong=wrong: wrong.append(str(error)))
      shown.on('request', lambda request, wrong=wrong: wrong.append(request.url))
      shown.goto(out.as_uri())
      check_shown(shown, count)
      assert [w for w in wrong if not w.startswith(('file:', 'data:'))] == []
      shown.close()


def check_shown(shown, count):
  """Curves are drawn, sliders change pictures, zoom works, nothing scrolls sideways."""
  assert shown.evaluate('document.documentElement.scrollWidth <= innerWidth')
  assert not shown.evaluate('window.hacked')
  drawn = shown.evaluate(
    "[...document.querySelectorAll('.chart path')].map(p => p.getTotalLength())"
  )
  assert len(drawn) == 4 * count and min(drawn) > 50
  assert shown.locator('.chart .broken').count() == 3 * count  # kl, pixel and real at step 20
  assert shown.locator('.chart .event').count() == 4 * count
  image, slider = shown.locator('.pictures img').first, shown.locator('.pictures input').first
  before = image.get_attribute('src')
  slider.fill('0')
  assert image.get_attribute('src') != before
  assert image.evaluate('image => image.decode().then(() => image.naturalWidth)') == 64
  curve = shown.locator('.chart svg').first
  curve.hover(position=dict(x=100, y=50))  # scrolls to it
  assert ': ' in shown.locator('.chart .value').first.text_content()
  box = curve.bounding_box()
  shown.mouse.down()
  shown.mouse.move(box['x'] + 140, box['y'] + 50, steps=3)
  shown.mouse.up()
  assert shown.locator('#whole').is_enabled()
