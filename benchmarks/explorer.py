"""Time from a move of a slider to the picture, in a browser on this machine.

    python -m benchmarks.explorer --url=http://127.0.0.1:8008

Start vaegan-explore first. It moves the sliders of the directions in turn, one move after the
other, and takes the time from each move until the browser has decoded the new picture.
"""

import json
import shutil
import statistics

from absl import flags

from vaegan_jax import command

URL = flags.DEFINE_string('url', 'http://127.0.0.1:8008', 'Address that vaegan-explore prints.')
MOVES = flags.DEFINE_integer('moves', 100, 'Moves of a slider.', lower_bound=1)

MOVE = """async moves => {
  const inputs = [...document.querySelectorAll('#directions input')], first = latencies.length;
  for (let i = 0; i < moves; i++) {
    const input = inputs[i % inputs.length];
    input.value = -4 + 0.1 * (i * 37 % 81);
    input.dispatchEvent(new Event('input'));
    while (latencies.length < first + i + 1) await new Promise(done => setTimeout(done, 1));
  }
  return latencies.slice(first);
}"""


def main() -> int:
  from playwright import sync_api

  names = ('chromium', 'chromium-browser', 'google-chrome')
  found = next((path for name in names if (path := shutil.which(name))), None)
  with sync_api.sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=found, args=['--no-sandbox'])
    page = browser.new_page()
    page.goto(URL.value)
    page.wait_for_selector('body[data-shown="1"]')
    times = page.evaluate(MOVE, MOVES.value)
    title = page.title()
    browser.close()
  result = dict(median_ms=round(statistics.median(times)), worst_ms=round(max(times)))
  print(json.dumps(dict(title=title, moves=len(times), **result)))
  return 0


if __name__ == '__main__':
  command.run(main)
