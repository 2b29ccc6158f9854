"""Intervals, tests, their adjustment and power against scipy and definitions."""

import itertools
import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from bnjax.stats import (
    Interval,
    alike,
    deviation,
    holm,
    interval,
    median_time,
    p_value,
    power,
    seeds_needed,
    verdict,
)

NAN = math.nan


def test_interval_of_hand_worked_numbers():
    # mean 2, standard deviation 1, t(0.975, 2) = 4.302653, half = 4.302653 / sqrt(3)
    found = interval([1.0, 2.0, 3.0])
    assert found.mean == 2 and found.n == 3
    assert found.low == pytest.approx(2 - 2.484138, abs=1e-6)
    assert found.high == pytest.approx(2 + 2.484138, abs=1e-6)


def test_interval_agrees_with_scipy_along_the_first_axis():
    values = np.random.default_rng(0).normal(size=(6, 4))
    found = interval(values)
    low, high = scipy.stats.t.interval(
        0.95, 5, loc=values.mean(0), scale=scipy.stats.sem(values)
    )
    np.testing.assert_allclose(found.low, low)
    np.testing.assert_allclose(found.high, high)


def test_one_value_has_a_mean_and_no_interval():
    found = interval([0.5])
    assert found.mean == 0.5 and found.n == 1
    assert math.isnan(found.low) and math.isnan(found.high)


def test_no_value_has_no_mean():
    assert math.isnan(interval([]).mean)
    assert interval([NAN, math.inf]).n == 0


def test_non_finite_values_are_missing():
    assert interval([1.0, NAN, 3.0, math.inf]) == interval([1.0, 3.0])


@pytest.mark.parametrize('n', [2, 3, 10, 200])
@pytest.mark.parametrize('shift', [0.0, 0.3, 30.0])
def test_deviation_and_p_are_those_of_the_t_test(n, shift):
    values = np.random.default_rng(n).normal(shift, size=n)
    found = interval(values)
    expected = scipy.stats.ttest_1samp(values, 0).pvalue
    assert deviation(found) == pytest.approx(values.std(ddof=1))
    assert p_value(found) == pytest.approx(expected, rel=1e-9)
    assert (p_value(found) < 0.05) == (found.low > 0 or found.high < 0)


def test_p_of_arrays_is_that_of_each():
    values = np.random.default_rng(0).normal(size=(5, 3))
    values[1:, 1] = NAN
    values[:, 2] = 0.25
    found = p_value(interval(values))
    assert found.shape == (3,)
    expected = [p_value(interval(values[:, i])) for i in range(3)]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('values', [[], [0.5], [NAN, 0.5], [NAN, NAN]])
def test_without_two_values_there_is_no_test(values):
    assert math.isnan(p_value(interval(values)))
    assert math.isnan(deviation(interval(values)))
    assert not alike(interval(values))


@pytest.mark.parametrize('n', [2, 4, 8])
def test_differences_that_are_alike_are_judged_by_their_signs(n):
    """Two seeds that gain one image of 360 each are no proof, whatever their t."""
    ours, theirs = np.float32([[300, 293], [299, 292]]) / 360
    gains = np.resize(ours.astype('f8') - theirs.astype('f8'), n)
    assert gains.std() > 0  # but for float32 they are equal
    found = interval(gains)
    assert alike(found) and p_value(found) == 2 / 2**n
    assert p_value(found) == scipy.stats.binomtest(n, n).pvalue
    assert p_value(interval(np.zeros(n))) == 1


def closed_test(p):
    """Holm by its principle: the worst Bonferroni test of a family that one is in."""
    families = [
        family
        for size in range(1, len(p) + 1)
        for family in itertools.combinations(range(len(p)), size)
    ]
    return [
        max(min(1.0, len(f) * min(p[j] for j in f)) for f in families if i in f)
        for i in range(len(p))
    ]


def test_holm_of_hand_worked_numbers():
    found = holm([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(found, [0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.sampled_from([0.0, 1e-9, 0.01, 0.012, 0.02, 0.4, 1.0]), max_size=6))
def test_holm_is_the_closed_bonferroni_test(p):
    np.testing.assert_allclose(holm(p), closed_test(p), rtol=1e-14)


def test_what_is_missing_is_no_member_of_the_family():
    found = holm([NAN, 0.02, NAN, 0.01, NAN])
    np.testing.assert_allclose(found, [NAN, 0.02, NAN, 0.02, NAN])
    assert holm([]).shape == (0,) and np.isnan(holm([NAN])).all()


@pytest.mark.parametrize(
    ('mean', 'n', 'p', 'word'),
    [
        (0.2, 5, 0.049, 'higher'),
        (-0.2, 5, 0.0, 'lower'),
        (0.2, 5, 0.05, 'no difference seen'),
        (-0.2, 5, 0.9, 'no difference seen'),
        (0.0, 5, 1.0, 'no difference seen'),
        (0.1, 1, NAN, 'one seed'),
        (NAN, 0, NAN, 'missing'),
    ],
)
def test_verdict(mean, n, p, word):
    assert verdict(Interval(mean, mean - 0.1, mean + 0.1, n), p) == word


def power_by_definition(effect, n):
    """P(|T| > t) where T = (Z + effect sqrt(n)) / sqrt(V / (n - 1)), integrated."""
    bound, shift = scipy.stats.t.ppf(0.975, n - 1), effect * math.sqrt(n)

    def seen(v):
        edge = bound * math.sqrt(v / (n - 1))
        beyond = scipy.stats.norm.sf(edge - shift) + scipy.stats.norm.sf(edge + shift)
        return beyond * scipy.stats.chi2.pdf(v, n - 1)

    return scipy.integrate.quad(seen, 0, np.inf)[0]


@pytest.mark.parametrize('effect', [0.3, 0.5, 0.8, 2.0])
def test_the_seeds_needed_are_the_fewest_with_a_power_of_80_percent(effect):
    needed = seeds_needed(effect * 0.02, 0.02)
    expected = power_by_definition(effect, needed)
    assert power(effect, 1, needed) == pytest.approx(expected) and expected >= 0.8
    assert power_by_definition(effect, needed - 1) < 0.8


def test_the_seeds_needed_are_those_of_the_tables():
    # Cohen's small, medium and large effect, paired and two-sided
    assert [seeds_needed(d, 1.0) for d in (0.2, -0.5, 0.8)] == [199, 34, 15]
    assert seeds_needed(1e9, 1.0) == 2


@pytest.mark.parametrize(
    ('difference', 'spread'),
    [(0.0, 1.0), (NAN, 1.0), (0.01, NAN), (0.01, 0.0), (0.01, 1e-9), (1e-4, 1.0)],
)
def test_the_seeds_needed_are_unknown_where_they_cannot_be_said(difference, spread):
    assert seeds_needed(difference, spread) is None


@pytest.mark.parametrize(
    ('times', 'reached', 'median'),
    [
        ([3.0], [True], 3.0),
        ([4.0, 1.0, 3.0, 2.0], [True] * 4, 2.0),
        ([5.0, 5.0, 5.0], [True] * 3, 5.0),
        # left at 1: 4/5, at 2: 4/5 3/4 = 0.6, at 3: 0.6 1/2 = 0.3
        ([1.0, 2.0, 2.0, 3.0, 4.0], [True, True, False, True, False], 3.0),
        ([1.0, 9.0], [True, False], 1.0),
        ([1.0, 9.0, 9.0], [True, False, False], math.inf),
        ([9.0, 9.0], [False, False], math.inf),
    ],
)
def test_the_median_time_counts_the_censored(times, reached, median):
    assert median_time(times, reached) == median


@pytest.mark.parametrize('n', range(1, 41))
def test_without_censoring_half_have_reached_it_by_the_median(n):
    times = np.random.default_rng(n).permutation(n) + 1.0
    assert median_time(times, [True] * n) == math.ceil(n / 2)
    watched = np.minimum(times, math.ceil(n / 2))  # the rest is censored there
    assert median_time(watched, times <= watched) == math.ceil(n / 2)


def test_no_trial_has_no_median_time():
    assert math.isnan(median_time([], []))
