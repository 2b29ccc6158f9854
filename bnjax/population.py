"""Statistics of all layers of a network: over a data set, micro-batches, replicas."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from bnjax.checks import (
    Scalar,
    check_momentum,
    check_same_features,
    check_tree,
    named,
)
from bnjax.moments import Moments, merge, pool, update

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
      TypeError: ``variables`` are no dictionary.
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
    check_tree(variables=variables)
    fixed = {name: tree for name, tree in variables.items() if name != 'moments'}
    layers = layers_of(stats := fixed.get('batch_stats', {}))
    total: ByLayer = {}
    for batch in batches:
        seen = _moments_of_calls(apply_fn(fixed, batch), layers)
        if not total:
            about = {path: m.mean for path, m in seen.items()}
            total = jax.tree.map(jnp.zeros_like, seen)
        total = _merge_layers(total, seen, about)
    if layers and not total:
        raise ValueError('batches is empty; a generator, for one, serves only once')
    return _replace(
        stats,
        {
            path: _population(t._replace(mean=t.mean + about[path]), layers[path])
            for path, t in total.items()
        },
    )


def update_layers(
    batch_stats: Tree,
    moments: Tree,
    momentum: Scalar | None = 0.99,
    *,
    unbiased: bool = False,
    skip_nonfinite: bool = False,
) -> Any:
    """One update of the running statistics from all that several calls saw.

    So a step over micro-batches counts once, as one over the whole batch would::

        layers = BatchNorm(update_running_average=False, ...)
        y, seen = model.apply(variables, x, mutable=['moments'])  # in a scan
        batch_stats = update_layers(batch_stats, seen['moments'], momentum=0.9)

    Each micro-batch is still normalised by its own moments.

    Args:
      batch_stats: of the network.
      moments: the collection of that name, as for ``reestimate``; leading axes, as of
        a scan over micro-batches, are pooled.
      momentum, unbiased, skip_nonfinite: as for ``bnjax.update``. ``momentum`` is the
        fraction kept. Without a count in ``batch_stats`` that of a layer is 1.

    Raises:
      TypeError: ``batch_stats`` or ``moments`` is no dictionary.
      ValueError: a layer in ``batch_stats`` has no moments, or no count, which
        ``momentum=None`` needs; or as ``bnjax.update``.

    >>> import bnjax, jax, jax.numpy as jnp
    >>> micro_batches = jnp.arange(8.0).reshape(2, 4, 1)
    >>> seen = {'norm': {'batch': (jax.vmap(bnjax.moments)(micro_batches),)}}
    >>> old = {'norm': {'mean': jnp.zeros(1), 'var': jnp.ones(1)}}
    >>> new = update_layers(old, seen, momentum=0.0)
    >>> print(new['norm']['mean'], new['norm']['var'])
    [3.5] [5.25]
    """
    check_tree(batch_stats=batch_stats, moments=moments)
    check_momentum(momentum)
    layers = layers_of(batch_stats)
    how = {'unbiased': unbiased, 'skip_nonfinite': skip_nonfinite}
    new = {}
    for path, batch in _moments_of_calls(({}, {'moments': moments}), layers).items():
        old = {'count': jnp.ones_like(layers[path]['mean']), **layers[path]}
        running = Moments(old['mean'], old['var'], old['count'])
        with named(_place(path)):
            if momentum is None and 'count' not in layers[path]:
                raise ValueError(
                    'momentum=None needs the count of the running statistics; make '
                    'the layer with it, or add a count: how many batches they saw'
                )
            new[path] = update(running, batch, momentum, **how)._asdict()
    return _replace(batch_stats, new)


def merge_replicas(batch_stats: Tree) -> Any:
    r"""Statistics of replicas that saw as much data each, without being synced.

    .. math:: \mu = \overline{\mu_r}, \quad
              \sigma^2 = \overline{\sigma_r^2} + \overline{(\mu_r - \mu)^2}

    Averaging the variances alone would lose what lies between the means.

    Args:
      batch_stats: with the replicas on the first axis of each array, before that of
        the features; the result has that axis no more. Statistics without a feature
        axis need one to be told from a single replica's: ``v[:, None]``.

    Raises:
      TypeError: ``batch_stats`` is no dictionary of arrays of floats.
      ValueError: an array has no axis of replicas, or another number of them.

    >>> import jax.numpy as jnp
    >>> replicas = {'mean': jnp.array([[-1.0], [1.0]]), 'var': jnp.ones((2, 1))}
    >>> merged = merge_replicas(replicas)
    >>> print(merged['mean'], merged['var'])
    [0.] [2.]
    """
    check_tree(batch_stats=batch_stats)
    _check_replicas(batch_stats)
    merged = {
        path: pool(Moments(layer['mean'], layer['var'], jnp.ones_like(layer['var'])))
        for path, layer in layers_of(batch_stats).items()
    }
    first = jax.tree.map(lambda v: v[0], batch_stats)
    firsts = layers_of(first)
    return _replace(first, {p: _population(m, firsts[p]) for p, m in merged.items()})


def layers_of(tree: Tree, path: Path = ()) -> dict[Path, Tree]:
    """The statistics of each layer, by its place in ``batch_stats``."""
    own = {name for name, value in tree.items() if not isinstance(value, Mapping)}
    found = {path: tree} if {'mean', 'var'} <= own else {}
    for name in tree:
        if isinstance(tree[name], Mapping):
            found |= layers_of(tree[name], (*path, name))
    return found


def _check_replicas(batch_stats: Tree) -> None:
    for path, layer in layers_of(batch_stats).items():
        place = _place(path)
        mean, var = layer['mean'], layer['var']
        check_same_features(**{place: Moments(mean, var, layer.get('count', var))})
        if mean.ndim < 2:
            raise ValueError(
                f'{place} has shape {mean.shape}, but it must be (replicas, features); '
                'stack them: jax.tree.map(lambda *v: jnp.stack(v), *replicas)'
            )
    leaves = jax.tree_util.tree_leaves_with_path(batch_stats)
    shapes = {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in leaves}
    one_of_each = {shape[:1]: f'{name} {shape}' for name, shape in shapes.items()}
    if len(one_of_each) > 1 or {(), (0,)} & set(one_of_each):
        raise ValueError(
            'batch_stats must have the replicas, equally many, on the first axis of '
            f'each array: {", ".join(one_of_each.values())}'
        )


def _place(path: Path) -> str:
    return '/'.join(map(str, ('batch_stats', *path)))


def _moments_of_calls(result: Any, layers: Mapping[Path, Tree]) -> ByLayer:
    """The moments of each layer, its calls merged."""
    _, changed = result if isinstance(result, tuple) else (result, {})
    seen = {}
    for path, layer in layers.items():
        sown = functools.reduce(lambda t, k: t.get(k, {}), ('moments', *path), changed)
        if 'batch' not in sown:
            raise ValueError(
                f'there are no moments of {_place(path)}; run this layer, a bnjax '
                'BatchNorm, in training form and pass on what is returned by '
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


def _population(seen: Moments, layer: Tree) -> dict[str, jax.Array]:
    """What was seen, or the layer's own where nothing was."""
    # A count of no updates would have the next one discard all this.
    updates = jnp.maximum(layer.get('count', 1), 1)
    values = {'mean': seen.mean, 'var': seen.var, 'count': updates}
    return {
        name: jnp.where(seen.count > 0, values[name], layer[name])
        for name in values
        if name in layer
    }


def _replace(
    tree: Any, layers: Mapping[Path, Mapping[str, jax.Array]], path: Path = ()
) -> Any:
    """The tree with new values for the statistics that it has, in their dtypes."""
    own = layers.get(path, {})
    new = {}
    for name, old in tree.items():
        if isinstance(old, Mapping):
            new[name] = _replace(old, layers, (*path, name))
        else:
            new[name] = jnp.asarray(own.get(name, old), jnp.result_type(old))
    return type(tree)(new)
