"""How much faster is training on centred, standardised or whitened images?

Shows: no batch norm, 10 000 images; pixels from 0 to 255, in [0, 1], centred, divided
by their deviation too, PCA and ZCA whitened. Three layers of 100 relu units on MNIST,
plain SGD, batches of 100: rates half a decade apart with three seeds, then ten others
(60 for [0, 1]) for 1000 steps. Six 3 x 3 convolutions of 8 to 32 channels with relu on
CIFAR-10, momentum 0.9, batches of 40: four rates with one seed for 500 steps, then five
for 750; no PCA. Each arm at its best rate by validation, of a range of their own for
pixels from 0 to 255. The targets are 92 % and 30 % of the validation images. For the
planes of the first layer, the dense net on CIFAR-10 in [0, 1] too, 60 seeds for 500
steps. A run before, of MNIST alone, had the same seeds; pilots set the CNN's rates and
target.
Settles: S18 S39 S61 S63 S67.
Takes: 20 minutes of a CPU core, 4 GB, and MNIST and CIFAR-10 as TFDS prepares them.
Expect: Pixels from 0 to 255 lag at any rate (84 % of MNIST, 12 % of CIFAR-10). From [0,
1] on, centring pays on MNIST (110 steps, not 194), dividing by the deviation on
CIFAR-10 (420, not 550), and whitening costs on both. The share of units that split the
data is no sign of a good end: a rank correlation of 0.29, and -0.07 with other seeds.
Command: python -m bnjax.claims run S39
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from bnjax import config
from bnjax.report import drawing
from bnjax.results import accuracy, correlation, log_steps_to, steps_to
from bnjax.stats import ALIKE, LEVEL, Interval, interval
from bnjax.verdict import CONFIRMED, REFUTED, UNDECIDED, Verdict, above, every

RAW, UNIT, CENTRED, STANDARD, PCA, ZCA = ARMS = (
    *('raw', 'unit', 'center', 'zscore', 'pca', 'zca'),
)
NEEDED, FASTER = math.log(1.25), math.log(1.1)
LINKED = 0.3


class Net(NamedTuple):
    """A network on a data set, its arms, and how long each is tuned and trained."""

    fields: dict
    arms: tuple
    seeds: dict
    final: int
    target: float
    rates: tuple = (0.003, 0.01, 0.03, 0.1)
    rates_of_raw: tuple = ()
    tuning_seeds: int = 1
    tuning: int = 400


DENSE = {'model.features': (100,) * 3, 'optimizer.momentum': 0.0, 'batch_size': 100}
CONVOLUTIONS = {'model.name': 'cnn', 'model.features': (8, 16, 32), 'batch_size': 40}
MNIST, CIFAR, PLANES = 'MNIST', 'CIFAR-10', 'CIFAR-10, dense'
BOTH = MNIST, CIFAR
NETS = {
    MNIST: Net(
        fields=DENSE | {'data.name': 'mnist'},
        arms=ARMS,
        seeds=dict.fromkeys(ARMS, 10) | {UNIT: 60},
        final=1000,
        target=0.92,
        rates=(0.01, 0.03, 0.1, 0.3, 1.0),
        rates_of_raw=(1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
        tuning_seeds=3,
    ),
    CIFAR: Net(
        fields=CONVOLUTIONS | {'optimizer.momentum': 0.9, 'data.name': 'cifar10'},
        arms=(RAW, UNIT, CENTRED, STANDARD, ZCA),
        seeds=dict.fromkeys(ARMS, 5),
        final=750,
        target=0.3,
        rates_of_raw=(3e-5, 1e-4, 3e-4, 1e-3),
        tuning=500,
    ),
    PLANES: Net(
        DENSE | {'data.name': 'cifar10'}, (UNIT,), {UNIT: 60}, final=500, target=0.3
    ),
}


def get_config(arg=None):
    fields = config.defaults()
    fields.seed = int(arg or 0)
    fields.data.images = 10_000
    fields.model.placement = 'none'
    return fields


def sweep(add, fields):
    for net in NETS.values():
        for arm in net.arms:
            for rate in net.rates_of_raw if arm == RAW else net.rates:
                for seed in range(fields.seed, fields.seed + net.tuning_seeds):
                    own = {'data.preprocess': arm, 'seed': seed, 'steps': net.tuning}
                    add(**net.fields, **own, **{'optimizer.learning_rate': rate})


def refine(add, results):
    first = min(results.values_of('seed')) + 10
    for name, net in NETS.items():
        # At the first step only.
        seen = {'probes.names': ('split_fraction',), 'probes.every': net.final}
        for arm in net.arms:
            rate = trials(results, name, arm, net.tuning).best()
            for seed in range(first, first + net.seeds[arm]):
                own = {'data.preprocess': arm, 'seed': seed, 'steps': net.final}
                add(**net.fields, **seen, **own, **{'optimizer.learning_rate': rate})


def trials(results, name, arm, steps):
    own = NETS[name].fields | {'data.preprocess': arm}
    return results.where(**own, steps=steps)


def final(results, name, arm):
    return trials(results, name, arm, NETS[name].final)


def split(layers):
    """A metric: the share of units split at the start, over some of the layers."""

    def share(record):
        values = record.curves.get('probe/split_fraction')
        return math.nan if values is None else float(values[0][layers].mean())

    return share


FIRST, EVERY = slice(1), slice(None)


def verdict(results):
    rules = needed, faster, step_by_step, useful_planes, first_planes
    return [rule(results) for rule in rules]


def ratio(results, name, slower, quicker, cells):
    """Of the steps to the target, as a logarithm, of seeds where one arm reached it.

    An arm that did not counts with all its steps: the ratio is nearer 1 than it is.
    """
    net = NETS[name]
    one, other = (
        final(results, name, arm).by_seed(log_steps_to(net.target))
        for arm in (slower, quicker)
    )
    never = math.log(net.final)
    reached = [s for s in one.keys() & other if min(one[s], other[s]) < never]
    return interval([one[s] - other[s] for s in reached], LEVEL / cells)


def weakest(found, intervals):
    """The interval that decides: its lower end lowest, or the upper if it refutes."""
    known = [i for i in intervals if not math.isnan(i.low)] or intervals
    return min(known, key=lambda i: i.high if found == REFUTED else i.low)


TARGETS = 'log of steps to 92 % of MNIST and to 30 % of CIFAR-10'


def needed(results):
    ratios = [ratio(results, name, RAW, STANDARD, cells=2) for name in BOTH]
    found = every([above(i, NEEDED) for i in ratios])
    effect = (
        f'{TARGETS}, pixels from 0 to 255 / standardised, the smaller of the two data '
        'sets (Bonferroni)'
    )
    return Verdict('S39', found, effect, weakest(found, ratios), (NEEDED,))


def onwards(steps, others=()):
    """Confirmed where all steps are forward, refuted where any interval is backward."""
    forward = [above(i, FASTER) for i in steps] + [above(i, 0.0) for i in others]
    if any(above(i, 0.0) == REFUTED for i in (*steps, *others)):
        return REFUTED
    return CONFIRMED if set(forward) == {CONFIRMED} else UNDECIDED


def faster(results):
    better = CENTRED, STANDARD, ZCA
    ratios = [ratio(results, name, UNIT, arm, 6) for name in BOTH for arm in better]
    found = onwards(ratios)
    effect = (
        f'{TARGETS}, pixels in [0, 1] / centred, standardised and ZCA whitened, the '
        'smallest of the six (Bonferroni)'
    )
    return Verdict('S61', found, effect, weakest(found, ratios), (0.0, FASTER))


def step_by_step(results):
    """Each step takes fewer steps of training, and ends with better answers."""
    pairs = (UNIT, CENTRED), (CENTRED, STANDARD), (STANDARD, ZCA)
    cells = [(name, *pair) for name in BOTH for pair in pairs]
    steps = [ratio(results, *cell, cells=12) for cell in cells]
    gains = [
        final(results, name, after).difference(
            final(results, name, before), accuracy, cells=12
        )
        for name, before, after in cells
    ]
    found = onwards(steps, gains)
    which = 'the smallest of six, MNIST and CIFAR-10 (Bonferroni over both measures)'
    if found == REFUTED and onwards(steps) != REFUTED:
        effect = f'test accuracy, each preprocessing - the one before, {which}'
        return Verdict('S67', found, effect, weakest(found, gains), (0.0,))
    effect = (
        f'{TARGETS}, each preprocessing / the next one, {which}; test accuracy must '
        'rise too'
    )
    return Verdict('S67', found, effect, weakest(found, steps), (0.0, FASTER))


def useful_planes(results):
    """Whether a start with more units that split the data ends better."""
    arms = [(name, arm) for name, net in NETS.items() for arm in net.arms]
    linked = within(results, arms, EVERY)
    units = 'share of units that split the first batch, 5 to 95 % on either side'
    dense = [final(results, name, UNIT).mean(split(EVERY)) for name in (MNIST, PLANES)]
    share = min(dense, key=lambda i: i.low)
    if all(i.low > 0.95 for i in dense):  # nothing is left to rise
        effect = f'{units}, pixels in [0, 1], the smaller of MNIST and CIFAR-10'
        return Verdict('S18', REFUTED, effect, share, (0.95,))
    effect = (
        f'rank correlation of the {units}, with test accuracy, within the arms of '
        'MNIST and CIFAR-10'
    )
    return Verdict('S18', above(linked, LINKED), effect, linked, (LINKED,))


def first_planes(results):
    found = [within(results, [(name, UNIT)], FIRST, 2) for name in (MNIST, PLANES)]
    rule = every([above(i, LINKED) for i in found])
    effect = (
        'rank correlation over seeds of the share of first-layer units that split the '
        'first batch, with test accuracy, dense nets, pixels in [0, 1], the smaller of '
        'MNIST and CIFAR-10 (Bonferroni)'
    )
    return Verdict('S63', rule, effect, weakest(rule, found), (LINKED,))


def within(results, arms, layers, cells=1):
    """The correlation over runs, each arm's means and deviations taken out.

    An arm in which one of the two does not vary says nothing of it.
    """
    pairs, used = [], 0
    for name, arm in arms:
        own = final(results, name, arm)
        both = [list(own.by_seed(m).values()) for m in (split(layers), accuracy)]
        known = np.array(both).T
        known = known[np.isfinite(known).all(1)]
        if len(known) > 1 and known.std(0).min() > ALIKE:
            pairs.extend((known - known.mean(0)) / known.std(0))
            used += 1
    if len(pairs) < used + 3:
        return Interval(math.nan, math.nan, math.nan, len(pairs))
    rho = correlation(*np.array(pairs).T.tolist()).mean
    half = norm.isf(LEVEL / 2 / cells) * math.sqrt(1.06 / (len(pairs) - used - 2))
    ends = np.tanh(np.arctanh(np.clip(rho, -0.9999, 0.9999)) + half * np.array([-1, 1]))
    return Interval(rho, *ends.tolist(), len(pairs))


def tables(results):
    """By data set and preprocessing, the means over seeds of all that decides."""
    return [table(results, name) for name in NETS]


def table(results, name):
    net, rows = NETS[name], []
    columns = {
        'log of steps': (log_steps_to(net.target), '{:.2f}'),
        'test accuracy': (accuracy, '{:.4f}'),
        'training loss': ('train_loss', '{:.3f}'),
        'units split, first layer': (split(FIRST), '{:.3f}'),
        'units split, all layers': (split(EVERY), '{:.3f}'),
    }
    for arm in net.arms:
        runs = final(results, name, arm)
        rate = runs.values_of('optimizer.learning_rate')[0]
        texts = [text.format(runs.mean(m).mean) for m, text in columns.values()]
        rows.append([arm, f'{rate:g}', *texts])
    caption = (
        'Means over the final seeds, each arm at its best rate. The target is '
        f'{net.target:.0%} of the validation images; a run that did not reach it '
        f'counts with all its {net.final} steps, log {math.log(net.final):.2f}.'
    )
    head = ['pixels', 'learning rate', *columns]
    return {'title': f'Arms: {name}', 'caption': caption, 'head': head, 'rows': rows}


def figure(results):
    """Preprocessing and the steps to the target; planes that split the images.

    Above: steps to the target of validation accuracy, geometric mean and 95 % interval,
    dots the seeds; at the right end it was not reached. Below: test accuracy of dense
    nets on pixels in [0, 1] by the share of first-layer units that split a first batch.
    """
    drawn, axes = drawing.panels(4, 2.8, columns=2, share=False)
    for panel, name in zip(axes[:2], BOTH, strict=True):
        net = NETS[name]
        for row, arm in enumerate(net.arms):
            runs = final(results, name, arm)
            for steps in runs.by_seed(steps_to(net.target)).values():
                drawing.seeds(panel, [steps], [row], 0)
            mean, low, high, n = runs.mean(log_steps_to(net.target))
            drawing.across(panel, Interval(*np.exp([mean, low, high]), n), row, 0)
        shown = {RAW: '0 to 255', UNIT: '[0, 1]'}
        drawing.rows(panel, [shown.get(arm, arm) for arm in net.arms])
        panel.set(xlim=(0, None), xlabel=f'steps to {net.target:.0%}', title=name)
    for panel, name in zip(axes[2:], (MNIST, PLANES), strict=True):
        by_seed = final(results, name, UNIT).by_seed
        points = [[*by_seed(m).values()] for m in (split(FIRST), accuracy)]
        panel.plot(*points, 'o', ms=4, alpha=0.5, color='#0072B2')
        panel.set(xlabel='units that split', ylabel='test accuracy', title=name)
    return drawn
