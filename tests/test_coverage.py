"""Made studies, of which the truth is known: what intervals and tests are worth."""

import numpy as np
import pytest

from bnjax.stats import holm, interval, p_value

STUDIES = 2000
TRUTH = 0.01
LAWS = {
    'normal': lambda rng, shape: rng.normal(size=shape),
    'uniform': lambda rng, shape: rng.uniform(-1, 1, size=shape),
    'heavy': lambda rng, shape: rng.standard_t(3, size=shape),
    'skewed': lambda rng, shape: rng.exponential(size=shape) - 1,
}


def differences(law, seeds, *studies):
    """Differences (seeds, *studies) of which the mean is `TRUTH`."""
    rng = np.random.default_rng([seeds, len(law)])
    return TRUTH + 0.02 * LAWS[law](rng, (seeds, *studies))


def coverage(law, seeds):
    found = interval(differences(law, seeds, STUDIES))
    return np.mean((found.low <= TRUTH) & (found.high >= TRUTH))


@pytest.mark.parametrize('seeds', [3, 5, 10])
def test_of_normal_differences_the_interval_holds_the_truth_in_95_percent(seeds):
    assert 0.93 < coverage('normal', seeds) < 0.97


@pytest.mark.parametrize('seeds', [3, 5, 10])
@pytest.mark.parametrize('law', ['uniform', 'heavy'])
def test_of_other_symmetric_differences_it_nearly_does(law, seeds):
    assert 0.90 < coverage(law, seeds) < 0.98


@pytest.mark.parametrize('seeds', [3, 5, 10])
def test_of_skewed_differences_it_holds_the_truth_less_often(seeds):
    assert 0.84 < coverage('skewed', seeds) < 0.92


def called(seeds, shared):
    """Of studies with 10 true nulls, in which share any is called: alone, by Holm.

    Arms that are compared with one baseline share its noise.
    """
    family = 10
    arms = differences('normal', seeds, STUDIES, family) - TRUTH
    if shared:
        arms -= differences('normal', seeds, STUDIES, 1)
        arms += TRUTH
    p = p_value(interval(arms))
    adjusted = np.array([holm(study) for study in p])
    return [np.mean((found < 0.05).any(1)) for found in (p, adjusted)]


@pytest.mark.parametrize('seeds', [3, 10])
def test_holm_holds_the_chance_of_any_false_claim_at_5_percent(seeds):
    alone, family = called(seeds, shared=False)
    assert alone > 0.35  # 1 - 0.95^10 = 0.40
    assert 0.035 < family < 0.065


def test_holm_holds_it_where_arms_share_a_baseline_too():
    alone, family = called(5, shared=True)
    assert alone > 0.15
    assert 0.01 < family < 0.06


def test_holm_sees_more_than_bonferroni_where_some_differences_are_true():
    truths = np.where(np.arange(10) < 5, 0.03, 0.0)
    p = p_value(interval(differences('normal', 8, STUDIES, 10) - TRUTH + truths))
    adjusted = np.array([holm(study) for study in p])
    false = np.mean((adjusted[:, 5:] < 0.05).any(1))
    assert false < 0.06
    assert (adjusted < 0.05).sum() > 1.05 * (10 * p < 0.05).sum()
