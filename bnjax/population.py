"""Population statistics: what a trained network's batch norms see of a data set."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from bnjax.moments import Moments, merge, pool

Tree: TypeAlias = Mapping[str, Any]
Path: TypeAlias = tuple[str, ...]
ByLayer: TypeAlias = dict[Path, Moments]


def reestimate(
    apply_fn: Callable[[Tree, Any], tuple[Any, Tree]],
    variables: Tree,
    batches: Iterable[Any],
) -> Any:
    r"""Statistics of each batch norm over a data set, for a network as it stands.

    .. math:: n = \sum_B n_B, \quad \mu = \frac1n \sum_B n_B \mu_B, \quad
              \sigma^2 = \frac1n \sum_B n_B \, (\sigma_B^2 + (\mu_B - \mu)^2)

    (Ioffe & Szegedy 2015, algorithm 2, line 10; PreciseBN of Wu & Johnson 2021.) Every
    value counts once, however the batches were cut, and the variance is biased. Each
    batch is normalised by itself, so what deeper layers see depends on its size.

    With Flax, for a ``model`` of `bnjax.linen.BatchNorm` layers::

        measure = functools.partial(
            model.apply, train=True, mutable=['batch_stats', 'moments']
        )
        batch_stats = reestimate(jax.jit(measure), variables, batches)

    Args:
      apply_fn: runs the network in training form on ``variables``, always the same,
        and a batch. Returns a pair, as Flax's ``apply``, the second with a collection
        ``moments`` that holds for each layer ``batch``, the ``Moments`` of its calls.
        Leading axes that the statistics lack (devices, a scan) are pooled.
      variables: the network's, ``batch_stats`` among them.
      batches: of whatever ``apply_fn`` takes, masks included.

    Returns:
      ``batch_stats`` with new means and variances; old where no value was seen.

    Raises:
      ValueError: no batches, or a layer in ``batch_stats`` without moments.

    >>> import bnjax, jax.numpy as jnp
    >>> def measure(variables, x):
    ...     return None, {'moments': {'norm': {'batch': (bnjax.moments(x),)}}}
    >>> old = {'batch_stats': {'norm': {'mean': jnp.zeros(1), 'var': jnp.ones(1)}}}
    >>> uneven = [jnp.array([[0.0], [0.0], [3.0]]), jnp.array([[5.0]])]
    >>> new = reestimate(measure, old, uneven)
    >>> print(new['norm']['mean'], new['norm']['var'])
    [2.] [4.5]
    """
    fixed = {name: tree for name, tree in variables.items() if name != 'moments'}
    layers = _layers(stats := fixed.get('batch_stats', {}))
    total: ByLayer = {}
    for batch in batches:
        seen = _moments_of_calls(apply_fn(fixed, batch), layers)
        if not total:
            about = {path: m.mean for path, m in seen.items()}
            total = jax.tree.map(jnp.zeros_like, seen)
        total = _merge_layers(total, seen, about)
    if layers and not total:
        raise ValueError('batches is empty; a generator, for one, serves only once')
    total = {path: t._replace(mean=t.mean + about[path]) for path, t in total.items()}
    return _replace(stats, total)


def merge_replicas(batch_stats: Tree) -> Any:
    r"""Statistics of replicas that saw as much data each, without being synced.

    .. math:: \mu = \overline{\mu_r}, \quad
              \sigma^2 = \overline{\sigma_r^2} + \overline{(\mu_r - \mu)^2}

    Averaging the variances alone would lose what lies between the means.

    Args:
      batch_stats: with the replicas on the first axis of each array; the result has
        that axis no more.

    >>> import jax.numpy as jnp
    >>> replicas = {'mean': jnp.array([[-1.0], [1.0]]), 'var': jnp.ones((2, 1))}
    >>> merged = merge_replicas(replicas)
    >>> print(merged['mean'], merged['var'])
    [0.] [2.]
    """
    moments = {
        path: pool(Moments(layer['mean'], layer['var'], jnp.ones_like(layer['var'])))
        for path, layer in _layers(batch_stats).items()
    }
    return _replace(jax.tree.map(lambda v: v[0], batch_stats), moments)


def _layers(tree: Tree, path: Path = ()) -> dict[Path, Tree]:
    """The statistics of each layer, by its place in ``batch_stats``."""
    found = {path: tree} if 'mean' in tree and 'var' in tree else {}
    for name in tree:
        if isinstance(tree[name], Mapping):
            found |= _layers(tree[name], (*path, name))
    return found


def _moments_of_calls(result: Any, layers: Mapping[Path, Tree]) -> ByLayer:
    """The moments of each layer, its calls merged."""
    _, changed = result if isinstance(result, tuple) else (result, {})
    seen = {}
    for path, layer in layers.items():
        sown = functools.reduce(lambda t, k: t.get(k, {}), ('moments', *path), changed)
        if 'batch' not in sown:
            raise ValueError(
                f'apply_fn gives no moments of batch_stats/{"/".join(path)}; it must '
                'run this layer, a bnjax BatchNorm, in training form and return '
                "model.apply(..., mutable=['batch_stats', 'moments'])"
            )
        seen[path] = functools.reduce(merge, sown['batch'])
        while seen[path].mean.ndim > jnp.ndim(layer['mean']):
            seen[path] = pool(seen[path])
    return seen


@jax.jit
def _merge_layers(total: ByLayer, seen: ByLayer, about: dict[Path, Any]) -> ByLayer:
    """Counts means from ``about``: beside a large one, small steps would be lost."""
    return {
        path: merge(total[path], s._replace(mean=s.mean - about[path]))
        for path, s in seen.items()
    }


def _replace(tree: Any, moments: ByLayer, path: Path = ()) -> Any:
    new = {
        name: _replace(v, moments, (*path, name)) if isinstance(v, Mapping) else v
        for name, v in tree.items()
    }
    if path in moments:
        mean, var, count = moments[path]
        # A count of no updates would have the next one discard all this.
        updates = jnp.maximum(tree.get('count', 1), 1)
        for name, value in {'mean': mean, 'var': var, 'count': updates}.items():
            if name in tree:
                old = jnp.asarray(tree[name])
                new[name] = jnp.where(count > 0, value, old).astype(old.dtype)
    return type(tree)(new)
