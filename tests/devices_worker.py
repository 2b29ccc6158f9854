"""Losses of 20 steps on all devices there are, for test_devices.py.

A program of its own, for devices are counted when JAX starts.
"""

import json
import sys

import jax
import numpy as np

from bnjax import config, devices, program
from bnjax.data import Dataset, Split

STEPS = 20
# Trials side by side and images in a batch; on four devices each has its share of
# both, and in the last line only two are of use.
CASES = {'data': (1, 4), 'trial': (4, 3), 'both': (2, 8), 'some': (2, 3)}


def dataset(images):
    rng = np.random.default_rng(0)
    splits = (
        Split(
            rng.normal(size=(n, 4, 4, 1)).astype('f4'),
            rng.integers(0, 3, n).astype('i4'),
        )
        for n in (images, 3, 5)
    )
    return Dataset(*splits, 3)


def losses(model, width, batch_size):
    """By trial and step, an epoch being a step; and the last test losses."""
    fields = config.flatten(config.defaults()) | {
        'model.name': model,
        'model.features': (6,),
        'batch_size': batch_size,
        'epochs': STEPS,
        'execution.width': width,
    }
    static, numbers = program.split_fields(fields)
    data = dataset(batch_size)
    compiled = program.compile_program(static, numbers, data)
    trials = [numbers | {'seed': seed} for seed in range(width)]
    *_, last = program.run_chunk(compiled, trials)
    epochs = [program.by_trial(log, width) for log in last.logs]
    train = [[float(log['train_loss']) for log in logs] for logs in epochs[1:]]
    return [*train, [float(log['test_loss']) for log in epochs[-1]]]


def everything():
    return {
        f'{model}, {case}': {
            'losses': losses(model, *CASES[case]),
            'mesh': [*devices.mesh(*CASES[case]).shape.values()],
        }
        for model in ('mlp', 'cnn')
        for case in CASES
    }


if __name__ == '__main__':
    assert jax.device_count() == int(sys.argv[1])
    print(json.dumps(everything()))
