"""Damage and poor conditions, on the disk and around: a line that names the cure."""

import contextlib
import errno
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import jax
import pytest
from commands import ARGUMENTS, TRAIN, enter, refusal

from bnjax import execution
from bnjax.cli import main

pytestmark = pytest.mark.usefixtures('compiled_once')


@pytest.fixture
def here(tmp_path, monkeypatch):
    return enter(tmp_path, monkeypatch)


# The work directory


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A sweep of one trial that is done; nobody writes into it."""
    directory = tmp_path_factory.mktemp('finished')
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(None):
        enter(directory, patch)
        assert main([*ARGUMENTS, *ONE]) == 0
    return directory / 'work'


ONE = ('--config.seed=0', '--config.model.placement=none', '--quiet')


@pytest.fixture
def again(here, finished):
    """A copy of it, to run in again."""
    return pathlib.Path(shutil.copytree(finished, here / 'work'))


@pytest.mark.parametrize(
    ('name', 'code'),
    [
        ('work', errno.ENOTDIR),
        ('work/trials', errno.EEXIST),
        ('work/figures', errno.EEXIST),
    ],
)
def test_a_file_where_a_directory_should_be_is_named(here, capsys, name, code):
    place = pathlib.Path(name)
    place.parent.mkdir(exist_ok=True)
    place.write_text('mine')
    line = refusal(capsys, *ARGUMENTS)
    assert f'--workdir=work cannot be written ({os.strerror(code)}: ' in line
    assert 'give another with --workdir=DIR' in line
    assert place.read_text() == 'mine'


@pytest.mark.parametrize('name', ['config.json', 'trials.csv', 'report.html'])
def test_a_directory_where_a_file_should_be_is_named(again, capsys, name):
    (again / name).unlink()
    (again / name).mkdir()
    line = refusal(capsys, *ARGUMENTS, *ONE)
    assert line.startswith(f'work/{name}: Is a directory; mend it')
    assert not list(again.rglob('.*.*.*')), 'no temporary file is left'


@pytest.mark.parametrize('code', [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_disk_that_takes_no_more_is_one_line(here, capsys, monkeypatch, code):
    left = iter(range(2))  # config.json and the curves of a trial; not its record

    def full(handle):
        if next(left, None) is None:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, 'fsync', full)
    line = refusal(capsys, *ARGUMENTS, *ONE)
    assert os.strerror(code) in line and 'the same command goes on' in line
    assert not list((here / 'work' / 'trials').glob('*.json'))
    assert not list((here / 'work').rglob('.*.*.*')), 'no temporary file is left'


def test_a_directory_that_cannot_be_written_is_named(here, capsys, monkeypatch):
    def read_only(dir, **_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), f'{dir}/x')

    monkeypatch.setattr(tempfile, 'TemporaryFile', read_only)
    line = refusal(capsys, *ARGUMENTS)
    assert '--workdir=work cannot be written (Read-only file system' in line
    assert 'give another' in line


DAMAGE = {
    'cut short': lambda text: text[: len(text) // 2],
    'empty': lambda text: '',
    'edited': lambda text: text.replace('"status": "done"', '"status": "failed"'),
    'a list': lambda text: '[]',
    'of a newer schema': lambda text: text.replace('"schema": 1', '"schema": 9'),
}


@pytest.mark.parametrize('damage', DAMAGE)
def test_a_damaged_record_is_named_and_its_trial_trained_again(
    again, finished, capsys, damage
):
    (record,) = (again / 'trials').glob('*.json')
    whole = record.read_text()
    record.write_text(DAMAGE[damage](whole))
    assert main([*ARGUMENTS, *ONE]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert record.stem in line and line.endswith('the trial is run again')
    made = json.loads(record.read_text())
    for name in ('metrics', 'config', 'status'):
        assert made[name] == json.loads(whole)[name]


@pytest.mark.parametrize(
    'content',
    [
        *('', '[]', '"text"', '{"programs": null}'),
        '{"programs": {"a": {"width": 0}}}',
        *('{"fields": [], "trials": 3}', '{"fields": ["model.name"], "jax": {}}'),
        '{"schema": 99, "programs": [], "begun with": 3}',
    ],
)
def test_a_damaged_config_json_is_no_traceback(again, capsys, content):
    (again / 'config.json').write_text(content)
    assert main([*ARGUMENTS, *ONE]) == 0
    assert 'Traceback' not in capsys.readouterr().err
    assert json.loads((again / 'config.json').read_text())['programs']


def test_a_name_with_spaces_and_umlauts_is_a_name(again, here, capsys):
    name = 'bnjax läuft, 日本 & <b>'
    again.rename(here / name)
    assert main(['train.py', '--config=tiny.py', f'--workdir={name}', *ONE]) == 0
    assert f'report: {name}/report.html\n' in capsys.readouterr().out
    assert '<b>' not in (here / name / 'report.html').read_text()


# The environment


def test_no_device_is_one_line(here, capsys, monkeypatch):
    def no_devices():
        raise RuntimeError("Unable to initialize backend 'nonsense':\nnot known")

    monkeypatch.setattr(jax, 'devices', no_devices)
    line = refusal(capsys, *ARGUMENTS)
    assert "backend 'nonsense': not known" in line
    assert 'set or unset JAX_PLATFORMS' in line


@pytest.mark.parametrize('name', ['HOME', 'XDG_CACHE_HOME'])
def test_a_cache_that_cannot_be_written_stops_nothing(again, monkeypatch, name, capsys):
    monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    monkeypatch.setenv(name, str(again / 'config.json'))
    before = jax.config.jax_compilation_cache_dir
    assert main([*ARGUMENTS, *ONE]) == 0
    assert jax.config.jax_compilation_cache_dir == before
    assert capsys.readouterr().err == ''


def test_a_program_too_large_is_refused_before_it_runs(here, capsys, monkeypatch):
    monkeypatch.setattr(execution, '_free_memory', lambda: 10)
    assert main([*ARGUMENTS, *ONE]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert 'MemoryError' in line and 'give a smaller batch_size' in line


def test_neither_backend_nor_encoding_nor_a_strange_path_stops_anything(again):
    command = [os.fsencode(each) for each in (sys.executable, TRAIN, *ARGUMENTS[1:])]
    again.rename(os.fsdecode(b'work\xff'))
    environment = {'MPLBACKEND': 'nonsense', 'PYTHONIOENCODING': 'ascii'}
    done = subprocess.run(
        [*command, b'--workdir=work\xff', *ONE],
        env=os.environ | environment,
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b'')
    assert b'report: work?/report.html' in done.stdout


@pytest.mark.parametrize('stream', ['stdout', 'stderr'])
def test_a_reader_that_goes_away_is_no_error(here, stream):
    """In a process of its own, as `| head` has it."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, TRAIN, '--help' if stream == 'stdout' else '--config=no']
    pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, stream: write}
    with subprocess.Popen(command, **pipes) as process:
        os.close(write)
        out, err = process.communicate()
    assert process.returncode == 141 and not out and not err


def test_the_results_are_kept_though_nobody_reads_them(again, monkeypatch):
    class Gone:
        def write(self, text):
            raise BrokenPipeError(errno.EPIPE, 'Broken pipe')

        def flush(self):
            pass

        def fileno(self):
            return nowhere

    nowhere = os.open(os.devnull, os.O_WRONLY)
    (again / 'report.html').unlink()
    monkeypatch.setattr(sys, 'stdout', Gone())
    monkeypatch.setattr(sys, 'stderr', Gone())
    assert main([*ARGUMENTS, *ONE]) == 141
    assert (again / 'report.html').exists() and (again / 'trials.csv').exists()
    os.close(nowhere)
