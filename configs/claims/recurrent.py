"""Does batch norm help a recurrent network, and with which statistics?

Shows: 64 units that read the images of MNIST row by row, 28 steps: a tanh network and
an LSTM, with orthogonal initial weights, Adam, batches of 100. No norm; batch norm
before the tanh, in the LSTM of both products and of the cell (Cooijmans et al. 2017),
with running statistics of each time step or shared by all, its scale 0.1 or 1 at
first; of each step also with an epsilon of 0.001, for the borders of the images are
black and hardly vary; layer norm. Rates half a decade apart, five of them or, for the
LSTM, three, with two seeds for 400 steps; then other seeds, ten or, for the LSTM,
five, for 800 steps, each arm at its best rate by validation. Accuracies but those of
training are with the statistics of all training images, estimated again. Earlier runs
of the tanh network alone had the same seeds and 1600 steps. Fifteen trials of the LSTM
before the run, 400 steps of the tuning's seeds and of seed 2, set its rates, the scale
of its layer norm, which diverged at 1, and the second epsilon, which was better.
Settles: S31.
Takes: about 10 minutes on two CPU cores. Needs MNIST as TFDS prepares it.
Expect: No. Without a norm the tanh network is right on 91.6 % and the LSTM on 96.8 %,
with layer norm on 92.4 and 96.4 %. With batch norm batches of training do about as
well, but the statistics of all images do not stand in for a batch's over 28 steps: 71
to 73 % with those of each time step, where the black borders of images hardly vary; 87
and 90 % with an epsilon of 0.001.
Command: python -m bnjax.claims run S31
"""

from bnjax import config
from bnjax.report import drawing
from bnjax.results import accuracy, lost
from bnjax.verdict import Verdict, above, every

NONE = 'no norm'
PER_STEP = 'each step, scale 0.1', 'each step, scale 0.1, epsilon 0.001'
SHARED = 'shared, scale 0.1'
FIELDS = (
    *('model.placement', 'model.norm', 'model.statistics'),
    *('model.scale', 'model.epsilon'),
)
ARMS = {  # FIELDS, the scale at first in tenths
    NONE: ('none', 'batch', 'shared', 1.0, 1e-5),
    PER_STEP[0]: ('before', 'batch', 'per_step', 1.0, 1e-5),
    PER_STEP[1]: ('before', 'batch', 'per_step', 1.0, 1e-3),
    'each step, scale 1': ('before', 'batch', 'per_step', 10.0, 1e-5),
    SHARED: ('before', 'batch', 'shared', 1.0, 1e-5),
    'layer norm, scale 1': ('before', 'layer', 'shared', 10.0, 1e-5),
    'layer norm, scale 0.1': ('before', 'layer', 'shared', 1.0, 1e-5),
}
NETWORKS = {
    'rnn': (NONE, *PER_STEP, 'each step, scale 1', SHARED, 'layer norm, scale 1'),
    'lstm': (NONE, *PER_STEP, SHARED, 'layer norm, scale 0.1'),
}
TITLES = {'rnn': 'tanh network', 'lstm': 'LSTM'}
CELLS = [(network, name) for network, names in NETWORKS.items() for name in names]
RATE = 'optimizer.learning_rate'
RATES = {'rnn': (3e-4, 1e-3, 3e-3, 1e-2, 3e-2), 'lstm': (3e-3, 1e-2, 3e-2)}
SEEDS = {'rnn': 10, 'lstm': 5}
TUNING, FINAL = 400, 800
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


def arm(network, name):
    return {'model.name': network} | dict(zip(FIELDS, ARMS[name], strict=True))


def sweep(add, fields):
    for network, name in CELLS:
        for rate in RATES[network]:
            for seed in (fields.seed, fields.seed + 1):
                add(**arm(network, name), **{RATE: rate, 'seed': seed})


def refine(add, results):
    first = min(results.values_of('seed')) + 10
    for network, name in CELLS:
        rate = tuned(results, network, name).best()
        for seed in range(first, first + SEEDS[network]):
            own = {RATE: rate, 'seed': seed, 'steps': FINAL}
            add(**arm(network, name), **own)


def tuned(results, network, name):
    return results.where(**arm(network, name), steps=TUNING)


def final(results, network, name):
    return results.where(**arm(network, name), steps=FINAL)


def chosen(results, network):
    """Of the two with statistics of each step, the better by validation in tuning."""

    def validated(name):
        own = tuned(results, network, name)
        own = own.where(**{RATE: own.best()})
        return -sum(map(lost, own)), own.mean('validation_accuracy').mean

    return max(PER_STEP, key=validated)


def verdict(results):
    gains = [
        final(results, network, chosen(results, network)).difference(
            final(results, network, NONE), accuracy, cells=len(NETWORKS)
        )
        for network in NETWORKS
    ]
    found = every([above(gain, POINT) for gain in gains])
    effect = (
        'test accuracy, batch norm with statistics of each time step - none, the '
        'smaller of a tanh network and an LSTM (97.5 % interval)'
    )
    smaller = min(gains, key=lambda gain: gain.low)
    return [Verdict('S31', found, effect, smaller, (POINT,))]


def percent(mean):
    return f'{100 * mean.mean:.2f} ± {50 * (mean.high - mean.low):.2f}'


def tables(results):
    """The arms at their best rates."""

    def row(network, name):
        own, tried = final(results, network, name), RATES[network]
        rate = own.values_of(RATE)[0]
        return [
            TITLES[network],
            name,
            f'{rate:g}' + ' (end of grid)' * (rate in (tried[0], tried[-1])),
            percent(own.mean('train_accuracy')),
            percent(own.mean(accuracy)),
        ]

    caption = (
        f'Percent after {FINAL} steps, mean and half the width of the 95 % interval '
        f'over {SEEDS["rnn"]} seeds of the tanh network and {SEEDS["lstm"]} of the '
        'LSTM. Training: the batches of the last 400 steps, normalised by themselves. '
        'Test: by the statistics of all training images; a trial that is lost counts '
        'as chance. Epsilon is 0.00001 but where it is named.'
    )
    head = ['network', 'batch norm', 'rate', 'training accuracy', 'test accuracy']
    rows = [row(*cell) for cell in CELLS]
    title = 'Arms at their best rates'
    return [{'title': title, 'caption': caption, 'head': head, 'rows': rows}]


def figure(results):
    """Test accuracy of 64 recurrent units that read the images of MNIST row by row.

    After 800 steps, each arm at its best rate by validation, with the statistics of
    all training images, estimated again. Marks and bars: mean and 95 % interval over
    ten seeds of the tanh network and five of the LSTM; scale: what batch norm's or
    layer norm's begins with; faint dots: single seeds.
    """
    drawn, axes = drawing.panels(len(NETWORKS), 2.6, columns=1, share=False)
    for panel, (network, names) in zip(axes, NETWORKS.items(), strict=True):
        for place, name in enumerate(names):
            own = final(results, network, name)
            single = list(own.by_seed(accuracy).values())
            drawing.seeds(panel, single, [place] * len(single), 0)
            drawing.across(panel, own.mean(accuracy), place, 0)
        drawing.rows(panel, names)
        panel.set_title(TITLES[network])
        panel.set_xlabel('test accuracy, 95 % intervals')
    return drawn
