"""What may be wrong with a network's batch norms, read off their variables."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from bnjax.checks import check_epsilon, check_tree, named
from bnjax.population import layers_of


class Health(NamedTuple):
    """One layer's; the extremes are over the features that have a number there.

    Attributes:
      features: how many there are, those of all members of an ensemble together. A
        layer may have none; its extremes are nan.
      untouched: features with mean 0 and variance 1 exactly, as at the start. All
        of them: the updated ``batch_stats`` were dropped.
      smallest_variance: of the running ones; nan if none is a number.
      largest_mean_over_deviation: of \\|mean\\| / sqrt(variance). Where it is large,
        float32 loses digits; inf where a variance of 0 (or less) has a mean that is
        not 0; nan if none is a number.
      below_epsilon: features with a variance below epsilon. They hardly vary, and
        what little they do is multiplied by up to 1 / sqrt(epsilon).
      nonfinite: values that are nan or infinite, among statistics and parameters.
    """

    features: int
    untouched: int
    smallest_variance: float
    largest_mean_over_deviation: float
    below_epsilon: int
    nonfinite: int


def health(variables: Mapping[str, Any], epsilon: float = 1e-5) -> dict[str, Health]:
    """Reads each batch norm's running statistics and parameters, on the host.

    Args:
      variables: of Linen, ``params`` and ``batch_stats``; or of NNX,
        ``nnx.state(model)``, a pure dictionary or not. Leading axes (an ensemble, a
        scan, the replicas) are taken together.
      epsilon: the layers', > 0.

    Returns:
      By layer, ``'block/norm'``, or ``''`` for a layer alone. Plain numbers, for
      ``json.dumps`` too.

    Raises:
      TypeError: ``variables`` or a collection in it is no dictionary.
      ValueError: ``epsilon`` <= 0, or a mean and a variance of unlike shapes.

    >>> import jax.numpy as jnp
    >>> norm = {'mean': jnp.array([0.0, 6.0]), 'var': jnp.array([0.0, 4.0])}
    >>> health({'batch_stats': {'norm': norm}})['norm']._asdict()
    ... # doctest: +NORMALIZE_WHITESPACE
    {'features': 2, 'untouched': 0, 'smallest_variance': 0.0,
     'largest_mean_over_deviation': 3.0, 'below_epsilon': 1, 'nonfinite': 0}
    """
    check_tree(variables=variables)
    check_epsilon(epsilon)
    stats, parameters = variables, variables  # NNX: both in one tree
    if 'batch_stats' in variables:
        stats, parameters = variables['batch_stats'], variables.get('params', {})
    check_tree(batch_stats=stats, params=parameters)
    found = {}
    for path, layer in layers_of(stats).items():
        beside = functools.reduce(lambda t, k: t.get(k, {}), path, parameters)
        values = _values_of(beside) | _values_of(layer)
        name = '/'.join(map(str, path))
        with named(name or 'variables'):
            found[name] = _read(values, epsilon)
    return found


def _values_of(layer: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {
        name: np.asarray(_unboxed(value), np.float64)
        for name, value in layer.items()
        if not isinstance(value, Mapping)
    }


def _unboxed(value: Any) -> Any:
    """Flax has what is partitioned in a box."""
    return value.unbox() if hasattr(value, 'unbox') else value


def _read(layer: Mapping[str, np.ndarray], epsilon: float) -> Health:
    mean, var = layer['mean'], layer['var']
    if mean.shape != var.shape:
        raise ValueError(
            f'mean has shape {mean.shape} and var {var.shape}; both are one value for '
            'each feature'
        )
    size, deviation = np.abs(mean), np.sqrt(np.maximum(var, 0))
    with np.errstate(divide='ignore', invalid='ignore'):
        ratio = np.where(size == 0, 0 * deviation, size / deviation)
    return Health(
        features=mean.size,
        untouched=int(np.sum((mean == 0) & (var == 1))),
        smallest_variance=float(np.fmin.reduce(var, axis=None, initial=np.nan)),
        largest_mean_over_deviation=float(
            np.fmax.reduce(ratio, axis=None, initial=np.nan)
        ),
        below_epsilon=int(np.sum(var < epsilon)),
        nonfinite=int(sum(np.sum(~np.isfinite(value)) for value in layer.values())),
    )
