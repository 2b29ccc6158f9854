"""Does batch norm reduce or end internal covariate shift, and is that why it is faster?

Shows: five layers of 100 units, relu and tanh, on 10 000 images of MNIST, plain SGD,
batches of 100, 1000 steps; no batch norm, batch norm before the activation, and that
with noise after it, which shifts and stretches each unit anew at each step (Santurkar
et al. 2018, A.2.1). Six learning rates with two seeds; then ten other seeds for each
arm at its own best rate by validation, and for batch norm at the best rate without it,
too. Measured on every fiftieth step, as medians over steps and layers: by how much the
step moves the mean and the deviation of each unit's activations on its batch, in
deviations (drift; not over 100 steps from initial ones); the change of a layer's
gradient because the layers below have moved, |G - G'| / |G| and 1 - cos (their
definition 2.1); and 1 - actual / predicted change of the loss along the step. What the
noise moves from a step to the next, the trained network shows on 1000 images. Before
gamma and beta the two moments are fixed by construction. Accuracies: statistics of all
images, estimated again (a run before had moving averages, which noise left behind).
Settles: S24 S28 S48 S49.
Takes: about five minutes on two CPU cores. Needs MNIST as TFDS prepares it.
Expect: It holds means and deviations of activations still, much of which is by
construction (relu, equal rates: a step moves the mean by 0.002 deviations, not 0.097).
It does not end the shift of gradients: 0.76 to 0.93 of them, 0.91 without. Nor is that
why it is faster: where noise moves the mean by 0.28 deviations at each step, relu takes
106 steps to 93 %, 101 without the noise and 347 without batch norm; tanh 257, 242, 287.
Command: python -m bnjax.claims run S24
"""

import math

import jax
import numpy as np

from bnjax import config, data, records
from bnjax.models import network
from bnjax.report import drawing
from bnjax.results import log_steps_to, lost
from bnjax.stats import LEVEL, interval
from bnjax.verdict import CONFIRMED, REFUTED, UNDECIDED, Verdict

NONE, BATCH, NOISY = 'none', 'batch', 'noisy'
ARMS = {NONE: 'no batch norm', BATCH: 'batch norm', NOISY: 'batch norm and noise'}
ACTIVATIONS = 'relu', 'tanh'
RATES = 0.01, 0.03, 0.1, 0.3, 1.0, 3.0
TARGET, LEFT = 0.93, 0.1  # accuracy; what a shift that is solved is below
LESS, MORE = math.log(0.8), math.log(1.25)
DRIFTS = 'activation_mean_drift', 'activation_std_drift'
SHIFTS = 'covariate_shift', 'covariate_shift_cosine'


def get_config(arg=None):
    fields = config.defaults()
    fields.seed = int(arg or 0)
    fields.data.name = 'mnist'
    fields.data.images = 10_000
    fields.model.features = (100,) * 5
    fields.optimizer.momentum = 0.0
    fields.batch_size = 100
    fields.steps = 1000
    probes = (*DRIFTS, *SHIFTS, 'gradient_norm', 'overshoot')
    fields.probes.names = (*probes, 'reestimated_scores')
    fields.probes.every = 50
    return fields


def arm(kind, activation):
    own = {'model.activation': activation, 'keep_state': kind == NOISY}
    if kind == NONE:
        return own | {'model.placement': NONE}
    return own | {'model.placement': 'before', 'model.norm': kind}


def sweep(add, fields):
    for activation in ACTIVATIONS:
        for kind in ARMS:
            for rate in RATES:
                for seed in range(fields.seed, fields.seed + 2):
                    own = {'optimizer.learning_rate': rate, 'seed': seed}
                    add(**arm(kind, activation), **own)


def refine(add, results):
    for activation in ACTIVATIONS:
        for kind, rate_of in [*zip(ARMS, ARMS, strict=True), (BATCH, NONE)]:
            rate = best(results, rate_of, activation)
            for seed in others(results):
                own = {'optimizer.learning_rate': rate, 'seed': seed}
                add(**arm(kind, activation), **own)


def others(results):
    first = min(results.values_of('seed')) + 10
    return range(first, first + 10)


def best(results, kind, activation):
    first = min(results.values_of('seed'))
    tuning = results.where(**arm(kind, activation), seed=range(first, first + 2))
    return tuning.best()


def final(results, kind, activation, rate_of=None):
    """The ten seeds of an arm, at its own best rate or at another arm's."""
    rate = best(results, rate_of or kind, activation)
    own = results.where(**arm(kind, activation), seed=others(results))
    return own.where(**{'optimizer.learning_rate': rate})


def relative_shift(record):
    norms = curve(record, 'gradient_norm')[:, 1:]  # the lowest layer has none below
    return median_log(curve(record, SHIFTS[0])[:, : norms.shape[1]] / norms)


def overshoot(at):
    """Along the step, at the share of that index: a half, all, twice, four times."""
    return lambda record: finite_median(curve(record, 'overshoot')[:, at])


MEASURES = [
    lambda record: median_log(curve(record, DRIFTS[0])),
    lambda record: median_log(curve(record, DRIFTS[1])),
    relative_shift,
    lambda record: median_log(1 - curve(record, SHIFTS[1])),
]


def curve(record, name):
    """A probe, (samples, layers); nan for a trial that is lost."""
    missing = np.full((1, 4), np.nan)
    return missing if lost(record) else record.curves[f'probe/{name}']


def finite_median(values):
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else math.nan


def median_log(values):
    median = finite_median(values)
    return math.log(median) if median > 0 else math.nan


def verdict(results):
    return [reduced(results), faster(results), overshot(results), solved(results)]


def ratios(results, measures):
    """Logarithms of batch norm / none, at equal rates and at each arm's best."""
    pairs = [
        (final(results, BATCH, activation, rate_of), final(results, NONE, activation))
        for activation in ACTIVATIONS
        for rate_of in (NONE, BATCH)
    ]
    return [one.difference(other, m, cells=8) for m in measures for one, other in pairs]


def decide(confirms, refutes):
    return CONFIRMED if confirms else REFUTED if refutes else UNDECIDED


def reduced(results):
    drifts = ratios(results, MEASURES[:2])
    found = decide(all(d.high < LESS for d in drifts), any(d.low >= 0 for d in drifts))
    effect = (
        'log of the drift of activations in a step, batch norm / none, largest of '
        '{mean, deviation} x {relu, tanh} x {equal, best rates} (Bonferroni)'
    )
    return Verdict('S24', found, effect, max(drifts, key=lambda d: d.low), (LESS, 0.0))


def solved(results):
    shifts = ratios(results, MEASURES[2:])
    arms = [final(results, BATCH, a, r) for a in ACTIVATIONS for r in (NONE, BATCH)]
    logs = [arm.by_seed(relative_shift) for arm in arms]
    left = [interval(np.exp(list(log.values())), LEVEL / 4) for log in logs]
    gone = all(s.high < LESS for s in shifts) and all(x.high < LEFT for x in left)
    there = any(s.low >= 0 for s in shifts) or any(x.low > LEFT for x in left)
    effect = (
        "shift of gradients |G - G'| / |G| that is left with batch norm, largest of "
        '{relu, tanh} x {equal, best rates} (Bonferroni)'
    )
    largest = max(left, key=lambda x: x.low)
    return Verdict('S49', decide(gone, there), effect, largest, (LEFT,))


def faster(results):
    """With noise, the shift is larger than without batch norm: is it as slow?"""
    jumps, gains = [], []
    for activation in ACTIVATIONS:
        none, noisy = (final(results, kind, activation) for kind in (NONE, NOISY))
        moved, still = noisy.by_seed(jump), none.by_seed(MEASURES[0])
        jumps.append(interval([moved[s] - still[s] for s in moved], LEVEL / 4))
        gains.append(none.difference(noisy, log_steps_to(TARGET), cells=4))
    more = all(jump.low > MORE for jump in jumps)
    found = decide(
        more and all(gain.high < 0 for gain in gains),
        more and any(gain.low > MORE for gain in gains),
    )
    effect = (
        'log of steps to 93 %, no batch norm / batch norm with noise that shifts the '
        'mean more, each at its best rate, larger of relu and tanh (98.75 % interval)'
    )
    return Verdict('S28', found, effect, max(gains, key=lambda g: g.low), (0.0, MORE))


def jump(record):
    """The logarithm of the drift of the mean that the noise of a new step makes."""
    variables = records.variables_of(record)
    if lost(record) or not variables:
        return math.nan
    cfg = config.build(record.config)
    images = data.load(cfg.data.name, images=cfg.data.images).train.x[:1000]

    def units(key):
        _, seen = network(cfg.model, 10).apply(
            variables, images, train=True, rngs={'noise': key}, mutable=True
        )
        layers = [a for (a,) in seen['activations'].values()]
        return np.array([(a.mean(0), a.std(0)) for a in layers])

    one, other = (units(jax.random.key(i)) for i in range(2))
    apart = np.linalg.norm(other[:, 0] - one[:, 0], axis=1)
    return median_log(apart / np.linalg.norm(one[:, 1], axis=1))


def overshot(results):
    """Whether steps overshoot the more the longer they are, and less with it."""
    grows, shares = [], []
    for activation in ACTIVATIONS:
        none, batch = (final(results, k, activation, NONE) for k in (NONE, BATCH))
        far, near = none.by_seed(overshoot(3)), none.by_seed(overshoot(0))
        grows.append(interval([far[s] - near[s] for s in far], LEVEL / 4))
        without, with_it = (a.by_seed(overshoot(1)) for a in (none, batch))
        shares.append(interval([with_it[s] / without[s] for s in without], LEVEL / 4))
    confirms = all(g.low > 0 for g in grows) and all(s.high < 0.8 for s in shares)
    refutes = any(g.high <= 0 for g in grows) or any(s.low >= 1 for s in shares)
    effect = (
        'overshoot of a step with batch norm over that without, at the best rate '
        'without, larger of relu and tanh (98.75 % interval)'
    )
    larger = max(shares, key=lambda s: s.high)
    return Verdict('S48', decide(confirms, refutes), effect, larger, (0.8, 1.0))


def tables(results):
    """The arms at their best rates, and batch norm at the best rate without it."""
    from itertools import product

    from bnjax.report.numbers import plus_minus
    from bnjax.results import accuracy

    def geometric(arm, metric, form='#.3g'):
        return f'{math.exp(arm.mean(metric).mean):{form}}'

    def speed(arm, rate):
        edge = ' (end of grid)' * (rate in (RATES[0], RATES[-1]))
        right = arm.mean(lambda record: 100 * accuracy(record))
        steps = geometric(arm, log_steps_to(TARGET), '.0f')
        beyond = [plus_minus(arm.mean(overshoot(at))) for at in (0, 1, 3)]
        return [f'{rate:g}{edge}', plus_minus(right), steps, *beyond]

    def shift(arm, rate):
        noise = geometric(arm, jump) if arm.records[0].config['keep_state'] else ''
        return [f'{rate:g}', *(geometric(arm, measure) for measure in MEASURES), noise]

    def rows(columns):
        found, pairs = [], [*zip(ARMS, ARMS, strict=True), (BATCH, NONE)]
        for activation, (kind, rate_of) in product(ACTIVATIONS, pairs):
            arm = final(results, kind, activation, rate_of)
            rate = best(results, rate_of, activation)
            at = ', rate of none' * (kind != rate_of)
            found.append([activation, ARMS[kind] + at, *columns(arm, rate)])
        return found

    head = ['activation', 'arm', 'rate']
    moves = 'drift of mean', 'drift of deviation', "|G - G'| / |G|", "1 - cos(G, G')"
    speeds = 'test accuracy', 'steps', *(f'overshoot x{s}' for s in (0.5, 1, 4))
    reach = 'half the width of the 95 % interval'
    return [
        {
            'title': 'Arms at their best rates',
            'caption': f'Over ten seeds: test accuracy in percent, mean and {reach}; '
            'geometric mean of the steps to 93 % of the validation images, where a run '
            'that did not reach it counts with 1000; overshoot, 1 - actual / predicted '
            'change of the loss along a half of the step, all and four times it, '
            f'median over steps, mean and {reach}.',
            'head': [*head, *speeds],
            'rows': rows(speed),
        },
        {
            'title': 'What a step moves',
            'caption': 'Medians over steps and layers, geometric means over ten seeds. '
            'Drift in a step of mean and deviation of the activations, in deviations; '
            "the shift of a layer's gradient by the layers below, relative and of its "
            'direction; noise: what it alone moves the mean by from step to step.',
            'head': [*head, *moves, 'noise'],
            'rows': rows(shift),
        },
    ]


def figure(results):
    """What a step moves, by the step of training, in five layers of relu or of tanh.

    Above, the drift of the mean of activations, in deviations; below, 1 - cos of a
    layer's gradient and of what it is once the layers below have moved. Medians over
    layers, every fiftieth step; lines and bands: mean and 95 % interval over ten seeds,
    each arm at its own best rate.
    """
    drawn, axes = drawing.panels(4, 2.3, columns=2, share=False)
    rows = [(name, a) for name in (DRIFTS[0], SHIFTS[1]) for a in ACTIVATIONS]
    for panel, (name, activation) in zip(axes, rows, strict=True):
        for index, kind in enumerate(ARMS):
            curves = [curve(r, name) for r in final(results, kind, activation)]
            curves = [1 - c if name == SHIFTS[1] else c for c in curves if len(c) > 1]
            means = interval(np.median(curves, axis=2)) if curves else interval([[0.0]])
            drawing.band(panel, 50 * np.arange(len(means.mean)), means, index)
        panel.set_title(activation)
        panel.set_xlabel('step')
    drawing.label_left(axes[:2], 'drift of the mean\n(deviations)')
    drawing.label_left(axes[2:], "1 - cos of G and G'")
    drawing.legend(drawn, list(ARMS.values()), markers=False)
    return drawn
