"""Training images, a little different at each step."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

PADDING = 4  # pixels on each side (He 2016, section 4.2)


def crop_and_mirror(seed: Any, number: Any, images: Any) -> jax.Array:
    """A random crop of each image, padded with zeros, mirrored half of the time.

    Args:
      seed: of the trial; with the number of the step it decides all of it.
      number: of the step, from 0; may be traced.
      images: ``(n, height, width, channels)``.

    Returns:
      An array like ``images``.

    >>> once = crop_and_mirror(0, 7, jnp.ones((2, 8, 8, 1)))
    >>> again = crop_and_mirror(0, 7, jnp.ones((2, 8, 8, 1)))
    >>> print(once.shape, bool((once == again).all()))
    (2, 8, 8, 1) True
    """
    # The first weights fold the seed with 0, the order of an epoch with 1 + epoch.
    key = jax.random.fold_in(jax.random.key(seed), 2**32 - 1)
    of_corner, of_mirror = jax.random.split(jax.random.fold_in(key, number))
    n, *size = images.shape
    corners = jax.random.randint(of_corner, (n, 2), 0, 2 * PADDING + 1)
    mirrored = jax.random.bernoulli(of_mirror, shape=(n,))
    sides = (PADDING, PADDING)
    padded = jnp.pad(images, ((0, 0), sides, sides, (0, 0)))

    def one(image: jax.Array, corner: jax.Array, mirror: jax.Array) -> jax.Array:
        crop = lax.dynamic_slice(image, (corner[0], corner[1], 0), size)
        return jnp.where(mirror, crop[:, ::-1], crop)

    return jax.vmap(one)(padded, corners, mirrored)
