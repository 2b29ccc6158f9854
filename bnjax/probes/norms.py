"""What each batch norm has learned, and how its two kinds of statistics differ."""

import jax
import jax.numpy as jnp

from bnjax.probes.sample import Sample


def norm_scale(sample: Sample) -> dict[str, jax.Array]:
    """Mean over the units of each batch norm's scale (gamma)."""
    return {layer: scale.mean() for layer, scale in _learned(sample, 'scale').items()}


def norm_scale_std(sample: Sample) -> dict[str, jax.Array]:
    """Standard deviation over the units of each batch norm's scale (gamma)."""
    return {layer: scale.std() for layer, scale in _learned(sample, 'scale').items()}


def norm_shift(sample: Sample) -> dict[str, jax.Array]:
    """Mean over the units of each batch norm's shift (beta)."""
    return {layer: shift.mean() for layer, shift in _learned(sample, 'bias').items()}


def norm_shift_std(sample: Sample) -> dict[str, jax.Array]:
    """Standard deviation over the units of each batch norm's shift (beta)."""
    return {layer: shift.std() for layer, shift in _learned(sample, 'bias').items()}


def norm_variance_min(sample: Sample) -> dict[str, jax.Array]:
    r"""How near a batch norm is to its floor: :math:`\min_u \sigma_u^2 / \epsilon`.

    Of the running variances; at 1 the output is smaller by :math:`\sqrt 2` than
    without epsilon.
    """
    return {
        layer: stats['var'].min() / sample.epsilon
        for layer, stats in sample.running.items()
    }


def running_batch_gap(sample: Sample) -> dict[str, jax.Array]:
    r"""How far the running statistics of each batch norm are from the batch's own.

    .. math:: \sqrt{\frac{\sum_u (\mu_u - m_u)^2 + (\sigma_u - s_u)^2}
                         {\sum_u s_u^2 + \epsilon}}

    over the units, with mean m and deviation s in the batch and with the running ones
    before it: 0 where both normalise alike, 1 where they are a deviation apart. The
    numerator is a Wasserstein distance of two normal distributions, squared.
    """

    def gap(layer: str) -> jax.Array:
        running, batch = sample.running[layer], sample.batch[layer]
        means = running['mean'] - batch['mean']
        deviations = jnp.sqrt(running['var']) - jnp.sqrt(batch['var'])
        apart = (means**2 + deviations**2).sum()
        return jnp.sqrt(apart / (batch['var'] + sample.epsilon).sum())

    return {layer: gap(layer) for layer in sample.running}


def _learned(sample: Sample, name: str) -> dict[str, jax.Array]:
    """A parameter of the batch norms, or layer norms, that have it."""
    return {
        layer: values[name]
        for layer, values in sample.params.items()
        if layer.startswith('norm_') and name in values
    }
