"""Pictures in any format, broken files, grids and captions; files written whole or not at all."""

import contextlib
import io
import os
import struct
import time
import tracemalloc
import types
import zlib

import numpy as np
from PIL import Image, ImageDraw, ImageFont
import pytest

from vaegan_jax import files, images
from vaegan_jax.words import size_in_words

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (20, 30, 3), np.uint8)
SMOOTH = np.stack([np.add.outer(np.arange(20) * 4, np.arange(30) * 5)] * 3, -1).astype(np.uint8)
SMOOTH[..., 1] = 200 - SMOOTH[..., 1] // 2


def encoded(pixels, form='PNG', mode=None, **options):
  picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
  out = io.BytesIO()
  (picture.convert(mode) if mode else picture).save(out, form, **options)
  return out.getvalue()


def png(width, height, depth, colour, rows, extra=()):
  """The bytes of a PNG; Pillow writes neither 16-bit colour nor false headers."""
  chunk = lambda kind, body: (
    struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))
  )
  header = struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, 0)
  raw = b''.join(b'\0' + row for row in rows)
  return (
    b'\x89PNG\r\n\x1a\n'
    + chunk(b'IHDR', header)
    + b''.join(chunk(*e) for e in extra)
    + chunk(b'IDAT', zlib.compress(raw))
    + chunk(b'IEND', b'')
  )


@pytest.mark.parametrize(
  'form, options',
  [('PNG', {}), ('BMP', {}), ('WEBP', dict(lossless=True)), ('PNG', dict(interlace=1))],
)
def test_lossless_formats_are_exact(form, options):
  np.testing.assert_array_equal(images.read_image(encoded(NOISE, form, **options), 3), NOISE)


@pytest.mark.parametrize(
  'form, options',
  [
    ('JPEG', dict(quality=95)),
    ('JPEG', dict(quality=95, progressive=True)),
    ('WEBP', dict(quality=95)),
  ],
)
def test_lossy_formats_are_close(form, options):
  got = images.read_image(encoded(SMOOTH, form, **options), 3)
  assert got.shape == SMOOTH.shape and np.abs(got.astype(int) - SMOOTH).mean() < 4


def test_source_may_be_bytes_path_or_file(tmp_path):
  path = tmp_path / "é 日本 'x.png"
  path.write_bytes(encoded(NOISE))
  for source in (path, str(path), open(path, 'rb'), path.read_bytes()):
    np.testing.assert_array_equal(images.read_image(source, 3), NOISE)
    if hasattr(source, 'close'):
      source.close()


def test_grey_and_colour_convert():
  grey = NOISE[..., 0]
  np.testing.assert_array_equal(images.read_image(encoded(grey), 1)[..., 0], grey)
  np.testing.assert_array_equal(images.read_image(encoded(grey), 3), np.stack([grey] * 3, -1))
  luma = NOISE @ np.array([0.299, 0.587, 0.114])
  got = images.read_image(encoded(NOISE), 1)
  assert got.shape == (20, 30, 1) and np.abs(got[..., 0] - luma).max() <= 1
  with pytest.raises(ValueError, match='channels is 4'):
    images.read_image(encoded(NOISE), 4)


@pytest.mark.parametrize('mode', ['1', 'P', 'L', 'CMYK'])
def test_modes(mode):
  form = 'JPEG' if mode == 'CMYK' else 'PNG'
  picture = Image.fromarray(SMOOTH).convert(mode)
  got = images.read_image(encoded(picture, form), 3)
  expected = np.asarray(picture.convert('RGB')).astype(int)
  assert np.abs(got - expected).mean() < (3 if form == 'JPEG' else 1e-9)
  assert images.read_image(encoded(picture, form), 1).shape == (20, 30, 1)


def test_16_bits_are_scaled():
  values = np.linspace(0, 65535, 20 * 30).astype(np.uint16).reshape(20, 30)
  data = encoded(Image.fromarray(values))
  grey = images.read_image(data, 1)[..., 0]
  np.testing.assert_array_equal(grey, np.rint(values / 257))
  assert len(np.unique(grey)) == 256
  np.testing.assert_array_equal(images.read_image(data, 3)[..., 2], grey)
  for colour, channels in ((2, 3), (4, 2), (6, 4)):
    rows = [np.stack([row] * channels, -1) for row in values]
    for row in rows:
      row[:, 1 if channels == 2 else 3 :] = 65535  # alpha, if any: opaque
    data = png(30, 20, 16, colour, [r.astype('>u2').tobytes() for r in rows])
    got = images.read_image(data, 3)
    assert np.abs(got - values[..., None] / 257).max() <= 1, colour


def test_transparency_shows_the_background():
  pixels = np.zeros((4, 4, 4), np.uint8)
  pixels[0] = 10, 20, 30, 255
  pixels[1] = 100, 0, 200, 128
  got = images.read_image(encoded(pixels), 3)
  np.testing.assert_array_equal(got[0, 0], [10, 20, 30])
  assert np.abs(got[1, 0] - np.array([177, 127, 227])).max() <= 1
  np.testing.assert_array_equal(got[2:], 255)
  dark = images.read_image(encoded(pixels), 3, background=(0, 0, 9))
  np.testing.assert_array_equal(dark[3, 3], [0, 0, 9])
  assert (images.read_image(encoded(pixels, 'WEBP', lossless=True), 3)[2:] == 255).all()


def test_transparency_of_grey_and_palette():
  grey = Image.fromarray(np.array([[[7, 255], [7, 0]]], np.uint8))
  assert grey.mode == 'LA'
  np.testing.assert_array_equal(images.read_image(encoded(grey), 1)[0, :, 0], [7, 255])
  palette = Image.new('P', (2, 1))
  palette.putpalette([1, 2, 3, 50, 60, 70])
  palette.putpixel((1, 0), 1)
  for transparency in (1, b'\xff\x00'):
    got = images.read_image(encoded(palette, transparency=transparency), 3)
    np.testing.assert_array_equal(got[0], [[1, 2, 3], [255, 255, 255]])
  got = images.read_image(png(2, 1, 8, 0, [b'\x05\x09'], [(b'tRNS', b'\0\x09')]), 1)
  np.testing.assert_array_equal(got[0, :, 0], [5, 255])


@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'WEBP'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_orientation(form, orientation):
  """A picture is read upright, whichever of the eight ways it is stored."""
  upright = SMOOTH.copy()
  upright[:10, :10] = 250  # corners that differ
  store = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, 1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x, -1),
  }[orientation]
  exif = Image.Exif()
  exif[images.ORIENTATION] = orientation
  options = dict(JPEG=dict(quality=95), PNG={}, WEBP=dict(quality=95))[form]
  data = encoded(np.ascontiguousarray(store(upright)), form, exif=exif.tobytes(), **options)
  got = images.read_image(data, 3)
  assert got.shape == upright.shape
  assert np.abs(got.astype(int) - upright).mean() < 4


@pytest.mark.filterwarnings('ignore:Corrupt EXIF')
@pytest.mark.parametrize('exif', [b'MM\0*\0\0\0\xff garbage', b'garbage', b''])
def test_damaged_exif_does_not_matter(exif):
  data = encoded(NOISE, exif=b'Exif\0\0' + exif)
  np.testing.assert_array_equal(images.read_image(data, 3), NOISE)


@pytest.mark.parametrize('form', ['GIF', 'PNG', 'WEBP'])
def test_first_frame_of_an_animation(form):
  frames = [Image.new('RGB', (9, 7), c) for c in ('red', 'green', 'blue')]
  options = dict(lossless=True) if form == 'WEBP' else {}
  data = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
  got = images.read_image(data, 3)
  assert got.shape == (7, 9, 3)
  np.testing.assert_array_equal(got, np.broadcast_to([255, 0, 0], (7, 9, 3)))


@pytest.mark.parametrize('width, height', [(1, 1), (4000, 1), (1, 4000), (3, 2)])
def test_odd_sizes(width, height):
  got = images.read_image(encoded(np.full((height, width, 3), 77, np.uint8)), 3)
  assert got.shape == (height, width, 3)
  np.testing.assert_array_equal(images.fit_image(got, 16), np.full((16, 16, 3), 77))


def test_jpeg_may_be_decoded_smaller():
  big = np.asarray(Image.fromarray(SMOOTH).resize((1200, 800)))
  data = encoded(big, 'JPEG', quality=90)
  small = images.read_image(data, 3, at_least=128)
  assert small.shape == (200, 300, 3)
  close = images.fit_image(small, 64).astype(int) - images.fit_image(images.read_image(data, 3), 64)
  assert np.abs(close).mean() < 1
  assert images.read_image(encoded(big), 3, at_least=128).shape == (800, 1200, 3)


def bombs():
  yield 'png', png(20000, 20000, 8, 2, [])
  yield (
    'bmp',
    b'BM'
    + struct.pack('<IHHI', 60, 0, 0, 54)
    + struct.pack('<IiiHHIIiiII', 40, 20000, 20000, 1, 24, 0, 0, 0, 0, 0, 0),
  )
  yield (
    'gif',
    b'GIF89a'
    + struct.pack('<HHBBB', 20000, 20000, 0, 0, 0)
    + b','
    + struct.pack('<HHHHB', 0, 0, 20000, 20000, 0)
    + b'\x08\x01\0\0;',
  )
  jpeg = bytearray(encoded(NOISE, 'JPEG'))
  at = jpeg.index(b'\xff\xc0') + 5
  jpeg[at : at + 4] = struct.pack('>HH', 20000, 20000)
  yield 'jpeg', bytes(jpeg)
  lossless = bytearray(encoded(NOISE, 'WEBP', lossless=True))
  at = lossless.index(b'VP8L') + 9
  lossless[at : at + 4] = struct.pack('<I', 16383 | 16383 << 14)
  yield 'webp', bytes(lossless)
  yield 'half as much', png(14000, 10000, 8, 2, [])
  yield 'just over', png(8000, 6251, 1, 0, [])


@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
@pytest.mark.parametrize('data', [pytest.param(d, id=n) for n, d in bombs()])
def test_bombs_are_refused_by_their_header(data):
  start = time.perf_counter()
  with pytest.raises(ValueError, match='pixels.* limit of'):
    images.read_image(data, 3)
  assert time.perf_counter() - start < 0.5


def test_limit_is_in_pixels():
  """A picture of exactly the limit is decoded."""
  data = png(10000, 5000, 1, 0, [b'\xff' * 1250] * 5000)
  assert images.read_image(data, 1).shape == (5000, 10000, 1)


@pytest.mark.parametrize(
  'form, options',
  [
    ('PNG', {}),
    ('BMP', {}),
    ('WEBP', dict(lossless=True)),
    ('WEBP', {}),
    ('JPEG', {}),
    ('JPEG', dict(progressive=True)),
    ('GIF', {}),
  ],
)
@pytest.mark.parametrize('part', [0.0, 0.01, 0.3, 0.6, 0.9])
def test_truncated_files(form, options, part):
  data = encoded(RNG.integers(0, 256, (64, 64, 3), np.uint8), form, **options)
  with pytest.raises(ValueError):
    images.read_image(data[: int(part * len(data))], 3)


@pytest.mark.parametrize(
  'data, reason',
  [
    (b'', 'not a JPEG'),
    (b'hello', 'not a JPEG'),
    (b'%!PS-Adobe-3.0 EPSF-3.0\n', 'not a JPEG'),
    (b'P6 1 1 255 abc', 'not a JPEG'),
    (b'\x89PNG\r\n\x1a\n', 'not a'),
  ],
)
def test_other_files(data, reason):
  with pytest.raises(ValueError, match=reason):
    images.read_image(data, 3)


def test_missing_file_and_folder(tmp_path):
  for path in (tmp_path / 'none.png', tmp_path):
    with pytest.raises(ValueError, match='not a readable image'):
      images.read_image(path, 3)


@pytest.mark.filterwarnings('ignore')
def test_mutated_files_raise_nothing_but_value_error():
  seeds = [
    encoded(SMOOTH, f, **o)
    for f, o in (
      ('PNG', {}),
      ('PNG', dict(interlace=1)),
      ('JPEG', {}),
      ('JPEG', dict(progressive=True)),
      ('GIF', {}),
      ('BMP', {}),
      ('WEBP', {}),
      ('WEBP', dict(lossless=True)),
    )
  ]
  exif = Image.Exif()
  exif[images.ORIENTATION] = 6
  seeds += [encoded(SMOOTH, 'JPEG', exif=exif.tobytes()), encoded(SMOOTH, 'PNG', mode='P')]
  rng, refused, slowest = np.random.default_rng(1), 0, 0.0
  for i in range(1000):
    data = bytearray(seeds[i % len(seeds)])
    for _ in range(rng.integers(1, 6)):
      at = rng.integers(len(data)) if rng.random() < 0.5 else rng.integers(min(60, len(data)))
      data[at] = rng.integers(256)
    if rng.random() < 0.2:
      del data[rng.integers(len(data)) :]
    start = time.perf_counter()
    try:
      got = images.read_image(bytes(data), 3)
      assert got.dtype == np.uint8 and got.ndim == 3 and got.shape[2] == 3 and got.size
    except ValueError as error:
      assert str(error)
      refused += 1
    slowest = max(slowest, time.perf_counter() - start)
  assert 100 < refused < 1000 and slowest < 1


def test_fit_image_crops_to_the_middle():
  wide = np.zeros((10, 30, 3), np.uint8)
  wide[:, 10:20] = 200
  np.testing.assert_array_equal(images.fit_image(wide, 10), np.full((10, 10, 3), 200))
  tall = wide.swapaxes(0, 1)
  np.testing.assert_array_equal(images.fit_image(tall, 20), np.full((20, 20, 3), 200))


def test_fit_image_takes_a_crop():
  """Larsen et al.'s box on an aligned CelebA image."""
  image = np.zeros((218, 178, 3), np.uint8)
  image[40:188, 15:163] = 90
  got = images.fit_image(image, 64, (40, 15, 148, 148))
  np.testing.assert_array_equal(got, np.full((64, 64, 3), 90))
  for crop in ((40, 15, 179, 148), (40, 31, 148, 148), (-1, 0, 10, 10)):
    with pytest.raises(ValueError, match='does not lie within 218 x 178'):
      images.fit_image(image, 64, crop)


def test_fit_image_is_antialiased():
  stripes = np.zeros((64, 64, 1), np.uint8)
  stripes[:, ::2] = 255
  small = images.fit_image(stripes, 16)
  assert small.shape == (16, 16, 1) and np.abs(small[4:-4, 4:-4].astype(int) - 127).max() < 12


def test_fit_image_enlarges_smoothly():
  step = np.repeat([0, 240], 4).astype(np.uint8)[None, :, None].repeat(8, 0)
  large = images.fit_image(step, 32)[16, :, 0].astype(int)
  assert len(np.unique(large)) > 4 and large[0] < 10 and large[-1] > 230


def test_fit_image_pads_with_zeros():
  image = np.full((28, 28, 1), 9, np.uint8)
  padded = images.fit_image(image, 32, pad=True)
  assert padded.shape == (32, 32, 1) and padded.sum() == 9 * 28 * 28
  np.testing.assert_array_equal(padded[2:-2, 2:-2], image)
  assert images.fit_image(np.full((5, 2, 3), 1, np.uint8), 8, pad=True).sum() == 30
  with pytest.raises(ValueError, match='cannot be padded'):
    images.fit_image(image, 27, pad=True)


def test_same_size_is_untouched():
  np.testing.assert_array_equal(images.fit_image(NOISE[:, :20], 20), NOISE[:, :20])


def test_to_uint8_undoes_the_scaling():
  every = np.arange(256, dtype=np.uint8)
  np.testing.assert_array_equal(images.to_uint8(every.astype(np.float32) / 127.5 - 1), every)
  beyond = images.to_uint8(np.array([-3.0, -1.0, 0.001, 1.0, 7.0]))
  np.testing.assert_array_equal(beyond, [0, 0, 128, 255, 255])
  with pytest.raises(ValueError, match='2 of 3 pixel values are NaN'):
    images.to_uint8(np.array([np.nan, 0, np.inf]))


def test_grid_places_pictures_row_by_row():
  pictures = np.stack([np.full((4, 6, 3), v, np.uint8) for v in (10, 20, 30, 40, 50)])
  canvas = images.grid(pictures, columns=3, padding=2, scale=1)
  assert canvas.shape == (2 * 6 + 2, 3 * 8 + 2, 3) and canvas.dtype == np.uint8
  np.testing.assert_array_equal(canvas[2:6, 2:8], pictures[0])
  np.testing.assert_array_equal(canvas[2:6, 18:24], pictures[2])
  np.testing.assert_array_equal(canvas[8:12, 10:16], pictures[4])
  assert (canvas[8:, 17:] == 255).all() and (canvas[:2] == 255).all()


def test_grid_enlarges_small_pictures():
  pictures = RNG.integers(0, 255, (7, 8, 8, 1), np.uint8)
  canvas = images.grid(pictures, columns=7)
  assert canvas.shape == (64 + 4, 7 * 66 + 2)
  np.testing.assert_array_equal(canvas[2:66:8, 2:66:8], pictures[0, :, :, 0])
  assert images.grid(pictures, scale=1, padding=0).shape == (24, 24)
  assert images.grid(np.zeros((2, 64, 64, 3), np.uint8)).shape == (68, 134, 3)


@pytest.mark.parametrize(
  'wrong',
  [
    np.zeros((2, 4, 4, 3)),
    np.zeros((0, 4, 4, 3), np.uint8),
    np.zeros((4, 4, 3), np.uint8),
    np.zeros((2, 4, 4, 2), np.uint8),
  ],
)
def test_grid_refuses(wrong):
  with pytest.raises(ValueError, match='a grid takes uint8 images'):
    images.grid(wrong)


def test_reconstructions_are_below_their_originals():
  originals = np.stack([np.full((64, 64, 3), v, np.uint8) for v in (10, 20, 30)])
  canvas = images.reconstruction_grid(originals, originals + 100, columns=2)
  assert canvas.shape == (8 + 2 * (130 + 8), 8 + 2 * 72, 3)
  assert canvas[8, 8, 0] == 10 and canvas[8 + 66, 8, 0] == 110 and canvas[8 + 65, 8, 0] == 255
  assert canvas[8, 80, 0] == 20 and canvas[8 + 138, 8, 0] == 30
  with pytest.raises(ValueError, match='differ in shape'):
    images.reconstruction_grid(originals, originals[:2])


@pytest.mark.parametrize('shape', [(5, 7), (5, 7, 1), (5, 7, 3)])
def test_png_round_trip(tmp_path, shape):
  picture = RNG.integers(0, 256, shape, np.uint8)
  path = tmp_path / 'é 日本' / 'x.png'
  files.save_png(path, picture)
  got = images.read_image(path, 3 if shape[2:] == (3,) else 1)
  np.testing.assert_array_equal(got.reshape(shape), picture)
  assert [p.name for p in path.parent.iterdir()] == ['x.png']


@pytest.mark.parametrize('mode', ['1', 'L', 'RGB', 'RGBA', 'P', 'I;16'])
@pytest.mark.parametrize('channels', [1, 3])
def test_a_square_is_what_fit_image_makes(mode, channels):
  rng = np.random.default_rng(0)
  for size in ((31, 20), (20, 601), (16, 16), (9, 12)):
    values = rng.integers(0, 256, (*size[::-1], 4), np.uint8)
    image = Image.fromarray(values).convert(mode if mode != 'I;16' else 'L')
    if mode == 'I;16':
      image = Image.fromarray(values[..., 0].astype(np.uint16) * 200)
    out, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    image.save(out, 'PNG', exif=exif)
    whole = images.fit_image(images.read_image(out.getvalue(), channels), 16)
    np.testing.assert_array_equal(
      images.read_image(out.getvalue(), channels, square=16), whole, f'{size}'
    )


@pytest.mark.parametrize('mode', ['L', 'RGB', 'RGBA', 'I;16'])
def test_a_large_picture_is_not_copied_to_make_a_small_one(mode):
  image = Image.fromarray(np.zeros((1500, 1500), np.uint16)) if mode == 'I;16' else None
  image, out = image or Image.new(mode, (1500, 1500)), io.BytesIO()
  image.save(out, 'PNG')
  tracemalloc.start()
  try:
    images.read_image(out.getvalue(), 3, square=16)
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  assert peak < 1500 * 1500 * 3, peak  # one copy; four times that before


def test_the_disk_is_looked_at_before_pngs_are_drawn(tmp_path):
  drawn = iter([NOISE[None]])
  with pytest.raises(OSError, match='/many needs 3.638 TiB, but only .* are free: make room'):
    files.save_pngs(tmp_path / 'many', drawn, 10**12 // 1024, pixels=8192)
  assert next(drawn) is not None and not list(tmp_path.iterdir())


def test_a_class_whose_name_is_no_utf_8_has_its_row(tmp_path):
  rows = [('file', 'label'), ('0000.png', os.fsdecode(b'cl\xfe'))]
  files.save_pngs(tmp_path / 'many', [NOISE[None]], 1, rows)
  assert (tmp_path / 'many' / 'labels.csv').read_bytes().splitlines()[1] == rb'0000.png,cl\udcfe'


def test_a_grid_too_large_to_make_is_refused():
  with pytest.raises(ValueError, match='64,000,000 x 64,000,000 pixels is over .*: enlarge its'):
    images.grid(np.zeros((1, 64, 64, 1), np.uint8), scale=1000000)


def test_png_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
  path = tmp_path / 'x.png'
  files.save_png(path, NOISE)
  with pytest.raises(ValueError, match='takes uint8'):
    files.save_png(path, NOISE / 255)

  def fail(self, file, form):
    file.write(b'half')
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(Image.Image, 'save', fail)
  with pytest.raises(OSError, match='^.*/x.png cannot be written: No space left on device$'):
    files.save_png(path, NOISE)
  assert os.listdir(tmp_path) == ['x.png']
  np.testing.assert_array_equal(images.read_image(path, 3), NOISE)


def test_the_path_of_a_png_that_cannot_be_written_is_named(tmp_path):
  (tmp_path / 'x.png').mkdir()
  with pytest.raises(OSError, match='^.*/x.png cannot be written: Is a directory$'):
    files.save_png(tmp_path / 'x.png', NOISE)
  (tmp_path / 'file').write_text('')
  with pytest.raises(OSError, match='^.*/file/y.png cannot be written: '):
    files.save_png(tmp_path / 'file' / 'y.png', NOISE)
  assert sorted(os.listdir(tmp_path)) == ['file', 'x.png']


def test_captions_surround_the_grid_and_do_not_change_it():
  pictures = np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3), np.uint8)
  grid = images.grid(pictures, 3, scale=1)
  sheet = images.captioned(grid, rows=['vae', 'vae gan'], columns=['a', 'b', 'c'])
  left, top = sheet.shape[1] - grid.shape[1], sheet.shape[0] - grid.shape[0]
  np.testing.assert_array_equal(sheet[top:, left:], grid)
  assert left > top > 10 and (sheet[top:, :left] < 128).any() and (sheet[:top, left:] < 128).any()
  assert sheet[:top, :left].min() == 255
  # Names wider than a column are turned upright.
  long = images.captioned(grid, columns=['wearing lipstick'] * 3)
  assert long.shape[1] == grid.shape[1] and long.shape[0] - grid.shape[0] > 80


def test_upright_words_are_horizontal_ones_rotated():
  font = ImageFont.load_default(13)
  rows = lambda picture: np.flatnonzero((np.asarray(picture) < 128).any((1, 2)))
  assert abs(rows(images.upright('wearing', font, 100, 20)).mean() - 50) < 2
  strip = images.upright('wearing', font, 100, 20, 6)
  assert strip.size == (20, 100) and abs(rows(strip)[-1] - 94) < 3 and len(rows(strip)) > 30
  level = Image.new('RGB', (100, 20), 'white')
  ImageDraw.Draw(level).text((6, 10), 'wearing', images.INK, font, 'lm')
  np.testing.assert_array_equal(np.rot90(level), strip)


def test_captions_of_a_grey_grid():
  grid = images.grid(np.zeros((4, 16, 16, 1), np.uint8), 2)
  assert images.captioned(grid, rows=['one']).shape[2] == 3
  np.testing.assert_array_equal(images.captioned(grid)[..., 0], grid)


# --- Files.


def parts_that_fail(images):
  yield images
  raise OSError('the disk is gone')


def test_an_npy_file_is_whole_or_missing(tmp_path):
  x = np.random.default_rng(0).integers(0, 256, (7, 3, 3, 1), np.uint8)
  files.save_npy(tmp_path / 'x.npy', (x[i : i + 3] for i in (0, 3, 6)), x.shape)
  np.testing.assert_array_equal(np.load(tmp_path / 'x.npy'), x)
  np.testing.assert_array_equal(np.load(tmp_path / 'x.npy', mmap_mode='r'), x)
  with pytest.raises(OSError, match='the disk is gone'):
    files.save_npy(tmp_path / 'y.npy', parts_that_fail(x), (14, 3, 3, 1))
  with pytest.raises(ValueError, match='y.npy'):
    files.save_npy(tmp_path / 'y.npy', [x], (8, 3, 3, 1))
  assert [p.name for p in tmp_path.iterdir()] == ['x.npy']


def pair(folder, value):
  """Files for save_npys: images [2, 3, 3, 1] and labels [2], all of one value."""
  whole = np.full((2, 3, 3, 1), value, np.uint8)
  return [
    (folder / 'x.npy', [whole], whole.shape, 'uint8'),
    (folder / 'x_labels.npy', [[value] * 2], (2,), 'int32'),
  ]


def found(folder):
  """{name: the values in it} of a folder's .npy files."""
  return {p.name: np.unique(np.load(p)).tolist() for p in folder.iterdir()}


def never(images):
  raise AssertionError('images were drawn before it was certain that they can be written')
  yield images


def test_npy_files_are_claimed_before_the_first_image(tmp_path):
  x = np.zeros((2, 3, 3, 1), np.uint8)
  pair = lambda name: [
    (tmp_path / 'x.npy', never(x), x.shape, 'uint8'),
    (tmp_path / name, [[0, 0]], (2,), 'int32'),
  ]
  for folder in ('y.npy', 'y.npy.part', 'x.npy'):
    (tmp_path / folder).mkdir()
    with pytest.raises(OSError, match='[xy].npy cannot be written'):
      files.save_npys(pair('y.npy'))
    (tmp_path / folder).rmdir()
  with pytest.raises(OSError, match='File name too long'):
    files.save_npys(pair('y' * 251 + '.npy'))

  def meanwhile():
    with pytest.raises(OSError, match='x.npy is being written by another process'):
      files.save_npy(tmp_path / 'x.npy', never(x), x.shape)
    yield x

  files.save_npy(tmp_path / 'x.npy', meanwhile(), [np.int64(2), 3, 3, 1])
  assert np.load(tmp_path / 'x.npy').shape == x.shape
  assert [p.name for p in tmp_path.iterdir()] == ['x.npy']


def test_a_link_to_a_folder_stays_and_the_folder_gets_the_pictures(tmp_path):
  (tmp_path / 'there').mkdir()
  (tmp_path / 'link').symlink_to(tmp_path / 'there')
  x = np.zeros((2, 3, 3, 1), np.uint8)
  files.save_pngs(tmp_path / 'link', [x], 2)
  assert len(list((tmp_path / 'there').iterdir())) == 2
  for n in (1, 3):
    with pytest.raises(ValueError, match='were announced, but 2 came'):
      files.save_pngs(tmp_path / 'other', [x], n)
  assert not (tmp_path / 'other').exists()
  with pytest.raises(ValueError, match='root of a disk'):
    files.save_pngs('/proc', never(x), 2)


def test_npy_files_that_belong_together_are_all_written_or_none(tmp_path):
  files.save_npys(pair(tmp_path, 1))
  one, two = pair(tmp_path, 2)
  for part, words in (
    (parts_that_fail([2]), 'the disk is gone'),
    ([[2]], '.2. takes 136 bytes, but 132 came'),
  ):
    with pytest.raises((OSError, ValueError), match=words):
      files.save_npys([one, (two[0], part, *two[2:])])
    assert found(tmp_path) == {'x.npy': [1], 'x_labels.npy': [1]}


@pytest.mark.parametrize(
  'stopped_at,left',
  [(0, {'x.npy': [1]}), (1, {'x.npy': [2]}), (2, {'x.npy': [2], 'x_labels.npy': [2]})],
)
def test_a_stop_between_two_names_leaves_no_mixed_pair(tmp_path, monkeypatch, stopped_at, left):
  files.save_npys(pair(tmp_path, 1))
  replace, done = os.replace, []

  def stop(*paths):
    if len(done) == stopped_at:
      raise KeyboardInterrupt
    done.append(replace(*paths))

  monkeypatch.setattr(files.os, 'replace', stop)
  with pytest.raises(KeyboardInterrupt) if stopped_at < 2 else contextlib.nullcontext():
    files.save_npys(pair(tmp_path, 2))
  assert found(tmp_path) == left


def test_a_full_disk_is_named_before_anything_is_written(tmp_path, monkeypatch):
  free = lambda size: monkeypatch.setattr(
    files.shutil, 'disk_usage', lambda _: types.SimpleNamespace(free=size)
  )
  free(25)  # of 18 and 8 bytes
  message = 'x.npy needs 26 bytes, but only 25 bytes are free: make room, ask for fewer'
  with pytest.raises(OSError, match=message):
    files.save_npys(pair(tmp_path, 1))
  assert not list(tmp_path.iterdir())
  (tmp_path / 'x.npy.part').write_bytes(b'1')  # of a killed run: its byte counts as free
  files.save_npys(pair(tmp_path, 1))
  free(17)
  with pytest.raises(OSError, match='another disk'):
    files.save_npy(tmp_path / 'x.npy', [], (18,))
  assert found(tmp_path) == {'x.npy': [1], 'x_labels.npy': [1]}


def test_unfinished_files_are_called_part(tmp_path):
  """What a killed process leaves never looks complete."""
  x = np.zeros((2, 3, 3, 3), np.uint8)

  def look():
    yield x
    assert [p.name for p in tmp_path.iterdir()] in (['x.npy.part'], ['x.part'])
    yield x

  files.save_npy(tmp_path / 'x.npy', look(), (4, 3, 3, 3))
  (tmp_path / 'x.npy').unlink()
  files.save_pngs(tmp_path / 'x', look(), 4)
  assert sorted(p.name for p in (tmp_path / 'x').iterdir()) == [f'000{i}.png' for i in range(4)]


def test_folders_of_pngs(tmp_path):
  x = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), np.uint8)
  (tmp_path / 'there').mkdir()  # an empty folder may be used
  files.save_pngs(
    tmp_path / 'there', [x[:3], x[3:]], 5, iter([['file', 'label'], ['0000.png', 'a, b']])
  )
  np.testing.assert_array_equal(
    np.stack([images.read_image(tmp_path / f'there/000{i}.png', 1) for i in range(5)]), x
  )
  assert (tmp_path / 'there/labels.csv').read_text().split() == ['file,label', '0000.png,"a,', 'b"']
  with pytest.raises(ValueError, match='not an empty folder'):
    files.save_pngs(tmp_path / 'there', [x], 5)
  with pytest.raises(OSError, match='the disk is gone'):
    files.save_pngs(tmp_path / 'other', parts_that_fail(x), 10)
  (tmp_path / 'left.part').mkdir()
  with pytest.raises(ValueError, match='left.part was left by a killed run'):
    files.save_pngs(tmp_path / 'left', [x], 5)
  assert sorted(p.name for p in tmp_path.iterdir()) == ['left.part', 'there']


def test_sizes_in_words():
  sizes = {0: '0 bytes', 1023: '1023 bytes', 1024: '1 KiB', 1536: '1.5 KiB', 10 * 2**20: '10 MiB'}
  sizes |= {int(3.21 * 2**30): '3.21 GiB', 5000 * 2**40: '5000 TiB'}
  assert {size: size_in_words(size) for size in sizes} == sizes


def test_a_lock_has_one_holder(tmp_path):
  with open(tmp_path / 'x', 'w') as one, open(tmp_path / 'x', 'w') as two:
    assert files.lock(one) and not files.lock(two)
    one.close()
    assert files.lock(two)
