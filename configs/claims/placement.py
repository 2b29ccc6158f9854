"""Does batch norm train an MLP faster and at larger rates, and where does it belong?

Shows: 100 units a layer on 10 000 images of MNIST, plain SGD, batches of 100; no batch
norm, before the activation, after it; sigmoid, tanh, relu and leaky relu three layers
deep, sigmoid and relu ten deep. Nine learning rates with three seeds; then ten other
seeds for three times as long, each arm at its own best rate by validation, and without
and with batch norm at the best rate without it and at ten times that. Accuracies are by
the statistics of all training images, estimated again. This run replaces two with the
same seeds: a first had taken a net that stays at chance for one that trains (S55), and
its rates ended at 10, a best one; both had moving averages.
Settles: S3 S5 S20 S33 S55 S68 S81 M7.
Takes: about 15 minutes on two CPU cores. Needs MNIST as TFDS prepares it.
Expect: batch norm takes fewer steps at its own best rate, in relu nets less than half,
and bears rates ten times as large in some nets and not in others; after the activation
it does as well as before it, and for sigmoid better (96.1 % against 95.1 % of three
layers). Ten sigmoid layers train only with it.
Command: python -m bnjax.claims run S20
"""

import math

from bnjax import config
from bnjax.results import (
    accuracy,
    correlation,
    log_steps_to,
    probe,
    ratio_of_deviations,
)
from bnjax.stats import interval
from bnjax.verdict import REFUTED, Verdict, above, at_least, below, every

NONE, BEFORE, AFTER = 'none', 'before', 'after'
ACTIVATIONS = 'sigmoid', 'tanh', 'relu', 'leaky_relu'
CELLS = [*((a, 3) for a in ACTIVATIONS), ('sigmoid', 10), ('relu', 10)]
RATES = 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0
TUNING, FINAL = 500, 1500
TARGET = 0.93
FASTER = math.log(1.25)
POINT = 0.003  # 0.3 points of accuracy
TRAINS = 0.5  # a test accuracy


def get_config(arg=None):
    fields = config.defaults()
    fields.seed = int(arg or 0)
    fields.data.name = 'mnist'
    fields.data.images = 10_000
    fields.optimizer.momentum = 0.0
    fields.batch_size = 100
    fields.steps = TUNING
    fields.probes.names = ('zero_fraction_std', 'reestimated_scores')
    fields.probes.every = 100
    return fields


def arm(placement, activation, depth):
    return {
        'model.placement': placement,
        'model.activation': activation,
        'model.features': (100,) * depth,
    }


def sweep(add, fields):
    for cell in CELLS:
        for placement in (NONE, BEFORE, AFTER):
            for rate in RATES:
                for seed in range(fields.seed, fields.seed + 3):
                    add(
                        **arm(placement, *cell),
                        **{'optimizer.learning_rate': rate, 'seed': seed},
                    )


def refine(add, results):
    first = min(results.values_of('seed')) + 10
    for cell in CELLS:
        rates = {p: best(results, p, cell) for p in (NONE, BEFORE, AFTER)}
        tried = list(rates.items())
        if cell in ABOVE:
            tried += [(p, r) for p in (NONE, BEFORE) for r in around(rates[NONE])]
        for placement, rate in tried:
            for seed in range(first, first + 10):
                own = {'optimizer.learning_rate': rate, 'seed': seed, 'steps': FINAL}
                add(**arm(placement, *cell), **own)


ABOVE = [('sigmoid', 3), ('relu', 3)]  # compared at ten times the rate, too


def around(rate):
    return rate, 10 * rate


def best(results, placement, cell):
    return results.where(**arm(placement, *cell), steps=TUNING).best()


def final(results, placement, cell, rate=None):
    own = results.where(**arm(placement, *cell), steps=FINAL)
    rate = best(results, placement, cell) if rate is None else rate
    return own.where(**{'optimizer.learning_rate': rate})


def verdict(results):
    return [
        faster(results),
        largest_rate(results),
        reinforced(results),
        *placed(results),
        sigmoid_or_relu(results),
        steadier(results),
        bad_start(results),
    ]


def faster(results):
    """Fewer steps to 93 % of the validation images, each at its own best rate."""
    ratios = [
        final(results, NONE, cell).difference(
            final(results, BEFORE, cell), log_steps_to(TARGET), cells=4
        )
        for cell in CELLS[:4]
    ]
    confirms = at_least(3, [above(r, FASTER) for r in ratios])
    weakest = sorted(ratios, key=lambda r: r.low)[1]  # three of four are above it
    effect = (
        'log of steps to 93 %, none / before, third largest of four activations '
        '(98.75 % interval)'
    )
    return Verdict('S20', confirms, effect, weakest, (FASTER,))


def largest_rate(results):
    """The largest rate of the grid at which a trial trains: ten times or more."""

    def largest(placement, cell, seed):
        tried = results.where(**arm(placement, *cell), steps=TUNING, seed=seed)
        kept = [
            r.config['optimizer.learning_rate'] for r in tried if accuracy(r) > TRAINS
        ]
        return math.log10(max(kept, default=RATES[0] / 10))

    seeds = sorted(results.where(steps=TUNING).values_of('seed'))
    ratios = [
        interval([largest(BEFORE, c, s) - largest(NONE, c, s) for s in seeds])
        for c in CELLS[:4]
    ]
    bound = 0.99  # ten times
    confirms = at_least(3, [above(r, bound) for r in ratios])
    weakest = sorted(ratios, key=lambda r: r.low)[1]
    effect = (
        'log10 of the largest rate that ends above 50 %, before / none, third largest '
        'of four activations'
    )
    return Verdict('S55', confirms, effect, weakest, (bound,))


def reinforced(results):
    """What batch norm gains at ten times the best rate without it, minus at that."""
    gains = []
    for cell in ABOVE:
        at, far = around(best(results, NONE, cell))
        gain = [
            final(results, BEFORE, cell, rate).minus(
                final(results, NONE, cell, rate), accuracy
            )
            for rate in (at, far)
        ]
        gains.append(interval([gain[1][s] - gain[0][s] for s in gain[0]], 0.05 / 2))
    confirms = every([above(g, 0.0) for g in gains])
    smaller = min(gains, key=lambda g: g.low)
    effect = (
        'gain of accuracy by batch norm at 10 x the best rate without it, minus at '
        'that rate; the smaller of sigmoid and relu (97.5 % interval)'
    )
    return Verdict('S33', confirms, effect, smaller, (0.0,))


def placed(results):
    """Before the activation against after it, and after it against nowhere."""

    def minus(one, other, cell):
        own, others = final(results, one, cell), final(results, other, cell)
        return own.difference(others, accuracy, cells=len(CELLS))

    after = [minus(AFTER, BEFORE, cell) for cell in CELLS]
    helped = [minus(AFTER, NONE, cell) for cell in CELLS]
    must = at_least(5, [below(d, 0.0) for d in after])
    if max(d.low for d in after) > 0 or max(d.low for d in helped) > POINT:
        must = REFUTED
    six = 'of six nets (Bonferroni)'
    return [
        Verdict(
            'S3',
            must,
            f'test accuracy, after - none, largest {six}; above the bound, batch '
            'norm has its effect after the activation, too',
            max(helped, key=lambda d: d.low),
            (POINT,),
        ),
        Verdict(
            'S68',
            at_least(5, [above(d, 0.0) for d in after]),
            f'test accuracy, after - before, second smallest {six}',
            sorted(after, key=lambda d: d.low)[1],
            (0.0,),
        ),
    ]


def sigmoid_or_relu(results):
    """With batch norm before it, relu against sigmoid, three layers deep."""
    relu, sigmoid = (final(results, BEFORE, (a, 3)) for a in ('relu', 'sigmoid'))
    better = relu.difference(sigmoid, accuracy)
    effect = 'test accuracy with batch norm before the activation, relu - sigmoid'
    return Verdict('S81', above(better, POINT), effect, better, (POINT,))


def steadier(results):
    """The spread of the final loss over seeds, with batch norm over without."""
    cells = ABOVE
    ratios = []
    for cell in cells:
        losses = [
            list(final(results, placement, cell).by_seed('train_loss').values())
            for placement in (BEFORE, NONE)
        ]
        ratios.append(ratio_of_deviations(*losses))
    effect = (
        'deviation over seeds of the final training loss, before / none, the larger '
        'of sigmoid and relu'
    )
    steady = every([below(r, 0.8) for r in ratios])
    return Verdict('M7', steady, effect, max(ratios, key=lambda r: r.high), (0.8,))


def bad_start(results):
    """Whether units that cut too much or too little at step 100 cost steps."""
    arms = final(results, NONE, ('relu', 3)).by_seed(log_steps_to(TARGET))
    spread = final(results, NONE, ('relu', 3)).by_seed(
        lambda r: probe(r, 'zero_fraction_std')[1].mean()
    )
    rho = correlation([spread[s] for s in arms], list(arms.values()))
    effect = (
        "rank correlation over seeds, relu without batch norm: spread of the units' "
        'share of zeros at step 100, and log of steps to 93 %'
    )
    return Verdict('S5', above(rho, 0.3), effect, rho, (0.3,))


def tables(results):
    """The arms at their best rates."""
    from bnjax.report.numbers import plus_minus

    rows = []
    for cell in CELLS:
        for placement in (NONE, BEFORE, AFTER):
            own = final(results, placement, cell)
            right, steps = own.mean(accuracy), own.mean(log_steps_to(TARGET))
            rows.append(
                [
                    f'{cell[0]}, {cell[1]} layers',
                    placement,
                    f'{best(results, placement, cell):g}',
                    plus_minus(right, factor=100),
                    f'{math.exp(steps.mean):.0f}',
                ]
            )
    return [
        {
            'title': 'Arms at their best rates',
            'caption': 'Test accuracy in percent, mean and half the width of the 95 % '
            'interval over ten seeds, and the geometric mean of the steps to 93 % of '
            f'the validation images; a run that did not reach it counts with {FINAL}.',
            'head': ['net', 'batch norm', 'rate', 'test accuracy', 'steps'],
            'rows': rows,
        }
    ]
