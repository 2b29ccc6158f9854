"""Every field, by every way in: what its declaration excludes is one line, exit 2."""

import re
from math import inf, nan
from typing import get_args, get_origin

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import ARGUMENTS, enter, refusal

from bnjax import config, effect, study, trial
from bnjax.config import FIELDS
from bnjax.data import Split
from bnjax.errors import UserError
from bnjax.models import network
from bnjax.optimizer import update_rule
from bnjax.values import LIMITS, WORDS

WRONG = {
    bool: ('maybe', 1, None),
    int: (True, 1.5, 'many', None),
    float: ('x', True, None, nan, inf, -inf),
    str: (3, True, None, ('mlp',)),
}
JUST_PAST = {
    'low': lambda low: low - 1,
    'above': lambda above: above,
    'high': lambda high: high + 1,
    'below': lambda below: below,
}


def excluded(name):
    """Values that the declaration of a field excludes, each with what is expected."""
    field = FIELDS[name]
    kind = get_args(field.type)[0] if get_origin(field.type) else field.type
    choices = field.metadata['choices'] or (name == 'model.activation') * ('relu',)
    for value in WRONG[kind]:
        # What is typed is always a name, if not one of the choices.
        yield value, 'one of' if choices else WORDS.get(kind, 'true or false')
    for limit, bound in field.metadata['limits'].items():
        yield JUST_PAST[limit](bound), f'{LIMITS[limit][0]} {bound}'
    if choices:
        yield '', choices[0]
        yield choices[0][:-1], f'did you mean {choices[0]}?'


def typed(here, name, value):
    return [*ARGUMENTS, f'--config.{name}={value}']


def swept(here, name, value):
    call = f'def sweep(add):\n    add(**{{{name!r}: {value!r}}})\n'
    return written(here, 'fields.seed = 0', call)


def edited(here, name, value):
    return written(here, f'fields.{name} = {value!r}', '')


def written(here, line, sweep):
    (here / 'tiny.py').write_text(
        'from math import inf, nan\n'
        'from bnjax import config\n'
        f'def get_config():\n    fields = config.defaults()\n    {line}\n'
        f'    return fields\n{sweep}'
    )
    return ARGUMENTS


@pytest.fixture
def here(tmp_path, monkeypatch):
    return enter(tmp_path, monkeypatch)


@pytest.mark.parametrize('way', [typed, swept, edited])
@pytest.mark.parametrize('name', FIELDS)
def test_what_a_declaration_excludes_is_refused_by_name(here, capsys, way, name):
    several = get_origin(FIELDS[name].type) is tuple
    for value, expected in excluded(name):
        if way is edited and value is True and FIELDS[name].type is float:
            continue  # a ConfigDict makes 1.0 of it
        line = refusal(capsys, *way(here, name, (value,) if several else value))
        shown, said = re.search(rf'\b{name}=(.*?) must be (.*)', line).groups()
        assert str(value) in shown, line
        if expected == 'one of' and not isinstance(value, str):
            assert 'one of' in said or 'a name' in said, line
        else:
            assert expected in said, line
        assert [file.name for file in here.iterdir()] == ['tiny.py']


# Fields without effect

KEY = jax.random.key(0)
NETWORKS = FIELDS['model.name'].metadata['choices']
OTHER = {
    'model.depth': 6,
    'model.block': 'pre',
    'model.statistics': 'per_step',
    'model.activation': 'tanh',
    'model.norm': 'layer',
    'model.scale': 0.5,
    'model.use_scale': False,
    'model.use_bias': False,
    'model.momentum': 0.5,
    'model.epsilon': 0.5,
    'optimizer.nesterov': True,
    'optimizer.epsilon': 0.5,
    'optimizer.decay_norm': True,
    'probes.every': 7,
}
OF = {n: f.metadata['of'] for n, f in FIELDS.items() if f.metadata['of']}
OFF = [
    (name, other, value)
    for name, field in FIELDS.items()
    for other, value in field.metadata['off'].items()
]


def loaded(*changes):
    """The trials as they are where a config file has been read."""
    flat = config.flatten(config.defaults())
    return [flat | change for change in changes]


def sized(name):
    """The smallest of its kind."""
    return {'model.name': name, 'model.features': (2,), 'model.depth': 4}


IMAGES = jnp.zeros((4, 4, 4, 1))


def as_text(function, *args):
    """All that is computed, but for the addresses of functions."""
    return re.sub(r'0x[0-9a-f]+', '', str(jax.make_jaxpr(function)(*args)))


def forward(fields):
    """A network's first state, its logits in training and the state they leave."""
    net = network(config.build(fields).model, classes=2)
    return as_text(lambda key: net.init_with_output(key, IMAGES, True), KEY)


def step(fields):
    """All that a training step changes."""
    cfg, split = config.build(fields), Split(IMAGES, jnp.zeros(4, 'int32'))
    state = jax.eval_shape(lambda: trial.init(cfg, 2, split))
    return as_text(lambda state: trial.step(cfg, 2, state, split, 0, 9)[:2], state)


def test_every_field_that_may_lack_an_effect_is_looked_at():
    assert set(OTHER) == {*OF, *(name for name, _, _ in OFF)}
    assert all(FIELDS[name].default != value for name, value in OTHER.items())


@pytest.mark.parametrize('of', NETWORKS)
def test_a_field_acts_on_the_networks_it_is_of_and_on_no_other(of):
    (plain,) = loaded(sized(of))
    expected = forward(plain)
    for name, networks in OF.items():
        acts = forward(plain | {name: OTHER[name]}) != expected
        assert acts == (of in networks), name


@pytest.mark.parametrize('name', OF)
def test_a_field_of_another_network_is_refused(here, capsys, name):
    for other in NETWORKS:
        pins = {'model.name': other, name: OTHER[name]}
        if other in OF[name]:
            study.load('tiny.py', pins)
        else:
            flags = [f'--config.{key}={value}' for key, value in pins.items()]
            line = refusal(capsys, *ARGUMENTS, *flags)
            assert f'{name}={OTHER[name]!r} has no effect on {other}' in line
            assert f'leave it at {FIELDS[name].default!r}' in line
    assert [file.name for file in here.iterdir()] == ['tiny.py']


@pytest.mark.parametrize(('name', 'other', 'value'), OFF)
def test_a_sweep_over_a_field_that_is_switched_off_is_refused(name, other, value):
    of = (OF.get(name) or ['mlp'])[0]
    on = {'optimizer.weight_decay': 0.1, 'probes.names': ('gradient_norm',)}
    on |= {'optimizer.name': 'adam'}
    two = loaded(*(on | {'model.name': of, name: v} for v in both(name)))
    effect.check(two)
    with pytest.raises(UserError, match=re.escape(f'{other}={value!r}')) as caught:
        effect.check([fields | {other: value} for fields in two])
    assert str(caught.value).startswith(f'{name}={both(name)[0]!r} and ')
    effect.check([fields | {other: value} for fields in two[1:]])


def both(name):
    return FIELDS[name].default, OTHER[name]


SWITCHES = {'model.placement': 'before', 'model.norm': 'batch'}


@pytest.mark.parametrize(
    ('name', 'switch'), [off[:2] for off in OFF if off[1] in SWITCHES]
)
def test_without_batch_norm_or_statistics_their_fields_have_no_effect(name, switch):
    (plain,) = loaded(sized('rnn') | {'optimizer.weight_decay': 0.5})
    if name != 'model.statistics':
        plain |= {'model.name': 'mlp'}
    off = FIELDS[name].metadata['off'][switch]
    for value in (off, SWITCHES[switch]):
        a, b = (plain | {switch: value, name: v} for v in both(name))
        alike = (forward(a), step(a)) == (forward(b), step(b))
        assert alike == (value == off)


@pytest.mark.parametrize('rule', FIELDS['optimizer.name'].metadata['choices'])
@pytest.mark.parametrize(('name', 'other'), [(n, o) for n, o, v in OFF if v == 0.0])
def test_a_rule_that_is_switched_off_moves_nothing(rule, name, other):
    params = {'norm': {'scale': jnp.array([3.0])}, 'hidden': {'bias': jnp.array([2.0])}}
    stats = {'norm': {'mean': jnp.zeros(1), 'var': jnp.ones(1)}}

    def moved(change):
        (fields,) = loaded({'optimizer.name': rule, name: OTHER[name]} | change)
        settings = config.build(fields).optimizer
        made = update_rule(settings, stats)
        state = made.init(params)
        for _ in range(2):
            direction, state = made.update(params, state, params)
        return np.array(jax.tree.leaves(direction))

    off, default = {other: 0.0}, {name: FIELDS[name].default}
    np.testing.assert_array_equal(moved(off), moved(off | default))
    assert (moved({other: 0.5}) != moved({other: 0.5} | default)).any()
