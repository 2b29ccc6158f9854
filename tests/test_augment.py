"""Crops and mirrors: each one possible, all of them likely, seed and step decide."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.augment import crop_and_mirror

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(1, 2, (6, 9, 11, 3)).astype('f4')


def possible(image):
    """Every crop of the image after 4 zeros on each side, then their mirrors."""
    height, width, _ = image.shape
    padded = np.zeros((height + 8, width + 8, image.shape[2]), image.dtype)
    padded[4:-4, 4:-4] = image
    crops = [padded[i : i + height, j : j + width] for i in range(9) for j in range(9)]
    return np.stack(crops + [crop[:, ::-1] for crop in crops])


def which(image, result):
    """The places of a result among the possible ones."""
    return np.flatnonzero((possible(image) == np.asarray(result)).all((1, 2, 3)))


def test_every_result_is_a_crop_of_the_padded_image_or_its_mirror():
    for number in range(5):
        result = crop_and_mirror(3, number, IMAGES)
        assert result.shape == IMAGES.shape and result.dtype == IMAGES.dtype
        for image, seen in zip(IMAGES, result, strict=True):
            assert len(which(image, seen)) == 1


def test_each_crop_and_each_mirror_is_as_likely_as_the_others():
    image = np.arange(1.0, 82, dtype='f4').reshape(9, 9, 1)
    results = np.asarray(crop_and_mirror(0, 0, np.tile(image, (8100, 1, 1, 1))))
    everything = possible(image).reshape(162, -1)
    keys = {crop.tobytes(): place for place, crop in enumerate(everything)}
    found = [keys[result.tobytes()] for result in results.reshape(8100, -1)]
    counts = np.bincount(found, minlength=162)
    assert len(keys) == 162
    # Of 161 degrees of freedom, so its deviation is sqrt(2 * 161), or 18.
    chi_square = ((counts - 50) ** 2 / 50).sum()
    assert abs(chi_square - 161) < 4 * 18


def test_seed_and_step_decide_and_nothing_else():
    once, again = (crop_and_mirror(1, 2, IMAGES) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    traced = jax.jit(crop_and_mirror)(np.uint32(1), np.int32(2), IMAGES)
    np.testing.assert_array_equal(traced, once)
    trials = jax.vmap(crop_and_mirror, (0, None, None))
    side_by_side = trials(jnp.arange(3, dtype=jnp.uint32), 2, IMAGES)
    np.testing.assert_array_equal(side_by_side[1], once)


@pytest.mark.parametrize('other', [(1, 3), (2, 2), (2**32 - 1, 2), (1, 2**31 - 1)])
def test_another_seed_or_another_step_moves_the_images_otherwise(other):
    def moves(seed, number):
        results = crop_and_mirror(seed, number, IMAGES)
        return [
            which(image, seen).item()
            for image, seen in zip(IMAGES, results, strict=True)
        ]

    first = moves(1, 2)
    assert len(set(first)) > 1, 'the images of a step are moved apart'
    assert moves(*other) != first


def test_other_images_of_that_shape_are_moved_alike():
    moved = functools.partial(crop_and_mirror, 5, 6)
    np.testing.assert_allclose(moved(IMAGES * 2), moved(IMAGES) * 2)
