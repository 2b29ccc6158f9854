"""A small config file, and commands that must be refused."""

import pathlib
import sys

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


def enter(directory, monkeypatch):
    """Makes it the working directory: empty but for tiny.py, no data set prepared."""
    monkeypatch.chdir(directory)
    monkeypatch.setenv('TFDS_DATA_DIR', str(directory / 'no-tfds'))
    monkeypatch.setattr(sys, 'dont_write_bytecode', True)
    (directory / 'tiny.py').write_text(TINY)
    return directory


def refusal(capsys, *arguments):
    """The one line on stderr of a command that must exit with 2."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == '' and len(err.splitlines()) == 1, err
    return err
