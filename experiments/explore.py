"""Opens a page on which one turns a trained model by hand, in the browser of this machine.

    python experiments/explore.py --workdir=runs/demo
    python experiments/explore.py --workdir=model.zip --port=8080 --truncation=0.7

Choose a class or attributes, drag the latents along principal directions and attribute vectors,
drop in a picture of your own, morph between two, paint a hole and let the model fill it; save the
picture, or the Python code that makes it. The page is at 127.0.0.1 alone. See docs/explorer.md.
"""

import pathlib
import time

from absl import flags

from vaegan_jax import command

WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of a run of train.py, or a zip that vaegan-export wrote.'
)
CHECKPOINT = flags.DEFINE_integer(
  'step', None, 'Checkpoint to use; the newest sound one by default.'
)
TRUNCATION = flags.DEFINE_float(
  'truncation',
  1.0,
  'Length of the latents: under 1, fewer samples are broken, but own pictures come out worse.',
)
PORT = flags.DEFINE_integer(
  'port', 8008, 'Port on 127.0.0.1; 0 takes a free one.', lower_bound=0, upper_bound=65535
)
SEEN = flags.DEFINE_integer(
  'attribute_images',
  1000,
  "Images of the run's data set whose attributes become sliders; 0 reads no data set.",
  lower_bound=0,
)


def main() -> int:
  start = time.monotonic()
  zipped = pathlib.Path(WORKDIR.value).is_file()
  if zipped and CHECKPOINT.value is not None:
    raise ValueError(f'--step={CHECKPOINT.value}: {WORKDIR.value} holds one model: leave it out')
  from vaegan_jax import export, sample
  from vaegan_jax.explore import server, views

  command.keep_compiled_programs()
  model = export.load(WORKDIR.value) if zipped else sample.restore(WORKDIR.value, CHECKPOINT.value)
  model = model.truncated(TRUNCATION.value)
  print(f'{model!r}: compiling its programs and looking for directions')
  explorer = views.Explorer(model, WORKDIR.value, SEEN.value)
  if explorer.missing:
    print(f'no attributes of the data set: {explorer.missing}')
  try:
    served = server.server(explorer, PORT.value)
  except OSError as e:
    raise ValueError(f'--port={PORT.value} cannot be used ({e}): choose another one') from e
  port = served.server_address[1]
  print(f'ready after {time.monotonic() - start:.0f} s: http://127.0.0.1:{port} (Ctrl-C ends it)')
  served.serve_forever()
  return 0


def cli() -> None:
  command.run(main, needs=command.NEEDS_RUN)


if __name__ == '__main__':
  cli()
