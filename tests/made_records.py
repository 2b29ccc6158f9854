"""Records that are made and not trained: random numbers in the form of a trial's."""

import dataclasses
import functools
import math
import pathlib

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from bnjax import config, study, trial
from bnjax.data import Dataset, Split
from bnjax.probe_names import REESTIMATED
from bnjax.program import steps_in
from bnjax.records import METRICS, Record

CONFIGS = pathlib.Path(__file__).parents[1] / 'configs' / 'claims'
NAMES = sorted(path.stem for path in CONFIGS.glob('*.py'))
SHAPES = {'digits': (8, 8, 1), 'cifar10': (32, 32, 3)}
IMAGES = {'digits': 1438, 'cifar10': 45_000}
OF_SHARES = (
    *('overshoot', 'loss_along_step', 'gradient_along_step'),
    'smoothness_along_step',
)


def loaded(name, seed=0):
    return study.load(f'{CONFIGS / name}.py:{seed}', {})


def dataset(name, *, images=0, validation_percent=10, **_):
    """Random images, in place of ``bnjax.data.load``."""
    rng = np.random.default_rng(0)
    shape = SHAPES.get(name, (28, 28, 1))

    def split(n):
        x = rng.random((n, *shape), np.float32)
        return Split(x, rng.integers(0, 10, n).astype(np.int32))

    return Dataset(split(200), split(20), split(100), 10)


def record(asked):
    """What a trial could have come to, by its identity."""
    made, fields = without_state(asked), asked.config
    if not fields['keep_state']:
        return made
    rng = np.random.default_rng(int(asked.id, 16))
    kept = state(config.build(fields), rng)
    return dataclasses.replace(made, curves=made.curves | kept)


def without_state(asked):
    """A record without the network, even of a trial that is to keep it."""
    fields, rng = asked.config, np.random.default_rng(int(asked.id, 16))
    cfg = config.build(fields)
    images = fields['data.images'] or IMAGES.get(fields['data.name'], 54_000)
    per_epoch, total = steps_in(cfg, images)
    epochs = 1 + math.ceil(total / per_epoch)
    again = [f'{REESTIMATED.split("_")[0]}_{m}' for m in METRICS[2:]]
    names = (*METRICS, *(again if REESTIMATED in cfg.probes.names else ()))
    curves = {name: np.sort(rng.random(epochs)) for name in names}
    metrics = {name: float(curves[name][-1]) for name in METRICS}
    curves |= {'epoch': np.arange(epochs)} | probes(cfg, total, rng)
    return Record(asked.id, 'done', fields, metrics, total, 1.0, curves=curves)


def probes(cfg, total, rng):
    steps = np.arange(0, total, cfg.probes.every)
    curves = {'probe_step': steps} if cfg.probes.names else {}
    for name in cfg.probes.names:
        if name != REESTIMATED:
            layers = layers_of(name, cfg.model)
            curves[f'probe/{name}'] = rng.random((len(steps), len(layers)))
            curves[f'layers/{name}'] = np.array(layers)
    return curves


def layers_of(probe, model):
    count = len(model.features) * (2 if model.name == 'cnn' else 1)
    hidden = [f'hidden_{i}' for i in range(count)]
    if probe in OF_SHARES:
        return ['x0.5', 'x1', 'x2', 'x4']
    if probe.startswith(('norm_', 'running_')):
        return [f'norm_{i}' for i in range(count * (model.placement != 'none'))]
    if probe.startswith('covariate_shift'):
        return [*hidden[1:], 'output']
    return [*hidden, 'output'] if probe.startswith('gradient_') else hidden


def state(cfg, rng):
    """Random parameters and statistics, of the shapes that the network has."""
    shapes = flatten_dict({'state': shapes_of(cfg.model, cfg.data.name)}, sep='/')
    made = {name: rng.normal(0, 0.3, s.shape) for name, s in shapes.items()}
    return {
        name: np.float32(abs(a) if name.endswith('/var') else a)
        for name, a in made.items()
    }


@functools.cache
def shapes_of(model, name):
    """Those of parameters and statistics, in their collections."""
    x = np.zeros((1, *SHAPES.get(name, (28, 28, 1))), np.float32)
    cfg = config.Config(model=model)
    first = Split(x, np.zeros(1, np.int32))
    shapes = jax.eval_shape(lambda: trial.init(cfg, 10, first))
    return {'params': shapes.params, 'batch_stats': shapes.batch_stats}
