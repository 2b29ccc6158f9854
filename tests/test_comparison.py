"""Arms of a sweep: its cells, pairs, best settings and families of contrasts."""

import math

import numpy as np
import pytest
import scipy.stats

from bnjax.comparison import at_equal_settings, at_own_best, compare, mean_of, paired
from bnjax.records import METRICS, Record
from bnjax.stats import Interval, holm, p_value

NAN = math.nan
RATE = 'optimizer.learning_rate'
SWEPT = ['model.placement', RATE]


def trial(
    test, *, seed=0, placement='none', rate=0.1, validation=NAN, status='done', **known
):
    metrics = dict.fromkeys(METRICS, NAN)
    metrics |= {'test_accuracy': test, 'validation_accuracy': validation, **known}
    config = {'seed': seed, 'model.placement': placement, RATE: rate}
    return Record('0' * 12, status, config, metrics, steps=1, seconds=1.0)


def test_paired_agrees_with_scipy():
    rng = np.random.default_rng(1)
    ours, theirs = rng.normal(size=(2, 8))
    found = paired(
        [trial(a, seed=i) for i, a in enumerate(ours)],
        [trial(b, seed=i) for i, b in reversed(list(enumerate(theirs)))],
    )
    expected = scipy.stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert found.n == 8
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_only_seeds_of_both_arms_make_pairs():
    ours = [trial(0.9, seed=0), trial(0.8, seed=1), trial(0.7, seed=2)]
    theirs = [trial(0.5, seed=1), trial(0.5, seed=2), trial(0.1, seed=3)]
    found = paired(ours, theirs)
    assert found.n == 2 and found.mean == pytest.approx(0.25)


def test_a_failed_trial_takes_its_pair_with_it_and_a_diverged_one_counts():
    ours = [trial(0.9, seed=0), trial(0.8, seed=1)]
    failed = [trial(NAN, seed=0, status='failed'), trial(0.5, seed=1)]
    assert paired(ours, failed).n == 1
    diverged = [trial(0.2, seed=0, status='diverged'), trial(0.5, seed=1)]
    assert mean_of(diverged).mean == pytest.approx(0.35)
    assert paired(ours, diverged).n == 2


def test_equal_arms_show_no_difference():
    cell = [trial(0.9, seed=s) for s in range(5)]
    assert paired(cell, cell) == Interval(0, 0, 0, 5)


def test_the_p_of_a_pair_of_arms_is_that_of_the_paired_t_test():
    ours, theirs = np.random.default_rng(2).normal(size=(2, 6))
    arms = [[trial(v, seed=i) for i, v in enumerate(arm)] for arm in (ours, theirs)]
    found = paired(*arms)
    expected = scipy.stats.ttest_rel(ours, theirs).pvalue
    assert p_value(found) == pytest.approx(expected)


def arms(cells):
    """Trials of two seeds with the (test, validation) accuracies of each cell."""
    return [
        trial(test, seed=seed, placement=p, rate=rate, validation=validation)
        for (p, rate), (test, validation) in cells.items()
        for seed in range(2)
    ]


def test_the_best_setting_is_chosen_by_validation_and_never_by_test():
    cells = {
        ('before', 0.1): (0.9, 0.7),
        ('before', 1.0): (0.6, 0.8),
        ('none', 0.1): (0.5, 0.6),
        ('none', 1.0): (0.95, 0.1),
    }
    comparison = compare(arms(cells), SWEPT)
    assert comparison.best((), 'before') == (1.0,)
    assert comparison.best((), 'none') == (0.1,)
    (contrast,) = at_own_best(comparison)
    assert (contrast.arm, contrast.against) == ('before', 'none')
    assert contrast.difference.mean == pytest.approx(0.6 - 0.5)


def test_without_validation_the_train_loss_chooses():
    records = [
        trial(0.9, placement=p, rate=rate, train_loss=loss)
        for p in ('before', 'none')
        for rate, loss in [(0.1, 2.0), (1.0, 1.0), (10.0, NAN)]
    ]
    comparison = compare(records, SWEPT)
    assert comparison.criterion == 'train_loss'
    assert comparison.best((), 'before') == (1.0,)


def test_a_rate_at_which_trials_diverge_is_not_chosen_over_one_where_none_does():
    """At 1e30 all diverge at once, by chance with better values than at 1e-4."""
    records = [
        trial(test, seed=seed, placement=placement, rate=rate, **known)
        for placement, chance in (('none', 0.1), ('before', 0.2))
        for seed in range(3)
        for test, rate, known in [
            (0.3, 1e-4, {'validation': 0.1}),
            (chance, 1e30, {'validation': 0.2, 'status': 'diverged'}),
        ]
    ]
    comparison = compare(records, SWEPT)
    assert {comparison.best((), arm) for arm in comparison.arms} == {(1e-4,)}
    (contrast,) = at_own_best(comparison)
    assert contrast.difference == Interval(0, 0, 0, 3)


@pytest.mark.parametrize('status', ['diverged', 'failed'])
def test_where_every_setting_loses_trials_the_fewest_are_best(status):
    good = {'validation': 0.5}
    bad = {'validation': 0.9 if status == 'diverged' else NAN, 'status': status}
    cells = {0.1: [bad, bad, good], 1.0: [bad, good, good], 10.0: [bad, bad, good]}
    records = [
        trial(0.5, seed=seed, placement=placement, rate=rate, **known)
        for placement in ('none', 'before')
        for rate, cell in cells.items()
        for seed, known in enumerate(cell)
    ]
    assert compare(records, SWEPT).best((), 'none') == (1.0,)


def test_an_arm_without_finite_values_has_no_best():
    records = [trial(NAN, placement='before'), trial(0.9, train_loss=1.0)]
    comparison = compare(records, SWEPT)
    assert comparison.best((), 'before') is None
    assert at_own_best(comparison) == []


def test_none_is_the_baseline_of_placements_wherever_it_comes():
    records = [trial(0.5, placement=p) for p in ('after', 'none', 'before')]
    assert compare(records, ['model.placement']).arms == ('none', 'after', 'before')


@pytest.mark.parametrize(
    ('rates', 'pairs'),
    [
        ((1.0,), ()),
        ((1.0, 2.0), ((2.0, 1.0),)),
        ((1.0, 2.0, 3.0), ((2.0, 1.0), (3.0, 1.0), (3.0, 2.0))),
        ((1.0, 2.0, 3.0, 4.0), ((2.0, 1.0), (3.0, 1.0), (4.0, 1.0))),
    ],
)
def test_arms_are_compared_with_the_baseline_and_the_last_two_of_three(rates, pairs):
    records = [trial(0.5, rate=rate) for rate in rates]
    assert compare(records, [RATE]).pairs == pairs


def test_after_is_compared_with_before():
    tests = {'none': 0.5, 'before': 0.7, 'after': 0.8}
    records = [trial(t, placement=p, train_loss=1.0) for p, t in tests.items()]
    comparison = compare(records, ['model.placement'])
    last = at_own_best(comparison)[-1]
    assert (last.arm, last.against) == ('after', 'before')
    assert last.difference.mean == pytest.approx(0.1)
    assert comparison.difference((), 'after', 'before').mean == pytest.approx(0.1)


def test_without_placement_the_first_swept_field_is_compared():
    records = [trial(0.5, rate=rate) for rate in (1.0, 0.1)]
    comparison = compare(records, SWEPT)
    assert (comparison.field, comparison.arms) == (RATE, (1.0, 0.1))
    assert comparison.settings == ((),)


def test_settings_rise_and_belong_to_groups():
    records = [
        Record('0' * 12, 'done', config, dict.fromkeys(METRICS, 0.5), 1, 1.0)
        for rate in (1.0, 0.1)
        for activation in ('tanh', 'relu')
        for placement in ('none', 'before')
        for config in [
            {
                'seed': 0,
                RATE: rate,
                'model.activation': activation,
                'model.placement': placement,
            }
        ]
    ]
    comparison = compare(records, [RATE, 'model.activation', 'model.placement'])
    assert comparison.fields == ('model.activation', RATE)
    assert comparison.groups == (('tanh',), ('relu',))
    assert comparison.settings[:2] == (('tanh', 0.1), ('tanh', 1.0))


def noisy(gains, seeds=5):
    """Trials of two rates in which 'before' and 'after' gain, each with its noise."""
    rng = np.random.default_rng(0)
    return [
        trial(
            0.5 + gain + 0.01 * rng.normal(),
            seed=seed,
            placement=placement,
            rate=rate,
            validation=rate,
        )
        for placement, gain in gains.items()
        for rate in (0.1, 1.0)
        for seed in range(seeds)
    ]


def test_the_p_values_of_all_contrasts_are_adjusted_as_one_family():
    records = noisy({'none': 0.0, 'before': 0.03, 'after': 0.02})
    comparison = compare(records, SWEPT)
    for contrasts, size in [
        (at_own_best(comparison), 3),
        (at_equal_settings(comparison), 6),
    ]:
        assert len(contrasts) == size
        plain = [p_value(contrast.difference) for contrast in contrasts]
        assert [contrast.p for contrast in contrasts] == holm(plain).tolist()


def test_contrasts_at_equal_settings_come_setting_by_setting():
    records = noisy({'none': 0.0, 'before': 0.03, 'after': 0.02})
    comparison = compare(records, SWEPT)
    contrasts = at_equal_settings(comparison)
    assert [(c.where, c.arm, c.against) for c in contrasts] == [
        (setting, *pair) for setting in ((0.1,), (1.0,)) for pair in comparison.pairs
    ]
    assert contrasts[0].difference == comparison.difference((0.1,), 'before', 'none')


def test_a_difference_that_is_seen_alone_may_not_be_among_many():
    """Its interval excludes 0, yet of 6 differences one may by chance."""
    gains = [0.02, 0.02, 0.02, 0.008, 0.005]  # p = 0.012
    records = [
        trial(0.5 + gain, seed=seed, placement=placement, rate=rate, train_loss=1.0)
        for placement in ('none', 'before', 'after')
        for rate in (0.1, 1.0)
        for seed, value in enumerate(gains)
        for gain in [value * (placement == 'before')]
    ]
    contrast = at_equal_settings(compare(records, SWEPT))[0]
    assert contrast.difference.low > 0 and p_value(contrast.difference) < 0.05
    assert contrast.p > 0.05 and contrast.verdict == 'no difference seen'
    two = [r for r in records if r.config['model.placement'] != 'after']
    (first, _) = at_equal_settings(compare(two, SWEPT))
    assert first.verdict == 'higher'


def test_a_pair_without_seeds_is_no_member_of_the_family():
    records = noisy({'none': 0.0, 'before': 0.03}) + [trial(0.9, placement='after')]
    contrasts = at_equal_settings(compare(records, SWEPT))
    found = {(c.where, c.arm, c.against): c for c in contrasts}
    assert found[(0.1,), 'after', 'none'].verdict == 'one seed'
    assert found[(1.0,), 'after', 'none'].verdict == 'missing'
    tested = [c for c in contrasts if c.difference.n > 1]
    plain = [p_value(c.difference) for c in tested]
    assert len(tested) == 2 and [c.p for c in tested] == holm(plain).tolist()
    assert math.isnan(found[(0.1,), 'after', 'none'].p)


def test_two_trials_of_one_seed_at_one_setting_are_an_error():
    records = [trial(0.5), trial(0.6), trial(0.5, placement='before')]
    with pytest.raises(ValueError, match='one setting and seed .0., expected a trial'):
        compare(records, SWEPT)


def test_no_records_is_an_error():
    with pytest.raises(ValueError, match='records'):
        compare([], [])
