"""The two ways of a convolution beside nine products in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.models.convolution import direct, product

BOTH = pytest.mark.parametrize('lowering', [direct, product])
CASES = pytest.mark.parametrize(
    ('n', 'h', 'w', 'channels', 'features', 'stride'),
    [
        (3, 5, 4, 2, 3, 1),
        (3, 5, 4, 2, 3, 2),
        (7, 4, 4, 1, 5, 2),
        (1, 1, 1, 3, 2, 1),
        (2, 6, 6, 1, 2, 3),
        (2, 1, 7, 3, 2, 2),
        (6, 64, 64, 24, 4, 1),  # more than a block of images
    ],
)


def arrays(n, h, w, channels, features, stride):
    rng = np.random.default_rng(0)
    shapes = (n, h, w, channels), (3, 3, channels, features)
    shapes += ((n, -(-h // stride), -(-w // stride), features),)
    return [rng.normal(size=shape).astype('f4') for shape in shapes]


def by_hand(x, kernel, dy, stride):
    """The output, and the gradients of its product with ``dy``, in float64."""
    x, kernel, dy = (a.astype('f8') for a in (x, kernel, dy))
    _, h, w, _ = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y, dx, dkernel = np.zeros_like(dy), np.zeros_like(padded), np.zeros_like(kernel)
    for i in range(3):
        for j in range(3):
            seen = np.s_[:, i : i + h : stride, j : j + w : stride]
            y += padded[seen] @ kernel[i, j]
            dx[seen] += dy @ kernel[i, j].T
            dkernel[i, j] = np.einsum('nhwc,nhwf->cf', padded[seen], dy)
    return y, dx[:, 1:-1, 1:-1], dkernel


@BOTH
@CASES
def test_values_and_gradients_are_those_by_hand(
    lowering, n, h, w, channels, features, stride
):
    x, kernel, dy = arrays(n, h, w, channels, features, stride)

    @jax.jit
    def found(x, kernel, dy):
        y, back = jax.vjp(lambda x, kernel: lowering(x, kernel, stride), x, kernel)
        return y, *back(dy)

    expected = by_hand(x, kernel, dy, stride)
    for ours, exact in zip(found(x, kernel, dy), expected, strict=True):
        np.testing.assert_allclose(ours, exact, atol=1e-5 * np.abs(exact).max())


@BOTH
def test_kernels_side_by_side_are_those_one_by_one(lowering):
    x, kernel, dy = arrays(4, 6, 6, 2, 3, 1)
    kernels = jnp.stack([kernel, 2 * kernel, -kernel])

    def gradients(kernel):
        return jax.grad(lambda x, k: (lowering(x, k, 1) * dy).sum(), (0, 1))(x, kernel)

    together = jax.vmap(gradients)(kernels)
    alone = [gradients(k) for k in kernels]
    for found, expected in zip(together, zip(*alone, strict=True), strict=True):
        np.testing.assert_allclose(found, jnp.stack(expected), rtol=1e-4, atol=1e-4)


@BOTH
def test_bfloat16_stays_and_its_kernel_gradient_adds_up_in_float32(lowering):
    n = 1024  # images of ones: in bfloat16 a running sum would stop at 256
    x = jnp.ones((n, 8, 8, 1), jnp.bfloat16)
    kernel = jnp.ones((3, 3, 1, 1), jnp.bfloat16)
    assert lowering(x, kernel, 1).dtype == jnp.bfloat16
    gradient = jax.grad(lambda k: lowering(x, k, 1).astype('f4').sum())(kernel)
    assert gradient.dtype == jnp.bfloat16 and gradient[1, 1, 0, 0] == n * 64
