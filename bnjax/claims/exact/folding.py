"""A trained batch norm as part of the convolution before it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import bnjax
from bnjax.claims.exact.reference import largest
from bnjax.claims.finding import Finding, require

EPSILON = 1e-3
IMAGES = (2, 9, 9, 4)
LAYERS: dict[str, Any] = {
    'without bias': nn.Conv(6, (3, 3), use_bias=False),
    'with bias': nn.Conv(6, (3, 3)),
    'depthwise': nn.Conv(8, (3, 3), feature_group_count=4),
    'of stride 2': nn.Conv(6, (3, 3), strides=2),
    'transposed': nn.ConvTranspose(6, (3, 3), strides=(2, 2)),
}


class Trained(NamedTuple):
    """Parameters of a layer and its batch norm, far from their initial ones."""

    params: dict[str, Any]
    scale: Any
    shift: Any
    running: bnjax.Moments


def into_the_convolution() -> Finding:
    """One folded convolution for a convolution and its batch norm, five kinds."""
    errors = {name: _error_of_fold(layer) for name, layer in LAYERS.items()}
    inside, border = _errors_before_a_padded_convolution()
    require(inside <= 1e-5, f'folding ahead is right inside, off by {inside:.1g}')
    require(border > 1e-2, f'folding ahead is wrong at the border, by {border:.1g}')
    worst = max(errors, key=errors.__getitem__)
    return Finding(
        max(errors.values()) <= 1e-5,
        f'relative error at most {errors[worst]:.1g} over convolutions '
        f'{", ".join(errors)}; into a zero-padded convolution after it, wrong by '
        f'{border:.1f} at the border',
    )


def _error_of_fold(layer: Any) -> float:
    """The largest difference of the two ways, of the largest output."""
    x, (params, scale, shift, running) = _images(), _trained(layer)
    kernel, bias = bnjax.fold(
        *(params['kernel'], params.get('bias'), scale, shift, running), epsilon=EPSILON
    )
    apply = _compiled(layer.clone(use_bias=True))
    one = apply({'kernel': kernel, 'bias': bias}, x)
    two = apply({'bias': np.zeros_like(shift)} | params, x)
    two = _normalised(two, scale, shift, running)
    return largest(one - two) / largest(two)


def _errors_before_a_padded_convolution() -> tuple[float, float]:
    """Of batch norm folded into the layer after it: inside, and where it is padded.

    The zeros stand after batch norm; folded, they would stand before it.
    """
    layer, x = LAYERS['with bias'], _images()
    params, scale, shift, running = _trained(layer, features=IMAGES[-1])
    kernel, bias = bnjax.fold(
        *(params['kernel'], params['bias'], scale, shift, running),
        epsilon=EPSILON,
        next_padding='VALID',
    )
    apply = _compiled(layer)
    one = apply({'kernel': kernel, 'bias': bias}, x)
    two = apply(params, _normalised(x, scale, shift, running))
    apart = np.abs(one - two) / largest(two)
    inside = apart[:, 1:-1, 1:-1].max()
    apart[:, 1:-1, 1:-1] = 0
    return float(inside), float(apart.max())


def _images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=IMAGES).astype('f4')


def _trained(layer: Any, features: int | None = None) -> Trained:
    """Random parameters; batch norm of the layer's outputs, or of so many features."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), _images())['params']
    params = {k: rng.normal(size=v.shape).astype('f4') for k, v in shapes.items()}
    n = features or layer.features
    scale, shift, mean = rng.normal(size=(3, n)).astype('f4')
    var = jnp.asarray(rng.uniform(0.1, 4, n), 'f4')
    return Trained(params, scale, shift, bnjax.Moments(mean, var, jnp.ones(n)))


def _normalised(x: Any, scale: Any, shift: Any, running: bnjax.Moments) -> np.ndarray:
    """Batch norm after training, by its formula."""
    mean, var, _ = map(np.asarray, running)
    return scale * (x - mean) / np.sqrt(var + np.float32(EPSILON)) + shift


def _compiled(layer: Any) -> Callable[..., np.ndarray]:
    function = jax.jit(layer.apply)

    def apply(params: dict[str, Any], x: np.ndarray) -> np.ndarray:
        with jax.default_matmul_precision('highest'):
            return np.asarray(function({'params': params}, x))

    return apply
