"""What a config file's verdict sees of a sweep, and the rules it decides by."""

import dataclasses
import math

import numpy as np
import pytest
from sweeps import PLACEMENT, RATE, grid, lost

from bnjax import results, verdict
from bnjax.results import Results
from bnjax.stats import Interval, interval

BEFORE = {PLACEMENT: 'before', 'model.activation': 'relu', RATE: 0.1}


def only(records):
    return Results(tuple(with_data(r) for r in records))


def with_data(record):
    return dataclasses.replace(record, config={**record.config, 'data.name': 'mnist'})


@pytest.fixture
def swept():
    return only(grid(seeds=4))


def curve(values, steps=100, metric='validation_accuracy'):
    [record] = only(grid(seeds=1)).where(**BEFORE)
    curves = {**record.curves, metric: np.array(values)}
    return dataclasses.replace(record, curves=curves, steps=steps)


def test_an_arm_is_the_trials_with_its_values(swept):
    arm = swept.where(**BEFORE)
    assert [r.config['seed'] for r in arm] == [0, 1, 2, 3]
    assert len(swept.where(seed=range(1, 3))) == len(swept) / 2
    with pytest.raises(ValueError, match="'seed': 9"):
        swept.where(seed=9)


def test_the_best_value_is_that_of_the_highest_mean(swept):
    assert (
        swept.where(**{PLACEMENT: 'before', 'model.activation': 'relu'}).best() == 0.1
    )


def test_a_value_that_loses_trials_is_not_the_best(swept):
    arm = swept.where(**{PLACEMENT: 'before', 'model.activation': 'relu'})
    spoiled = [
        dataclasses.replace(r, status='diverged')
        if r.config[RATE] == 0.1 and r.config['seed'] == 0
        else r
        for r in arm
    ]
    assert Results(tuple(spoiled)).best() == 0.01


def test_differences_are_paired_by_seed(swept):
    before, none = (swept.where(**BEFORE | {PLACEMENT: p}) for p in ('before', 'none'))
    metric = 'test_accuracy'
    own = {r.config['seed']: r.metrics[metric] for r in before}
    other = {r.config['seed']: r.metrics[metric] for r in none}
    by_hand = [own[s] - other[s] for s in range(4)]
    assert before.difference(none, metric) == interval(by_hand)
    assert before.minus(only(list(none)[1:]), metric).keys() == {1, 2, 3}


def test_intervals_that_hold_together_are_wider(swept):
    before, none = (swept.where(**BEFORE | {PLACEMENT: p}) for p in ('before', 'none'))
    one, six = (before.difference(none, 'test_accuracy', cells=n) for n in (1, 6))
    assert six.low < one.low < six.mean == one.mean


def test_an_arm_has_a_seed_once(swept):
    with pytest.raises(ValueError, match='two trials of one arm have seed 0'):
        swept.by_seed('test_accuracy')


def test_a_lost_trial_counts_as_chance():
    record = curve([0.1, 0.9])
    assert results.accuracy(record) == record.metrics['test_accuracy']
    assert results.accuracy(lost(record, 'diverged')) == 0.1
    assert math.isnan(results.accuracy(lost(record, 'failed')))
    worse = math.log(10) + 0.2
    early = dataclasses.replace(record, metrics=record.metrics | {'train_loss': worse})
    assert not results.lost(early)  # a bad beginning is in the mean of a short epoch
    bad = early.metrics | {'test_loss': worse}
    assert results.lost(dataclasses.replace(record, metrics=bad))


def reestimated(record, **curves):
    again = {f'reestimated_{name}': np.array(own) for name, own in curves.items()}
    return dataclasses.replace(record, curves={**record.curves, **again})


def test_a_trial_that_reestimated_its_statistics_is_judged_by_them():
    scores = {'test_accuracy': [0.1, 0.7], 'validation_accuracy': [0.1, 0.6]}
    record = reestimated(curve([0.1, 0.9]), **scores)
    assert results.accuracy(record) == 0.7
    assert Results((record,)).by_seed('validation_accuracy') == {0: 0.6}
    assert results.steps_to(0.6)(record) == 100
    assert results.curve(record, 'test_accuracy').tolist() == [0.1, 0.7]
    kept = {'train_loss': record.metrics['train_loss']}
    assert Results((record,)).by_seed('train_loss') == {0: kept['train_loss']}
    assert results.lost(reestimated(record, test_loss=[2.3, 9.0])) is False
    bad = dataclasses.replace(record, metrics=record.metrics | {'train_loss': 9.0})
    assert results.lost(reestimated(bad, test_loss=[2.3, 9.0]))


def test_a_diverged_trial_has_the_last_finite_of_its_reestimated_scores():
    gone = lost(curve([0.1, 0.9]), 'diverged')
    diverged = Results((reestimated(gone, validation_accuracy=[0.5, math.nan]),))
    assert diverged.mean('validation_accuracy').mean == 0.5


def test_a_trial_whose_reestimated_loss_is_not_a_number_is_lost():
    scores = {'test_accuracy': [0.1, 0.8, math.nan], 'test_loss': [2.3, 0.5, math.nan]}
    record = reestimated(curve([0.1, 0.9]), **scores)
    assert results.lost(record)
    assert results.accuracy(record) == 0.1


def test_arms_that_both_lost_everything_tell_nothing(swept):
    arms = [swept.where(**BEFORE | {PLACEMENT: p}) for p in ('before', 'none')]
    gone = [Results(tuple(lost(r, 'diverged') for r in arm)) for arm in arms]
    found = gone[0].difference(gone[1], results.accuracy)
    assert found.n == 0 and verdict.below(found, 0.01) == 'undecided'
    found = gone[0].difference(arms[1], results.accuracy)
    assert verdict.below(found, -0.5) == 'confirmed'


def test_steps_to_a_target_are_interpolated_between_evaluations():
    steps = results.steps_to(0.9)
    assert steps(curve([0.1, 0.8, 1.0, 0.5])) == pytest.approx(50)  # of 0 33.3 66.7 100
    assert steps(curve([0.95, 1.0])) == 0
    assert steps(curve([0.1, 0.2])) == 100
    falling = results.steps_to(1.0, 'train_loss')
    assert falling(curve([math.nan, 3, 0.5], metric='train_loss')) == pytest.approx(90)
    assert math.isnan(steps(lost(curve([0]), 'failed')))


def test_a_correlation_has_fishers_interval():
    x = np.arange(30.0)
    rho = results.correlation(x, x + np.tile([5, -5], 15))
    half = 1.96 * math.sqrt(1.06 / 27)
    assert math.atanh(rho.high) - math.atanh(rho.mean) == pytest.approx(half, 1e-3)
    assert math.atanh(rho.mean) - math.atanh(rho.low) == pytest.approx(half, 1e-3)
    assert results.correlation(x, -x).mean == pytest.approx(-1)
    assert math.isnan(results.correlation(x, 0 * x).mean)


def test_the_interval_of_a_ratio_of_deviations_covers_it():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        x, y = 3 * rng.normal(size=10), rng.normal(size=10)
        found = results.ratio_of_deviations(x, y)
        covered += found.low < 3 < found.high
    assert 0.92 < covered / 400 < 0.98


SURE, UNSURE = Interval(2.0, 1.0, 3.0, 10), Interval(2.0, -1.0, 5.0, 10)
ONE_SEED = Interval(2.0, math.nan, math.nan, 1)


@pytest.mark.parametrize(
    ('found', 'said'),
    [
        (verdict.above(SURE, 0.5), 'confirmed'),
        (verdict.above(SURE, 3.5), 'refuted'),
        (verdict.above(UNSURE, 0.5), 'undecided'),
        (verdict.above(ONE_SEED, 0.5), 'undecided'),
        (verdict.above(interval([1.0] * 3), 0.5), 'undecided'),
        (verdict.above(interval([1.0] * 10), 0.5), 'confirmed'),
        (verdict.below(SURE, 3.5), 'confirmed'),
        (verdict.below(SURE, 0.5), 'refuted'),
        (verdict.within(SURE, 0, 4), 'confirmed'),
        (verdict.within(SURE, 4, 5), 'refuted'),
        (verdict.within(SURE, 2, 5), 'undecided'),
        (verdict.within(ONE_SEED, 0, 4), 'undecided'),
        (verdict.at_least(2, ['confirmed', 'confirmed', 'refuted']), 'confirmed'),
        (verdict.at_least(2, ['confirmed', 'undecided', 'refuted']), 'undecided'),
        (verdict.at_least(2, ['confirmed', 'refuted', 'refuted']), 'refuted'),
        (verdict.every(['confirmed', 'confirmed']), 'confirmed'),
    ],
)
def test_an_interval_decides_where_it_is_clear_of_the_bound(found, said):
    assert found == said
