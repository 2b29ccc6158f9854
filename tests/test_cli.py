"""The command before it trains: mistakes, the listing, the help."""

import pathlib
import subprocess
import sys

import pytest

from bnjax import config
from bnjax.cli import main

TRAIN = str(pathlib.Path(__file__).parents[1] / 'train.py')
TINY = """\
'''Does the place matter?

More of it.
'''
from bnjax import config

def get_config():
    fields = config.defaults()
    fields.model.features = (8,)
    fields.epochs = 1
    return fields

def sweep(add):
    for placement in ('none', 'before'):
        for seed in (0, 1):
            add(**{'model.placement': placement, 'seed': seed})
"""
ARGUMENTS = ('train.py', '--config=tiny.py', '--workdir=work')


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty directory but for the config, and no data set prepared."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'no-tfds'))
    monkeypatch.setattr(sys, 'dont_write_bytecode', True)
    (tmp_path / 'tiny.py').write_text(TINY)
    return tmp_path


def refusal(capsys, *arguments):
    """The one line on stderr of a command that must exit with 2."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == '' and len(err.splitlines()) == 1, err
    return err


MISTAKES = {
    '--config=no.py': ('--config=no.py', 'lists the configs'),
    '--workdir=tiny.py': ('--workdir=tiny.py', 'give another'),
    '--workdir=tiny.py/a/b': ('--workdir=tiny.py/a/b', 'give another'),
    '--workdir=/proc/no/such': ('--workdir=/proc/no/such', 'give another'),
    'stray': ("'stray'", '--config.FIELD=VALUE'),
    '--no_such_flag': ('no_such_flag',),
    '--config.modle.name=mlp': ('modle.name', 'model.name'),
    '--config.sed=1': ('config.sed', 'config.seed'),
    '--config.epochs=1.5': ('epochs=1.5', 'whole number'),
    '--config.epochs=many': ("epochs='many'", 'whole number'),
    '--config.epochs': ('config.epochs',),
    '--config.data.name=mnits': ("data.name='mnits'", 'did you mean mnist'),
    '--config.model.activation=softmax': ('model.activation', 'one of', 'relu'),
    '--config.model.placement=befor': ('model.placement', 'did you mean before'),
    '--config.probes.names=gradient': ('probes.names', 'gradient_norm'),
    '--config.optimizer.learning_rate=-1': ('learning_rate=-1', 'at least 0'),
    '--config.optimizer.learning_rate=nan': ('learning_rate', 'finite number'),
    '--config.seed=-1': ('seed=-1', 'at least 0'),
    '--config.model.use_scale=maybe': ('use_scale', 'true or false'),
    '--config.batch_size=100000': ('batch_size=100000', 'at most', 'digits'),
    '--config.data.name=mnist': ('data.name', 'TFDS_DATA_DIR'),
}


@pytest.mark.parametrize('argument', MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(here, capsys, argument):
    line = refusal(capsys, *ARGUMENTS, argument)
    for part in MISTAKES[argument]:
        assert part in line
    assert [file.name for file in here.iterdir()] == ['tiny.py']


BROKEN = {
    'a syntax error': 'def get_config(:\n',
    'an error': TINY.replace('    return fields', '    1 / 0'),
    'an exit': 'raise SystemExit(0)\n',
    'no get_config': 'x = 1\n',
    'nothing returned': TINY.replace('    return fields', ''),
    'an empty sweep': TINY.replace("('none', 'before')", '()'),
    'a misspelt field': TINY.replace('.epochs', '.epocs'),
    'a misspelt field swept': TINY.replace("'model.placement'", "'model.place'"),
    'widths that differ': TINY.replace("'model.placement'", "'execution.width'")
    .replace("'none'", '2')
    .replace("'before', 'seed': seed", "4, 'seed': seed")
    .replace("'before'", '4')
    .replace("'seed': seed", "'seed': seed + 2 * placement"),
}


@pytest.mark.parametrize('text', BROKEN)
def test_a_broken_config_is_one_line_and_leaves_nothing(here, capsys, text):
    (here / 'tiny.py').write_text(BROKEN[text])
    line = refusal(capsys, *ARGUMENTS)
    assert 'tiny.py' in line or 'execution.width' in line
    assert [file.name for file in here.iterdir()] == ['tiny.py']


def test_without_config_it_lists_what_there_is(here, capsys):
    (here / 'configs').mkdir()
    (here / 'configs' / 'a.py').write_text(TINY)
    (here / 'configs' / 'b.py').write_text('x = (')
    (here / 'configs' / 'c.py').write_text('')
    (here / 'configs' / '.#a.py').symlink_to('no-such-lock-of-an-editor')
    assert main(['train.py']) == 2
    listing = capsys.readouterr().err
    assert 'configs/a.py: Does the place matter?\n' in listing
    assert 'configs/b.py' in listing and 'configs/c.py' in listing
    assert 'More of it' not in listing


def test_help_lists_every_field(here, capsys):
    assert main(['train.py', '--help']) == 0
    out, err = capsys.readouterr()
    assert err == '' and all(f'`{name}`' in out for name in config.FIELDS)
    assert '--config' in out and '--workdir' in out and '--data_dir' in out


def test_a_mistake_in_a_real_process(here):
    command = [sys.executable, TRAIN, '--config=no.py']
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr.startswith('train.py: --config=no.py does not exist;')
    assert len(done.stderr.splitlines()) == 1
