"""What do batch norm's scale and shift do, and would a fixed scale do as well?

Shows: batch norm before the activation, 100 units a layer, 20 000 images of MNIST,
plain SGD, batches of 100. Scale and shift, one of them, or neither, sigmoid and relu
three layers deep; both or neither ten deep; fixed scales of 2, 4 and 8 (sigmoid) and a
linear net, without either. Learning rates half a decade apart with two seeds; then ten
other seeds for 1000 steps, each arm at its best rate by validation. Accuracies are by
the statistics of all training images, estimated again; a first run with the same seeds,
which this one replaces, had moving averages. In place of the distance to a layer's own
deviation and mean, which its weights' size decides, that to (1, 0), the forced
whitening, tells how far the net leaves it.
Settles: S1 S12 S13 S40 S52 S56 S73 S82 S83 M3 M11.
Takes: about 8 minutes on two CPU cores. Needs MNIST as TFDS prepares it.
Expect: They matter to three sigmoid layers, which gain 2.5 points of accuracy by them,
and neither to ten sigmoid layers nor to relu. A steeper sigmoid does as much: a scale
fixed at 4 ends at 95.7 %, both learned at 95.3 %, neither at 92.7 %. How far they move
goes with the rate that tuning chose: relu's, three layers, to 0.08 from (0, 0) at 0.3.
Command: python -m bnjax.claims run S13
"""

import math

import numpy as np
from scipy.stats import spearmanr

from bnjax import config
from bnjax.records import variables_of
from bnjax.results import accuracy, log_steps_to
from bnjax.stats import interval
from bnjax.verdict import REFUTED, UNDECIDED, Verdict, above, at_least, below, every

BOTH, SCALE, SHIFT, NEITHER = 'both', 'scale', 'shift', 'neither'
LEARNED = BOTH, SCALE, SHIFT, NEITHER
RATES = {
    ('sigmoid', 3): (0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
    ('relu', 3): (0.1, 0.3, 1.0, 3.0),
    ('sigmoid', 10): (0.03, 0.1, 0.3, 1.0, 3.0),
    ('relu', 10): (0.03, 0.1, 0.3, 1.0, 3.0),
    ('identity', 3): (0.01, 0.03, 0.1, 0.3, 1.0),
}
SIGMOID, RELU, SIGMOID_10, RELU_10, LINEAR = RATES
CELLS = SIGMOID, RELU, SIGMOID_10, RELU_10
ARMS = [
    *((which, cell, 1.0) for cell in (SIGMOID, RELU) for which in LEARNED),
    *((which, cell, 1.0) for cell in CELLS[2:] for which in (BOTH, NEITHER)),
    *((NEITHER, SIGMOID, gain) for gain in (2.0, 4.0, 8.0)),
    (NEITHER, LINEAR, 1.0),
]
TUNING, FINAL = 400, 1000
SHARES = 'zero_fraction', 'saturated_fraction', 'middle_fraction'
TARGET = {'sigmoid': 0.92, 'relu': 0.96}  # of the validation images
SLOWER, POINT = math.log(1.25), 0.003  # 0.3 points of accuracy


def get_config(arg=None):
    fields = config.defaults()
    fields.seed = int(arg or 0)
    fields.data.name = 'mnist'
    fields.data.images = 20_000
    fields.optimizer.momentum = 0.0
    fields.batch_size = 100
    fields.steps = TUNING
    fields.probes.names = ('reestimated_scores',)
    return fields


def arm(which, cell, gain=1.0):
    return {
        'model.activation': cell[0],
        'model.features': (100,) * cell[1],
        'model.use_scale': which in (BOTH, SCALE),
        'model.use_bias': which in (BOTH, SHIFT),
        'model.scale': gain,
    }


def sweep(add, fields):
    for one in ARMS:
        for rate in RATES[one[1]]:
            for seed in (fields.seed, fields.seed + 1):
                add(**arm(*one), **{'optimizer.learning_rate': rate, 'seed': seed})


def refine(add, results):
    first = min(results.values_of('seed')) + 10
    seen = {
        'keep_state': True,
        'probes.names': (*SHARES, 'reestimated_scores'),
        'probes.every': FINAL - 1,  # at the first step and at the last
        'steps': FINAL,
    }
    for one in ARMS:
        rate = results.where(**arm(*one), steps=TUNING).best()
        for seed in range(first, first + 10):
            own = {'optimizer.learning_rate': rate, 'seed': seed}
            add(**arm(*one), **seen, **own)


def final(results, *one):
    return results.where(**arm(*one), steps=FINAL)


def learned(record, name):
    """The scales or shifts of each batch norm, in the order of depth."""
    params = variables_of(record).get('params', {})
    norms = [f'norm_{i}' for i in range(len(record.config['model.features']))]
    return [params[norm][name] for norm in norms if norm in params] or [math.nan]


def left(record):
    """By layer the median over units of the distance of (log scale, shift) to 0."""
    pairs = zip(learned(record, 'scale'), learned(record, 'bias'), strict=True)
    return [float(np.median(np.hypot(np.log(np.abs(g)), b))) for g, b in pairs]


def trend(record):
    """The rank correlation of depth with the distance of scale and shift to (1, 0)."""
    by_layer = left(record)
    if not np.ptp(by_layer) > 0:
        return math.nan
    return float(spearmanr(range(len(by_layer)), by_layer).statistic)


def at_end(name, of):
    """A metric: a function of what a probe has by layer at the last step."""

    def measured(record):
        values = record.curves.get(f'probe/{name}')
        return math.nan if values is None else float(of(values[-1]))

    return measured


def verdict(results):
    both = {cell: final(results, BOTH, cell) for cell in CELLS}
    return [
        *chosen(both),
        saturated(both),
        without('S13', results, CELLS),
        without('S82', results, (SIGMOID, SIGMOID_10)),
        linear(results),
        fixed(results, both),
        shift_matters(results, both),
        middle(results),
    ]


def all_of(claim, rule, found, bound, effect):
    """All have to hold; shown is the one that is nearest to failing."""
    low = min(found, key=lambda i: i.low)
    nearest = low if rule is above else max(found, key=lambda i: i.high)
    return Verdict(
        claim, every([rule(i, bound) for i in found]), effect, nearest, (bound,)
    )


def chosen(both):
    """Where scale and shift are after training."""
    shifts = both[RELU].mean(lambda r: float(np.median(np.abs(learned(r, 'bias')))))
    away = [both[cell].mean(lambda r: np.mean(left(r))) for cell in (SIGMOID, RELU)]
    trends = [both[cell].mean(trend) for cell in (SIGMOID_10, RELU_10)]
    spread = both[SIGMOID].mean(lambda r: np.std(np.log(np.abs(learned(r, 'scale')))))
    layers = both[SIGMOID].mean(at_end('middle_fraction', np.ptp))
    own = (
        (spread, 0.1, 'deviation over units of log scale after training, sigmoid'),
        (layers, 0.05, 'range over layers of the share in [0.1, 0.9], sigmoid'),
    )
    part = every([above(found, bound) for found, bound, _ in own])
    weakest, bound, four = min(own, key=lambda o: o[0].low / o[1])
    distance = 'the distance of (log scale, shift) to (0, 0)'
    smaller = 'the smaller of sigmoid and relu'
    one = 'median over units of |shift| after training, relu'
    two = f'median over units of {distance}, {smaller}'
    three = f'rank correlation of {distance} with depth, ten layers; {smaller}'
    return [
        all_of('S1', below, [shifts], 0.1, one),
        all_of('S12', above, away, 0.1, two),
        all_of('S40', above, trends, 0.0, three),
        Verdict('M11', part, four, weakest, (bound,)),
    ]


def saturated(both):
    share = at_end('saturated_fraction', np.max)
    found = [both[cell].mean(share) for cell in (SIGMOID, SIGMOID_10)]
    effect = 'share of |z| > 2 after training, sigmoid, largest of 3 and of 10 layers'
    return all_of('S56', below, found, 0.1, effect)


def without(claim, results, cells):
    """What it costs to learn neither: steps or accuracy, in any of the nets."""
    number, found = 2 * len(cells), []
    for cell in cells:
        one, other = final(results, NEITHER, cell), final(results, BOTH, cell)
        steps = log_steps_to(TARGET[cell[0]])
        slower = one.difference(other, steps, cells=number)
        lower = other.difference(one, accuracy, cells=number)
        found += [
            ('log of steps to the target, neither / both', slower, SLOWER),
            ('test accuracy, both - neither', lower, POINT),
        ]
    rules = [above(interval, bound) for _, interval, bound in found]
    effect, largest, bound = max(found, key=lambda f: f[1].low / f[2])
    effect += f'; the clearest of steps and accuracy in {len(cells)} nets'
    return Verdict(claim, at_least(1, rules), effect, largest, (bound,))


def linear(results):
    sigmoid, straight = (final(results, NEITHER, cell) for cell in (SIGMOID, LINEAR))
    gain = sigmoid.difference(straight, accuracy)
    effect = 'test accuracy, sigmoid without scale and shift - a linear net'
    return all_of('S52', below, [gain], 0.03, effect)


def fixed(results, both):
    gains = [final(results, NEITHER, SIGMOID, gain) for gain in (2.0, 4.0)]
    best = max(gains, key=lambda arm: arm.mean('validation_accuracy').mean)
    better = both[SIGMOID].difference(best, accuracy)
    effect = (
        'test accuracy of sigmoid, scale and shift learned - the better by validation '
        'of fixed scales 2 and 4'
    )
    return all_of('S73', below, [better], POINT, effect)


def shift_matters(results, both):
    scale, shift = (final(results, which, RELU) for which in (SCALE, SHIFT))
    by_shift = both[RELU].difference(scale, accuracy, cells=2)
    by_scale = both[RELU].difference(shift, accuracy, cells=2)
    more = scale.difference(shift, accuracy)
    if more.low > 0:
        effect = 'test accuracy of relu, scale alone - shift alone'
        return Verdict('S83', REFUTED, effect, more, (0.0,))
    off_half = at_end('zero_fraction', lambda share: abs(share.mean() - 0.5))
    rest = below(by_scale, 0.002), above(both[RELU].mean(off_half), 0.05)
    weak = [UNDECIDED if rule == REFUTED else rule for rule in rest]
    found = every([above(by_shift, 0.002), *weak])
    effect = 'test accuracy of relu, scale and shift - scale alone (97.5 % interval)'
    return Verdict('S83', found, effect, by_shift, (0.002,))


def middle(results):
    """Whether a steeper sigmoid closes half of the gap to relu."""
    sigmoid, relu = (final(results, NEITHER, cell) for cell in (SIGMOID, RELU))
    gap = relu.minus(sigmoid, accuracy)
    found = []
    for gain in (4.0, 8.0):
        more = final(results, NEITHER, SIGMOID, gain).minus(sigmoid, accuracy)
        closed = [more[seed] - gap[seed] / 2 for seed in gap]
        found.append(interval(closed, 0.05 / 2))
    closes = at_least(1, [above(i, 0.0) for i in found])
    effect = (
        'gain of test accuracy of sigmoid by a fixed scale - half of the gap to relu, '
        'the larger of scales 4 and 8 (97.5 % interval)'
    )
    found = max(found, key=lambda i: i.low)
    is_gap = interval(list(gap.values())).low > 0
    return Verdict('M3', closes if is_gap else UNDECIDED, effect, found, (0.0,))


def tables(results):
    """The arms at their best rates, and what scale and shift have become."""
    from bnjax.report.numbers import plus_minus

    def shifted(record):
        return float(np.median(np.abs(learned(record, 'bias'))))

    def of_arm(which, cell, gain):
        own = final(results, which, cell, gain)
        rate, tried = own.values_of('optimizer.learning_rate')[0], RATES[cell]
        name = 'linear' if cell == LINEAR else cell[0]
        return [
            f'{name}, {cell[1]} layers',
            which if gain == 1 else f'scale fixed at {gain:g}',
            f'{rate:g}' + ' (end of grid)' * (rate in (tried[0], tried[-1])),
            plus_minus(own.mean(accuracy), factor=100),
            f'{math.exp(own.mean(log_steps_to(TARGET.get(cell[0], 0.92))).mean):.0f}',
            plus_minus(own.mean(shifted), 3) if which in (BOTH, SHIFT) else '',
            plus_minus(own.mean(lambda r: np.mean(left(r))), 3)
            if which == BOTH
            else '',
        ]

    def of_both(cell):
        own = final(results, BOTH, cell)
        spread = own.mean(lambda r: np.std(np.log(np.abs(learned(r, 'scale')))))
        ends = ('middle', np.ptp), ('saturated', np.max), ('zero', np.mean)
        found = [own.mean(at_end(f'{name}_fraction', of)) for name, of in ends]
        return [
            f'{cell[0]}, {cell[1]} layers',
            *map(plus_minus, (own.mean(trend), spread, *found)),
        ]

    head = ['net', 'learned', 'rate', 'test accuracy', 'steps', '|shift|', 'distance']
    shown = 'with depth', 'log scale', 'in [0.1, 0.9]', '|z| > 2', 'zeros'
    reach = 'Mean and half the width of the 95 % interval over ten seeds'
    return [
        {
            'title': 'Arms at their best rates',
            'caption': f'{reach}: test accuracy in percent, and after training the '
            'median over units of |shift| and the mean over layers of the median '
            'distance of (log scale, shift) to (0, 0). Steps: geometric mean of those '
            'to 92 % (relu: 96 %) of the validation images; a run that did not reach '
            f'it counts with {FINAL}.',
            'head': head,
            'rows': [of_arm(*one) for one in ARMS],
        },
        {
            'title': 'Scale, shift and activations where both are learned',
            'caption': f'{reach}, after training: rank correlation of the distance to '
            '(0, 0) with depth; deviation over all units of log scale; shares of '
            'activations: range over layers of those in [0.1, 0.9], largest layer of '
            'those with |z| > 2 before the activation, mean over layers of zeros.',
            'head': ['net', *shown],
            'rows': [of_both(cell) for cell in CELLS],
        },
    ]
