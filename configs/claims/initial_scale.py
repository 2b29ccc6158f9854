"""Does batch norm make training insensitive to the size of the initial weights?

Shows: three layers of 100 relu units on 54 000 images of MNIST, plain SGD, batches of
100; no batch norm, and batch norm before the activation. The learning rate is tuned
with He's initial weights, six rates with three seeds for one epoch. Then all initial
weights, those of the output too, are multiplied by 0.01, 0.1, 0.5, 1, 2, 10 and 100:
ten other seeds for two epochs, each arm at the rate it was best at with a factor of 1.
Accuracies are by the statistics of all training images, estimated again; a first run
with the same seeds, which this one replaces, had moving averages.
Settles: S22.
Takes: about three minutes on two CPU cores. Needs MNIST as TFDS prepares it.
Expect: From 0.01 to 2 times He's weights, yes: 96.7 to 97.3 %, where without batch norm
it is 11 to 96 %. Not at 10 times (92 %) and 100 times (16 %): a factor cancels in a
normalised layer, but its gradient falls by it while the weights are larger by it, and
the logits, which nothing normalises, grow with it.
Command: python -m bnjax.claims run S22
"""

import math

import numpy as np

from bnjax import config
from bnjax.report import drawing
from bnjax.results import accuracy
from bnjax.stats import LEVEL, interval
from bnjax.verdict import CONFIRMED, REFUTED, UNDECIDED, Verdict

NONE, BEFORE = 'none', 'before'
FACTORS = 0.01, 0.1, 0.5, 1.0, 2.0, 10.0, 100.0
RATES = 0.01, 0.03, 0.1, 0.3, 1.0, 3.0
TUNING, FINAL = 540, 1080
EVEN, POINT = 0.003, 0.01  # 0.3 points of accuracy and 1


def get_config(arg=None):
    fields = config.defaults()
    fields.seed = int(arg or 0)
    fields.data.name = 'mnist'
    fields.model.features = (100,) * 3
    fields.optimizer.momentum = 0.0
    fields.batch_size = 100
    fields.steps = TUNING
    fields.probes.names = ('reestimated_scores',)
    return fields


def sweep(add, fields):
    for placement in (NONE, BEFORE):
        for rate in RATES:
            for seed in range(fields.seed, fields.seed + 3):
                own = {'model.placement': placement, 'seed': seed}
                add(**own, **{'optimizer.learning_rate': rate})


def refine(add, results):
    first = min(results.values_of('seed')) + 10
    for placement in (NONE, BEFORE):
        tuned = results.where(**{'model.placement': placement}, steps=TUNING)
        rate = tuned.best()
        for factor in FACTORS:
            for seed in range(first, first + 10):
                own = {'model.init_scale': factor, 'seed': seed, 'steps': FINAL}
                own['model.placement'] = placement
                add(**own, **{'optimizer.learning_rate': rate})


def accuracies(results, placement):
    """Of each seed at each factor: (seeds, factors)."""
    own = results.where(**{'model.placement': placement}, steps=FINAL)
    by_factor = [
        own.where(**{'model.init_scale': f}).by_seed(accuracy) for f in FACTORS
    ]
    return np.array([list(one.values()) for one in by_factor]).T


def verdict(results):
    before, none = accuracies(results, BEFORE), accuracies(results, NONE)
    spread = interval(before.std(1, ddof=1))
    less = interval(before.std(1, ddof=1) - none.std(1, ddof=1))
    apart = largest_difference(before)
    even = spread.high < EVEN and less.high < 0
    found = CONFIRMED if even else REFUTED if apart.low > POINT else UNDECIDED
    effect = (
        'test accuracy with batch norm, best - worst of seven factors of the initial '
        'weights, 0.01 to 100 (Bonferroni over pairs); above the bound, they matter'
    )
    return [Verdict('S22', found, effect, apart, (POINT,))]


def largest_difference(values):
    """Between two columns of (seeds, factors), at a level for any of the pairs."""
    means = values.mean(0)
    differences = values[:, means.argmax()] - values[:, means.argmin()]
    return interval(differences, LEVEL / math.comb(len(means), 2))


def tables(results):
    """Accuracy and its deviation over the factors, by placement."""
    rows = []
    for placement, name in ((NONE, 'none'), (BEFORE, 'before the activation')):
        values = accuracies(results, placement)
        own = results.where(**{'model.placement': placement}, steps=FINAL)
        rate = own.values_of('optimizer.learning_rate')[0]
        columns = [*values.T, values.std(1, ddof=1)]
        rows.append([name, f'{rate:g}', *(percent(interval(c)) for c in columns)])
    head = ['batch norm', 'learning rate', *(f'x {f:g}' for f in FACTORS), 'deviation']
    return [
        {
            'title': 'Test accuracy by the factor of the initial weights',
            'caption': 'Percent, mean and half the width of the 95 % interval over ten '
            'seeds; a trial that is lost counts as chance. The deviation is over the '
            'seven factors, of each seed.',
            'head': head,
            'rows': rows,
        }
    ]


def percent(mean):
    return f'{100 * mean.mean:.2f} ± {50 * (mean.high - mean.low):.2f}'


def figure(results):
    """Test accuracy on MNIST after two epochs, by the factor of all initial weights.

    Three layers of 100 relu units, each arm at the rate that is best at a factor of 1.
    Markers and bars: mean and 95 % interval over ten seeds; lost trials count as
    chance. The horizontal axis is logarithmic, the vertical one goes by the logarithm
    of the error, which stretches it near 1.
    """
    drawn, (axes,) = drawing.panels(1, 3.4)
    drawn.set_figwidth(6.4)
    for index, placement in enumerate((NONE, BEFORE)):
        means = [interval(column) for column in accuracies(results, placement).T]
        drawing.upright(axes, np.array(FACTORS), means, index)
    axes.set_xscale('log')
    axes.set_xlabel('factor of the initial weights')
    axes.set_ylabel('test accuracy')
    drawing.stretch_accuracy(axes)
    drawing.legend(drawn, ['no batch norm', 'batch norm before the activation'])
    return drawn
