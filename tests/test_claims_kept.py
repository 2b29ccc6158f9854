"""What is kept of the verdicts is what the page shows, by the rules as they stand."""

import pathlib
import re

import pytest

from bnjax.claims import kept, studies
from bnjax.claims.page import render
from bnjax.claims.register import CLAIMS
from bnjax.claims.settled import collect

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / 'docs/claims.md').read_text(encoding='utf-8')
KEPT = kept.read()


def test_the_page_is_made_of_what_is_kept():
    assert render(collect(CLAIMS, KEPT)) == PAGE


def test_every_picture_of_the_page_is_there():
    pictures = re.findall(r'!\[.*?\]\((.*?)\)', PAGE)
    assert pictures
    assert all((ROOT / 'docs' / picture).is_file() for picture in pictures)


@pytest.mark.parametrize('claim', [c for c in CLAIMS.values() if c.check], ids=str)
def test_every_check_is_kept_as_it_is_expected(claim):
    assert KEPT['exact'][claim.id]['verdict'] == claim.expected


@pytest.mark.parametrize('name', KEPT['studies'])
def test_a_study_ran_by_the_rule_that_stands(name):
    file = ROOT / 'configs/claims' / f'{name}.py'
    for claim, found in KEPT['claims'].items():
        if found['study'] == name:
            digest = studies.rule_digest(file)
            assert found['rule'] == found['begun']['rule'] == digest, claim
            assert found['begun']['commit'], claim


def test_what_other_seeds_turn_round_is_undecided():
    again = {c: v['again'] for c, v in KEPT['claims'].items() if v['again']}
    assert again
    for claim, other in again.items():
        said = {KEPT['claims'][claim]['verdict'], other['verdict']}
        assert said != {'confirmed', 'refuted'}, claim
