"""Mistakes in the command, the config and the data: each a line that names the cure."""

import pathlib

import pytest
from commands import ARGUMENTS, TINY, enter, refusal


@pytest.fixture
def here(tmp_path, monkeypatch):
    return enter(tmp_path, monkeypatch)


# The command line

MISTAKES = {
    '--config=no.py': ('--config=no.py', 'lists the configs'),
    '--config=.': ('--config=.', 'lists the configs'),
    '--config': ('config',),
    '--flagfile=no': ('no',),
    '--help=maybe': ('help=maybe',),
    '--workdir=tiny.py': ('--workdir=tiny.py', 'give another'),
    '--workdir=tiny.py/a/b': ('--workdir=tiny.py/a/b', 'give another'),
    '--workdir=/proc/no/such': ('--workdir=/proc/no/such', 'give another'),
    f'--workdir={300 * "x"}': ('File name too long', 'give another'),
    'stray': ("'stray'", '--config.FIELD=VALUE'),
    'verirrt-ä-\n': ('verirrt-ä', '--config.FIELD=VALUE'),
    '--no_such_flag': ('no_such_flag', '--help'),
    '--two\nlines': ('two lines', '--help'),
    '--config.modèle.name=mlp': ('modèle.name', 'model.name'),
    '--config.modle.name=mlp': ('modle.name', 'model.name'),
    '--config.sed=1': ('config.sed', 'config.seed'),
    '--config.epochs': ('config.epochs',),
    '--config.epochs=': ("epochs=''", 'whole number'),
    f'--config.epochs={3000 * "("}': ('epochs=', 'whole number'),
    '--config.epochs={[]}': ("epochs='{[]}'", 'whole number'),
    '--config.model.name=a\nb': (r"'a\nb'", 'one of'),
    '--config.model.activation=softmax': ('model.activation', 'one of', 'relu'),
    '--config.optimizer.learning_rate=__import__("os")': ('learning_rate', 'finite'),
    f'--config.optimizer.learning_rate={10**400}': ('learning_rate', 'finite'),
    f'--config.model.features={10**30}': ('model.features', 'at most'),
    f'--config.steps={10**10}': ('steps', 'at most'),
    f'--config.epochs={10**30}': ('steps', 'at most'),
    '--config.micro_batches=3': ('micro_batches=3', 'batch_size=64'),
    '--config.batch_size=100000': ('batch_size=100000', 'at most', 'digits'),
    '--config.data.images=1296': ('data.images=1296', 'at most 1295', 'digits'),
    '--config.optimizer.frozen=2': ('optimizer.frozen=2', 'at most 1', 'hidden'),
    '--config.data.name=mnist': ('data.name', 'TFDS_DATA_DIR', 'fetch it once'),
}


@pytest.mark.parametrize('argument', MISTAKES, ids=lambda text: text[:40])
def test_a_mistake_is_one_line_and_leaves_nothing(here, capsys, argument):
    line = refusal(capsys, *ARGUMENTS, argument)
    for part in MISTAKES[argument]:
        assert part in line
    assert [file.name for file in here.iterdir()] == ['tiny.py']


TOGETHER = {
    ('model.name=resnet', 'model.depth=21'): ('model.depth=21', 'nearest: 20 and 22'),
    ('model.name=cnn', 'model.features=2,2,2,2'): ('model.features', 'fewer'),
    ('model.name=resnet', 'model.features=4,2'): ('model.features=(4, 2)', 'below'),
    ('data.augment', 'data.preprocess=pca'): ('data.augment', 'zca'),
    ('model.epsilon=0.1', 'model.block=pre'): ('model.block', 'resnet'),
    ('model.name=rnn', 'model.norm=noisy'): ("model.norm='noisy'", 'batch or layer'),
    ('model.name=lstm', 'model.norm=constant_mean'): ('model.norm', "name='lstm'"),
}


@pytest.mark.parametrize('pins', TOGETHER)
def test_fields_that_do_not_go_together_are_named(here, capsys, pins):
    line = refusal(capsys, *ARGUMENTS, *(f'--config.{pin}' for pin in pins))
    for part in TOGETHER[pins]:
        assert part in line
    assert [file.name for file in here.iterdir()] == ['tiny.py']


# The config file

BROKEN = {
    'a syntax error': ('def get_config(:\n', 'tiny.py:1: SyntaxError'),
    'no text': (b'\x00\xff', 'tiny.py'),
    'an error': (TINY.replace('return fields', '1 / 0'), 'tiny.py:11: ZeroDivision'),
    'an error without end': (
        TINY.replace('return fields', 'return get_config()'),
        'RecursionError',
    ),
    'an exit': ('raise SystemExit(0)\n', 'tiny.py:1: SystemExit'),
    'no get_config': ('x = 1\n', 'no get_config()'),
    'nothing returned': (TINY.replace('    return fields', ''), 'returns None'),
    'an empty sweep': (TINY.replace("('none', 'before')", '()'), 'call add(...) in it'),
    'a sweep that is no function': (TINY + 'sweep = [1]\n', 'a function sweep(add)'),
    'a misspelt field': (TINY.replace('.epochs', '.epocs'), 'did you mean epochs'),
    'a misspelt field swept': (
        TINY.replace("'model.placement'", "'model.place'"),
        'did you mean model.placement',
    ),
    'a group as a field': (TINY.replace('.epochs', '.model'), 'no field model.name'),
    'widths that differ': (
        TINY.replace("'model.placement'", "'execution.width'")
        .replace("'none'", '2')
        .replace("'before'", '4')
        .replace("'seed': seed", "'seed': seed + 2 * placement"),
        'execution.width',
    ),
    'a sweep over nothing': (
        TINY.replace('model.placement', 'optimizer.decay_norm').replace(
            "'none', 'before'", 'False, True'
        ),
        'with optimizer.weight_decay=0.0; keep one',
    ),
}


@pytest.mark.parametrize('case', BROKEN)
def test_a_broken_config_is_one_line_and_leaves_nothing(here, capsys, case):
    text, expected = BROKEN[case]
    content = text if isinstance(text, bytes) else text.encode()
    (here / 'tiny.py').write_bytes(content)
    line = refusal(capsys, *ARGUMENTS)
    assert expected in line
    assert [file.name for file in here.iterdir()] == ['tiny.py']


def test_a_pin_that_leaves_two_arms_equal_in_effect_is_refused(here, capsys):
    """Where it leaves them equal in every field, they are one trial."""
    swept = TINY.replace('model.placement', 'model.epsilon')
    (here / 'tiny.py').write_text(swept.replace("'none', 'before'", '1e-5, 1e-3'))
    line = refusal(capsys, *ARGUMENTS, '--config.model.placement=none')
    assert 'model.epsilon=1e-05 and 0.001 give the same trial' in line
    assert "with model.placement='none'; keep one of the two there" in line
    assert [file.name for file in here.iterdir()] == ['tiny.py']


# Data

DATA = ('train.py', '--config=tiny.py', '--config.data.name=mnist')


@pytest.mark.parametrize('place', ['nowhere', 'tiny.py', 'äöü with spaces', '~'])
def test_a_data_set_that_is_not_there_is_answered_by_how_to_get_it(here, capsys, place):
    line = refusal(capsys, *DATA, f'--data_dir={place}')
    where = pathlib.Path(place).expanduser().absolute()
    assert "data.name='mnist'" in line and f'not prepared in {where};' in line
    assert 'set TFDS_DATA_DIR' in line and '.download_and_prepare()' in line


def test_a_data_set_that_is_damaged_is_answered_by_how_to_get_it(here, capsys):
    version = here / 'tfds' / 'mnist' / '3.0.1'
    version.mkdir(parents=True)
    (version / 'dataset_info.json').write_text('{')
    (version / 'mnist-train.array_record-00000-of-00001').write_bytes(b'no record')
    line = refusal(capsys, *DATA, '--data_dir=tfds')
    assert 'cannot read' in line and f'move {version} away' in line
