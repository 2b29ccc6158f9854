"""What goes into and comes out of the nonlinearity of each hidden layer.

With batch norm before it, what goes in is normalised; batch norm after it comes later.
"""

import functools

import jax
import jax.numpy as jnp

from bnjax.probes.sample import Sample


def activation_mean(sample: Sample) -> dict[str, jax.Array]:
    """Mean of each hidden layer's activations."""
    return {layer: a.mean() for layer, a in sample.activations.items()}


def activation_std(sample: Sample) -> dict[str, jax.Array]:
    """Standard deviation of each hidden layer's activations."""
    return {layer: a.std() for layer, a in sample.activations.items()}


def _quantile(share: float, sample: Sample) -> dict[str, jax.Array]:
    """What this share of a hidden layer's activations is below, interpolated.

    At 15, 50 and 85 % as in Ioffe & Szegedy (2015), fig. 1, but of all units. They
    are sorted, which takes longer than a training step where there are many.
    """
    return {layer: jnp.quantile(a, share) for layer, a in sample.activations.items()}


activation_quantile_15 = functools.partial(_quantile, 0.15)
activation_quantile_50 = functools.partial(_quantile, 0.5)
activation_quantile_85 = functools.partial(_quantile, 0.85)


def zero_fraction(sample: Sample) -> dict[str, jax.Array]:
    """Share of each hidden layer's activations that are exactly 0."""
    return {layer: (a == 0).mean() for layer, a in sample.activations.items()}


def zero_fraction_std(sample: Sample) -> dict[str, jax.Array]:
    """Standard deviation over the units of each one's share of zeros."""
    return {
        layer: (a == 0).mean(_but_units(a)).std()
        for layer, a in sample.activations.items()
    }


def dead_fraction(sample: Sample) -> dict[str, jax.Array]:
    """Share of each hidden layer's units that are 0 on the whole batch.

    In a convolution a unit is a channel, at all its positions.
    """
    return {
        layer: (a == 0).all(_but_units(a)).mean()
        for layer, a in sample.activations.items()
    }


def saturated_fraction(sample: Sample) -> dict[str, jax.Array]:
    """Share of |z| > 2, where z goes into the nonlinearity; of N(0, 1) it is 4.6 %."""
    return {layer: (abs(z) > 2).mean() for layer, z in sample.preactivations.items()}


def split_fraction(sample: Sample) -> dict[str, jax.Array]:
    """Share of units whose z is positive on 5 to 95 % of the batch.

    The others are linear there, if the nonlinearity has its kink at 0.
    """

    def splits(z: jax.Array) -> jax.Array:
        # Counted, for 5 % is no float.
        positive, all_of_them = (z > 0).sum(_but_units(z)), z.size // z.shape[-1]
        shares = 20 * positive
        return (shares >= all_of_them) & (shares <= 19 * all_of_them)

    return {layer: splits(z).mean() for layer, z in sample.preactivations.items()}


def middle_fraction(sample: Sample) -> dict[str, jax.Array]:
    """Share of activations in [0.1, 0.9], where a sigmoid is not saturated."""
    return {
        layer: ((a >= 0.1) & (a <= 0.9)).mean()
        for layer, a in sample.activations.items()
    }


def activation_slope(sample: Sample) -> dict[str, jax.Array]:
    """Mean of f'(z), the factor by which the way back passes the nonlinearity."""
    return {layer: slope.mean() for layer, slope in sample.slopes.items()}


def of_units(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation of each unit, ``(units,)``, over all else."""
    return a.mean(_but_units(a)), a.std(_but_units(a))


def _but_units(a: jax.Array) -> tuple[int, ...]:
    return tuple(range(a.ndim - 1))
