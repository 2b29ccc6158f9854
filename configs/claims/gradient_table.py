"""Do gradients vanish in a deep sigmoid network, and does batch norm restore them?

Shows: document 004's table of gradients, set up again: ten hidden layers of 200
sigmoid units on the 60 000 images of MNIST in [0, 1], batches of 200; weights of
variance 2 / (n_in + n_out) / 1.04, biases as those of a hidden layer; RMSprop (0.9
kept), momentum 0.8, a learning rate of 4e-5, epsilons of 1e-10; without batch norm
and with it before the activation; five seeds. Measured at iterations 10, 20, 30, 40
and 50 of the first epoch: the largest singular value of each layer's weight gradient.
The document names neither the measure nor the setup, which were found by fit.
Settles: S80.
Takes: two minutes on two CPU cores. Needs MNIST as TFDS prepares it.
Expect: the document's table, layer by layer, within a fifth: without batch norm
gradients fall by 4.3 a layer, a million times over ten; with it they are level.
Command: python -m bnjax.claims run S80
"""

import numpy as np

from bnjax import config
from bnjax.results import probe
from bnjax.stats import interval
from bnjax.verdict import (
    CONFIRMED,
    REFUTED,
    UNDECIDED,
    Verdict,
    above,
    below,
    every,
    within,
)

PLACEMENTS = 'none', 'before'
ITERATIONS = 10, 20, 30, 40, 50
LOW, HIGH = 0.77, 1.30
# The document's rows, one for each of the iterations; layers 1 to 11.
DOCUMENT = {
    'none': (
        '3.23e-07 8.3215e-07 3.3605e-06 1.5193e-05 6.4892e-05 0.00027249 0.0011954 '
        '0.006295 0.029835 0.12476 0.38948',
        '4.4649e-07 1.3282e-06 5.6753e-06 2.5294e-05 0.00010326 0.00043651 0.0019583 '
        '0.0096396 0.040469 0.16142 0.5235',
        '4.6973e-07 1.2993e-06 5.3923e-06 2.3111e-05 9.4839e-05 0.00040398 0.0017893 '
        '0.0081367 0.037543 0.1544 0.46472',
        '4.6986e-07 1.3801e-06 5.677e-06 2.4355e-05 0.00010245 0.00041999 0.0019832 '
        '0.0095022 0.043719 0.17696 0.56134',
        '4.6964e-07 1.6532e-06 7.2543e-06 3.0731e-05 0.00011805 0.00048795 0.0021705 '
        '0.0099466 0.042835 0.17993 0.5319',
    ),
    'before': (
        '0.27121 0.15534 0.15116 0.15409 0.15515 0.14542 0.12878 0.13888 0.16607 '
        '0.21036 0.76037',
        '0.24567 0.15369 0.14169 0.13183 0.1278 0.13904 0.13546 0.12032 0.14332 '
        '0.14868 0.54481',
        '0.30403 0.16365 0.14119 0.14502 0.13916 0.12851 0.11781 0.11424 0.11082 '
        '0.1088 0.39574',
        '0.32681 0.19801 0.16792 0.14741 0.13294 0.12805 0.13754 0.12941 0.13288 '
        '0.12957 0.50937',
        '0.32358 0.17484 0.16367 0.16605 0.17118 0.14703 0.14458 0.12693 0.13928 '
        '0.11938 0.3692',
    ),
}


def get_config(arg=None):
    fields = config.defaults()
    fields.seed = int(arg or 0)
    fields.data.name = 'mnist'
    fields.data.validation_percent = 0
    fields.model.features = (200,) * 10
    fields.model.activation = 'sigmoid'
    fields.model.init = 'glorot_normal'
    fields.model.init_scale = 1.04**-0.5
    fields.model.bias_std = (2 / 400 / 1.04) ** 0.5
    fields.model.epsilon = 1e-10
    fields.optimizer.name = 'rmsprop'
    fields.optimizer.learning_rate = 4e-5
    fields.optimizer.momentum = 0.8
    fields.optimizer.epsilon = 1e-10
    fields.batch_size = 200
    fields.steps = max(ITERATIONS)
    fields.probes.names = ('gradient_spectral_norm',)
    fields.probes.every = 1  # for an iteration is counted from 1, a step from 0
    return fields


def sweep(add, fields):
    for placement in PLACEMENTS:
        for seed in range(fields.seed, fields.seed + 5):
            add(**{'model.placement': placement, 'seed': seed})


def documented(placement):
    """The geometric mean over the iterations: (layers,)."""
    rows = [[float(n) for n in row.split()] for row in DOCUMENT[placement]]
    return np.exp(np.log(rows).mean(0))


def measured(results, placement):
    """Ours: (seeds, layers)."""
    rows = [i - 1 for i in ITERATIONS]
    norms = [
        probe(record, 'gradient_spectral_norm')[rows]
        for record in results.where(**{'model.placement': placement})
    ]
    return np.exp(np.log(norms).mean(1))


def verdict(results):
    ours = {placement: measured(results, placement) for placement in PLACEMENTS}
    ratios = [
        interval(layer)
        for placement in PLACEMENTS
        for layer in (ours[placement] / documented(placement)).T
    ]
    none, before = ours['none'], ours['before']
    parts = [
        within(interval(none[:, -1] / none[:, 0]), 5e5, 3e6),
        below(interval(before[:, -1] / before[:, 0]), 5.0),
        above(interval(before[:, 0] / none[:, 0]), 1e5),
    ]
    outside = any(within(ratio, LOW, HIGH) == REFUTED for ratio in ratios)
    alike = all(LOW <= ratio.mean <= HIGH for ratio in ratios)
    far = max(ratios, key=lambda ratio: abs(np.log(ratio.mean)))
    effect = (
        "gradient, ours over the document's, of the layer of 22 that is farthest from "
        '1; last / first layer and the gain of the first by the rule, too'
    )
    same = REFUTED if outside else CONFIRMED if alike else UNDECIDED
    found = every([*parts, same])
    return [Verdict('S80', found, effect, far, (LOW, HIGH))]


def tables(results):
    """The document's numbers beside ours, by layer."""
    rows = []
    ours = {placement: measured(results, placement) for placement in PLACEMENTS}
    for layer in range(11):
        row = [str(layer + 1)]
        for placement in PLACEMENTS:
            theirs, own = documented(placement)[layer], ours[placement][:, layer]
            ratio = interval(own / theirs)
            row += [
                f'{theirs:.3g}',
                f'{np.exp(np.log(own).mean()):.3g}',
                f'{ratio.mean:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]',
            ]
        rows.append(row)
    head = ['layer']
    for name in ('without batch norm', 'with batch norm'):
        head += [f'document 004, {name}', 'here', 'ratio']
    return [
        {
            'title': 'Largest singular value of the weight gradient',
            'caption': 'Geometric means over iterations 10, 20, 30, 40 and 50; here of '
            'five seeds, too. The ratio has its 95 % interval over seeds.',
            'head': head,
            'rows': rows,
        }
    ]


def figure(results):
    """Largest singular value of each layer's weight gradient, ten sigmoid layers.

    The geometric mean of iterations 10, 20, 30, 40 and 50; layer 1 is next to the
    images, the vertical axis is logarithmic. Dashed with markers: the table of document
    004; thin lines: five seeds here, without batch norm and with it before the
    activation.
    """
    import matplotlib.pyplot as plt

    drawn, axes = plt.subplots(figsize=(6.4, 3.6), layout='constrained')
    layers = np.arange(1, 12)
    styles = {'none': ('C1', 's', 'without batch norm'), 'before': ('C0', 'o', 'with')}
    for placement, (colour, marker, name) in styles.items():
        ours = measured(results, placement)
        axes.plot(
            *(layers, documented(placement)),
            *(f'{marker}--',),
            color=colour,
            markerfacecolor='white',
            label=f'document 004, {name}',
        )
        axes.plot(layers, ours.T, color=colour, alpha=0.5, linewidth=1)
        axes.plot([], [], color=colour, label=f'here, {name}: five seeds')
    axes.set_yscale('log')
    axes.set_xticks(layers)
    axes.set_xlabel('layer, 11 is the output')
    axes.set_ylabel('largest singular value\nof the weight gradient')
    axes.legend(fontsize='small')
    return drawn
