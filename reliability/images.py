"""Mutated images: no crash, no hang, no exception but one clear ValueError, and flat memory.

    python -m reliability.images --count=10000 --seed=0

A try mutates one of the images below (bits, cuts, repeats, numbers in the header, two files in one)
and reads it as training does. It holds if it gives an image or a ValueError in one line within 2 s.
Memory holds if the process grows by less than 100 MB from the 200th try on. The tries run in a
child: if one kills it, its number is told.
"""

import faulthandler
import io
import mmap
import os
import pathlib
import sys
import time
import warnings

import numpy as np
from PIL import Image

from reliability import campaign

SLOWEST = 2.0  # seconds for one image
GROWTH = 100 * 2**20  # bytes of resident memory
WARM = 200  # tries before memory is looked at


def originals() -> dict[str, bytes]:
  """Small files of the formats that the loader reads, and of some that it does not."""
  pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 4), np.uint8)
  picture = Image.fromarray(pixels)
  grey16 = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
  frames = dict(save_all=True, append_images=[picture.convert('RGB').rotate(90)] * 3)
  exif = Image.Exif()
  exif[0x0112] = 6
  kinds = [
    ('JPEG', 'RGB', {}),
    ('JPEG', 'RGB', dict(progressive=True, exif=exif)),
    ('JPEG', 'L', {}),
    ('JPEG', 'CMYK', {}),
    *(('PNG', mode, {}) for mode in ('RGB', 'RGBA', 'L', 'LA', 'P', '1')),
    ('PNG', 'RGB', frames),
    ('WEBP', 'RGB', {}),
    ('WEBP', 'RGBA', dict(lossless=True)),
    ('WEBP', 'RGB', frames),
    *(('BMP', mode, {}) for mode in ('RGB', 'L', '1')),
    ('GIF', 'P', {}),
    ('GIF', 'RGB', frames),
    ('TIFF', 'RGB', {}),
    ('PPM', 'RGB', {}),
  ]
  made = {}
  for form, mode, options in kinds:
    out = io.BytesIO()
    picture.convert(mode).save(out, form, **options)
    made[f'{form} {mode} {"+".join(options)}'] = out.getvalue()
  out = io.BytesIO()
  grey16.save(out, 'PNG')
  return {**made, 'PNG 16 bits': out.getvalue(), 'text': b'no image ' * 20, 'empty': b''}


ORIGINALS = originals()


def mutated(own: campaign.Try) -> bytes:
  """A file after one to four mutations."""
  draw, name = own.draw, own.draw.choice(list(ORIGINALS))
  own.moment, data = name, bytearray(ORIGINALS[name])
  for _ in range(draw.randint(1, 4)):
    at, end = sorted(draw.randrange(len(data) + 1) for _ in range(2))
    kind = draw.randrange(6)
    if kind == 0:
      data[:64] = bytes(b ^ (1 << draw.randrange(8)) * (draw.random() < 0.1) for b in data[:64])
    elif kind == 1:
      del data[at:]
    elif kind == 2:
      data[at:at] = data[at:end] * draw.randint(1, 3)
    elif kind == 3:
      data[at : at + 4] = draw.choice(
        [b'\xff' * 4, b'\0' * 4, b'\x7f\xff\xff\xff', b'\0\0\xff\xff']
      )
    elif kind == 4:
      other = ORIGINALS[draw.choice(list(ORIGINALS))]
      data[at:end] = other[at:end]
    else:
      for _ in range(1 + len(data) // 200):
        if data:
          data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
  return bytes(data)


def attempt(own: campaign.Try) -> str:
  """Reads one mutated file as vaegan_jax.data does."""
  from vaegan_jax.images import read_image

  data, begun = mutated(own), time.monotonic()
  channels = own.draw.choice([1, 3])
  faulthandler.dump_traceback_later(60, exit=True)
  try:
    image = read_image(data, channels, at_least=32, square=16)
    if image.shape != (16, 16, channels) or image.dtype != np.uint8:
      return f'it gave {image.dtype} {image.shape}'
  except ValueError as e:
    if len(str(e)) > 500:
      return f'an error of {len(str(e))} characters: {str(e)[:200]}'
  finally:
    faulthandler.cancel_dump_traceback_later()
  own.figures['slowest s'] = seconds = time.monotonic() - begun
  if seconds > SLOWEST:
    return f'it took {seconds:.1f} s'
  return memory(own)


def memory(own: campaign.Try) -> str:
  """What is wrong with the resident memory of this process; ''."""
  resident = int(pathlib.Path('/proc/self/statm').read_text().split()[1]) * mmap.PAGESIZE
  if len(RESIDENT) < WARM:
    RESIDENT.append(resident)
  grown = resident - RESIDENT[-1]
  own.figures['grown MB'] = grown / 2**20
  return f'the process has grown by {grown:,} bytes' if grown > GROWTH else ''


RESIDENT: list[int] = []  # bytes after each of the first tries


def main() -> None:
  """The campaign, in a child that a crash may end."""
  at = mmap.mmap(-1, 8)  # the number of the try, shared with the child

  def noted(own: campaign.Try) -> str:
    at[:] = own.number.to_bytes(8, 'little')
    return attempt(own)

  child = os.fork()
  if not child:
    warnings.simplefilter('ignore')  # Pillow's, of damaged metadata
    campaign.run('images', noted)
  code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
  if code not in (0, 1) or (code and not at[:]):
    print(f'images: try {int.from_bytes(at[:], "little")} ended the process with {code}')
  sys.exit(code and 1)


if __name__ == '__main__':
  campaign.define_flags(count=10_000)
  main()
