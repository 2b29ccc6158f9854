"""The command before it trains: the listing, the help."""

import subprocess
import sys

import pytest
from commands import TINY, TRAIN, enter

from bnjax import config
from bnjax.cli import main


@pytest.fixture
def here(tmp_path, monkeypatch):
    return enter(tmp_path, monkeypatch)


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
    flags = ('--config', '--workdir', '--data_dir', '--quiet')
    assert all(flag in out for flag in flags)


def test_help_says_of_which_networks_a_field_is(here, capsys):
    assert main(['train.py', '--help']) == 0
    rows = capsys.readouterr().out.splitlines()
    (depth,) = (row for row in rows if row.startswith('| `model.depth` |'))
    (block,) = (row for row in rows if row.startswith('| `model.block` |'))
    assert depth.endswith('; resnet only |') and block.endswith('; resnet only |')


def test_a_mistake_in_a_real_process(here):
    command = [sys.executable, TRAIN, '--config=no.py']
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr.startswith('train.py: --config=no.py does not exist;')
    assert len(done.stderr.splitlines()) == 1
