"""The register of claims is whole, and what it names is there."""

import ast
import collections
import importlib
import os
import pathlib
import pkgutil
import re
import tomllib

import pytest

from bnjax.claims import exact, register
from bnjax.claims.finding import Finding
from bnjax.claims.register import CLAIMS

ROOT = pathlib.Path(register.__file__).parent
CONFIGS = pathlib.Path(__file__).parents[1] / 'configs/claims'
# The five documents as text, which are not ours: 000*.txt to 004*.txt.
DOCUMENTS = os.environ.get('BNJAX_DOCUMENTS')

TABLES = [
    (key, table)
    for path in sorted((ROOT / 'register').glob('*.toml'))
    for key, table in tomllib.loads(path.read_text(encoding='utf-8')).items()
]
OWN = {key: table for key, table in TABLES if 'same' not in table}
CHECKS = sorted({table['check'] for table in OWN.values() if 'check' in table})
STUDIES = sorted({table['study'] for table in OWN.values() if 'study' in table})


def test_every_claim_is_there_once():
    numbers = {'S': 84, 'E': 30, 'M': 15}
    ids = {f'{kind}{n + 1}' for kind, last in numbers.items() for n in range(last)}
    counts = collections.Counter(key for key, _ in TABLES)
    assert counts == dict.fromkeys(ids, 1)
    assert set(CLAIMS) == ids


@pytest.mark.parametrize('claim', CLAIMS.values(), ids=CLAIMS)
def test_a_claim_has_a_statement_and_words_of_its_documents(claim):
    assert claim.statement and claim.words and all(claim.words)
    assert claim.documents
    assert set(claim.documents) <= {'000', '001', '002', '003', '004'}


@pytest.mark.parametrize(('key', 'table'), TABLES, ids=[key for key, _ in TABLES])
def test_a_claim_has_its_own_rule_or_that_of_another_or_a_reason_for_none(key, table):
    settled = 'check' in table or 'study' in table
    assert ('rule' in table) == settled
    assert [settled, 'same' in table, 'reason' in table].count(True) == 1
    assert ('expected' in table) == ('check' in table)
    assert table.get('expected', 'confirmed') in ('confirmed', 'refuted', 'undecided')


def test_a_claim_that_is_the_same_as_another_has_that_one_s_verdict():
    for key, table in TABLES:
        if 'same' in table:
            assert table['same'] in OWN
            claim, other = CLAIMS[key], CLAIMS[table['same']]
            assert (claim.rule, claim.command != '') == (other.rule, True)


@pytest.mark.parametrize('key', [k for k, table in OWN.items() if 'rule' in table])
def test_a_rule_says_in_numbers_what_confirms_and_what_refutes(key):
    rule = OWN[key]['rule']
    assert re.search(r'\b[Cc]onfirmed: ', rule)
    assert re.search(r'\b[Rr]efuted: ', rule)
    if 'study' in OWN[key]:
        assert re.search(r'\d', rule)
        assert re.search(r'\b\d+ seeds', rule)


@pytest.mark.parametrize('check', CHECKS)
def test_a_check_that_is_named_is_there(check):
    module, name = check.split('.')
    found = getattr(importlib.import_module(f'{exact.__name__}.{module}'), name)
    assert _is_check(found)


def test_every_check_is_named_by_a_claim():
    for module in pkgutil.iter_modules(exact.__path__):
        contents = vars(importlib.import_module(f'{exact.__name__}.{module.name}'))
        here = {
            f'{module.name}.{name}'
            for name, value in contents.items()
            if _is_check(value) and value.__module__.endswith(module.name)
        }
        assert {name for name in here if '._' not in name} <= set(CHECKS)


def _is_check(value):
    return callable(value) and (
        getattr(value, '__annotations__', {}).get('return') is Finding
    )


@pytest.mark.parametrize('study', STUDIES)
def test_a_study_says_that_it_settles_the_claims_that_name_it(study):
    text = ast.get_docstring(ast.parse((CONFIGS / f'{study}.py').read_text()))
    settles = re.search(r'^Settles: (.*?)\n[A-Z]\w+:', text, re.DOTALL | re.MULTILINE)
    named = set(re.findall(r'\b[SEM]\d+\b', settles[1]))
    own = {key for key, table in OWN.items() if table.get('study') == study}
    assert named & OWN.keys() == own


if DOCUMENTS:

    def test_the_words_of_a_claim_are_those_of_its_documents():
        texts = {
            path.name[:3]: path.read_text(encoding='utf-8')
            for path in pathlib.Path(DOCUMENTS).glob('00[0-4]*.txt')
        }
        assert len(texts) == 5
        for claim in CLAIMS.values():
            own = [texts[document] for document in claim.documents]
            for words in claim.words:
                assert any(words in text for text in own), (claim.id, words)
            for text in own:
                assert any(words in text for words in claim.words), claim.id
