"""Edits, on models whose encoder and decoder are known functions."""

import numpy as np
import pytest

from vaegan_jax import edit


class Halves:
  """Latents are the means of the left and the right half; decoding paints the halves."""

  def encode(self, images, labels=None, attributes=None):
    mean = np.stack([images[:, :, :2].mean((1, 2, 3)), images[:, :, 2:].mean((1, 2, 3))], 1)
    return mean, np.zeros_like(mean)

  def reconstruct(self, images, labels=None, attributes=None):
    mean, _ = self.encode(images)
    return np.repeat(mean, 2, 1)[:, None, :, None].repeat(4, 1).astype(np.uint8)


def painted(left, right):
  return Halves().reconstruct(np.stack([np.full((4, 4, 1), [[left]] * 2 + [[right]] * 2)] * 1))


def test_attribute_vectors_are_differences_of_means():
  images = np.concatenate([painted(10, 50), painted(20, 50), painted(90, 60), painted(100, 60)])
  attributes = np.array([[0, 1], [0, 0], [1, 1], [1, 0]])
  vectors = edit.attribute_vectors(Halves(), images, attributes)
  np.testing.assert_allclose(vectors, [[80, 10], [-10, 0]])


def test_an_attribute_that_all_images_share_has_no_vector():
  with pytest.raises(ValueError, match='agree in attribute 1'):
    edit.attribute_vectors(Halves(), np.concatenate([painted(1, 2)] * 2), [[0, 1], [1, 1]])


def test_inpainting_converges_to_what_surrounds_the_hole_and_changes_nothing_else():
  image = painted(40, 200)
  hole = np.zeros((4, 4), bool)
  hole[1:3, 2:] = True
  course = edit.inpaint(Halves(), image, hole, iterations=12)
  assert course.shape == (12, 1, 4, 4, 1)
  np.testing.assert_array_equal(
    course[:, 0, :, :, 0][:, ~hole], np.tile(image[0, :, :, 0][~hole], (12, 1))
  )
  error = np.abs(course[:, 0, :, :, 0][:, hole].astype(float) - 200).mean(1)
  assert (
    error[0] < 72 and error[-1] < 2 and (np.diff(error) <= 0).all()
  )  # grey is 72 away; each turn halves it


def test_the_content_of_the_hole_does_not_matter():
  hole = np.eye(4, dtype=bool)
  image = painted(40, 200)
  other = np.where(hole[None, ..., None], np.uint8(7), image)
  np.testing.assert_array_equal(
    *(edit.inpaint(Halves(), x, hole, iterations=2) for x in (image, other))
  )


def test_mixed_classes_are_even_mixtures():
  mixed = edit.mixed_classes(10, 50)
  np.testing.assert_allclose(mixed.sum(1), 1, rtol=1e-6)
  assert ((mixed > 0).sum(1) == 3).all() and len(np.unique(mixed, axis=0)) > 20
  with pytest.raises(ValueError, match='from 1 to 2'):
    edit.mixed_classes(2, 1)


class Quarters(Halves):
  """Reconstructs 2x2 blocks to their means, so nothing that an iteration adds survives."""

  def __init__(self):
    self.config = dict(data=dict(image_size=4))

  def reconstruct(self, images, labels=None, attributes=None):
    return edit.rounded(edit.block_means(images, (2, 2)).repeat(2, 1).repeat(2, 2))


def test_block_means_and_bicubic_interpolation():
  images = np.arange(32.0).reshape(1, 4, 4, 2)
  np.testing.assert_allclose(
    edit.block_means(images, (2, 1))[0, :, 0], images.reshape(2, 8, 2).mean(1), rtol=1e-6
  )
  flat = np.full((2, 3, 3, 1), 7, np.uint8)
  np.testing.assert_allclose(edit.bicubic(flat, 12), np.full((2, 12, 12, 1), 7.0), rtol=1e-5)
  ramp = np.arange(8.0).reshape(1, 8, 1, 1).repeat(8, 2)  # a ramp stays one, away from the edges
  inner = edit.bicubic(ramp, 16)[0, 5:11, 5, 0]
  np.testing.assert_allclose(np.diff(inner), 0.5, atol=1e-5)


def test_enlarged_images_keep_the_low_frequencies_and_gain_the_models():
  low = np.array([[[[40], [200]], [[90], [10]]]], np.uint8)
  course = edit.enlarge(Quarters(), low, iterations=4)
  assert course.shape == (4, 1, 4, 4, 1) and course.dtype == np.uint8
  errors = [abs(edit.block_means(x, (2, 2)) - low).max() for x in course]
  start = abs(edit.block_means(edit.bicubic(low, 4), (2, 2)) - low).max()
  assert errors[-1] < 0.4 * start and (np.diff(errors) <= 0.5).all()
  halves = Halves()
  halves.config = Quarters().config
  flat = edit.enlarge(halves, np.full((1, 2, 2, 1), 60, np.uint8))
  np.testing.assert_array_equal(flat, np.full((10, 1, 4, 4, 1), 60))


@pytest.mark.parametrize(
  'low', [np.zeros((1, 3, 3, 1), np.uint8), np.zeros((1, 2, 2, 1)), np.zeros((2, 2, 1), np.uint8)]
)
def test_images_that_cannot_be_enlarged_are_named(low):
  with pytest.raises(ValueError, match='sides that divide 4'):
    edit.enlarge(Quarters(), low)
  with pytest.raises(ValueError, match='iterations=0'):
    edit.enlarge(Quarters(), np.zeros((1, 2, 2, 1), np.uint8), iterations=0)
