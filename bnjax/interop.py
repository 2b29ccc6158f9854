"""One batch norm's values to and from torch, Flax Linen and Flax NNX.

All meet in the pair ``fields, variables``: the keyword arguments of a
`bnjax.linen.BatchNorm`, and the dictionary that its ``apply`` takes. Values pass
unchanged, float32 statistics to the bit, so a converted layer evaluates the same. For
a layer inside a network, pass and store its part of the dictionary.
"""

import dataclasses
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, TypeAlias

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import bnjax.linen
import bnjax.nnx
from bnjax.checks import check_epsilon, check_momentum, check_tree
from bnjax.layer import named

Fields: TypeAlias = dict[str, Any]
Variables: TypeAlias = Mapping[str, Any]

TORCH_NAMES = {
    'scale': 'weight',
    'bias': 'bias',
    'mean': 'running_mean',
    'var': 'running_var',
}
BATCHES = 'num_batches_tracked'
UNTRACKED = {'use_running_average': False, 'update_running_average': False}


def from_torch(
    state: Mapping[str, Any], *, momentum: float | None = 0.1, eps: float = 1e-5
) -> tuple[Fields, dict[str, Any]]:
    """A Linen layer from the ``state_dict`` of a ``torch.nn.BatchNorm``.

    It evaluates the same, and trained further it stays the same: torch keeps the
    running variance unbiased, hence ``unbiased=True`` among the fields. torch has the
    features on axis 1; add ``axis=1`` to the fields where ``x`` does too.

    Args:
      state: weight, bias, running_mean, running_var, num_batches_tracked, as many as
        the layer has; tensors on any device, or arrays. torch is not imported. A
        count of batches that is not there is 0, as in torch.
      momentum: torch's, the fraction *replaced*; None gives every batch the same
        weight.
      eps: torch's.

    Returns:
      The fields and the variables. Parameters keep their dtype; statistics are
      float32. ``track_running_stats=False`` becomes ``use_running_average=False,
      update_running_average=False``.

    Raises:
      TypeError: ``state`` is no dictionary, or something is traced.
      ValueError: ``state`` is not that of one layer, ``momentum`` is outside [0, 1],
        or ``eps`` <= 0.

    >>> import numpy as np
    >>> state = {'running_mean': np.float32([3.0]), 'running_var': np.float32([4.0])}
    >>> fields, variables = from_torch(state, momentum=0.1)
    >>> fields['momentum'], variables['batch_stats']
    (0.9, {'mean': Array([3.], dtype=float32), 'var': Array([4.], dtype=float32)})
    """
    _check_torch_state(state)
    check_momentum(momentum)
    with named('eps'):
        check_epsilon(eps)
    _check_known({'momentum': momentum, **state})
    arrays = {name: _array(value) for name, value in state.items() if value is not None}
    _check_torch_names(arrays)
    values = {ours: arrays[its] for ours, its in TORCH_NAMES.items() if its in arrays}
    shape = (_check_one_axis(values),)
    fields = {
        'momentum': _complement(momentum),
        'epsilon': eps,
        'use_bias': 'bias' in values,
        'use_scale': 'scale' in values,
        'unbiased': True,
    }
    if 'mean' not in values:
        fields |= UNTRACKED
        values |= {'mean': np.zeros(shape), 'var': np.ones(shape)}
    if momentum is None:
        values['count'] = np.full(shape, arrays.get(BATCHES, 0))
    return fields, _variables(values)


def to_torch(
    fields: Fields, variables: Variables
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The arguments and the ``state_dict`` of a ``torch.nn.BatchNorm``::

        arguments, state = to_torch(fields, variables)
        layer = torch.nn.BatchNorm2d(**arguments)
        layer.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})

    It evaluates the same. Trained further it is the same with ``unbiased=True``; what
    ``debias``, ``skip_nonfinite``, ``ghost_batch_size`` and ``axis_name`` do in
    training, torch's layer does not.

    Args:
      fields: of a BatchNorm of Flax's or bnjax's; defaults may be left out.
      variables: ``params`` and ``batch_stats`` of that one layer.

    Returns:
      The arguments, momentum as the fraction *replaced*; and arrays of the
      variables' dtypes, but float32 for bfloat16, which numpy lacks. A scale alone
      needs torch 2.13 (``bias=False``); beside a bias alone torch has a weight, of
      ones, to freeze if it must stay that. ``num_batches_tracked`` is 0 unless
      momentum is None; torch does not look at it otherwise.

    Raises:
      TypeError: ``fields`` or ``variables`` is no dictionary of a layer's, or
        something is traced.
      ValueError: torch has no such layer, a field is outside its bounds, or
        ``variables`` is not that of one layer.

    >>> import jax.numpy as jnp
    >>> stats = {'mean': jnp.array([3.0]), 'var': jnp.array([4.0])}
    >>> arguments, state = to_torch({'momentum': 0.9}, {'batch_stats': stats})
    >>> arguments
    {'num_features': 1, 'eps': 1e-05, 'momentum': 0.1, 'affine': False}
    >>> state['running_var'], state['num_batches_tracked']
    (array([4.], dtype=float32), array(0))
    """
    layer, values = _read(fields, variables)
    known = {'momentum': layer.momentum, 'epsilon': layer.epsilon}
    _check_known(known | values)
    arguments = {
        'num_features': _check_one_axis(values),
        'eps': float(layer.epsilon),
        'momentum': _complement(layer.momentum),
        'affine': 'scale' in values or 'bias' in values,
    }
    if 'bias' in values:
        values.setdefault('scale', jnp.ones_like(values['bias']))
    elif 'scale' in values:
        arguments['bias'] = False
    batches = 0 if layer.momentum is not None else _one_number(values['count'])
    state = {TORCH_NAMES[k]: _numpy(v) for k, v in values.items() if k != 'count'}
    if all(getattr(layer, name) is False for name in UNTRACKED):
        arguments['track_running_stats'] = False
        return arguments, {k: v for k, v in state.items() if 'running' not in k}
    return arguments, {**state, BATCHES: np.array(batches, np.int64)}


def from_nnx(layer: nnx.BatchNorm) -> tuple[Fields, dict[str, Any]]:
    """A Linen layer from one of ``flax.nnx`` or `bnjax.nnx`.

    Whether it is in training or in evaluation is left out: Linen is told in the call.

    Raises:
      TypeError: it is no BatchNorm.
      ValueError: the layer has features on several axes, or is an ensemble.
    """
    if not isinstance(layer, nnx.BatchNorm):
        kind = type(layer).__name__
        raise TypeError(f'layer is a {kind}; give a BatchNorm of flax.nnx or bnjax.nnx')
    names = [field.name for field in dataclasses.fields(bnjax.linen.BatchNorm)]
    fields = {
        name: getattr(layer, name)
        for name in names
        if hasattr(layer, name) and name != 'use_running_average'
    }
    found = {name: getattr(layer, name, None) for name in (*TORCH_NAMES, 'count')}
    values = {name: v[...] for name, v in found.items() if v is not None}
    _check_one_axis(values, layer.axis)
    return fields, _variables(values)


def to_nnx(
    fields: Fields,
    variables: Variables,
    layer_type: type[nnx.BatchNorm] = bnjax.nnx.BatchNorm,
) -> nnx.BatchNorm:
    """An NNX layer from a Linen one; for Flax's::

        layer = to_nnx(*to_flax(fields, variables), flax.nnx.BatchNorm)

    Raises:
      TypeError: ``fields`` or ``variables`` is no dictionary of a layer's.
      ValueError: features on several axes, an ensemble, a field outside its bounds, or
        variables that are not those of one layer.

    >>> import jax.numpy as jnp
    >>> stats = {'mean': jnp.array([3.0]), 'var': jnp.array([4.0])}
    >>> layer = to_nnx({'momentum': 0.9}, {'batch_stats': stats})
    >>> layer.momentum, layer.mean[...]
    (0.9, Array([3.], dtype=float32))
    """
    layer, values = _read(fields, variables)
    features = _check_one_axis(values, layer.axis)
    given = {k: v for k, v in fields.items() if k != 'force_float32_reductions'}
    given |= {'use_scale': 'scale' in values, 'use_bias': 'bias' in values}
    made = layer_type(features, rngs=nnx.Rngs(0), **given)
    for name, value in values.items():
        getattr(made, name).set_value(value)  # [...] would keep the initial dtype
    return made


def to_flax(fields: Fields, variables: Variables) -> tuple[Fields, dict[str, Any]]:
    """The same for ``flax.linen.BatchNorm``: without what it has not.

    It evaluates the same; it does not train by the fields that are dropped. The other
    way there is nothing to do: bnjax's layer takes Flax's fields and variables.

    Raises:
      TypeError: ``fields`` or ``variables`` is no dictionary of a layer's.
      ValueError: momentum is None, a field is outside its bounds, or ``variables`` is
        not that of one layer.

    >>> import jax.numpy as jnp
    >>> one = jnp.ones(1)
    >>> variables = {'batch_stats': {'mean': one, 'var': one, 'count': one}}
    >>> to_flax({'momentum': 0.9, 'debias': True}, variables)[0]
    {'momentum': 0.9}
    """
    layer, values = _read(fields, variables)
    if layer.momentum is None:
        raise ValueError(
            'momentum=None, the cumulative average, is not in Flax; '
            "pass fields | {'momentum': 0.99}, or another number"
        )
    names = {field.name for field in dataclasses.fields(flax.linen.BatchNorm)}
    values.pop('count', None)
    return {k: v for k, v in fields.items() if k in names}, _variables(values)


def _read(
    fields: Fields, variables: Variables
) -> tuple[bnjax.linen.BatchNorm, dict[str, jax.Array]]:
    """The layer, for its defaults and to refuse unknown fields; its values by name."""
    check_tree(fields=fields, variables=variables)
    layer = bnjax.linen.BatchNorm(**fields)
    check_momentum(layer.momentum)
    check_epsilon(layer.epsilon)
    variables = flax.linen.unbox(variables)
    stats, params = (variables.get(name, {}) for name in ('batch_stats', 'params'))
    check_tree(batch_stats=stats, params=params)
    found = {**params, **stats}
    needed, known = {'mean', 'var'}, {*TORCH_NAMES, 'count'}
    if layer.debias or layer.momentum is None:
        needed.add('count')
    if not needed <= set(stats) or not set(found) <= known:
        raise ValueError(
            f'variables hold {sorted(found)}, not one layer: batch_stats needs '
            f'{sorted(needed)}; of a network pass one layer as '
            "{'params': params[name], 'batch_stats': batch_stats[name]}"
        )
    if 'count' not in needed:
        found.pop('count', None)
    return layer, {name: jnp.asarray(value) for name, value in found.items()}


def _variables(values: Mapping[str, Any]) -> dict[str, Any]:
    """As Linen has them, in memory of their own: torch changes its own in place."""
    statistics = {
        name: jnp.array(values[name], jnp.float32)
        for name in ('mean', 'var', 'count')
        if name in values
    }
    parameters = {k: jnp.array(v) for k, v in values.items() if k not in statistics}
    return ({'params': parameters} if parameters else {}) | {'batch_stats': statistics}


def _complement(momentum: float | jax.Array | None) -> float | None:
    """1 - momentum, in decimals, so that 0.1 and 0.9 become each other."""
    return None if momentum is None else float(1 - Decimal(str(momentum)))


def _array(value: Any) -> np.ndarray:
    """Of a tensor or an array; it may share its memory."""
    if not hasattr(value, 'detach'):
        return np.asarray(value)
    value = value.detach().cpu()
    if str(value.dtype) == 'torch.bfloat16':  # unknown to numpy
        return value.float().numpy().astype(jnp.bfloat16)
    return value.numpy()


def _numpy(value: jax.Array) -> np.ndarray:
    return np.array(value, np.float32 if value.dtype == jnp.bfloat16 else value.dtype)


def _one_number(count: jax.Array) -> int:
    numbers = np.unique(count)
    if len(numbers) != 1 or numbers[0] % 1:
        raise ValueError(
            f'count is {numbers.tolist()}, but torch has one whole number of batches '
            'for all features; set count to one number'
        )
    return int(numbers[0])


def _check_torch_state(state: Any) -> None:
    if not isinstance(state, Mapping):
        kind = 'None' if state is None else f'a {type(state).__name__}'
        raise TypeError(f'state is {kind}; give a dictionary: layer.state_dict()')
    if not state:
        raise ValueError(
            'state is empty: no name began as those of the layer do, or it has '
            'affine=False and track_running_stats=False; then there is nothing to '
            'convert, and it is BatchNorm(epsilon=eps, use_running_average=False, '
            'update_running_average=False, use_bias=False, use_scale=False)'
        )


def _check_known(values: Mapping[str, Any]) -> None:
    """Refuses what only a compiled program will know."""
    traced = [name for name, v in values.items() if isinstance(v, jax.core.Tracer)]
    if traced:
        raise TypeError(
            f'{", ".join(traced)} traced, but torch takes numbers; convert outside of '
            'jax.jit, jax.grad and jax.vmap'
        )


def _check_torch_names(state: Mapping[str, Any]) -> None:
    per_feature = set(TORCH_NAMES.values())
    halved = ('running_mean' in state) != ('running_var' in state)
    if halved or not per_feature & set(state) or set(state) - per_feature - {BATCHES}:
        raise ValueError(
            f'state has {sorted(state)[:6]}, not what one BatchNorm has of '
            f"{sorted(per_feature)}; of a network's pass {{k.removeprefix('bn1.'): v "
            "for k, v in state.items() if k.startswith('bn1.')}"
        )


def _check_one_axis(values: Mapping[str, Any], axis: Any = -1) -> int:
    """The number of features, which must all be on one axis."""
    shapes = {name: np.shape(value) for name, value in values.items()}
    several = np.ndim(axis) > 0 and len(axis) > 1
    shape, *others = set(shapes.values())
    if several or others or len(shape) != 1:
        raise ValueError(
            f'axis={axis} with values of shapes {shapes}; only features on one axis '
            'are converted; of an ensemble pass one: jax.tree.map(lambda v: v[0], ...)'
        )
    return shape[0]
