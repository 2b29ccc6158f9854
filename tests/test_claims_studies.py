"""The studies of claims: their configs, and their verdicts on made records.

Nothing is trained: the numbers are random, and what is looked at is their form.
"""

import dataclasses
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
from made_records import NAMES, dataset, loaded, record

from bnjax import data, study
from bnjax.claims import trained
from bnjax.claims.register import CLAIMS
from bnjax.outcome import failure
from bnjax.records import METRICS
from bnjax.results import Results
from bnjax.stats import Interval
from bnjax.verdict import CONFIRMED, REFUTED, UNDECIDED

PARTS = 'Shows:', 'Settles:', 'Takes:', 'Command:'


@pytest.fixture(autouse=True)
def made_data(monkeypatch):
    """Random images, so that no data set is needed."""
    monkeypatch.setattr(data, 'load', dataset)
    trained._images.cache_clear()
    yield
    trained._images.cache_clear()


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
