"""Does training suffer where the gradient takes mean and variance for constants?

Shows: three layers of 100 relu units with batch norm before the activation, on 54 000
images of MNIST, plain SGD, batches of 100, one epoch. The forward pass is the same in
four arms; backward, the gradient goes through the batch's mean and variance, or takes
the mean, the variance, or both for constants. Five learning rates, ten seeds.
Accuracies are by the statistics of all training images, estimated again; a first run
with the same seeds, which this one replaces, had moving averages, which may follow too
slowly where the forward pass is unsteady. What constants do to biases and to the
direction is for the exact part, where a layer by hand has both: a bias before batch
norm, which these networks leave out for it does nothing, and the true gradient beside
the other.
Settles: S15.
Takes: about two minutes on two CPU cores. Needs MNIST as TFDS prepares it.
Expect: Yes, at rates up to 0.3, where both constant cost 4 to 12 points; at 1 they cost
0.7. It is the mean that matters, which alone costs 3 to 12 points up to 0.3, the
variance 0.8 or less: the true gradient sums to 0 over a batch, without the mean's part
it does not, and steps go where the forward pass takes off again what they moved. The
statistics matter, too: by moving averages the mean alone cost 37 points at 0.3.
Command: python -m bnjax.claims run S15
"""

import numpy as np

from bnjax import config
from bnjax.report import drawing
from bnjax.results import accuracy, lost
from bnjax.stats import interval
from bnjax.verdict import CONFIRMED, REFUTED, UNDECIDED, Verdict

NORMS = {
    'batch': 'true gradient',
    'constant_mean': 'mean constant',
    'constant_variance': 'variance constant',
    'constant_statistics': 'both constant',
}
RATES = 0.01, 0.03, 0.1, 0.3, 1.0
SMALL, POINT = 0.003, 0.01  # 0.3 points of accuracy and 1


def get_config(arg=None):
    fields = config.defaults()
    fields.seed = int(arg or 0)
    fields.data.name = 'mnist'
    fields.model.features = (100,) * 3
    fields.optimizer.momentum = 0.0
    fields.batch_size = 100
    fields.steps = 540
    fields.probes.names = ('reestimated_scores',)
    return fields


def sweep(add, fields):
    for norm in NORMS:
        for rate in RATES:
            for seed in range(fields.seed, fields.seed + 10):
                own = {'model.norm': norm, 'optimizer.learning_rate': rate}
                add(**own, seed=seed)


def cell(results, norm, rate):
    own = {'model.norm': norm, 'optimizer.learning_rate': rate}
    return results.where(**own)


def verdict(results):
    losses = [
        cell(results, 'batch', rate).difference(
            cell(results, 'constant_statistics', rate), accuracy, cells=len(RATES)
        )
        for rate in RATES
    ]
    harmed = any(loss.low > POINT for loss in losses)
    harmless = all(loss.high < SMALL for loss in losses)
    found = CONFIRMED if harmed else REFUTED if harmless else UNDECIDED
    effect = (
        'test accuracy, true gradient - mean and variance taken as constants, at the '
        'rate of five where most is lost (Bonferroni)'
    )
    worst = max(losses, key=lambda loss: loss.high if harmless else loss.low)
    return [Verdict('S15', found, effect, worst, (SMALL, POINT))]


def tables(results):
    """Accuracy and lost trials by rate."""
    rows = []
    for norm, name in NORMS.items():
        arms = [cell(results, norm, rate) for rate in RATES]
        rows.append([name, *map(said, arms)])
    return [
        {
            'title': 'Test accuracy by what the gradient takes for constant',
            'caption': 'Percent, mean and half the width of the 95 % interval over ten '
            'seeds; lost trials, which ended with a loss worse than that of guessing '
            'or not finite, count as chance.',
            'head': ['gradient', *(f'rate {rate:g}' for rate in RATES)],
            'rows': rows,
        }
    ]


def said(arm):
    mean = arm.mean(accuracy)
    text = f'{100 * mean.mean:.2f} ± {50 * (mean.high - mean.low):.2f}'
    gone = sum(map(lost, arm))
    return f'{text}, {gone} lost' if gone else text


def figure(results):
    """Test accuracy on MNIST after one epoch, by learning rate.

    Three layers of 100 relu units with batch norm; a line for each gradient. Markers
    and bars: mean and 95 % interval over ten seeds, set side by side; lost trials count
    as chance. The horizontal axis is logarithmic, the vertical one goes by the
    logarithm of the error, which stretches it near 1.
    """
    drawn, (axes,) = drawing.panels(1, 3.4)
    drawn.set_figwidth(6.4)
    for index, norm in enumerate(NORMS):
        arms = [list(cell(results, norm, r).by_seed(accuracy).values()) for r in RATES]
        rates = np.array(RATES) * 1.04 ** (index - 1.5)  # side by side
        drawing.upright(axes, rates, [interval(arm) for arm in arms], index)
    axes.set_xscale('log')
    axes.set_xlabel('learning rate')
    axes.set_ylabel('test accuracy')
    drawing.stretch_accuracy(axes)
    drawing.legend(drawn, list(NORMS.values()))
    return drawn
