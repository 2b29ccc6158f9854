"""What stands where batch norm is placed: batch norm, or a variant to compare it with.

Each is a few lines of the pure functions. Parameters and statistics have the names of
`bnjax.linen.BatchNorm`'s, features are on the last axis, and what all of them share:

- ``epsilon``: added to the variance; may be traced.
- ``use_scale``, ``use_bias``: whether gamma and beta are learned.
- ``scale``: gamma at first or, where it is not learned, always; may be traced.
- ``dtype``: of the result; parameters and statistics are float32.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from bnjax.functional import moments, normalize
from bnjax.linen import BatchNorm
from bnjax.moments import Moments, update

# Santurkar et al. (2018), appendix A.2.1.
N_MU, N_SIGMA, R = 0.5, 1.25, 0.1


class Batch(BatchNorm):
    """`bnjax.linen.BatchNorm` whose scale may begin, or stay, at another number."""

    scale: Any = 1.0

    @nn.nowrap
    def _affine(
        self, shape: tuple[int, ...]
    ) -> tuple[jax.Array | None, jax.Array | None]:
        return affine(self, shape)


class Constant(nn.Module):
    r"""Batch norm whose gradient takes moments of the batch for constants.

    .. math:: y = \gamma \, \frac{x - \mu_B}{\sqrt{\sigma_B^2 + \epsilon}} + \beta

    as ever, but nothing flows back through those of :math:`\mu_B` and
    :math:`\sigma_B^2` that ``constant`` names (``mean``, ``var``): a step then changes
    x as if the next batch's moments would stay, and they undo it (Ioffe & Szegedy
    2015, section 2).
    """

    use_running_average: bool
    momentum: Any
    constant: tuple[str, ...]
    epsilon: Any
    use_scale: bool
    use_bias: bool
    scale: Any
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises ``x`` ``(n, ..., features)``; in training, updates statistics."""
        features = x.shape[-1:]
        scale, bias = affine(self, features)
        mean = self.variable('batch_stats', 'mean', jnp.zeros, features)
        var = self.variable('batch_stats', 'var', jnp.ones, features)
        running = Moments(mean.value, var.value, jnp.ones(features))
        x, form = x.astype(self.dtype), {'epsilon': self.epsilon}
        if self.use_running_average:
            return normalize(x, running, scale, bias, **form)
        batch = moments(x)
        if not self.is_initializing():
            self.sow('moments', 'batch', batch)
            mean.value, var.value, _ = update(running, batch, self.momentum)
        still = {
            name: lax.stop_gradient(getattr(batch, name)) for name in self.constant
        }
        return normalize(x, batch._replace(**still), scale, bias, **form)


class Noisy(Batch):
    r"""Batch norm whose output is shifted and stretched anew at each step.

    .. math:: z_{iu} = s_{iu} \, y_{iu} + m_{iu}, \quad
              m_{iu} \sim U(\mu_u - r, \mu_u + r), \quad
              s_{iu} \sim N(\sigma_u, r^2)

    .. math:: \mu_u \sim U(-n_\mu, n_\mu), \quad \sigma_u \sim U(1, n_\sigma)

    for unit u and sample i, in training only, with :math:`n_\mu = 0.5`,
    :math:`n_\sigma = 1.25` and :math:`r = 0.1`: each step draws for each unit a mean
    and a deviation, and about these for each sample (Santurkar et al. 2018, appendix
    A.2.1). So the moments of what the next layer sees jump from step to step, which
    is the covariate shift that batch norm was to end. In a convolution a unit is a
    channel, and its positions in a sample share the noise. Drawn from the stream
    ``noise``; without one there is none.
    """

    @nn.compact
    def __call__(self, x: jax.Array, *args: Any, **fields: Any) -> jax.Array:
        y = super().__call__(x, *args, **fields)
        if self.use_running_average or not self.has_rng('noise'):
            return y
        stretch, shift = noise(self.make_rng('noise'), y.shape)
        return (stretch * y + shift).astype(y.dtype)


def noise(key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """s and m of ``Noisy`` for outputs ``(n, ..., units)``; two (n, 1 ..., units)."""
    n, *positions, units = shape
    each = (n, *(1 for _ in positions), units)
    of_mean, of_deviation, of_stretch, of_shift = jax.random.split(key, 4)
    mean = jax.random.uniform(of_mean, (units,), minval=-N_MU, maxval=N_MU)
    deviation = jax.random.uniform(of_deviation, (units,), minval=1, maxval=N_SIGMA)
    stretch = deviation + R * jax.random.normal(of_stretch, each)
    return stretch, mean + jax.random.uniform(of_shift, each, minval=-R, maxval=R)


class Layer(nn.Module):
    r"""Layer norm: each position by the moments of its own features.

    .. math:: y_p = \gamma \, \frac{x_p - \mu_p}{\sqrt{\sigma_p^2 + \epsilon}} + \beta

    (Ba, Kiros & Hinton 2016.) No example looks at another, so there are no running
    statistics, and training and evaluation are one.
    """

    epsilon: Any
    use_scale: bool
    use_bias: bool
    scale: Any
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises ``x`` ``(n, ..., features)``."""
        scale, bias = affine(self, x.shape[-1:])
        x, positions = x.astype(jnp.float32), tuple(range(x.ndim - 1))
        own = moments(x, axis=positions)
        y = scale * normalize(x, own, axis=positions, epsilon=self.epsilon)
        return (y if bias is None else y + bias).astype(self.dtype)


def affine(layer: Any, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array | None]:
    """gamma and, where it is learned, beta; gamma is fixed where it is not."""
    scale, bias = jnp.full(shape, layer.scale, jnp.float32), None
    if layer.use_scale:
        scale = layer.param('scale', nn.initializers.constant(layer.scale), shape)
    if layer.use_bias:
        bias = layer.param('bias', nn.initializers.zeros, shape)
    return scale, bias
