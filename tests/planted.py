"""Effects planted in made records, and what a study's verdict says of them.

An outcome is what a trial came to: a function of its arm that returns metrics by name
(a number, or a function of the steps so far), ``probe/...`` and ``state/...`` arrays,
and ``lost``. All that no outcome names is random.
"""

import dataclasses
import functools
import math
import zlib
from types import SimpleNamespace

import numpy as np
from made_records import loaded, without_state

from bnjax import study
from bnjax.records import METRICS

FIRST = 10  # seed of the trials that decide; those before it are for tuning
WIGGLE = np.array([-2, -1, 0, 1, 2]) / math.sqrt(2)  # mean 0, deviation 1
CACHES = 'MEASURED', 'EVALUATED'  # of the studies that run kept networks


def arm_of(fields):
    """What the scenarios tell trials apart by."""
    short = {name.split('.')[-1]: value for name, value in fields.items()}
    return SimpleNamespace(
        **short | {'data': fields['data.name']},
        fields=fields,
        rate=fields['optimizer.learning_rate'],
        layers=len(fields['model.features']),
        group=fields['batch_size'] // fields['micro_batches'],
        network=fields['model.name'],
        epsilon_of_norm=fields['model.epsilon'],
        rule=fields['optimizer.name'],
        decides=fields['seed'] >= FIRST,
    )


def tuned(arm):
    """In tuning: best at a rate of 0.1 without a norm, and of 0.3 with it."""
    if arm.decides:
        return {}
    best = 0.1 if arm.placement == 'none' else 0.3
    distance = abs(math.log10(max(arm.rate, 1e-9) / best))
    return {'validation_accuracy': 0.8 - 0.05 * distance}


@functools.cache
def prepared(name):
    """A study with all its trials, and for each its arm and a random record."""
    asked, made = loaded(name), {}
    while len(made) < len(asked.trials):
        for trial in asked.trials:
            if trial.id not in made:
                made[trial.id] = arm_of(trial.config), without_state(trial)
        finished = [planted(record, tuned(arm)) for arm, record in made.values()]
        asked = study.refined(asked, finished)
    return asked, list(made.values())


def verdicts(name, *outcomes):
    """The verdicts of a study on records in which these outcomes are planted."""
    asked, made = prepared(name)
    for cache in CACHES:
        getattr(asked.source.module, cache, {}).clear()
    records = []
    for arm, record in made:
        found = tuned(arm) if hasattr(asked.source.module, 'refine') else {}
        for outcome in outcomes:
            found |= outcome(arm)
        records.append(planted(record, found))
    return {found.claim: found for found in study.verdicts(asked, records)}


def planted(record, found):
    """A record with these numbers in place of its own."""
    curves, metrics = dict(record.curves), dict(record.metrics)
    steps = np.linspace(0, record.steps, len(curves['epoch']))
    for name, value in found.items():
        if name in METRICS:
            again = f'reestimated_{name}'
            key = again if again in curves else name
            values = value(steps) if callable(value) else np.full(len(steps), value)
            curves[key] = values
            if key == name:
                metrics[name] = float(values[-1])
        elif name.startswith('state/'):
            curves[name] = np.float32(value)
        elif name in curves:
            curves[name] = np.broadcast_to(value, curves[name].shape).copy()
    status = 'diverged' if found.get('lost') else record.status
    return dataclasses.replace(record, status=status, curves=curves, metrics=metrics)


def wiggle(seed, which=None):
    """Of mean 0 and deviation 1 over any five seeds; another one for each arm."""
    if which is None:
        return WIGGLE[seed % 5]
    drawn = np.random.default_rng(zlib.crc32(repr(which).encode())).normal(size=5)
    return ((drawn - drawn.mean()) / drawn.std())[seed % 5]


def number(what, key, values, noise=0.0005):
    """Plants a number by arm, with a deviation over seeds of its own.

    Args:
      what: the name of the metric or probe.
      key: a function of an arm; an arm whose key has no value is left as it is.
      values: by key; may be arrays.
      noise: the deviation.
    """

    def outcome(arm):
        if key(arm) not in values:
            return {}
        own = wiggle(arm.seed, key(arm))
        return {what: values[key(arm)] + noise * own + shared(what, arm.seed)}

    return outcome


def shared(what, seed):
    """What a seed does to all arms alike: larger than the noise of each."""
    return 0.01 * (-1) ** seed if what == 'test_accuracy' else 0.0


def accuracy(key, values, noise=0.0005):
    return number('test_accuracy', key, values, noise)


def steps(target, key, values, noise=0.02):
    """Plants after how many steps validation accuracy is at a target, by arm.

    The noise is that of their logarithm.
    """

    def outcome(arm):
        if not arm.decides or key(arm) not in values:
            return {}
        there = values[key(arm)] * math.exp(noise * wiggle(arm.seed, key(arm)))
        line = functools.partial(rising, target=target, there=there)
        return {'validation_accuracy': line}

    return outcome


def rising(at, target, there):
    return np.clip(target + 0.05 * (at / there - 1), 0, 1)


def lost(which):
    """Plants that these arms diverged."""
    return lambda arm: {'lost': True} if arm.decides and which(arm) else {}


def only(which, outcome):
    """An outcome of the arms of which this is true."""
    return lambda arm: outcome(arm) if which(arm) else {}
