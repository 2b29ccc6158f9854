"""Does batch norm help a recurrent network, and with which statistics?

Shows: 64 tanh units that read the images of MNIST row by row, 28 steps, with orthogonal
initial weights, Adam, batches of 100. No norm; batch norm before the tanh with running
statistics of each time step or shared by all, its scale 0.1 or 1 at first; layer norm.
Five learning rates half a decade apart with two seeds for 400 steps; then ten other
seeds for 1600 steps, each arm at its best rate by validation. Accuracies are with the
statistics of all training images, estimated again at the end; a first run with the same
seeds, which this one replaces, had taken the moving averages, to nearly the same
numbers.
Settles: S31.
Takes: about 7 minutes on two CPU cores. Needs MNIST as TFDS prepares it.
Expect: 92 % without a norm, 94 % with layer norm. With batch norm batches of training
are at 91 %, too, but the statistics of all images do not stand in for a batch's over 28
steps: 69 to 72 % shared by all steps, 76 to 83 % of each.
Command: python -m bnjax.claims run S31
"""

from matplotlib.figure import Figure

from bnjax import config
from bnjax.results import accuracy, lost
from bnjax.verdict import Verdict, above

NONE, PER_STEP = 'none', 'each step, scale 0.1'
ARMS = {  # placement, norm, statistics, scale at first in tenths
    NONE: ('none', 'batch', 'shared', 1.0),
    PER_STEP: ('before', 'batch', 'per_step', 1.0),
    'each step, scale 1': ('before', 'batch', 'per_step', 10.0),
    'shared, scale 0.1': ('before', 'batch', 'shared', 1.0),
    'shared, scale 1': ('before', 'batch', 'shared', 10.0),
    'layer norm, scale 1': ('before', 'layer', 'shared', 10.0),
}
FIELDS = 'model.placement', 'model.norm', 'model.statistics', 'model.scale'
RATES = 3e-4, 1e-3, 3e-3, 1e-2, 3e-2
TUNING, FINAL = 400, 1600
RATE = 'optimizer.learning_rate'
POINT = 0.003  # 0.3 points of accuracy


def get_config(arg=None):
    fields = config.defaults()
    fields.seed = int(arg or 0)
    fields.data.name = 'mnist'
    fields.data.images = 40_000
    fields.model.name = 'rnn'
    fields.model.features = (64,)
    fields.model.init = 'orthogonal'
    fields.optimizer.name = 'adam'
    fields.batch_size = 100
    fields.probes.names = ('reestimated_scores',)
    fields.steps = TUNING
    return fields


def arm(name):
    return dict(zip(FIELDS, ARMS[name], strict=True))


def sweep(add, fields):
    for name in ARMS:
        for rate in RATES:
            for seed in (fields.seed, fields.seed + 1):
                own = {'optimizer.learning_rate': rate, 'seed': seed}
                add(**arm(name), **own)


def estimated(split):
    """A metric: accuracy by the statistics of all training images; chance if lost."""

    def share(record):
        values = record.curves.get(f'reestimated_{split}_accuracy')
        if values is None or lost(record):
            return accuracy(record)
        return float(values[-1])

    return share


def refine(add, results):
    first = min(results.values_of('seed')) + 10
    for name in ARMS:
        rate = results.where(**arm(name), steps=TUNING).best(
            metric=estimated('validation')
        )
        for seed in range(first, first + 10):
            own = {'optimizer.learning_rate': rate, 'seed': seed}
            add(**arm(name), **own, steps=FINAL)


def final(results, name):
    return results.where(**arm(name), steps=FINAL)


def verdict(results):
    gain = final(results, PER_STEP).difference(final(results, NONE), estimated('test'))
    effect = (
        'test accuracy of a recurrent network, batch norm with statistics of each time '
        'step - none'
    )
    return [Verdict('S31', above(gain, POINT), effect, gain, (POINT,))]


def tables(results):
    """The arms at their best rates."""
    rows = []
    for name in ARMS:
        own = final(results, name)
        right, rate = own.mean(estimated('test')), own.values_of(RATE)[0]
        half = 50 * (right.high - right.low)
        rows.append([name, f'{rate:g}', f'{100 * right.mean:.2f} ± {half:.2f}'])
    caption = (
        'Test accuracy in percent by the statistics of all training images, mean and '
        'half the width of the 95 % interval over '
        f'ten seeds. The rates tried go from {min(RATES):g} to {max(RATES):g}.'
    )
    head = ['batch norm', 'rate', 'test accuracy']
    title = 'Arms at their best rates'
    return [{'title': title, 'caption': caption, 'head': head, 'rows': rows}]


def figure(results):
    """Test accuracy of 64 recurrent units that read the images of MNIST row by row.

    After 1600 steps, each arm at its best rate by validation, with the statistics of
    all training images, estimated again at the end. Dots and bars: mean and 95 %
    interval over ten seeds; scale: what batch norm's or layer norm's begins with.
    """
    shown = Figure(figsize=(8, 3.5), layout='constrained')
    axes = shown.subplots()
    means = [final(results, name).mean(estimated('test')) for name in ARMS]
    reach = [mean.high - mean.mean for mean in means]
    middle, places = [mean.mean for mean in means], range(len(ARMS))
    axes.errorbar(middle, places, xerr=reach, fmt='o', color='#0072B2', capsize=3)
    axes.set_yticks(places, list(ARMS))
    axes.invert_yaxis()
    axes.set_xlabel('test accuracy, 95 % intervals')
    axes.grid(axis='x', alpha=0.3)
    return shown
