"""The command about claims: what it prints, runs, keeps and refuses."""

import json
import re

import pytest
from commands import enter

from bnjax.claims import __main__, checking, kept, page, studies
from bnjax.claims.finding import BrokenError, Finding
from bnjax.claims.register import CLAIMS
from bnjax.errors import UserError

STUDY = """\
'''Does batch norm keep the mean at zero?

Shows: nothing of interest.
'''
from bnjax import config
from bnjax.verdict import Verdict, above

def get_config(arg=None):
    fields = config.defaults()
    fields.seed = int(arg or 0)
    fields.model.features = (4,)
    fields.steps = 1
    return fields

def sweep(add, fields):
    for seed in range(fields.seed, fields.seed + 2):
        add(seed=seed)

def verdict(results):
    found = results.mean('test_accuracy')
    return [Verdict('S15', above(found, BOUND), 'test accuracy', found, (BOUND,))]

BOUND = 2.0

def tables(results):
    rows = [[str(len(results))]]
    return [{'title': 'Trials', 'caption': 'All.', 'head': ['n'], 'rows': rows}]
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A checkout with one tiny study, and nothing kept of any before."""
    enter(tmp_path, monkeypatch)
    (tmp_path / 'configs/claims').mkdir(parents=True)
    (tmp_path / 'docs').mkdir()
    (tmp_path / 'configs/claims/tiny.py').write_text(STUDY)
    monkeypatch.setattr(kept, 'FILE', tmp_path / 'verdicts.json')
    return tmp_path


def run(*arguments):
    return __main__.main(arguments)


def test_without_a_word_every_claim_stands_in_a_table(here, capsys):
    assert run() == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf'\b{claim}\b', shown) for claim in CLAIMS)


@pytest.fixture
def checks(monkeypatch):
    """Replaces the function of every check."""

    def replace(function):
        monkeypatch.setattr(checking, 'function_of', lambda claim: function)

    return replace


def test_a_check_that_comes_out_otherwise_is_red(checks, capsys):
    expected = CLAIMS['S8'].expected == 'confirmed'
    checks(lambda: Finding(expected, 'measured'))
    assert run('check', 'S8') == 0
    assert 'measured' in capsys.readouterr().out
    checks(lambda: Finding(not expected, 'measured'))
    assert run('check', 'S8') == 1
    assert '1 broken' in capsys.readouterr().out


def test_a_broken_library_and_missing_data_are_told_apart(checks, capsys):
    def broken():
        raise BrokenError('mean 3, must be 0')

    def absent():
        raise UserError('no data set')

    checks(broken)
    assert run('check', 'S8') == 1
    assert 'mean 3, must be 0' in capsys.readouterr().out
    checks(absent)
    assert run('check', 'S8') == 0
    assert '1 not run' in capsys.readouterr().out


def test_claims_that_name_one_check_share_one_run(checks):
    calls = []
    checks(lambda: Finding(not calls.append(1), 'measured'))
    shared = [c for c in CLAIMS.values() if c.check == CLAIMS['S8'].check]
    assert len(shared) > 1
    assert len(list(checking.checked(shared))) == len(shared)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('check', 'S99'), 'there is no claim S99; python -m bnjax.claims lists them'),
        (('run', 'S99'), 'there is no claim S99'),
        (('run', 'S8'), 'S8: no study settles it; use check'),
        (('run', 'S84'), 'S84: no study settles it; '),
        (('run', 'S3'), 'configs/claims/placement.py does not exist; run this in a'),
        (('run', 'tiny', '--seed=1'), '--seed=1 shares seeds with 0 to 100; give 0'),
        (
            ('write', '--docs=nowhere'),
            'nowhere/ does not exist; run this in a checkout',
        ),
        (('settle',), "invalid choice: 'settle'"),
        (('run', 'tiny', '--seed=x'), "invalid int value: 'x'"),
    ],
)
def test_a_mistake_is_one_line(here, capsys, arguments, message):
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert message in err and len(err.splitlines()) == 1 and out == ''


def test_a_study_is_run_kept_and_written_with_its_rule(here, capsys, monkeypatch):
    written = []
    monkeypatch.setattr(page, 'write', lambda docs, found: written.append(found))
    monkeypatch.setattr(checking, 'checked', lambda claims: [])
    assert run('run', 'tiny', '--quiet') == 0
    assert run('run', 'tiny', '--seed=100', '--quiet') == 0
    rule = json.loads((here / 'runs/claims/tiny/rule.json').read_text())
    assert rule['rule'] == studies.rule_digest(here / 'configs/claims/tiny.py')
    assert run('write') == 0
    [found] = written
    assert found == kept.read()
    settled = found['claims']['S15']
    assert settled['verdict'] == 'refuted' and settled['bounds'] == [2.0]
    assert settled['rule'] == settled['begun']['rule'] == rule['rule']
    assert settled['again']['seeds'] == 100
    study = found['studies']['tiny']
    assert study['trials'] == 2 and study['tables'][0]['rows'] == [['2']]
    capsys.readouterr()
    assert run() == 0
    assert re.search('S15 .*refuted', capsys.readouterr().out)


def test_a_broken_check_writes_nothing(here, checks, capsys):
    checks(lambda: Finding(None, 'measured'))
    assert run('write') == 1
    assert 'not written' in capsys.readouterr().err
    assert not kept.FILE.exists() and not list((here / 'docs').iterdir())


@pytest.mark.parametrize('text', ['{', '[1]', '{"claims": 3}'])
def test_damaged_verdicts_are_named_in_one_line(here, capsys, text):
    kept.FILE.write_text(text)
    assert run() == 2
    err = capsys.readouterr().err
    assert str(kept.FILE) in err and 'damaged' in err and len(err.splitlines()) == 1


def test_a_study_that_is_not_done_keeps_what_was_known(here, monkeypatch):
    at = studies.place('tiny', here / 'configs/claims', here / 'runs')
    assert studies.outcome(at) is None
    known = {'studies': {'tiny': 'known'}, 'claims': {}}
    kept.add_study(known, 'tiny', here / 'configs/claims', here / 'runs', here)
    assert known['studies'] == {'tiny': 'known'}


def test_the_digest_of_a_rule_is_of_its_code_alone(tmp_path):
    def digest(text):
        (tmp_path / 'rule.py').write_text(text)
        return studies.rule_digest(tmp_path / 'rule.py')

    rule = digest(STUDY)
    assert digest(STUDY.replace('nothing of interest', 'everything')) == rule
    assert digest(f'{STUDY}\n# a comment\n') == rule
    assert digest(STUDY.replace('BOUND = 2.0', 'BOUND = 0.5')) != rule
