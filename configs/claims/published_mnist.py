"""How much do learning rate and initial weights matter with and without batch norm?

Shows: the MNIST net of Ioffe & Szegedy 2015, section 4.1: three layers of 100 units,
batches of 60, 50 000 steps. Plain SGD at 0.01, 1 and 2; relu and sigmoid; weights from
N(0, 0.05^2) and N(0, 5^2), biases from 0; without batch norm and with it before the
activation (0.99 of the running statistics kept at each step, epsilon 1e-3); pixels in
[0, 1]; three seeds. 55 000 images train, 4 800 validate (the paper does not say how
many; no choice is made by them).
Settles: no claim; the paper gives neither its rates nor its accuracies.
Takes: about half an hour on two CPU cores. Needs MNIST as TFDS prepares it.
Expect: From small weights (0.05) relu trains at rates of 1 and 2 with batch norm only,
0.98 in place of 0.10; sigmoid trains there either way, 0.98, at 0.01 better with it
(0.97, without 0.80). From large ones (5) relu never trains without it, and with it
reaches 0.81 at most in the mean; sigmoid gets to 0.91 without and to 0.96 with it.
Command: python -m bnjax.claims run published_mnist
"""

import itertools

from bnjax import config
from bnjax.results import accuracy, lost

ACTIVATIONS = 'relu', 'sigmoid'
PLACEMENTS = 'none', 'before'
DEVIATIONS = 0.05, 5.0
RATES = 0.01, 1.0, 2.0


def get_config(arg=None):
    fields = config.defaults()
    fields.seed = int(arg or 0)
    fields.data.name = 'mnist'
    fields.data.validation_percent = 8
    fields.data.images = 55_000
    fields.model.features = (100,) * 3
    fields.model.init = 'normal'
    fields.model.momentum = 0.99
    fields.model.epsilon = 1e-3
    fields.optimizer.momentum = 0.0
    fields.batch_size = 60
    fields.steps = 50_000
    return fields


def arm(activation, placement, deviation, rate):
    return {
        'model.activation': activation,
        'model.placement': placement,
        'model.init_scale': deviation,
        'optimizer.learning_rate': rate,
    }


def sweep(add, fields):
    arms = itertools.product(ACTIVATIONS, PLACEMENTS, DEVIATIONS, RATES)
    for own in arms:
        for seed in range(fields.seed, fields.seed + 3):
            add(**arm(*own), seed=seed)


def verdict(results):
    return []


def tables(results):
    """The final test accuracy, a row for each network, a column for each rate."""
    rows = []
    for own in itertools.product(ACTIVATIONS, DEVIATIONS, PLACEMENTS):
        activation, deviation, placement = own
        cells = [
            _cell(results.where(**arm(activation, placement, deviation, rate)))
            for rate in RATES
        ]
        rows.append([activation, f'{deviation:g}', placement, *cells])
    return [
        {
            'title': 'Final test accuracy after 50 000 steps',
            'caption': 'Mean of three seeds, the lowest and the highest in brackets; a '
            'trial that diverged or ended with a loss worse than of guessing counts '
            'as chance, 0.1.',
            'head': [
                'activation',
                'deviation of the weights',
                'batch norm',
                *(f'rate {rate:g}' for rate in RATES),
            ],
            'rows': rows,
        }
    ]


def _cell(trials):
    values = list(trials.by_seed(accuracy).values())
    gone = sum(map(lost, trials))
    ended = f', {gone} of {len(values)} lost' if gone else ''
    mean = sum(values) / len(values)
    return f'{mean:.3f} ({min(values):.3f} to {max(values):.3f}{ended})'
