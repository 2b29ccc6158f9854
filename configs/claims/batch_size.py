"""How many images must be normalised together, and by which statistics is one tested?

Shows: three layers of 100 relu units on 10 000 images of MNIST, plain SGD with batches
of 128, of which batch norm before the activation sees groups of 2, 4, 8, 16, 32 or all
128, as as many devices would; the same without batch norm; and both before training.
Five learning rates half a decade apart with two seeds, then ten other seeds for 390
steps at each arm's best rate by validation. A small convolutional net (8 and 16
channels, 400 steps of 32 images, SGD with momentum), normalised image by image or all
32 together, with five seeds. In place of 60 and 200 images, 32 and 128.
Settles: S4 S11 S44 S45 S75.
Takes: about 6 minutes on two CPU cores. Needs MNIST as TFDS prepares it.
Expect: Sixteen are as good as 128 (95.5 %); eight cost 0.6 points, four 3.4, and two,
which normalised together are only 1 and -1, about half (46.7 %). The statistics matter
little from four on: those of all training images are 0.3 points or less better than the
moving average, biased or unbiased. Image by image a convolutional net does learn: by
the statistics of each image 80 % of them are right, by the moving average 32 %.
Command: python -m bnjax.claims run S75
"""

import numpy as np
from matplotlib.figure import Figure

from bnjax import config
from bnjax.claims.trained import accuracy_of, images_of, in_training, statistics, tested
from bnjax.records import variables_of
from bnjax.results import accuracy
from bnjax.stats import interval
from bnjax.verdict import CONFIRMED, REFUTED, UNDECIDED, Verdict, above

BATCH, GROUPS = 128, (2, 4, 8, 16, 32, 128)
NONE, IMAGES = 'none', 10_000
RATES = 0.03, 0.1, 0.3, 1.0, 3.0
TUNING, FINAL = 156, 390
CONVOLUTIONAL = {
    'model.name': 'cnn',
    'model.features': (8, 16),
    'data.images': 12_800,
    'data.validation_percent': 2,
    'optimizer.momentum': 0.9,
    'batch_size': 32,
}
RATES_OF_IT = 0.03, 0.1, 0.3, 1.0
TUNING_OF_IT, FINAL_OF_IT = 200, 400
POINT = 0.002  # 0.2 points of accuracy


def get_config(arg=None):
    fields = config.defaults()
    fields.seed = int(arg or 0)
    fields.data.name = 'mnist'
    fields.data.images = IMAGES
    fields.model.features = (100,) * 3
    fields.optimizer.momentum = 0.0
    fields.batch_size = BATCH
    fields.steps = TUNING
    return fields


def arm(group):
    """Of the dense net: how many images are normalised together, or NONE."""
    parts = 1 if group == NONE else BATCH // group
    placement = NONE if group == NONE else 'before'
    return {'model.name': 'mlp', 'model.placement': placement, 'micro_batches': parts}


def convolutional(group):
    return CONVOLUTIONAL | {'micro_batches': CONVOLUTIONAL['batch_size'] // group}


def tuned():
    """Each arm with its tuning: fields, rates, seeds, steps in tuning and at last."""
    for group in (NONE, *GROUPS):
        yield arm(group), RATES, 2, 10, TUNING, FINAL
    for group in (1, 32):
        yield convolutional(group), RATES_OF_IT, 1, 5, TUNING_OF_IT, FINAL_OF_IT


def sweep(add, fields):
    for own, rates, seeds, _, steps, _ in tuned():
        for rate in rates:
            for seed in range(fields.seed, fields.seed + seeds):
                add(**own, **numbers(rate, seed, steps))


def refine(add, results):
    first = min(results.values_of('seed')) + 10
    for own, _, _, seeds, tuning, steps in tuned():
        rate = results.where(**own, steps=tuning).best()
        for seed in range(first, first + seeds):
            add(**own, **numbers(rate, seed, steps), keep_state=True)
    for seed in range(first, first + 10):
        for group in NONE, BATCH:  # as they are before training
            add(**arm(group), **numbers(0.0, seed, 1), keep_state=True)


def numbers(rate, seed, steps):
    return {'optimizer.learning_rate': rate, 'seed': seed, 'steps': steps}


def final(results, group):
    return results.where(**arm(group), steps=FINAL)


def verdict(results):
    return [f(results) for f in (capricious, half, enough, single, of_last_epoch)]


def decided(confirms, refutes):
    return REFUTED if refutes else CONFIRMED if confirms else UNDECIDED


def of_zeros(measured):
    """A metric: the mean over layers of a number that zeros (images, units) give."""

    def metric(record):
        if not variables_of(record):
            return np.nan
        units = in_training(record, images_of(record).train.x[None])['activations']
        zeros = [np.asarray(of[0][0]) == 0 for of in units.values()]
        return float(np.mean([measured(zero) for zero in zeros]))

    return metric


def over_batches(zero, group=32):
    batches = zero[: len(zero) // group * group].reshape(-1, group, zero.shape[1])
    shares = batches.mean(1)
    return np.sqrt(shares.var(0).mean()) / shares.mean(0).std()


def capricious(results):
    start, end = results.where(**arm(NONE), steps=1), final(results, NONE)
    found = [own.mean(of_zeros(over_batches)) for own in (start, end)]
    effect = (
        'deviation of a share of zeros over batches of 32 / over units, no batch norm, '
        'the smaller of before and after training'
    )
    rule = decided(all(i.low > 0.5 for i in found), any(i.high < 0.25 for i in found))
    return Verdict('S4', rule, effect, min(found, key=lambda i: i.low), (0.25, 0.5))


def half(results):
    moderate = of_zeros(lambda zero: (abs(zero.mean(0) - 0.5) <= 0.1).mean())
    found = results.where(**arm(BATCH), steps=1).mean(moderate)
    effect = 'share of units that are 0 on 40 to 60 % of the images, before training'
    return Verdict('S11', above(found, 0.9), effect, found, (0.9,))


def enough(results):
    """What a group of 16 or more loses against the best one by validation."""
    arms = {group: final(results, group) for group in GROUPS}
    best = max(arms.values(), key=lambda own: own.mean('validation_accuracy').mean)
    loss = {g: best.difference(arms[g], accuracy, cells=3) for g in (16, 32, 128)}
    near = all(i.high < 0.005 for i in loss.values())
    found = decided(near, loss[32].low > 0.005)
    largest = max(loss.values(), key=lambda i: i.high)
    effect = 'test accuracy, best group - 16, 32 and 128, the largest (Bonferroni)'
    return Verdict('S44', found, effect, largest, (0.005,))


def single(results):
    own = results.where(**convolutional(1), steps=FINAL_OF_IT)
    found = [own.mean(metric) for metric in (accuracy, accuracy_by_image)]
    rule = decided(all(i.high < 0.2 for i in found), any(i.low > 0.5 for i in found))
    effect = 'test accuracy normalised image by image, by all or own statistics, larger'
    return Verdict('S45', rule, effect, max(found, key=lambda i: i.low), (0.2, 0.5))


def accuracy_by_image(record):
    """Of 500 test images, each by its own statistics."""
    if not variables_of(record):
        return np.nan
    x, y = (of[:500, None] for of in images_of(record).test)
    return accuracy_of(in_training(record, x)['logits'], y)


EVALUATED: dict[str, list[float]] = {}


def evaluated(record):
    """Test accuracy by biased and by unbiased statistics of the training images."""
    if variables_of(record) and record.trial not in EVALUATED:
        group = BATCH // record.config['micro_batches']
        train, _, (x, y), _ = images_of(record)
        groups = train.x[: len(train.x) // group * group]
        groups = groups.reshape(-1, group, *x.shape[1:])
        moments = in_training(record, groups)['moments']
        by = [statistics(moments, factor) for factor in (1, group / (group - 1))]
        EVALUATED[record.trial] = [accuracy_of(tested(record, x, s), y) for s in by]
    return EVALUATED.get(record.trial, [np.nan, np.nan])


STATISTICS = {
    'moving average': lambda record: record.metrics['test_accuracy'],
    'all training images, biased': lambda record: evaluated(record)[0],
    'all training images, unbiased': lambda record: evaluated(record)[1],
}


def of_last_epoch(results):
    """What unbiased variances, and statistics at fixed weights, gain at any size."""
    moving, biased, unbiased = STATISTICS.values()
    gains = {}
    for group in GROUPS:
        for old in moving, biased:
            values = final(results, group).by_seed(lambda r, o=old: unbiased(r) - o(r))
            level = 0.05 / 2 / len(GROUPS)
            gains[group, old] = interval(list(values.values()), level)
    small = any(i.low > POINT for (group, _), i in gains.items() if group <= 8)
    found = decided(small, all(i.high < POINT for i in gains.values()))
    largest = max(gains.values(), key=lambda i: i.low)
    effect = (
        'test accuracy, unbiased statistics of all training images - their biased ones '
        'or the moving average, the largest of all sizes (Bonferroni)'
    )
    return Verdict('S75', found, effect, largest, (POINT,))


def tables(results):
    """The groups by statistics, and the convolutional net image by image."""
    from bnjax.report.numbers import plus_minus

    def rate_of(own, tried):
        rate = own.values_of('optimizer.learning_rate')[0]
        return f'{rate:g}' + ' (end of grid)' * (rate in (tried[0], tried[-1]))

    def said(own, metric):
        return plus_minus(own.mean(metric), factor=100)

    def of_group(group):
        own = final(results, group)
        by = [accuracy, '', ''] if group == NONE else STATISTICS.values()
        texts = [said(own, metric) if metric else '' for metric in by]
        name = 'no batch norm' if group == NONE else f'{group}'
        return [name, rate_of(own, RATES), *texts]

    def of_convolutional(group):
        own = results.where(**convolutional(group), steps=FINAL_OF_IT)
        texts = said(own, accuracy), said(own, accuracy_by_image)
        return [f'{group}', rate_of(own, RATES_OF_IT), *texts]

    reach = (
        'Test accuracy in percent, mean and half the width of the 95 % interval over'
    )
    return [
        {
            'title': 'Groups of the dense net, by the statistics in the test',
            'caption': f'{reach} ten seeds, each arm at its best rate by validation.',
            'head': ['images together', 'rate', *STATISTICS],
            'rows': [of_group(group) for group in (NONE, *GROUPS)],
        },
        {
            'title': 'The convolutional net',
            'caption': f'{reach} five seeds: by the moving average, and each of 500 '
            'images by its own statistics.',
            'head': ['images together', 'rate', 'moving average', "each image's own"],
            'rows': [of_convolutional(group) for group in (1, 32)],
        },
    ]


def figure(results):
    """Test accuracy of the dense net by the images that are normalised together.

    Each group at its own best rate; markers and bars: mean and 95 % interval over ten
    seeds. Colours: normalised in the test by the moving average, or by the statistics
    of all training images in such groups. The horizontal axis is logarithmic.
    """
    shown = Figure(figsize=(8, 4.5), layout='constrained')
    axes = shown.subplots()
    colours = '#0072B2', '#D55E00', '#009E73'
    axes.set_prop_cycle(color=colours, marker=['o', 's', '^'])
    for name, metric in STATISTICS.items():
        means = [final(results, group).mean(metric) for group in GROUPS]
        reach = [mean.high - mean.mean for mean in means]
        axes.errorbar(GROUPS, [m.mean for m in means], reach, capsize=3, label=name)
    axes.set_xscale('log', base=2)
    axes.set_xticks(GROUPS, map(str, GROUPS))
    axes.set(xlabel='images normalised together', ylabel='test accuracy')
    axes.legend(title='statistics in the test, 95 % intervals')
    return shown
