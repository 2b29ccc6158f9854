"""Every probe by its definition, in NumPy and float64; derivatives are differences."""

from typing import Any, NamedTuple

import numpy as np
from networks import ELEMENTWISE, ByHand

SMALL = 1e-6
HIDDEN = ('hidden_0', 'hidden_1')
BELOW = {
    'hidden_1': ('hidden_0', 'norm_0'),
    'output': ('hidden_0', 'norm_0', 'hidden_1', 'norm_1'),
}
SHARES = {'x0.5': 0.5, 'x1': 1, 'x2': 2, 'x4': 4}


class Seen(NamedTuple):
    """A network on a batch; tuples are by hidden layer or batch norm."""

    loss: float
    before: tuple[np.ndarray, ...]
    after: tuple[np.ndarray, ...]
    normalised: tuple[np.ndarray, ...]


class Written(ByHand):
    """The network written out, which keeps what passes its nonlinearities."""

    def __init__(self, settings, params, stats):
        super().__init__(settings, {'params': params, 'batch_stats': stats}, train=True)
        self.before, self.after = [], []
        self.nonlinearity = self.kept

    def kept(self, z):
        self.before.append(z)
        self.after.append(ELEMENTWISE[self.settings.activation](z))
        return self.after[-1]


def look(settings, params, stats, batch):
    net = Written(settings, params, stats)
    loss = cross_entropy(net(batch.x), batch.y).mean()
    normalised = tuple(net.seen[name][0] for name in sorted(net.seen))
    return Seen(loss, tuple(net.before), tuple(net.after), normalised)


def cross_entropy(logits, y):
    logits = logits - logits.max(-1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -log_p[np.arange(len(y)), y]


def gradients(settings, params, stats, batch):
    """By module, then parameter: differences of the loss."""

    def slope(module, name, index):
        losses = []
        for sign in (1, -1):
            moved = params[module][name].copy()
            moved[index] += sign * SMALL
            there = params | {module: params[module] | {name: moved}}
            losses.append(look(settings, there, stats, batch).loss)
        return (losses[0] - losses[1]) / (2 * SMALL)

    return {
        module: {
            name: np.reshape(
                [slope(module, name, index) for index in np.ndindex(value.shape)],
                value.shape,
            )
            for name, value in values.items()
        }
        for module, values in params.items()
    }


def probes(settings, params, stats, after, batch) -> dict[str, dict[str, Any]]:
    """All of them, at the step from ``params`` to ``after``."""
    here = look(settings, params, stats, batch)
    end = look(settings, after, stats, batch)
    old = gradients(settings, params, stats, batch)
    new = gradients(settings, after, stats, batch)
    layers = [*HIDDEN, 'output']
    return {
        'gradient_norm': {k: length(old[k]['kernel']) for k in layers},
        'gradient_spectral_norm': {k: spectral(old[k]['kernel']) for k in layers},
        'gradient_change': {k: apart(new, old, k) for k in layers},
        'gradient_cosine': {k: cosine(new, old, k) for k in layers},
        **of_activations(settings, here),
        **drifts(here, end),
        **of_norms(settings, params, stats, here),
        **shifts(settings, params, stats, after, batch, old),
        **along(settings, params, stats, after, batch, here, old),
    }


def of_activations(settings, here):
    function = ELEMENTWISE[settings.activation]

    def slope(z):
        return (function(z + SMALL) - function(z - SMALL)) / (2 * SMALL)

    def dead(a):
        return np.mean([not unit.any() for unit in a.reshape(-1, a.shape[-1]).T])

    def split(z):
        shares = np.mean(units(z) > 0, axis=0)
        return np.mean((shares > 0.0499) & (shares < 0.9501))

    of_outputs = {
        'activation_mean': np.mean,
        'activation_std': np.std,
        'activation_quantile_15': lambda a: np.quantile(a, 0.15),
        'activation_quantile_50': np.median,
        'activation_quantile_85': lambda a: np.quantile(a, 0.85),
        'zero_fraction': lambda a: np.mean(a == 0),
        'zero_fraction_std': lambda a: np.std((units(a) == 0).mean(0)),
        'dead_fraction': dead,
        'middle_fraction': lambda a: np.mean((a >= 0.1) & (a <= 0.9)),
    }
    of_inputs = {
        'saturated_fraction': lambda z: np.mean(abs(z) > 2),
        'split_fraction': split,
        'activation_slope': lambda z: slope(z).mean(),
    }
    return {name: by_layer(f, here.after) for name, f in of_outputs.items()} | {
        name: by_layer(f, here.before) for name, f in of_inputs.items()
    }


def drifts(here, end):
    def rms(x):
        return np.sqrt(np.mean(x**2))

    def drift(statistic):
        return {
            layer: rms(statistic(units(b)) - statistic(units(a))) / rms(std(units(a)))
            for layer, a, b in zip(HIDDEN, here.after, end.after, strict=True)
        }

    return {'activation_mean_drift': drift(mean), 'activation_std_drift': drift(std)}


def of_norms(settings, params, stats, here):
    found = {}
    for layer, values in zip(sorted(stats), here.normalised, strict=True):
        learned, old, new = params[layer], stats[layer], units(values)
        distance = (old['mean'] - mean(new)) ** 2
        distance += (np.sqrt(old['var']) - std(new)) ** 2
        found[layer] = {
            'norm_scale': learned['scale'].mean(),
            'norm_scale_std': learned['scale'].std(),
            'norm_shift': learned['bias'].mean(),
            'norm_shift_std': learned['bias'].std(),
            'norm_variance_min': min(old['var']) / settings.epsilon,
            'running_batch_gap': np.sqrt(
                distance.sum() / (std(new) ** 2 + settings.epsilon).sum()
            ),
        }
    names = ('norm_scale', 'norm_scale_std', 'norm_shift', 'norm_shift_std')
    names += ('norm_variance_min', 'running_batch_gap')
    return {name: {layer: found[layer][name] for layer in found} for name in names}


def shifts(settings, params, stats, after, batch, old):
    found = {}
    for layer, below in BELOW.items():
        moved = {k: after[k] if k in below else v for k, v in params.items()}
        new = gradients(settings, moved, stats, batch)
        found[layer] = apart(new, old, layer), cosine(new, old, layer)
    return {
        name: {layer: values[i] for layer, values in found.items()}
        for i, name in enumerate(('covariate_shift', 'covariate_shift_cosine'))
    }


def along(settings, params, stats, after, batch, here, old):
    step = flat(after) - flat(params)
    slope = flat(old) @ step
    losses, changes = {}, {}
    for name, share in SHARES.items():
        there = {
            module: {k: v + share * (after[module][k] - v) for k, v in values.items()}
            for module, values in params.items()
        }
        losses[name] = look(settings, there, stats, batch).loss - here.loss
        new = gradients(settings, there, stats, batch)
        changes[name] = length(flat(new) - flat(old))
    return {
        'overshoot': {
            name: 1 - losses[name] / (share * slope) for name, share in SHARES.items()
        },
        'loss_along_step': losses,
        'gradient_along_step': changes,
        'smoothness_along_step': {
            name: changes[name] / (share * length(step))
            for name, share in SHARES.items()
        },
    }


def by_layer(f, values):
    return {layer: f(value) for layer, value in zip(HIDDEN, values, strict=True)}


def units(values):
    return values.reshape(-1, values.shape[-1])


def mean(rows):
    return rows.mean(0)


def std(rows):
    return rows.std(0)


def length(x):
    return np.sqrt((x**2).sum())


def spectral(kernel):
    matrix = kernel.reshape(-1, kernel.shape[-1])
    return np.linalg.svd(matrix, compute_uv=False)[0]


def apart(new, old, layer):
    return length(new[layer]['kernel'] - old[layer]['kernel'])


def cosine(new, old, layer):
    a, b = new[layer]['kernel'], old[layer]['kernel']
    return (a * b).sum() / (length(a) * length(b))


def flat(tree):
    return np.concatenate(
        [tree[m][k].ravel() for m in sorted(tree) for k in sorted(tree[m])]
    )
