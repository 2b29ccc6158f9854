"""Do gradients vanish or explode in deep networks, why, and what does batch norm do?

Shows: layers of 100 units on MNIST, He's initial weights, batches of 100. First the
gradients at initialisation, five seeds: sigmoid, tanh, relu and linear layers, 2 to 100
of them, without batch norm and with it before the activation. Then ten sigmoid layers
in training, two epochs of 54 000 images: RMSprop (0.9 kept, no momentum) without batch
norm, all layers trained and the first four or seven left as drawn, and with it; plain
SGD without it, all trained and the first seven as drawn. Rates half a decade apart with
two seeds for each arm, then ten other seeds at its own best rate by validation.
Accuracies are with the statistics of all training images, estimated again; a run before
with the same seeds had moving averages, and depths 10 and 50.
Settles: S7 S19 S29 S79 E26.
Takes: about ten minutes on two CPU cores. Needs MNIST as TFDS prepares it.
Expect: Only in sigmoid layers do gradients vanish, by a factor of 3 a layer from five
layers on: the slope of 0.22 times the gain of He's weights; not by saturation, for 0.3
% of activations are outside [0.1, 0.9]. Batch norm ends that, and makes relu's
gradients grow by 1.22 a layer, 10^8.7 over a hundred. Ten sigmoid layers by RMSprop
reach 62 % without it, 95 % with it, and 11 % with four or seven as drawn.
Command: python -m bnjax.claims run S29
"""

import numpy as np

from bnjax import config
from bnjax.report import drawing
from bnjax.results import accuracy
from bnjax.stats import LEVEL, interval
from bnjax.verdict import UNDECIDED, Verdict, below, decided, every, within

NONE, BEFORE = 'none', 'before'
ACTIVATIONS = 'sigmoid', 'tanh', 'relu', 'identity'
DEPTHS = 2, 5, 10, 20, 30, 50, 100
SHALLOW, DEEP = 10, 50  # that the claims are judged by
FROZEN = 7
# Batch norm, update rule, layers left as drawn.
ARMS = [
    *((NONE, 'rmsprop', frozen) for frozen in (0, 4, FROZEN)),
    *((NONE, 'sgd', frozen) for frozen in (0, FROZEN)),
    (BEFORE, 'rmsprop', 0),
]
RATES = {
    'rmsprop': (0.0001, 0.0003, 0.001, 0.003, 0.01),
    'sgd': (0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
}
STEPS, LATER = 1080, 500
POINT, TRAINED = 0.01, 0.5  # of accuracy
OUTSIDE = 0.1
VANISHED = -3.0  # log10 of the first layer's gradient over the last one's


def get_config(arg=None):
    fields = config.defaults()
    fields.seed = int(arg or 0)
    fields.data.name = 'mnist'
    fields.model.features = (100,) * 10
    fields.model.activation = 'sigmoid'
    fields.optimizer.momentum = 0.0
    fields.batch_size = 100
    fields.steps = STEPS
    by_layer = 'gradient_norm', 'middle_fraction', 'activation_slope'
    fields.probes.names = (*by_layer, 'reestimated_scores')
    fields.probes.every = LATER
    return fields


def sweep(add, fields):
    for depth in DEPTHS:
        for activation in ACTIVATIONS:
            for placement in (NONE, BEFORE):
                for seed in range(fields.seed, fields.seed + 5):
                    own = initial(placement, activation, depth)
                    add(**own, seed=seed, **{'data.images': 1000})
    for arm in ARMS:
        for rate in RATES[arm[1]]:
            for seed in range(fields.seed, fields.seed + 2):
                add(**trained(*arm), **{'optimizer.learning_rate': rate, 'seed': seed})


def initial(placement, activation, depth):
    return {
        'model.placement': placement,
        'model.activation': activation,
        'model.features': (100,) * depth,
        'probes.names': ('gradient_norm',),
        'optimizer.learning_rate': 0.0,  # at 0.1 a hundred relu layers overflow
        'steps': 10,  # an epoch, which compiles faster than a part of it
    }


def trained(placement, rule, frozen):
    own = {'model.placement': placement, 'optimizer.name': rule}
    return own | {'optimizer.frozen': frozen, 'steps': STEPS}


def refine(add, results):
    seeds = others(results)
    for arm in ARMS:
        for seed in seeds:
            own = {'optimizer.learning_rate': best(results, arm), 'seed': seed}
            add(**trained(*arm), **own)


def others(results):
    first = min(results.values_of('seed')) + 10
    return range(first, first + 10)


def best(results, arm):
    first = min(results.values_of('seed'))
    return results.where(**trained(*arm), seed=range(first, first + 2)).best()


def final(results, arm):
    return results.where(**trained(*arm), seed=others(results))


def measured(arm, name, row=0):
    """A probe of the hidden layers at a sampled step, (seeds, layers), or nan."""
    layers = len(arm.values_of('model.features')[0])
    missing = np.full((2, layers), np.nan)
    return np.array([r.curves.get(f'probe/{name}', missing)[row, :layers] for r in arm])


def gradients(arm, row=0):
    """Their norm, as log10."""
    with np.errstate(divide='ignore'):
        return np.log10(measured(arm, 'gradient_norm', row).astype(float))


def first_over_last(arm, row=0, cells=1):
    norms = gradients(arm, row)
    return interval(norms[:, 0] - norms[:, -1], LEVEL / cells)


def verdict(results):
    return [
        accelerated(results),
        exploding(results),
        *saturated(results),
        random_layers(results),
    ]


def accelerated(results):
    """Without batch norm, the factor by which gradients fall from layer to layer."""

    def factor(activation):
        norms = gradients(results.where(**initial(NONE, activation, SHALLOW)))
        fall = (norms[:, -1] - norms[:, 0]) / (norms.shape[1] - 1)
        return interval(10**fall, LEVEL / 2)

    sigmoid, tanh = factor('sigmoid'), factor('tanh')
    confirms = sigmoid.low > 2 and tanh.low > 1.5
    found = decided(confirms, sigmoid.high < 1.5 or tanh.high < 1.5)
    effect = (
        'factor a layer by which the gradient falls from the last of ten hidden layers '
        'to the first, at initialisation, tanh without batch norm (97.5 % interval)'
    )
    return Verdict('S7', found, effect, tanh, (1.5,))


def exploding(results):
    ratios = [
        first_over_last(results.where(**initial(BEFORE, a, DEEP)), cells=4)
        for a in ACTIVATIONS
    ]
    farthest = max(ratios, key=lambda r: abs(r.mean))
    effect = (
        'log10 of the gradient of the first over the last of fifty hidden layers with '
        'batch norm, at initialisation, farthest from 0 of four activations (98.75 % '
        'interval)'
    )
    found = every([within(ratio, -1.0, 1.0) for ratio in ratios])
    return Verdict('S29', found, effect, farthest, (-1.0, 1.0))


def saturated(results):
    """Whether sigmoid units without batch norm leave [0.1, 0.9], and lose slope."""
    none, before = (final(results, (p, 'rmsprop', 0)) for p in (NONE, BEFORE))

    def differences(name):
        """None - batch norm, the mean over layers, at the start and later."""
        means = [[measured(a, name, i).mean(1) for a in (none, before)] for i in (0, 1)]
        return [interval(one - other, LEVEL / 4) for one, other in means]

    vanish = [first_over_last(none, row).high < VANISHED for row in (0, 1)]
    inside, slopes = differences('middle_fraction'), differences('activation_slope')
    confirms = all(d.high < 0 for d in inside + slopes)
    found = decided(confirms, vanish[0] and slopes[0].low >= 0)
    effect = (
        'mean derivative of ten sigmoid layers, none - batch norm, at the start, where '
        'gradients vanish without (98.75 % interval); above 0, units are no less '
        'active without it'
    )
    active = Verdict('S19', found, effect, slopes[0], (0.0,))
    return [active, over_saturated(none, vanish)]


def over_saturated(none, vanish):
    """By layer, at the start and later, as far as gradients vanish there."""
    shares = []
    for row in (0, 1):
        layers = 1 - measured(none, 'middle_fraction', row).T
        if vanish[row]:
            shares += [interval(layer, LEVEL / 20) for layer in layers]
    effect = (
        'share of sigmoid activations outside [0.1, 0.9] without batch norm, largest '
        'of ten layers at the start and step 500 where gradients vanish (Bonferroni)'
    )
    if not shares:
        return Verdict('E26', UNDECIDED, effect, None, (OUTSIDE,))
    some = any(share.low > OUTSIDE for share in shares)
    found = decided(some, all(share.high < OUTSIDE for share in shares))
    return Verdict('E26', found, effect, max(shares, key=lambda s: s.high), (OUTSIDE,))


def random_layers(results):
    """What training the first seven layers adds, where training all of them works."""
    losses = []
    for rule in RATES:
        all_trained = final(results, (NONE, rule, 0))
        if all_trained.mean(accuracy).mean > TRAINED:
            frozen = final(results, (NONE, rule, FROZEN))
            losses.append(all_trained.difference(frozen, accuracy, cells=2))
    effect = (
        'test accuracy of ten sigmoid layers without batch norm, all trained - first '
        'seven left as drawn, largest of the rules by which the former passes 50 %'
    )
    if not losses:
        return Verdict('S79', UNDECIDED, effect, None, (POINT,))
    found = every([below(loss, POINT) for loss in losses])
    return Verdict('S79', found, effect, max(losses, key=lambda d: d.low), (POINT,))


def tables(results):
    """The gradients at initialisation, and the arms in training."""
    from bnjax.report.numbers import plus_minus

    def said(mean, digits=2):
        return plus_minus(mean, digits) if mean.n else 'underflow'

    def at_start(activation, depth):
        arms = [results.where(**initial(p, activation, depth)) for p in (NONE, BEFORE)]
        falls = [gradients(arm)[:, -1] - gradients(arm)[:, 0] for arm in arms]
        factors = [interval(10 ** (fall / (depth - 1))) for fall in falls]
        ratios = [said(first_over_last(arm)) for arm in arms]
        name = 'linear' if activation == 'identity' else activation
        return [name, f'{depth}', *ratios, *map(said, factors)]

    def in_training(arm):
        placement, rule, frozen = arm
        own, rate, tried = final(results, arm), best(results, arm), RATES[rule]
        inside = [measured(own, 'middle_fraction', row) for row in (0, 1)]
        shares = [100 * (1 - interval(layers).mean) for layers in inside]
        slopes = [measured(own, 'activation_slope', row).mean(1) for row in (0, 1)]
        return [
            f'{rule}, {f"first {frozen} as drawn" if frozen else "all trained"}',
            placement,
            f'{rate:g}' + ' (end of grid)' * (rate in (tried[0], tried[-1])),
            said(own.mean(lambda r: 100 * accuracy(r)), 1),
            *(said(first_over_last(own, row)) for row in (0, 1)),
            *(f'{s.mean():.1f} ({s.max():.1f})' for s in shares),
            *(said(interval(slope), 3) for slope in slopes),
        ]

    places = 'no batch norm', 'batch norm'
    ratios = 'first over last', 'factor a layer'
    columns = [f'{ratio}, {place}' for ratio in ratios for place in places]
    probes, steps = ('gradient', 'outside', 'slope'), ('step 0', f'step {LATER}')
    probed = [f'{name}, {step}' for name in probes for step in steps]
    return [
        {
            'title': 'Gradients at initialisation',
            'caption': 'First over last: log10 of the norm of the weight gradient of '
            'the first hidden layer over that of the last. Factor a layer: by which '
            'it falls from a layer to the one below, less than 1 where it grows. Mean '
            'and half the width of the 95 % interval over five seeds; layers of 100 '
            'units, batch norm before the activation. Underflow: less than float32 '
            'can hold. The claims are judged by 10 and by 50 layers.',
            'head': ['activation', 'layers', *columns],
            'rows': [at_start(a, depth) for a in ACTIVATIONS for depth in DEPTHS],
        },
        {
            'title': 'Ten sigmoid layers in training, each arm at its best rate',
            'caption': 'Test accuracy in percent after 1080 steps; log10 of the '
            'gradient of the first over the last hidden layer; activations outside '
            '[0.1, 0.9] in percent, the mean over layers and in brackets the layer '
            'with most; the mean derivative of the sigmoid, 0.25 at most. Mean and '
            'half the width of the 95 % interval over ten seeds.',
            'head': ['trained', 'batch norm', 'rate', 'test accuracy', *probed],
            'rows': [in_training(arm) for arm in ARMS],
        },
    ]


def figure(results):
    """Weight gradients at initialisation, without batch norm and with it.

    Layers of 100 units on MNIST with He's weights, a column for each activation, each
    panel with its own vertical axis. Above: log10 of the norm of the first hidden
    layer's over that of the last, by depth. Below: of each of fifty layers over that of
    the last; layer 1 is next to the images. Below 0 it vanishes on the way down, above
    it explodes. Lines and marks or bands: mean and 95 % interval over five seeds.
    """
    columns = len(ACTIVATIONS)
    drawn, axes = drawing.panels(2 * columns, 2.3, columns=columns, share=False)
    for above, below_it, name in zip(axes, axes[columns:], ACTIVATIONS, strict=False):
        for index, placement in enumerate((NONE, BEFORE)):
            arms = [results.where(**initial(placement, name, d)) for d in DEPTHS]
            ratios = [first_over_last(arm) for arm in arms]
            drawing.upright(above, DEPTHS, ratios, index)
            norms = gradients(arms[DEPTHS.index(DEEP)])
            means = interval(norms - norms[:, -1:])
            drawing.band(below_it, np.arange(1, DEEP + 1), means, index)
        above.set_title('linear' if name == 'identity' else name)
        above.set_xlabel('hidden layers')
        below_it.set_xlabel('layer of fifty')
    drawing.label_left(axes, 'log10 of the gradient\nover that of the last layer')
    drawing.legend(drawn, ['no batch norm', 'batch norm before the activation'])
    return drawn
