"""A layer to and from torch, which is not imported."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bnjax.checks import check_epsilon, check_momentum, kind_of
from bnjax.interop.values import Fields, Variables, as_collections, check_one_axis, read

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
    check_epsilon(eps, 'eps')
    _check_known({'momentum': momentum, **state})
    arrays = {name: _array(value) for name, value in state.items() if value is not None}
    _check_torch_names(arrays)
    values = {ours: arrays[its] for ours, its in TORCH_NAMES.items() if its in arrays}
    shape = (check_one_axis(values),)
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
    return fields, as_collections(values)


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
    layer, values = read(fields, variables)
    known = {'momentum': layer.momentum, 'epsilon': layer.epsilon}
    _check_known(known | values)
    arguments = {
        'num_features': check_one_axis(values),
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
        raise TypeError(
            f'state is {kind_of(state)}; give a dictionary: layer.state_dict()'
        )
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
            f'{", ".join(traced)} traced, but values are needed; convert outside of '
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
