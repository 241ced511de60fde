"""Pictures: uint8 pixels from encoded files and from networks' outputs; grids and captions.

In files and data sets an image is uint8 [H, W, C] with values v; networks take and give float32
v / 127.5 - 1 in [-1, 1].
"""

from collections.abc import Sequence
import io
import os
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

LARGEST_PIXELS = 50_000_000
LARGEST_CANVAS = 10**9  # pixels of a grid
INK = (40, 40, 40)  # RGB of captions
# Only these of Pillow's readers may see the bytes: one of the others starts Ghostscript.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'GIF')
ORIENTATION = 0x0112  # the EXIF tag
TURNS = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}


def read_image(
  source: bytes | str | os.PathLike | IO[bytes],
  channels: int,
  *,
  at_least: int = 0,
  square: int = 0,
  background: tuple[int, int, int] = (255, 255, 255),
) -> np.ndarray:
  """uint8 [h, w, channels] of a JPEG, PNG, WebP, BMP or GIF (its first frame), upright.

  Grey of 16 bits becomes 8 by v / 257 (of RGB, Pillow keeps the high byte), transparency is
  composited over the background but in 16-bit grey, and EXIF orientation is applied. A picture of
  more than LARGEST_PIXELS is refused by its header and never decoded.

  Args:
    source: the file's bytes, its path, or a file object.
    channels: 1 (grey) or 3 (RGB).
    at_least: pixels; a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size while both sides keep at
      least this length. 0 decodes it at full size.
    square: pixels; 0, or the side of the result, which is then what fit_image makes of the picture,
      without a copy of all of its pixels.
    background: RGB under transparent pixels.

  Raises:
    ValueError: the picture is unreadable for any reason, truncation included.
  """
  if channels not in (1, 3):
    raise ValueError(f'channels is {channels}: use 1 (grey) or 3 (RGB)')
  try:
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    with Image.open(stream, formats=FORMATS) as image:
      width, height = image.size
      if width * height > LARGEST_PIXELS:
        raise ValueError(
          f'{width} x {height} pixels are over the limit of {LARGEST_PIXELS // 10**6} megapixels'
        )
      if at_least:
        image.draft(None, (at_least, at_least))
      image.load()
      turn = TURNS.get(_orientation(image))
      image = _eight_bits(image, channels, background)  # one name, so that few copies are alive
    image = image if turn is None else image.transpose(turn)
    if square:
      image = _central_square(image, square)
    if channels == 3 and image.mode != 'RGB':
      image = image.convert('RGB')
    return np.array(image).reshape(image.height, image.width, channels)
  except Image.UnidentifiedImageError:
    raise ValueError('not a JPEG, PNG, WebP, BMP or GIF') from None
  except Exception as error:  # Pillow raises many kinds: OSError, SyntaxError, struct.error, ...
    raise ValueError(f'not a readable image: {error or type(error).__name__}') from error


def _eight_bits(image, channels, background):
  """The loaded picture in mode L or RGB, without transparency."""
  if image.mode == 'I' or image.mode.startswith('I;16'):
    # convert() would clip 16-bit values at 255 instead of scaling them.
    grey = Image.new('L', image.size)
    for band, top in _bands(image):
      values = np.asarray(band).clip(0, 65535).astype(np.uint32)
      grey.paste(Image.fromarray(((values + 128) // 257).astype(np.uint8)), (0, top))
    image = grey
  elif image.has_transparency_data:
    under = Image.new('RGB', image.size, background)
    for band, top in _bands(image):
      over = band.convert('RGBA')
      under.paste(over, (0, top), over)
    image = under
  if image.mode not in ('1', 'L', 'RGB'):
    image = image.convert('RGB')
  grey = channels == 1 or image.mode == '1'
  return image.convert('L') if grey and image.mode != 'L' else image


def _bands(image, rows=256):
  """Yields (part, its first row): NumPy and convert() copy what they get, so it is small."""
  for top in range(0, image.height, rows):
    yield image.crop((0, top, image.width, min(top + rows, image.height))), top


def _central_square(image, size):
  """The largest central square of a picture, resized: Lanczos reduces, bicubic enlarges."""
  side = min(image.size)
  left, top = (image.width - side) // 2, (image.height - side) // 2
  if image.width != image.height:
    image = image.crop((left, top, left + side, top + side))
  if side == size:
    return image
  resample = Image.Resampling.LANCZOS if size < side else Image.Resampling.BICUBIC
  return image.resize((size, size), resample)


def _orientation(image):
  """EXIF orientation, 1..8."""
  try:
    return image.getexif().get(ORIENTATION, 1)
  except Exception:  # damaged metadata does not make a picture unreadable
    return 1


def fit_image(
  image: np.ndarray, size: int, crop: tuple[int, int, int, int] | None = None, pad: bool = False
) -> np.ndarray:
  """uint8 [size, size, C] of uint8 [h, w, C]: its largest central square, resized.

  Lanczos (antialiased) reduces, bicubic interpolation enlarges.

  Args:
    image: the pixels.
    size: side in pixels.
    crop: (top, left, height, width) to cut out first.
    pad: surround a smaller image with zeros instead of cutting and resizing it.
  """
  if crop is not None:
    top, left, height, width = crop
    if min(crop) < 0 or top + height > image.shape[0] or left + width > image.shape[1]:
      raise ValueError(
        f'the crop {tuple(crop)} (top, left, height, width) does not lie within '
        f'{image.shape[0]} x {image.shape[1]} pixels (height x width)'
      )
    image = image[top : top + height, left : left + width]
  if pad:
    rows, columns = size - image.shape[0], size - image.shape[1]
    if min(rows, columns) < 0:
      raise ValueError(f'{image.shape[0]} x {image.shape[1]} pixels cannot be padded to {size}')
    return np.pad(
      image, ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2), (0, 0))
    )
  side, channels = min(image.shape[:2]), image.shape[-1]
  top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
  image = np.ascontiguousarray(image[top : top + side, left : left + side])
  if side == size:
    return image
  picture = Image.fromarray(image[..., 0] if channels == 1 else image)
  return np.array(_central_square(picture, size)).reshape(size, size, channels)


def to_uint8(images: ArrayLike) -> np.ndarray:
  """uint8 round((x + 1) 127.5), clipped, of float images in [-1, 1]: the inverse of v / 127.5 - 1.

  Raises:
    ValueError: some values are not finite.
  """
  images = np.asarray(images, np.float32)
  bad = images.size - np.isfinite(images).sum()
  if bad:
    raise ValueError(
      f'{bad} of {images.size} pixel values are NaN or infinite: '
      'the network that made these images has diverged'
    )
  return np.rint((images + 1.0) * 127.5).clip(0, 255).astype(np.uint8)


def grid(
  images: np.ndarray, columns: int | None = None, padding: int = 2, scale: int | None = None
) -> np.ndarray:
  """uint8 [H', W', 3] canvas of uint8 images [N, H, W, C], row by row on white; grey: [H', W'].

  Args:
    images: the pictures.
    columns: pictures per row; None makes the canvas about square.
    padding: white pixels around each picture.
    scale: integer factor of enlargement; None enlarges small pictures to about 64 pixels.
  """
  images = np.asarray(images)
  if (
    images.dtype != np.uint8 or images.ndim != 4 or not len(images) or images.shape[3] not in (1, 3)
  ):
    raise ValueError(
      f'a grid takes uint8 images [N, H, W, 1 or 3], N >= 1, not '
      f'{images.dtype} {list(images.shape)}; to_uint8 converts from [-1, 1]'
    )
  count, height, width, channels = images.shape
  columns = min(columns or int(np.ceil(count**0.5)), count)
  rows = -(-count // columns)
  scale = scale or max(1, 64 // max(height, width))
  check_canvas(columns * width * scale, rows * height * scale)
  images = images.repeat(scale, 1).repeat(scale, 2)
  height, width = height * scale, width * scale
  canvas = np.full(
    (padding + rows * (height + padding), padding + columns * (width + padding), channels),
    255,
    np.uint8,
  )
  for i, image in enumerate(images):
    top = padding + i // columns * (height + padding)
    left = padding + i % columns * (width + padding)
    canvas[top : top + height, left : left + width] = image
  return canvas[..., 0] if channels == 1 else canvas


def check_canvas(width: int, height: int) -> None:
  """Raises ValueError if a grid of so many pixels is too large to make."""
  if width * height > LARGEST_CANVAS:
    raise ValueError(
      f'a grid of {width:,} x {height:,} pixels is over the limit of '
      f'{LARGEST_CANVAS // 10**6} megapixels: enlarge its pictures less, or ask for fewer'
    )


def captioned(
  canvas: np.ndarray,
  rows: Sequence[str] = (),
  columns: Sequence[str] = (),
  size: int = 13,
  space: int = 6,
) -> np.ndarray:
  """uint8 [H', W', 3]: a grid with row names on its left and column names above it, evenly spaced.

  Args:
    canvas: uint8 [H, W] or [H, W, 3], from grid.
    rows: names; one name may stand for a block of rows.
    columns: names; all are turned upright if one is wider than its column.
    size: pixels of the letters.
    space: pixels around a name.
  """
  canvas = np.asarray(canvas)
  canvas = canvas if canvas.ndim == 3 else np.repeat(canvas[..., None], 3, 2)
  font = ImageFont.load_default(size)
  wide = [round(font.getlength(name)) + 2 * space for name in (*rows, *columns)]
  left, column = max(wide[: len(rows)], default=0), canvas.shape[1] / max(1, len(columns))
  turned = max(wide[len(rows) :], default=0) > column
  top = (max(wide[len(rows) :]) if turned else size + 2 * space) if columns else 0
  sheet = Image.new('RGB', (left + canvas.shape[1], top + canvas.shape[0]), 'white')
  sheet.paste(Image.fromarray(canvas), (left, top))
  pen = ImageDraw.Draw(sheet)
  for i, name in enumerate(rows):
    middle = top + (i + 0.5) * canvas.shape[0] / len(rows)
    pen.text((left - space, middle), name, INK, font, 'rm')
  for i, name in enumerate(columns):
    middle = round(left + (i + 0.5) * column)
    if turned:
      sheet.paste(upright(name, font, top, size + space, space), (middle - (size + space) // 2, 0))
    else:
      pen.text((middle, top / 2), name, INK, font, 'mm')
  return np.asarray(sheet)


def upright(
  words: str, font: Any, height: int, width: int, begin: int | None = None
) -> Image.Image:
  """A white picture of words that read upwards, centred or from `begin` pixels above its foot."""
  strip = Image.new('RGB', (height, width), 'white')
  at, anchor = (height // 2, 'mm') if begin is None else (begin, 'lm')
  ImageDraw.Draw(strip).text((at, width // 2), words, INK, font, anchor)
  return strip.transpose(Image.Transpose.ROTATE_90)


def reconstruction_grid(
  originals: np.ndarray,
  reconstructions: np.ndarray,
  columns: int = 8,
  padding: int = 2,
  scale: int | None = None,
) -> np.ndarray:
  """A grid, as by grid(), of originals [N, H, W, C], each above its reconstruction."""
  originals, reconstructions = np.asarray(originals), np.asarray(reconstructions)
  if originals.shape != reconstructions.shape:
    raise ValueError(
      f'originals {list(originals.shape)} and reconstructions '
      f'{list(reconstructions.shape)} differ in shape'
    )
  scale = scale or max(1, 64 // max(originals.shape[1:3]))
  enlarge = lambda x: x.repeat(scale, 1).repeat(scale, 2)
  gap = np.full_like(enlarge(originals)[:, :padding], 255)
  pairs = np.concatenate([enlarge(originals), gap, enlarge(reconstructions)], 1)
  return grid(pairs, columns, padding=4 * padding, scale=1)
