"""The fields: what each one takes; test_errors.py has what they refuse."""

import dataclasses
from typing import get_origin

import jax
import numpy as np
import pytest

from bnjax import config
from bnjax.config import FIELDS, Config, check, parse
from bnjax.errors import UserError


@pytest.mark.parametrize('name', FIELDS)
def test_a_default_passes_its_own_check_and_can_be_typed(name):
    default = FIELDS[name].default
    assert check(name, default) == default
    assert parse(name, str(default)) == default
    assert type(parse(name, str(default))) is type(default)


INCLUSIVE = [
    (name, bound)
    for name, field in FIELDS.items()
    for limit, bound in field.metadata['limits'].items()
    if limit in ('low', 'high')
]


@pytest.mark.parametrize(('name', 'bound'), INCLUSIVE)
def test_the_limits_themselves_are_allowed(name, bound):
    kind = FIELDS[name].type
    value = (bound,) if get_origin(kind) else kind(bound)
    assert check(name, value) == value


@pytest.mark.parametrize('name', FIELDS)
def test_every_choice_is_allowed(name):
    field = FIELDS[name]
    for choice in field.metadata['choices']:
        value = (choice,) if get_origin(field.type) else choice
        assert check(name, value) == value


@pytest.mark.parametrize('name', FIELDS)
def test_every_field_has_help_of_one_line(name):
    assert FIELDS[name].metadata['help'].strip()
    assert '\n' not in FIELDS[name].metadata['help']


FIXED_NAMES = (
    *('data.name', 'data.preprocess', 'data.validation_percent'),
    *('model.name', 'model.placement', 'model.activation', 'model.features'),
    *('model.use_scale', 'model.use_bias', 'model.momentum', 'model.epsilon'),
    *('model.init', 'optimizer.name', 'optimizer.learning_rate'),
    *('optimizer.momentum', 'optimizer.weight_decay', 'batch_size', 'epochs'),
    *('steps', 'seed', 'probes.names', 'probes.every', 'execution.width'),
)


def test_the_fields_that_outsiders_name_are_there():
    assert set(FIXED_NAMES) <= set(FIELDS)


@pytest.mark.parametrize(
    ('misspelt', 'meant'),
    [
        ('model.placment', 'model.placement'),
        ('optimizer.learning_rat', 'optimizer.learning_rate'),
        ('modle.name', 'model.name'),
        ('sed', 'seed'),
    ],
)
def test_a_misspelt_field_is_named_with_the_one_that_was_meant(misspelt, meant):
    with pytest.raises(UserError, match=f'{misspelt}; did you mean {meant}') as caught:
        check(misspelt, 0)
    assert '\n' not in str(caught.value)


def test_a_misspelt_choice_is_answered_with_the_near_one():
    with pytest.raises(UserError, match='did you mean before'):
        check('model.placement', 'befor')
    with pytest.raises(UserError, match='did you mean sigmoid'):
        check('model.activation', 'sigmod')


@pytest.mark.parametrize(
    ('name', 'text', 'value'),
    [
        ('optimizer.learning_rate', '1', 1.0),
        ('optimizer.learning_rate', '3e-2', 0.03),
        ('model.use_bias', 'false', False),
        ('model.use_bias', 'True', True),
        ('model.features', '8', (8,)),
        ('model.features', '8,16', (8, 16)),
        ('model.features', '(8, 16)', (8, 16)),
        ('model.features', '[8]', (8,)),
        ('probes.names', 'gradient_norm', ('gradient_norm',)),
        (
            'probes.names',
            'gradient_norm,zero_fraction',
            ('gradient_norm', 'zero_fraction'),
        ),
        ('probes.names', "('gradient_norm',)", ('gradient_norm',)),
        ('probes.names', '()', ()),
        ('data.name', 'mnist', 'mnist'),
        ('seed', '4294967295', 2**32 - 1),
    ],
)
def test_a_value_is_typed_as_people_type_it(name, text, value):
    parsed = parse(name, text)
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('optimizer.learning_rate', 'nan'),
        ('optimizer.learning_rate', '1e999'),
        ('optimizer.learning_rate', '-0.1'),
        ('optimizer.learning_rate', ''),
        ('optimizer.learning_rate', '__import__("os")'),
        ('seed', '-1'),
        ('seed', '4294967296'),
        ('epochs', '1.5'),
        ('model.use_scale', 'maybe'),
        ('model.features', '8,x'),
        ('probes.names', 'gradient_nrom'),
    ],
)
def test_a_typed_value_that_is_wrong_is_refused_by_name(name, text):
    with pytest.raises(UserError, match=f'^{name}='):
        parse(name, text)


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        *(('epochs', '3'), ('model.features', 3), ('model.features', None)),
        *(('optimizer.learning_rate', 1e39), ('model.epsilon', 1e-50)),
        ('optimizer.learning_rate', 10**400),
    ],
)
def test_what_only_looks_like_a_value_is_refused(name, value):
    """Text for a number, a number for a tuple, what is none in float32."""
    with pytest.raises(UserError, match=f'^{name}=.* must be '):
        check(name, value)


@pytest.mark.parametrize(
    ('name', 'value', 'plain'),
    [
        ('optimizer.learning_rate', np.float64(0.25), 0.25),
        ('optimizer.learning_rate', np.float32(0.25), 0.25),
        ('seed', np.int64(3), 3),
        ('model.features', (np.int64(8),), (8,)),
        ('model.use_bias', np.bool_(False), False),
    ],
)
def test_a_number_of_numpy_becomes_a_plain_one(name, value, plain):
    """Sweeps are written with np.logspace and np.arange."""
    checked = check(name, value)
    assert checked == plain
    items = checked if isinstance(checked, tuple) else (checked,)
    assert all(type(item) in (int, float, bool) for item in items)


def test_a_whole_number_becomes_a_float_where_a_float_is_meant():
    assert type(check('optimizer.learning_rate', 1)) is float


def test_activations_are_the_elementwise_functions_of_jax_nn():
    x = np.array([-1.0, 1.0], 'f4')

    def elementwise(function):
        try:  # softmax fails on a scalar, logsumexp reduces, log1mexp wants x > 0
            each = [function(x[0]), function(x[1])]
            return np.isfinite(each).all() and np.allclose(function(x), each)
        except Exception:
            return False

    found = {name for name in dir(jax.nn) if elementwise(getattr(jax.nn, name))}
    assert found == set(config.ACTIVATIONS)


def test_defaults_and_config_are_the_same_fields():
    flat = config.flatten(config.defaults())
    assert set(flat) == set(FIELDS)
    assert {n: check(n, v) for n, v in flat.items()} == flat
    assert config.build(flat) == Config()


def test_defaults_can_be_edited_without_touching_the_next_ones():
    config.defaults().model.features = (1,)
    assert config.defaults().model.features == Config().model.features


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 1
