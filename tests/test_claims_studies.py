"""The studies of claims: their configs, and their verdicts on made records.

Nothing is trained: the numbers are random, and what is looked at is their form.
"""

import dataclasses
import functools
import math
import pathlib

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from bnjax import config, data, study, trial
from bnjax.claims.register import CLAIMS
from bnjax.data import Dataset, Split
from bnjax.outcome import failure
from bnjax.probe_names import REESTIMATED
from bnjax.program import steps_in
from bnjax.records import METRICS, Record
from bnjax.results import Results
from bnjax.stats import Interval
from bnjax.verdict import CONFIRMED, REFUTED, UNDECIDED

CONFIGS = pathlib.Path(__file__).parents[1] / 'configs' / 'claims'
NAMES = sorted(path.stem for path in CONFIGS.glob('*.py'))
PARTS = 'Shows:', 'Settles:', 'Takes:', 'Command:'
SHAPES = {'digits': (8, 8, 1), 'cifar10': (32, 32, 3)}
IMAGES = {'digits': 1438, 'cifar10': 45_000}
OF_SHARES = (
    *('overshoot', 'loss_along_step', 'gradient_along_step'),
    'smoothness_along_step',
)


@pytest.fixture(autouse=True)
def made_data(monkeypatch):
    """Random images, so that no data set is needed."""

    def load(name, *, images=0, validation_percent=10, **_):
        rng = np.random.default_rng(0)
        shape = SHAPES.get(name, (28, 28, 1))

        def split(n):
            x = rng.random((n, *shape), np.float32)
            return Split(x, rng.integers(0, 10, n).astype(np.int32))

        return Dataset(split(200), split(20), split(100), 10)

    monkeypatch.setattr(data, 'load', load)


def loaded(name, seed=0):
    return study.load(f'{CONFIGS / name}.py:{seed}', {})


def settled(description):
    """The claims that a docstring names."""
    [line] = [part for part in description.split('\n') if part.startswith('Settles:')]
    words = line.removeprefix('Settles:').rstrip('.').split()
    return [word for word in words if word[0] in 'SEM' and word[1:].isdigit()]


@pytest.mark.parametrize('name', NAMES)
def test_a_study_says_what_it_shows_and_settles(name):
    asked = loaded(name)
    question, *rest = asked.description.split('\n')
    assert question.endswith('?')
    for part in PARTS:
        assert sum(line.startswith(part) for line in rest) == 1, part
    assert len(asked.source.file.read_text().splitlines()) <= 320


@pytest.mark.parametrize('name', NAMES)
def test_a_study_settles_the_claims_that_the_register_gives_it(name):
    claims = CLAIMS.values()
    own = [c.id for c in claims if c.study == name and not c.same]
    assert sorted(settled(loaded(name).description)) == sorted(own)


@pytest.mark.parametrize('name', NAMES)
def test_another_argument_is_other_seeds_of_the_same_trials(name):
    first, other = loaded(name).trials, loaded(name, seed=100).trials
    assert not {t.config['seed'] for t in first} & {t.config['seed'] for t in other}
    assert [{**t.config, 'seed': t.config['seed'] + 100} for t in first] == [
        t.config for t in other
    ]


@pytest.mark.parametrize('name', NAMES)
def test_a_study_has_a_verdict_on_each_of_its_claims(name):
    check_verdicts(name, record)


@pytest.mark.parametrize('name', NAMES)
def test_lost_and_failed_trials_are_no_reason_to_stop(name):
    check_verdicts(name, lambda t: spoilt(t, record(t)))


def check_verdicts(name, make):
    asked, known = loaded(name), {}
    while len(known) < len(asked.trials):
        for t in asked.trials:
            known.setdefault(t.id, make(t))
        asked = study.refined(asked, list(known.values()))
    found = study.verdicts(asked, list(known.values()))
    own = settled(asked.description)
    assert sorted(v.claim for v in found) == sorted(own)
    for v in found:
        assert v.verdict in (CONFIRMED, REFUTED, UNDECIDED)
        assert v.effect and v.effect == ' '.join(v.effect.split())
        assert v.interval is None or isinstance(v.interval, Interval)
        assert v.interval is None or all(np.ndim(x) == 0 for x in v.interval)
        assert all(math.isfinite(bound) for bound in v.bounds)
        assert CLAIMS[v.claim].study == name
    check_pictures(asked.source.module, Results(tuple(known.values())))


def check_pictures(module, results):
    if hasattr(module, 'figure'):
        with plt.rc_context({'backend': 'agg'}):
            drawn = module.figure(results)
        assert any(panel.get_xlabel() for panel in drawn.get_axes())
        plt.close('all')
    for table in getattr(module, 'tables', lambda _: [])(results):
        assert table.keys() == {'title', 'caption', 'head', 'rows'}
        assert {len(row) for row in table['rows']} == {len(table['head'])}
        assert all(isinstance(cell, str) for row in table['rows'] for cell in row)


def record(asked):
    """What a trial could have come to, by its identity."""
    fields, rng = asked.config, np.random.default_rng(int(asked.id, 16))
    cfg = config.build(fields)
    images = fields['data.images'] or IMAGES.get(fields['data.name'], 54_000)
    per_epoch, total = steps_in(cfg, images)
    epochs = 1 + math.ceil(total / per_epoch)
    again = [f'{REESTIMATED.split("_")[0]}_{m}' for m in METRICS[2:]]
    names = (*METRICS, *(again if REESTIMATED in cfg.probes.names else ()))
    curves = {name: np.sort(rng.random(epochs)) for name in names}
    metrics = {name: float(curves[name][-1]) for name in METRICS}
    curves |= {'epoch': np.arange(epochs)} | probes(cfg, total, rng)
    if fields['keep_state']:
        curves |= state(cfg, rng)
    return Record(asked.id, 'done', fields, metrics, total, 1.0, curves=curves)


def probes(cfg, total, rng):
    steps = np.arange(0, total, cfg.probes.every)
    curves = {'probe_step': steps} if cfg.probes.names else {}
    for name in cfg.probes.names:
        if name != REESTIMATED:
            layers = layers_of(name, cfg.model)
            curves[f'probe/{name}'] = rng.random((len(steps), len(layers)))
            curves[f'layers/{name}'] = np.array(layers)
    return curves


def layers_of(probe, model):
    count = len(model.features) * (2 if model.name == 'cnn' else 1)
    hidden = [f'hidden_{i}' for i in range(count)]
    if probe in OF_SHARES:
        return ['x0.5', 'x1', 'x2', 'x4']
    if probe.startswith(('norm_', 'running_')):
        return [f'norm_{i}' for i in range(count * (model.placement != 'none'))]
    if probe.startswith('covariate_shift'):
        return [*hidden[1:], 'output']
    return [*hidden, 'output'] if probe.startswith('gradient_') else hidden


def state(cfg, rng):
    """Random parameters and statistics, of the shapes that the network has."""
    shapes = flatten_dict({'state': shapes_of(cfg.model, cfg.data.name)}, sep='/')
    made = {name: rng.normal(0, 0.3, s.shape) for name, s in shapes.items()}
    return {
        name: np.float32(abs(a) if name.endswith('/var') else a)
        for name, a in made.items()
    }


@functools.cache
def shapes_of(model, name):
    """Those of parameters and statistics, in their collections."""
    x = np.zeros((1, *SHAPES.get(name, (28, 28, 1))), np.float32)
    cfg = config.Config(model=model)
    first = Split(x, np.zeros(1, np.int32))
    shapes = jax.eval_shape(lambda: trial.init(cfg, 10, first))
    return {'params': shapes.params, 'batch_stats': shapes.batch_stats}


def spoilt(asked, found):
    """One in four is lost: it failed, diverged, or ended worse than by guessing."""
    kind = int(asked.id, 16) % 12
    if kind == 0:
        return failure(asked, MemoryError('too large'))
    if kind == 1:
        metrics = dict.fromkeys(METRICS, math.nan)
        curves = {
            name: values * math.nan
            if values.dtype.kind == 'f' and not name.startswith('state/')
            else values
            for name, values in found.curves.items()
        }
        return dataclasses.replace(
            found, status='diverged', metrics=metrics, curves=curves, bad_step=3
        )
    if kind == 2:
        metrics = found.metrics | {'train_loss': 9.0}
        return dataclasses.replace(found, metrics=metrics)
    return found
