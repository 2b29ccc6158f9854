"""A config file becomes trials, or one line that says what is wrong with it."""

import dataclasses
import sys

import pytest
from sweeps import trial

from bnjax import config
from bnjax.errors import UserError
from bnjax.study import load, refined, verdicts

GET = """\
'''Does it matter?

It does.
'''
from bnjax import config
def get_config(arg=None):
    fields = config.defaults()
    fields.epochs = int(arg or 1)
    return fields
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Writes a config file and loads it, by a relative path as a user would."""
    monkeypatch.chdir(tmp_path)

    def write_and_load(text, argument='', **pins):
        (tmp_path / 'mine.py').write_text(text)
        pins = {name.replace('__', '.'): value for name, value in pins.items()}
        return load(f'mine.py{argument}', pins)

    return write_and_load


def sweep(*calls):
    return GET + '\n'.join(
        ['def sweep(add):', *(f'    add(**{call!r})' for call in calls), '']
    )


def test_a_file_without_a_sweep_is_one_trial(study):
    asked = study(GET)
    assert (asked.name, asked.description) == ('mine', 'Does it matter?\n\nIt does.')
    assert len(asked.trials) == 1 and asked.swept == ()
    assert set(asked.trials[0].config) == set(config.FIELDS)
    assert asked.trials[0].config['epochs'] == 1


def test_what_follows_the_colon_is_handed_to_get_config(study):
    assert study(GET, ':7').trials[0].config['epochs'] == 7


def test_swept_are_the_fields_that_differ_seed_apart(study):
    asked = study(
        sweep(
            {'optimizer.learning_rate': 0.1, 'seed': 0, 'model.placement': 'none'},
            {'optimizer.learning_rate': 0.2, 'seed': 1, 'model.placement': 'none'},
        )
    )
    assert asked.swept == ('optimizer.learning_rate',)
    assert [t.config['optimizer.learning_rate'] for t in asked.trials] == [0.1, 0.2]
    assert [t.config['seed'] for t in asked.trials] == [0, 1]


def test_a_field_that_one_trial_leaves_at_its_default_is_swept(study):
    asked = study(sweep({}, {'model.placement': 'after'}))
    assert asked.swept == ('model.placement',)
    assert [t.config['model.placement'] for t in asked.trials] == ['before', 'after']


def test_trials_that_a_pin_makes_equal_are_one(study):
    placements = [
        {'model.placement': p, 'seed': s} for p in ('none', 'after') for s in (0, 1)
    ]
    asked = study(sweep(*placements), model__placement='before')
    assert [t.config['seed'] for t in asked.trials] == [0, 1]
    assert {t.config['model.placement'] for t in asked.trials} == {'before'}
    assert asked.swept == ()


def test_a_trial_asked_for_twice_is_one(study):
    asked = study(
        sweep({'optimizer.learning_rate': 1}, {'optimizer.learning_rate': 1.0})
    )
    assert len(asked.trials) == 1


def test_a_pin_stands_above_get_config(study):
    assert study(GET, epochs=3).trials[0].config['epochs'] == 3


def test_a_plain_dict_and_lists_will_do(study):
    asked = study(
        GET.replace('return fields', 'fields.model.features = [8, 8]; return fields')
    )
    assert asked.trials[0].config['model.features'] == (8, 8)
    asked = study(GET.replace('return fields', 'return fields.to_dict()'))
    assert len(asked.trials) == 1


def test_the_file_is_read_as_it_stands_now(study, monkeypatch):
    """An edit of the same length within a second, which bytecode caches miss."""
    monkeypatch.setattr(sys, 'dont_write_bytecode', False)
    seeds = [study(sweep({'seed': s})).trials[0].config['seed'] for s in (3, 4, 5)]
    assert seeds == [3, 4, 5]


BROKEN = {
    'a syntax error': ('x = (\n', 'mine.py:1: SyntaxError'),
    'an error at import': ("''\n1 / 0\n", 'mine.py:2: ZeroDivisionError'),
    'an import that is not there': (
        'import no_such_module\n',
        'mine.py:1: ModuleNotFoundError',
    ),
    'an error in get_config': (
        GET.replace('    return fields', '    1 / 0'),
        'mine.py:9: ZeroDivisionError',
    ),
    'an exit': ('import sys\nsys.exit(0)\n', 'mine.py:2: SystemExit'),
    'an error of two lines': ("raise ValueError('a\\nb')\n", 'mine.py:1: ValueError'),
    'no get_config': ('x = 1\n', 'no get_config'),
    'get_config is no function': ('get_config = 3\n', 'no get_config'),
    'get_config takes no argument': (
        GET.replace('arg=None', '').replace('arg or', ''),
        'mine.py',
        ':short',
    ),
    'a sweep that is no function': (GET + 'sweep = 3\n', 'mine.py'),
    'an empty sweep': (GET + 'def sweep(add): pass\n', 'adds no trial'),
    'an error in sweep': (GET + 'def sweep(add): 1 / 0\n', 'mine.py:10: ZeroDiv'),
    'a misspelt field in get_config': (
        GET.replace('.epochs', '.model.placment'),
        'no field model.placment; did you mean model.placement',
    ),
    'a misspelt group in get_config': (
        GET.replace('.epochs', '.modle.placement'),
        'modle',
    ),
    'a wrong type in get_config': (GET.replace('int(arg or 1)', "'x'"), 'epochs'),
    'a wrong value in get_config': (
        GET.replace('int(arg or 1)', '0'),
        'epochs=0 must be at least 1',
    ),
    'a misspelt field in sweep': (
        sweep({}, {'model.placment': 'none'}),
        'mine.py:12: there is no field model.placment; did you mean model.placement',
    ),
    'a wrong type in sweep': (
        sweep({'epochs': 1.5}),
        'mine.py:11: epochs=1.5 must be a whole number',
    ),
    'a wrong value in sweep': (
        sweep({'optimizer.learning_rate': -1}),
        'mine.py:11: optimizer.learning_rate=-1.0 must be at least 0',
    ),
    'a group in sweep': (sweep({'model': 'mlp'}), 'no field model'),
    'a positional value in sweep': (GET + 'def sweep(add): add(1)\n', 'mine.py:10'),
}


@pytest.mark.parametrize('case', BROKEN)
def test_a_broken_file_is_one_line_with_its_place(study, case):
    text, expected, *argument = BROKEN[case]
    with pytest.raises(UserError) as caught:
        study(text, *argument)
    message = str(caught.value)
    assert expected in message
    assert 'mine.py' in message
    assert '\n' not in message and '\\n' not in message


@pytest.mark.parametrize('value', ['None', '[1]', "'mlp'", '3', 'config'])
def test_get_config_that_returns_something_else_is_told_what_to_return(study, value):
    with pytest.raises(UserError) as caught:
        study(GET.replace('return fields', f'return {value}'))
    message = str(caught.value)
    assert 'mine.py' in message and 'get_config' in message
    assert 'ConfigDict' in message or 'defaults()' in message


def test_get_config_that_lacks_a_field_names_it(study):
    with pytest.raises(UserError, match='no field data.name.*defaults'):
        study(GET.replace('return fields', 'return {}'))
    with pytest.raises(UserError, match='no field seed'):
        study(GET.replace('return fields', 'del fields.seed; return fields'))


@pytest.mark.parametrize('path', ['no.py', '.', 'mine.txt', '', ':short'])
def test_a_path_that_is_no_config_is_named(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mine.txt').write_text(GET)
    with pytest.raises(UserError, match='^--config=') as caught:
        load(path, {})
    assert 'lists the configs' in str(caught.value)


def test_a_sweep_may_look_at_the_fields_it_starts_from(study):
    text = GET + 'def sweep(add, fields):\n    add(seed=fields.epochs)\n'
    assert study(text, ':7').trials[0].config['seed'] == 7


REFINE = """
def refine(add, results):
    best = results.where(steps=2).best()
    add(steps=4, **{'optimizer.learning_rate': best})
"""


def finished(asked):
    """Records of its trials; the smallest learning rate is the best."""
    return [
        dataclasses.replace(trial({'seed': 0}), config=t.config, metrics=scores(t))
        for t in asked.trials
    ]


def scores(trial):
    value = 1 - trial.config['optimizer.learning_rate']
    losses = {'train_loss': 0.1, 'test_loss': 0.1}
    return losses | {'validation_accuracy': value, 'test_accuracy': value}


def test_refine_adds_trials_to_those_that_are_finished(study):
    rates = [{'steps': 2, 'optimizer.learning_rate': r} for r in (0.2, 0.1)]
    asked = study(sweep(*rates) + REFINE)
    further = refined(asked, finished(asked))
    assert further.trials[:2] == asked.trials
    added = further.trials[2].config
    assert (added['steps'], added['optimizer.learning_rate']) == (4, 0.1)
    assert set(further.swept) == {'steps', 'optimizer.learning_rate'}
    assert refined(further, finished(further)).trials == further.trials


def test_without_refine_nothing_is_added(study):
    asked = study(GET)
    assert refined(asked, finished(asked)) is asked
    assert verdicts(asked, finished(asked)) == []


def test_what_goes_wrong_in_refine_or_verdict_is_one_line_with_its_place(study):
    wrong = (
        'def refine(add, results):\n    add(**{"model.nam": "mlp"})\n'
        'def verdict(results):\n    return results.where(seed=99)\n'
    )
    asked = study(GET + wrong)
    with pytest.raises(UserError, match=r'mine\.py:11: there is no field model\.nam'):
        refined(asked, finished(asked))
    with pytest.raises(UserError, match=r'mine\.py:13: ValueError: .*no trial has'):
        verdicts(asked, finished(asked))
