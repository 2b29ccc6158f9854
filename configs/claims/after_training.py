"""Does batch norm put right what shifts the images of the test?

Shows: three layers of 100 relu units with batch norm before the activation, trained on
10 000 images of MNIST (plain SGD, batches of 100) for 1000 steps with ten seeds, at the
best of five learning rates by validation with two other seeds. Then tested on images as
they are, with all pixels shifted by their deviation over the test images, at half the
contrast about each image's mean, and with normal noise of that deviation; by the
running statistics, by those of all shifted images, and by those of each batch of 100.
And with batch norm folded into the weights before it.
Settles: S58.
Takes: about 2 minutes on two CPU cores. Needs MNIST as TFDS prepares it.
Expect: No: after training the statistics are constants, which fold into the weights and
change no logit; images shifted by a deviation are wrong with 39 %, others with 4 %.
With the statistics of the shifted images themselves, shift (4.0 %) and contrast (4.2 %)
are put right, noise (13 %) is not.
Command: python -m bnjax.claims run S58
"""

import numpy as np

import bnjax
from bnjax import config
from bnjax.claims.trained import accuracy_of, images_of, in_training, statistics, tested
from bnjax.records import variables_of
from bnjax.stats import interval
from bnjax.verdict import CONFIRMED, REFUTED, UNDECIDED, Verdict

RATES = 0.03, 0.1, 0.3, 1.0, 3.0
TUNING, FINAL, BATCH = 300, 1000, 100
POINT = 0.01
RUNNING, ALL, EACH = 'running', 'all shifted images', 'each batch of 100'
SHIFTS = 'shifted', 'half contrast', 'noise'
MEASURED: dict[str, dict] = {}


def get_config(arg=None):
    fields = config.defaults()
    fields.seed = int(arg or 0)
    fields.data.name = 'mnist'
    fields.data.images = 10_000
    fields.model.features = (100,) * 3
    fields.optimizer.momentum = 0.0
    fields.batch_size = BATCH
    fields.steps = TUNING
    return fields


def sweep(add, fields):
    for rate in RATES:
        for seed in (fields.seed, fields.seed + 1):
            add(**{'optimizer.learning_rate': rate, 'seed': seed})


def refine(add, results):
    first = min(results.values_of('seed')) + 10
    rate = results.where(steps=TUNING).best()
    for seed in range(first, first + 10):
        own = {'optimizer.learning_rate': rate, 'seed': seed}
        add(**own, steps=FINAL, keep_state=True)


def shifts(x, seed):
    """The test images (n, ...) as they are and as they come in by accident."""
    deviation, noise = x.std(), np.random.default_rng(seed)
    return {
        'clean': x,
        'shifted': x + deviation,
        'half contrast': (x + x.mean((1, 2, 3), keepdims=True)) / 2,
        'noise': x + deviation * noise.normal(size=x.shape).astype(x.dtype),
    }


def measured(results):
    """The errors of each network that was kept."""
    kept = [record for record in results.where(steps=FINAL) if variables_of(record)]
    for record in kept:
        if record.trial not in MEASURED:
            MEASURED[record.trial] = errors(record)
    return [MEASURED[record.trial] for record in kept]


def errors(record):
    """The share of wrong answers by shift and statistics, and what folding changes."""
    test, found = images_of(record).test, {}
    n = len(test.y) // BATCH * BATCH
    for name, x in shifts(test.x[:n], record.config['seed']).items():
        batches = x.reshape(-1, BATCH, *x.shape[1:])
        moments = in_training(record, x[None])['moments']
        logits = {
            RUNNING: tested(record, x),
            ALL: tested(record, x, statistics(moments)),
            EACH: in_training(record, batches)['logits'].reshape(n, -1),
        }
        for of, answers in logits.items():
            found[name, of] = 1 - accuracy_of(answers, test.y[:n])
    return found | {'folded': folded(record, test.x)}


def folded(record, x):
    """The largest change of a logit by folding, as a share of the largest logit."""
    variables, h = variables_of(record), x.reshape(len(x), -1)
    params = variables['params']
    for i in range(len(record.config['model.features'])):
        norm, running = params[f'norm_{i}'], variables['batch_stats'][f'norm_{i}']
        moments = bnjax.Moments(running['mean'], running['var'], 1.0)
        kernel = params[f'hidden_{i}']['kernel']
        epsilon = record.config['model.epsilon']
        kernel, bias = bnjax.fold(
            kernel, None, norm['scale'], norm['bias'], moments, epsilon=epsilon
        )
        h = np.maximum(h @ np.asarray(kernel) + np.asarray(bias), 0)
    logits = h @ params['output']['kernel'] + params['output']['bias']
    unfolded = np.asarray(tested(record, x))
    return float(abs(logits - unfolded).max() / abs(unfolded).max())


def verdict(results):
    found = measured(results)
    losses = {name: loss(found, name, RUNNING) for name in SHIFTS}
    confirms = all(i.high < POINT for i in losses.values())
    refutes = any(i.low > POINT for i in losses.values())
    rule = REFUTED if refutes else CONFIRMED if confirms else UNDECIDED
    worst = max(SHIFTS, key=lambda name: losses[name].low)
    effect = (
        f'test error by running statistics, {worst} - clean images, the largest of '
        'three shifts (Bonferroni)'
    )
    return [Verdict('S58', rule, effect, losses[worst], (POINT,))]


def loss(found, name, of):
    """What a shift costs with some statistics, against none with the running ones."""
    values = [own[name, of] - own['clean', RUNNING] for own in found]
    return interval(values, 0.05 / len(SHIFTS))


def tables(results):
    """Test errors by shift and statistics, means over seeds, and the folded nets."""
    found = measured(results)
    if not found:
        return []
    head = ['images', RUNNING, ALL, EACH]
    rows = [
        [name] + [f'{np.mean([own[name, of] for own in found]):.2%}' for of in head[1:]]
        for name in ('clean', *SHIFTS)
    ]
    change = max(own['folded'] for own in found)
    caption = (
        'Test error by the statistics that normalise, means over seeds. Folded into '
        f'the weights, batch norm changes no logit by more than {change:.1e} of the '
        'largest.'
    )
    return [{'title': 'Errors', 'caption': caption, 'head': head, 'rows': rows}]
