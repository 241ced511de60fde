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
