"""Recurrent networks that read an image row by row."""

from collections.abc import Callable
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp

from bnjax.errors import UserError
from bnjax.linen import BatchNorm
from bnjax.models.layers import (
    Network,
    dense,
    dropped,
    linear,
    norm,
    output,
    sow_activation,
    sow_preactivation,
)

Norms: TypeAlias = dict[str, Any]
Seen: TypeAlias = dict[str, jax.Array]
Out: TypeAlias = tuple[jax.Array, jax.Array, jax.Array, Seen]


class RNN(Network):
    r"""Layers of h_t = tanh(W x_t + U h_{t-1} + b) over the rows of an image.

    Layer ``i`` has ``settings.features[i]`` units; the last row's go to a linear
    output. ``before`` is h_t = tanh(BN(W x_t + U h_{t-1})); ``after`` is
    h_t = BN(tanh(W x_t + U h_{t-1} + b)), and so are the h_{t-1} and the x_t of the
    next layer. The scale of batch norm starts at a tenth of ``settings.scale``, for
    at 1 the derivative of tanh is too small to carry gradients over many steps
    (Cooijmans et al. 2017). Dropout is between layers, not between steps.

    A step is normalised by its own batch in training. Afterwards ``per_step``
    statistics are those of that step, with a leading axis of rows; ``shared`` ones
    are those of all steps together, updated once for each batch. Scale and shift are
    shared always. Takes images ``(n, height, width, channels)``, returns logits.
    """

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return _over_rows(self, _rnn_layer, x, train)


class LSTM(Network):
    r"""Layers of long short-term memory over the rows of an image.

    With the four parts i, f, g, o of a_t = W x_t + U h_{t-1} + b and with s the
    sigmoid, c_t = s(f) c_{t-1} + s(i) tanh(g) and h_t = s(o) tanh(c_t). b starts at 1
    for f and at 0 for the others.

    ``before`` is that of Cooijmans et al. (2017): a_t = BN(W x_t) + BN(U h_{t-1}) + b,
    those two without a shift, and h_t = s(o) tanh(BN(c_t)), while c_t itself goes on
    as it is. ``after`` is h_t = BN(s(o) tanh(c_t)). The rest is as in ``RNN``.
    """

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return _over_rows(self, _lstm_layer, x, train)


class RNNCell(nn.Module):
    """One step of an ``RNN``: h and W x_t + b to h; out go h, a, tanh(a) and `Seen`.

    ``recurrent`` is the product with U. `Seen` is what each of ``norms`` normalised.
    """

    recurrent: nn.Module
    norms: Norms

    def __call__(self, h: jax.Array, product: jax.Array) -> tuple[jax.Array, Out]:
        seen: Seen = {}
        sums = product + self.recurrent(h)
        a = _through(self.norms, 'before', sums, seen)
        activation = jnp.tanh(a)
        h = _through(self.norms, 'after', activation, seen)
        return h, (h, a, activation, seen)


class LSTMCell(nn.Module):
    """One step of an ``LSTM``: h, c and W x_t to h and c; the rest as ``RNNCell``.

    What goes out beside h is what goes into the last tanh, and what h is without BN.
    """

    recurrent: nn.Module
    norms: Norms

    @nn.compact
    def __call__(
        self, state: tuple[jax.Array, jax.Array], product: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], Out]:
        (h, c), seen = state, Seen()
        sums = _through(self.norms, 'input', product, seen)
        sums += _through(self.norms, 'recurrent', self.recurrent(h), seen)
        bias = self.param('bias', _open_forget_gates, sums.shape[-1:])
        i, f, g, o = jnp.split(sums + bias.astype(sums.dtype), 4, axis=-1)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
        a = _through(self.norms, 'cell', c, seen)
        activation = nn.sigmoid(o) * jnp.tanh(a)
        h = _through(self.norms, 'after', activation, seen)
        return (h, c), (h, a, activation, seen)


def _over_rows(net: RNN | LSTM, layer: Callable, x: jax.Array, train: bool) -> Any:
    n, rows, columns, channels = x.shape
    x = x.reshape(n, rows, columns * channels).swapaxes(0, 1)
    for i, width in enumerate(net.settings.features):
        x, a, activations = layer(net, x, i, width, train)
        sow_preactivation(net, a.swapaxes(0, 1), jnp.tanh, i)
        sow_activation(net, activations.swapaxes(0, 1), i)
        x = dropped(net, x, i, train)
    return output(net, x[-1])


def _rnn_layer(net: RNN, x: jax.Array, i: int, width: int, train: bool) -> Any:
    placement = net.settings.placement
    places = {} if placement == 'none' else {placement: f'norm_{i}'}
    norms = {place: _norm(net, name, train) for place, name in places.items()}
    products = dense(net, i, width)(x)
    h = jnp.zeros_like(products[0])
    return _scanned(net, RNNCell, norms, i, h, products, train)


def _lstm_layer(net: LSTM, x: jax.Array, i: int, width: int, train: bool) -> Any:
    norms = {}
    if net.settings.placement == 'before':
        for place in ('input', 'recurrent'):
            name = f'norm_{i}_{place}'
            norms[place] = _norm(net, name, train, use_bias=False)
        norms['cell'] = _norm(net, f'norm_{i}_cell', train)
    elif net.settings.placement == 'after':
        norms['after'] = _norm(net, f'norm_{i}', train)
    form = linear(net) | {'use_bias': False}
    products = nn.Dense(4 * width, name=f'hidden_{i}', **form)(x)
    c = jnp.zeros_like(products[0, :, :width])
    return _scanned(net, LSTMCell, norms, i, (c, c), products, train)


def _scanned(
    net: RNN | LSTM,
    cell: type[RNNCell] | type[LSTMCell],
    norms: Norms,
    i: int,
    state: Any,
    products: jax.Array,
    train: bool,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What goes out of the cell of layer ``i``, each ``(rows, n, units)``."""
    form = linear(net) | {'use_bias': False}
    width = products.shape[-1]
    recurrent = nn.Dense(width, name=f'hidden_{i}_recurrent', **form)
    shared = net.settings.statistics == 'shared'
    scan = nn.scan(
        cell,
        variable_broadcast=['params', 'batch_stats'] if shared else 'params',
        variable_axes={} if shared else {'batch_stats': 0, 'moments': 0},
        split_rngs={'params': False},
    )
    layer = scan(recurrent, norms, name=f'hidden_{i}_cell', parent=net)
    _, (h, a, activations, seen) = layer(state, products)
    if shared and train:
        for place, inputs in seen.items():
            if isinstance(norms[place], BatchNorm):
                _update(norms[place], inputs)
    return h, a, activations


def _norm(net: RNN | LSTM, name: str, train: bool, **fields: Any) -> Any:
    settings = net.settings
    if settings.norm not in ('batch', 'layer'):
        raise UserError(
            f'model.norm={settings.norm!r} is not there with '
            f'model.name={settings.name!r}; give batch or layer'
        )
    if settings.use_scale:
        fields['scale'] = 0.1 * settings.scale
    if settings.norm == 'batch' and settings.statistics == 'shared':
        fields['update_running_average'] = False
    return norm(net, name, train, **fields)


def _update(layer: BatchNorm, inputs: jax.Array) -> None:
    """Lets the moments of all steps together enter the running statistics, once."""
    switches = {'use_running_average': True, 'update_running_average': True}
    layer.clone(parent=layer.scope, **switches)(inputs)


def _through(norms: Norms, place: str, x: jax.Array, seen: Seen) -> jax.Array:
    """Through the batch norm that stands here, if one does; notes what went in."""
    if place not in norms:
        return x
    seen[place] = x
    return norms[place](x)


def _open_forget_gates(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """1 for the second quarter, 0 for the others (Jozefowicz et al. 2015)."""
    return jnp.zeros(shape).reshape(4, -1).at[1].set(1.0).ravel()
