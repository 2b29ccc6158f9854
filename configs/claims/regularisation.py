"""Does batch norm regularise: does it overfit less than none, and than other means do?

Shows: three layers of 100 relu units on 1024 and on 10 240 images of MNIST, plain SGD
with batches of 128. No batch norm, batch norm before the activation; on 1024 also of
groups of 2, 8 and 32 of each batch, dropout of 20 and of 50 %, and weight decay of
0.001, 0.003 and 0.01. Learning rates half a decade apart (and decays) with two seeds;
then ten other seeds for 50 and 25 epochs, each arm at its best by validation. Training
losses are means over an epoch; test losses and accuracies are by the statistics of all
training images, estimated again (a first run with the same seeds, which this one
replaces, had moving averages). In place of the gap of accuracies, for which dropout
would have to be off, final test accuracies; no augmentation, which would mirror digits.
Settles: S6 S30 S41 S59 M8.
Takes: about 7 minutes on two CPU cores. Needs MNIST as TFDS prepares it.
Expect: In the end it is better, 91.0 % to 90.4 % on 1024 images and 96.7 % to 96.1 % on
10 240, and better than dropout or decay. Where training losses are equal it is 0.2 to
0.5 points better but in one of six cases, which leaves open whether it regularises; and
the test loss is least earlier with it, in epoch 7 in place of 13. More noise, by groups
of 8 or 32, gains nothing (90.2 and 90.8 %).
Command: python -m bnjax.claims run S6
"""

import math

import numpy as np
from matplotlib.figure import Figure

from bnjax import config
from bnjax.results import accuracy, curve, lost
from bnjax.verdict import Verdict, above, at_least, decided

FEW, MANY = 1024, 10_240
BATCH = 128
NONE, BATCH_NORM, DECAY = 'none', 'batch norm', 'weight decay'
GROUPS = {f'groups of {group}': group for group in (2, 8, 32)}
DROPOUT = {f'dropout {percent} %': percent for percent in (20, 50)}
OTHERS = *DROPOUT, DECAY
ARMS = {FEW: (NONE, BATCH_NORM, *GROUPS, *OTHERS), MANY: (NONE, BATCH_NORM)}
RATES = 0.03, 0.1, 0.3, 1.0
RATES_OF_NORM = 0.1, 0.3, 1.0, 3.0, 10.0
DECAYS = 0.001, 0.003, 0.01
TUNING = {FEW: 200, MANY: 400}
FINAL = {FEW: 400, MANY: 2000}
LOSSES = 0.1, 0.03, 0.01
POINT = 0.003  # 0.3 points of accuracy


def get_config(arg=None):
    fields = config.defaults()
    fields.seed = int(arg or 0)
    fields.data.name = 'mnist'
    fields.data.validation_percent = 5  # there are enough, and tests take long
    fields.model.features = (100,) * 3
    fields.optimizer.momentum = 0.0
    fields.batch_size = BATCH
    fields.steps = TUNING[FEW]
    fields.probes.names = ('reestimated_scores',)
    return fields


def arm(images, name):
    normalised = name == BATCH_NORM or name in GROUPS
    return {
        'data.images': images,
        'model.placement': 'before' if normalised else 'none',
        'micro_batches': BATCH // GROUPS.get(name, BATCH),
        'model.dropout_percent': DROPOUT.get(name, 0),
    }


def numbers(name):
    """What is tuned: rates, larger ones with batch norm, and decays."""
    rates = RATES if name in (NONE, *OTHERS) else RATES_OF_NORM
    return [
        {'optimizer.learning_rate': rate, 'optimizer.weight_decay': decay}
        for rate in rates
        for decay in decays(name)
    ]


def decays(name):
    return DECAYS if name == DECAY else (0.0,)


def sweep(add, fields):
    for images, name in every_arm():
        for tried in numbers(name):
            for seed in (fields.seed, fields.seed + 1):
                add(**arm(images, name), **tried, seed=seed, steps=TUNING[images])


def refine(add, results):
    first = min(results.values_of('seed')) + 10
    for images, name in every_arm():
        best = max(numbers(name), key=lambda n, a=(images, name): rank(results, *a, n))
        for seed in range(first, first + 10):
            add(**arm(images, name), **best, seed=seed, steps=FINAL[images])


def every_arm():
    return [(images, name) for images, names in ARMS.items() for name in names]


def rank(results, images, name, tried):
    """Fewer lost trials first, then higher validation accuracy."""
    own = results.where(**arm(images, name), **tried, steps=TUNING[images])
    mean = own.mean('validation_accuracy').mean
    return -sum(map(lost, own)), mean if math.isfinite(mean) else 0.0


def final(results, name, images=FEW):
    own = results.where(**arm(images, name), steps=FINAL[images])
    return own.where(**{'optimizer.weight_decay': set(decays(name))})


def verdict(results):
    return [
        at_equal_loss(results),
        by_group(results),
        later(results),
        *against_others(results),
    ]


def accuracy_at(loss):
    """A metric: test accuracy where the training loss falls to this, interpolated."""

    def metric(record):
        losses = curve(record, 'train_loss')[1:]  # none before
        below = losses <= loss
        if not below.any():
            return math.nan
        at, accuracies = int(below.argmax()), curve(record, 'test_accuracy')[1:]
        if at == 0:
            return float(accuracies[0])
        before, after = np.log(losses[at - 1 : at + 1])
        share = (math.log(loss) - before) / (after - before)
        return float(accuracies[at - 1] + share * (accuracies[at] - accuracies[at - 1]))

    return metric


def at_equal_loss(results):
    """Test accuracy, batch norm - none, at each training loss and number of images."""
    gains = {}
    for images in ARMS:
        one, other = (final(results, name, images) for name in (BATCH_NORM, NONE))
        own = [one.difference(other, accuracy_at(loss), cells=6) for loss in LOSSES]
        gains[images] = own
    all_gain = [all(i.low > POINT for i in own) for own in gains.values()]
    no_gain = [all(i.high < POINT for i in own) for own in gains.values()]
    found = decided(all(all_gain), any(no_gain))
    smallest = min(sum(gains.values(), []), key=lambda i: i.low)
    effect = (
        'test error, none - batch norm, at training losses of 0.1, 0.03 and 0.01 on '
        '1024 and 10 240 images, the smallest of six (Bonferroni)'
    )
    return Verdict('S6', found, effect, smallest, (POINT,))


def by_group(results):
    """Whether normalising fewer images together, more at random, is better."""
    whole = final(results, BATCH_NORM)
    gains = [
        final(results, group).difference(whole, accuracy, cells=len(GROUPS))
        for group in GROUPS
    ]
    rule = at_least(1, [above(i, 0.002) for i in gains])
    effect = (
        'test accuracy, groups of 2, 8 or 32 - all 128 normalised together, 1024 '
        'images, the largest (Bonferroni)'
    )
    return Verdict('S30', rule, effect, max(gains, key=lambda i: i.low), (0.002,))


def epoch_of_least(record):
    """The logarithm of the epoch with the least test loss."""
    losses = curve(record, 'test_loss')
    known = np.isfinite(losses)
    return math.log(max(1, np.nanargmin(losses))) if known.any() else math.nan


def rise(record):
    """From the least test loss to the last, as a share of it."""
    losses = curve(record, 'test_loss')
    known = losses[np.isfinite(losses)]
    return float(known[-1] / known.min() - 1) if len(known) else math.nan


def later(results):
    normalised = final(results, BATCH_NORM)
    ratio = normalised.difference(final(results, NONE), epoch_of_least)
    risen = normalised.mean(rise)
    found = decided(
        ratio.low > 0 and risen.low > 0.1, ratio.high < 0 or risen.high < 0.1
    )
    if risen.high < 0.1:
        effect = 'rise of the test loss from its least with batch norm, 1024 images'
        return Verdict('S41', found, effect, risen, (0.1,))
    effect = 'log of the epoch of least test loss, batch norm / none, 1024 images'
    return Verdict('S41', found, effect, ratio, (0.0,))


def against_others(results):
    """Against dropout or weight decay, which of them is best by validation."""
    normalised, none = final(results, BATCH_NORM), final(results, NONE)
    others = [final(results, name) for name in OTHERS]
    other = max(others, key=lambda own: own.mean('validation_accuracy').mean)
    more = other.difference(normalised, accuracy)
    gain = normalised.difference(none, accuracy)
    alike = more.low > -0.005 and more.high < 0.005
    found = decided(alike and gain.low > POINT, more.low > 0.005 or gain.high < POINT)
    better = 'the better of dropout and weight decay'
    effect = f'test accuracy on 1024 images, {better} - batch norm'
    own = Verdict('M8', found, effect, more, (-0.005, 0.005))
    if gain.high < POINT:
        effect_of_none = 'test accuracy on 1024 images, batch norm - none'
        own = Verdict('M8', found, effect_of_none, gain, (POINT,))
    return [Verdict('S59', above(more, 0.0), effect, more, (0.0,)), own]


def tables(results):
    """The arms at their best, and the accuracies at equal training losses."""
    from bnjax.report.numbers import plus_minus

    def chosen(own, field, tried):
        value = own.values_of(f'optimizer.{field}')[0]
        edge = len(tried) > 1 and value in (min(tried), max(tried))
        return f'{value:g}' + ' (end of grid)' * edge

    def of_arm(images, name):
        own = final(results, name, images)
        rates = [tried['optimizer.learning_rate'] for tried in numbers(name)]
        return [
            f'{images:,}'.replace(',', ' '),
            name,
            chosen(own, 'learning_rate', rates),
            chosen(own, 'weight_decay', decays(name)) if name == DECAY else '',
            plus_minus(own.mean(accuracy), factor=100),
            f'{math.exp(own.mean(epoch_of_least).mean):.1f}',
            f'{100 * own.mean(rise).mean:.0f} %',
        ]

    def at_losses(images, name):
        own = final(results, name, images)
        known = [own.by_seed(accuracy_at(loss)).values() for loss in LOSSES]
        reached = [sum(map(math.isfinite, values)) for values in known]
        means = [plus_minus(own.mean(accuracy_at(loss)), factor=100) for loss in LOSSES]
        texts = [f'{m} ({n})' for m, n in zip(means, reached, strict=True)]
        return [f'{images:,}'.replace(',', ' '), name, *texts]

    head = ['images', 'arm', 'rate', 'decay', 'test accuracy', 'epoch', 'rise']
    reach = 'mean and half the width of the 95 % interval over ten seeds'
    return [
        {
            'title': 'Arms at their best by validation',
            'caption': f'Final test accuracy in percent, {reach}; the epoch of least '
            'test loss, of 50 and of 25, geometric mean; how far the test loss rises '
            'from there to the end, mean.',
            'head': head,
            'rows': [of_arm(*arm) for arm in every_arm()],
        },
        {
            'title': 'Test accuracy at equal training losses',
            'caption': f'Percent where the training loss falls to this, {reach}; in '
            'brackets how many of them reached it.',
            'head': ['images', 'arm', *(f'loss {loss:g}' for loss in LOSSES)],
            'rows': [at_losses(i, n) for i in ARMS for n in (NONE, BATCH_NORM)],
        },
    ]


def figure(results):
    """Test loss of nets trained on 1024 images of MNIST, by epoch.

    Three layers of 100 relu units; a line for each arm at its best by validation, the
    mean over those of ten seeds that were not lost, without intervals. Epoch 0 is
    before training, the loss is the cross entropy in nats.
    """
    shown = Figure(figsize=(8, 4.5), layout='constrained')
    axes = shown.subplots()
    colours = '#000000', '#0072B2', '#009E73', '#D55E00', '#CC79A7'
    axes.set_prop_cycle(color=colours, linestyle=['-', '--', '-.', ':', (0, (5, 1))])
    for name in (NONE, BATCH_NORM, *OTHERS):
        own = final(results, name)
        curves = [curve(r, 'test_loss') for r in own if not lost(r)]
        if curves:
            axes.plot(np.mean(curves, axis=0), label=name)
    axes.set(xlabel='epoch', ylabel='test loss (nats)')
    if axes.lines:
        axes.legend()
    return shown
