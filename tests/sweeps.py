"""Made sweeps for the tests of the report."""

import dataclasses
import itertools
import math

import numpy as np

from bnjax.records import METRICS, Record

PLACEMENT, ACTIVATION = 'model.placement', 'model.activation'
RATE = 'optimizer.learning_rate'
SWEPT = [ACTIVATION, RATE, PLACEMENT]
TOP = {'none': 0.80, 'before': 0.90, 'after': 0.80}


def trial(config, *, probes=False):
    """A done trial: before helps, after does not, the best learning rate is 0.1."""
    rng = np.random.default_rng(config['seed'])
    rate, placement = config.get(RATE, 0.1), config.get(PLACEMENT, 'none')
    final = TOP[placement] - (0.0 if rate == 0.1 else 0.2) + 0.01 * rng.normal()
    if placement == 'after':
        final += 0.01 * (-1) ** config['seed']
    if placement == 'before':
        final += 0.002 * (config['seed'] % 2)
    curves = {'epoch': np.arange(4)}
    curves |= {metric: np.linspace(0.1, final, 4) for metric in METRICS}
    if probes:
        curves['probe_step'] = np.arange(3)
        curves['probe/gradient_norm'] = rng.random((3, 2))
        curves['layers/gradient_norm'] = np.array(['hidden_0', 'output'])
    metrics = {metric: float(curves[metric][-1]) for metric in METRICS}
    return Record('0' * 12, 'done', config, metrics, 10, 1.0, curves=curves)


def sweep(seeds=4, probes=False, **fields):
    """Trials of every combination of `fields`, given by their dotted names."""
    names = [*fields, 'seed']
    return [
        trial(dict(zip(names, values, strict=True)), probes=probes)
        for values in itertools.product(*fields.values(), range(seeds))
    ]


def grid(activations=('relu', 'sigmoid'), **more):
    fields = {
        ACTIVATION: activations,
        RATE: (0.01, 0.1),
        PLACEMENT: ('before', 'after', 'none'),
    }
    return sweep(**more, **fields)


def lost(record, status):
    nan = dict.fromkeys(METRICS, math.nan)
    curves = {}
    if status == 'diverged':
        curves = {k: record.curves[k] * math.nan for k in METRICS}
        curves['epoch'] = record.curves['epoch']
    return dataclasses.replace(record, status=status, metrics=nan, curves=curves)


def measured(record, values, name='gradient_norm'):
    """A record with a probe (steps, layers) of the layers hidden_0, hidden_1, ..."""
    layers = [f'hidden_{i}' for i in range(len(values[0]))]
    probe = {f'probe/{name}': np.array(values), f'layers/{name}': np.array(layers)}
    probe['probe_step'] = 20 * np.arange(len(values))
    return dataclasses.replace(record, curves={**record.curves, **probe})
