"""Samples of the model in this folder with JAX and numpy alone.

python run.py [SEED COUNT [TRUNCATION]]; 0.6 to 0.8 of the latents' length breaks fewer samples.
"""

import json
import pathlib
import sys

import jax
from jax import export
import numpy as np

here = pathlib.Path(__file__).parent
sys.argv[1:] == ['--help'] and sys.exit(__doc__)
seed, count = [int(word) for word in sys.argv[1:3]] or (0, 64)
truncation = float(sys.argv[3]) if len(sys.argv) > 3 else 1.0
model = json.loads((here / 'manifest.json').read_text())
about, size = model['about'], model['about']['size']
raw = (here / 'weights.safetensors').read_bytes()
begin = 8 + int.from_bytes(raw[:8], 'little')
weights = {
  name: np.frombuffer(raw[begin:][slice(*a['data_offsets'])], np.float32).reshape(a['shape'])
  for name, a in json.loads(raw[8:begin]).items()
  if name.startswith('generator/')
}
exported = export.deserialize(bytearray((here / 'generator.stablehlo').read_bytes()))
one_cpu = jax.default_backend() == 'cpu' and jax.device_count() == 1
options = model['xla_options_of_jax_0.10'] if one_cpu and jax.__version_info__ < (0, 11) else {}
generate = jax.jit(exported.call, compiler_options=options)
table, rng = (
  np.array(about.get('examples') or np.eye(size), np.float32),
  np.random.default_rng(seed),
)
batches = []
for i in range(-(-count // 64)):
  z = jax.random.normal(jax.random.fold_in(jax.random.key(seed), i), (64, model['latent_size']))
  z = z * truncation
  turns = np.arange(64 * i, 64 * i + 64) % max(1, size)  # classes take turns
  rows = rng.integers(len(table), size=64) if about['condition'] == 'attributes' else turns
  batches.append(generate(weights, z, *([table[rows]] if size else [])))
images = np.concatenate(batches)[:count]
np.save('samples.npy', images)  # uint8 [COUNT, H, W, C]
try:
  from PIL import Image
except ImportError:
  sys.exit('samples.npy is written; install Pillow for drawn.png')
columns = min(count, size if about['condition'] == 'label' and 0 < size <= 16 else 8)
blank = np.full((-count % columns, *images.shape[1:]), 255, np.uint8)
rows = np.concatenate([images, blank]).reshape(-1, columns, *images.shape[1:])
canvas = np.squeeze(np.vstack([np.hstack(row) for row in rows]))
scale = max(1, 64 // images.shape[1])
Image.fromarray(canvas.repeat(scale, 0).repeat(scale, 1)).save('drawn.png')
print(f'samples.npy: {count} images; drawn.png shows them')
