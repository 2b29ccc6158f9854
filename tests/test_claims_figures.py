"""The picture of a study shows each verdict beside what decides it."""

import io
import math

import matplotlib.image
import pytest
from verdicts import KEPT, REGISTER

from bnjax.claims import figures
from bnjax.claims.page.panels import confirming_side, panels
from bnjax.claims.settled import collect
from bnjax.stats import Interval


def panel(verdict, interval, bounds, again=None, confirms=''):
    measured = figures.Measured(verdict, Interval(*interval))
    return figures.Panel('S1', 'effect', measured, bounds, again, confirms)


def test_the_side_where_an_interval_lies_is_named_by_the_outcome():
    inf = math.inf
    one = figures.regions(panel('confirmed', (2, 1, 3, 5), (0.5,)))
    assert one == [(0.5, inf, 'confirmed')]
    around = figures.regions(panel('confirmed', (2, 1, 3, 5), (0.0, 4.0)))
    assert around == [(0.0, 4.0, 'confirmed')]
    beyond = figures.regions(panel('refuted', (2, 1, 3, 5), (-1.0, 0.0)))
    assert beyond == [(0.0, inf, 'refuted')]


def test_the_sides_stay_unnamed_where_the_outcome_does_not_tell():
    assert not figures.regions(panel('undecided', (2, 1, 3, 5), (2.5,)))
    assert not figures.regions(panel('confirmed', (2, 1, 3, 5), (2.5,)))
    assert not figures.regions(panel('confirmed', (2, 1, 3, 5), ()))
    other = figures.Measured('refuted', Interval(1, 0, 2, 5))
    told = figures.regions(panel('undecided', (2, 1, 3, 5), (2.5,), other))
    assert [part.verdict for part in told] == ['refuted']


def test_the_sides_are_those_of_the_rule_where_it_names_them():
    undecided = panel('undecided', (2, 1, 3, 5), (1.5, 2.5), None, 'above')
    told = [(-math.inf, 1.5, 'refuted'), (2.5, math.inf, 'confirmed')]
    assert figures.regions(undecided) == told
    decided = panel('confirmed', (4, 3, 5, 5), (1.5, 2.5), None, 'above')
    assert figures.regions(decided) == told
    other_grounds = panel('refuted', (4, 3, 5, 5), (1.5, 2.5), None, 'above')
    assert not figures.regions(other_grounds)


@pytest.mark.parametrize(
    ('rule', 'side'),
    [
        ('Points. Confirmed: L > .3 at both. Refuted: U < .3 at one.', 'above'),
        ('Confirmed: rho L > 0. Refuted: rho U <= 0.', 'above'),
        ('Confirmed: U < .8 before and after. Refuted: L >= 1 after.', 'below'),
        ('Refuted: L > 0 in a cell. Else confirmed: U < 0 in all.', 'below'),
        ('Confirmed: L > 0 and U < .2. Refuted: U < 0.', ''),
        ('Confirmed: L > 1. Refuted: the other way by L > 1.', ''),
        ('Confirmed: within +-.5, L > .3. Refuted: U < .3.', ''),
        ('Within 1e-12.', ''),
    ],
)
def test_a_rule_says_which_side_confirms(rule, side):
    assert confirming_side(rule) == side


def test_a_picture_has_a_panel_for_each_claim_and_one_width():
    results = collect(REGISTER, KEPT)
    shown = panels('placement', results)
    assert [p.claim for p in shown] == ['S3', 'S20 (= S33)', 'S81']
    three, one = (
        matplotlib.image.imread(io.BytesIO(figures.forest(some)))
        for some in (shown, shown[2:])
    )
    assert three.shape[1] == one.shape[1] == 1600
    assert 2.5 * one.shape[0] < three.shape[0] < 5 * one.shape[0]


@pytest.mark.parametrize(
    ('interval', 'bounds'),
    [
        ((1.0, math.nan, math.nan, 1), (0.3,)),
        ((0.0, 0.0, 0.0, 3), ()),
        ((0.0, 0.0, 0.0, 3), (0.0,)),
        ((1e-9, -1e-9, 3e-9, 3), (0.1, 0.2, 1e8)),
    ],
)
def test_a_picture_can_be_drawn_of_any_interval(interval, bounds):
    assert figures.forest([panel('undecided', interval, bounds)])[:4] == b'\x89PNG'
