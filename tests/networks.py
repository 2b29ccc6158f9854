"""Every network written out in NumPy, in float64, from the same variables."""

import collections
import functools

import jax
import numpy as np

from bnjax import config
from bnjax.models import network

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
CLASSES = 3
PLACEMENTS = ('none', 'before', 'after')
BOTH = (True, False)
SIZES = {
    'mlp': ((5, 3, 2, 1), (4, 3)),
    'cnn': ((5, 4, 5, 2), (3,)),
    'resnet': ((5, 7, 6, 2), (3, 5)),
    'darknet': ((5, 5, 6, 2), (5, 4)),
    'rnn': ((5, 6, 3, 2), (4, 3)),
    'lstm': ((5, 6, 3, 2), (4, 3)),
}
ELEMENTWISE = {
    'relu': lambda x: np.maximum(x, 0),
    'sigmoid': lambda x: 1 / (1 + np.exp(-x)),
}
SQUARE = ((0, 0), (0, 1), (1, 0), (1, 1))


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def close(actual, desired, rtol=1e-5):
    """To ``rtol`` of each value, and of the largest."""
    atol = rtol * max(1, abs(np.asarray(desired)).max(initial=0))
    np.testing.assert_allclose(actual, desired, rtol=rtol, atol=atol)


def small(name, **fields):
    """A small net, variables for it, all of them random, and images."""
    shape, features = SIZES[name]
    fields = {'features': features, 'depth': 6} | fields
    net = network(config.Model(name=name, **fields), CLASSES)
    x = normal(*shape)
    variables = jax.tree.map(lambda v: normal(*v.shape), shapes_of(net, shape))
    for stats in variables.get('batch_stats', {}).values():
        stats['var'] = stats['var'] ** 2
    return net, variables, x


@functools.cache
def shapes_of(net, shape):
    """Of the net's parameters and statistics, traced but once."""
    x = jax.ShapeDtypeStruct(shape, np.float32)
    shapes = dict(jax.eval_shape(lambda x: net.init(KEY, x, train=False), x))
    shapes.pop('activations')
    return shapes


def apply(net, variables, x, train, mutable=('batch_stats', 'moments')):
    """Logits and the changed variables.

    Only a scan is worth compiling: all else finds its operations compiled already.
    """
    how = _compiled_apply if net.settings.name in ('rnn', 'lstm') else _apply
    return how(net, variables, x, train, mutable)


def _apply(net, variables, x, train, mutable):
    return net.apply(variables, x, train, mutable=list(mutable))


_compiled_apply = jax.jit(_apply, static_argnums=(0, 3, 4))


def parameters(net, x):
    """As training begins with them; the forward pass is not computed."""
    x = jax.ShapeDtypeStruct(x.shape, x.dtype)
    kept = ['params', 'batch_stats']
    return net.lazy_init(KEY, x, train=False, mutable=kept)['params']


class ByHand:
    """One forward pass; ``seen`` collects what each batch norm normalised."""

    def __init__(self, settings, variables, train):
        variables = jax.tree.map(lambda v: np.asarray(v, np.float64), variables)
        self.settings, self.train = settings, train
        self.params = variables['params']
        self.stats = variables.get('batch_stats', {})
        self.seen = collections.defaultdict(list)
        self.nonlinearity = ELEMENTWISE[settings.activation]

    def __call__(self, x):
        x = FORWARD[self.settings.name](self, np.asarray(x, np.float64))
        x = x.mean((1, 2)) if x.ndim == 4 else x
        return self.linear('output', x)

    def linear(self, name, x, stride=1):
        layer = self.params[name]
        product = convolution if layer['kernel'].ndim == 4 else plain_product
        return product(x, layer['kernel'], stride) + layer.get('bias', 0)

    def norm(self, name, x):
        mean, var = self.moments(name, x)
        y = (x - mean) / np.sqrt(var + self.settings.epsilon)
        layer = self.params.get(name, {})
        return y * layer.get('scale', self.settings.scale) + layer.get('bias', 0)

    def moments(self, name, x):
        """Of the batch or the running ones: a row's own, where rows have them."""
        if self.settings.norm == 'layer':
            return x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        self.seen[name].append(x)
        mean, var = self.stats[name]['mean'], self.stats[name]['var']
        if mean.ndim == 2:
            row = len(self.seen[name]) - 1
            mean, var = mean[row], var[row]
        if self.train:
            axes = tuple(range(x.ndim - 1))
            mean, var = x.mean(axes), x.var(axes)
        return mean, var

    def placed(self, where, i, x):
        return self.norm(f'norm_{i}', x) if self.settings.placement == where else x

    def activated(self, i, x):
        x = self.nonlinearity(self.placed('before', i, x))
        return self.placed('after', i, x)

    def new_stats(self):
        """The running statistics afterwards."""
        return {name: self._updated(name) for name in self.stats}

    def _updated(self, name):
        if not self.train:
            return self.stats[name]
        rows = [x.reshape(-1, x.shape[-1]) for x in self.seen[name]]
        together = self.stats[name]['mean'].ndim == 1
        rows = np.concatenate(rows) if together else np.stack(rows, axis=1)
        batch, m = {'mean': rows.mean(0), 'var': rows.var(0)}, self.settings.momentum
        return {k: m * v + (1 - m) * batch[k] for k, v in self.stats[name].items()}


def plain_product(x, kernel, stride):
    return x @ kernel


def convolution(x, kernel, stride):
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    return np.einsum('nhwcij,ijco->nhwo', windows[:, ::stride, ::stride], kernel)


def max_pooled(x):
    _, h, w, _ = x.shape
    squares = [x[:, i : h // 2 * 2 : 2, j : w // 2 * 2 : 2] for i, j in SQUARE]
    return np.max(squares, axis=0)


def mlp(net, x):
    x = x.reshape(len(x), -1)
    for i in range(2):
        x = net.activated(i, net.linear(f'hidden_{i}', x))
    return x


def cnn(net, x):
    for i in range(2):
        x = net.activated(i, net.linear(f'hidden_{i}', x))
    return max_pooled(x)


def darknet(net, x):
    net.nonlinearity = lambda x: np.where(x > 0, x, x / 10)
    for i in range(6):
        x = max_pooled(x) if i == 3 else x
        x = net.activated(i, net.linear(f'hidden_{i}', x))
    return x


def resnet(net, x):
    """Two stages, each arrangement in its own words."""
    block = {'post': post, 'addition': addition, 'pre': full_pre_activation}
    x = net.linear('hidden_0', x)
    x = x if net.settings.block == 'pre' else net.activated(0, x)
    half, last = net.settings.depth // 2, net.settings.depth - 2
    for i in range(1, last, 2):
        x = block[net.settings.block](net, i, x, 2 if i == half else 1)
    return net.activated(last, x) if net.settings.block == 'pre' else x


def post(net, i, x, stride):
    y = net.activated(i, net.linear(f'hidden_{i}', x, stride))
    y = net.placed('before', i + 1, net.linear(f'hidden_{i + 1}', y))
    y = net.nonlinearity(y + shortened(x, y))
    return net.placed('after', i + 1, y)


def addition(net, i, x, stride):
    y = net.activated(i, net.linear(f'hidden_{i}', x, stride))
    y = net.linear(f'hidden_{i + 1}', y)
    return net.activated(i + 1, y + shortened(x, y))


def full_pre_activation(net, i, x, stride):
    y = net.activated(i - 1, x)
    x = y if i == 1 else x
    y = net.activated(i, net.linear(f'hidden_{i}', y, stride))
    y = net.linear(f'hidden_{i + 1}', y)
    return y + shortened(x, y)


def shortened(x, y):
    """``x`` at every second row and column where ``y`` has half, with zeros."""
    stride = round(x.shape[1] / y.shape[1])
    out = np.zeros_like(y)
    out[..., : x.shape[-1]] = x[:, ::stride, ::stride]
    return out


def rnn(net, x):
    return over_rows(net, x, rnn_step)


def lstm(net, x):
    return over_rows(net, x, lstm_step)


def over_rows(net, x, step):
    rows = [row.reshape(len(x), -1) for row in np.moveaxis(x, 1, 0)]
    for i, width in enumerate(net.settings.features):
        state, out = np.zeros((2, len(x), width)), []
        for row in rows:
            state = step(net, i, row, *state)
            out.append(state[0])
        rows = out
    return rows[-1]


def rnn_step(net, i, x, h, unused):
    a = net.linear(f'hidden_{i}', x) + net.linear(f'hidden_{i}_recurrent', h)
    h = np.tanh(net.placed('before', i, a))
    return net.placed('after', i, h), unused


def lstm_step(net, i, x, h, c):
    before = net.settings.placement == 'before'
    wx, uh = net.linear(f'hidden_{i}', x), net.linear(f'hidden_{i}_recurrent', h)
    if before:
        wx = net.norm(f'norm_{i}_input', wx)
        uh = net.norm(f'norm_{i}_recurrent', uh)
    a = wx + uh + net.params[f'hidden_{i}_cell']['bias']
    sigmoid, n = ELEMENTWISE['sigmoid'], c.shape[-1]
    c = sigmoid(a[:, n : 2 * n]) * c + sigmoid(a[:, :n]) * np.tanh(a[:, 2 * n : 3 * n])
    h = np.tanh(net.norm(f'norm_{i}_cell', c) if before else c)
    return net.placed('after', i, sigmoid(a[:, 3 * n :]) * h), c


FORWARD = {f.__name__: f for f in (mlp, cnn, resnet, darknet, rnn, lstm)}
