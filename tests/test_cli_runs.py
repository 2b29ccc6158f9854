"""The command when it trains: what it leaves behind, and how it goes on."""

import csv
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from commands import ARGUMENTS, TINY, TRAIN

from bnjax import config, data, program, records
from bnjax.cli import main
from bnjax.models import network
from bnjax.records import METRICS

TESTS = str(pathlib.Path(__file__).parent)

pytestmark = pytest.mark.usefixtures('compiled_once')


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty directory but for the config."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'dont_write_bytecode', True)
    (tmp_path / 'tiny.py').write_text(TINY)
    return tmp_path


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """The work directory of the tiny sweep; nobody writes into it."""
    directory = tmp_path_factory.mktemp('finished')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        (directory / 'tiny.py').write_text(TINY)
        assert main(ARGUMENTS) == 0
    return directory / 'work'


@pytest.fixture
def again(here, finished):
    """A copy of that directory, to run in again."""
    return pathlib.Path(shutil.copytree(finished, here / 'work'))


def kept(workdir):
    files = sorted((workdir / 'trials').iterdir())
    return {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in files}


def table(workdir):
    with open(workdir / 'trials.csv', newline='') as file:
        return list(csv.DictReader(file))


def test_a_sweep_leaves_tables_figures_and_a_page(finished):
    rows = table(finished)
    head, tail = ['trial', 'status', 'seed'], ['steps', 'seconds', 'bad_step']
    assert list(rows[0]) == [*head, 'model.placement', *METRICS, *tail]
    assert [(r['model.placement'], r['seed']) for r in rows] == [
        *(('none', '0'), ('none', '1')),
        *(('before', '0'), ('before', '1')),
    ]
    for row in rows:
        assert row['status'] == 'done' and row['bad_step'] == ''
        assert row['steps'] == '20' and 0 < float(row['seconds']) < 60
        assert all(0 <= float(row[m]) <= 1 for m in METRICS if 'accuracy' in m)
        assert all(0 < float(row[m]) < 10 for m in METRICS if 'loss' in m)
    ids = sorted(row['trial'] for row in rows)
    ends = ('json', 'npz')
    assert sorted(kept(finished)) == [f'{i}.{end}' for i in ids for end in ends]
    assert {f.suffix for f in (finished / 'figures').iterdir()} == {'.png'}
    page = (finished / 'report.html').read_text()
    assert 'Does the place matter?' in page
    assert len(list((finished / 'figures').iterdir())) == page.count('<img') > 0


def test_config_json_says_on_what_it_ran(finished):
    fields = json.loads((finished / 'config.json').read_text())
    assert {'bnjax', 'python', 'jax', 'flax', 'device', 'command'} <= set(fields)
    assert fields['swept'] == ['model.placement'] and len(fields['programs']) == 2
    assert sorted(fields['trials']) == sorted(row['trial'] for row in table(finished))


def test_the_same_command_again_trains_nothing(again, finished, monkeypatch, capsys):
    monkeypatch.delattr(program, 'compile_program')
    before = kept(again)
    assert main(ARGUMENTS) == 0
    assert kept(again) == before and table(again) == table(finished)
    assert 'report: work/report.html' in capsys.readouterr().out


def test_new_seeds_extend_a_sweep_and_pins_merge_it(again, finished, here):
    before = kept(again)
    (here / 'tiny.py').write_text(TINY.replace('(0, 1)', '(0, 1, 2)'))
    assert main([*ARGUMENTS, '--config.model.placement=before']) == 0
    rows = table(again)
    assert [row['seed'] for row in rows] == ['0', '1', '2']
    assert 'model.placement' not in rows[0]
    after = kept(again)
    assert len(after) == len(before) + 2 and before.items() <= after.items()
    page = (again / 'report.html').read_text()
    assert len(list((again / 'figures').iterdir())) == page.count('<img')


def test_damaged_records_are_trained_again(again, finished):
    rows = table(again)
    first, second = (again / 'trials' / row['trial'] for row in rows[:2])
    text = first.with_suffix('.json').read_text()
    first.with_suffix('.json').write_text(text[: len(text) // 2])
    second.with_suffix('.npz').write_bytes(b'PK')
    assert main(ARGUMENTS) == 0
    for old, new in zip(rows, table(again), strict=True):
        assert old | {'seconds': ''} == new | {'seconds': ''}


def test_an_image_too_small_for_the_network_is_refused_before_anything_runs(
    here, capsys
):
    pins = ('--config.model.name=cnn', '--config.model.features=2,2,2,2')
    assert main([*ARGUMENTS, *pins]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert 'model.features' in line and not (here / 'work').exists()


def test_a_trial_that_fails_makes_the_status_1(here, capsys, monkeypatch):
    compile_program = program.compile_program

    def compile_or_fail(static, *rest):
        if dict(static)['model.placement'] == 'before':
            raise MemoryError('no room')
        return compile_program(static, *rest)

    monkeypatch.setattr(program, 'compile_program', compile_or_fail)
    assert main([*ARGUMENTS, '--config.seed=0']) == 1
    out, err = capsys.readouterr()
    assert 'Traceback' not in err and 'no room' in err.splitlines()[-1]
    assert 'before (compiling): 1/2 trials' in err
    done, failed = table(here / 'work')
    assert (done['status'], failed['status']) == ('done', 'failed')
    assert all(failed[metric] == 'nan' for metric in METRICS)
    assert (here / 'work' / 'report.html').exists()


def test_no_hidden_layer_is_a_linear_model_or_a_mistake(here, capsys):
    pins = ('--config.model.features=()', '--config.probes.names=activation_mean')
    status = main([*ARGUMENTS, *pins])
    assert status == 0 or status == 2 and 'model.features' in capsys.readouterr().err


def test_a_sweep_interrupted_twice_ends_as_if_it_was_not(
    here, finished, monkeypatch, capsys
):
    write = records.write

    def interrupt(workdir, record):
        write(workdir, record)
        raise KeyboardInterrupt

    def terminate(workdir, record):
        write(workdir, record)
        signal.raise_signal(signal.SIGTERM)

    before = {}
    for stop, status, files in ((interrupt, 130, 2), (terminate, 143, 4)):
        with monkeypatch.context() as patch:
            patch.setattr(records, 'write', stop)
            assert main(ARGUMENTS) == status
        err = capsys.readouterr().err
        assert 'Traceback' not in err and 'same command' in err.splitlines()[-1]
        after = kept(here / 'work')
        assert len(after) == files and before.items() <= after.items()
        before = after
    assert main(ARGUMENTS) == 0
    assert before.items() <= kept(here / 'work').items()
    for row in table(finished):
        path = pathlib.Path('trials', f'{row["trial"]}.npz')
        with np.load(finished / path) as a, np.load(here / 'work' / path) as b:
            np.testing.assert_equal(dict(a), dict(b))


def test_a_process_that_is_terminated_keeps_what_it_has(here):
    """A real signal, in the middle of compiled work."""
    swept = TINY.replace('model.placement', 'epochs')
    (here / 'tiny.py').write_text(swept.replace("'none', 'before'", '1, 10**6'))
    command = [sys.executable, TRAIN, *ARGUMENTS[1:]]
    trials, until = here / 'work' / 'trials', time.monotonic() + 300
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while len(list(trials.glob('*.json'))) < 2 and time.monotonic() < until:
            assert process.poll() is None
            time.sleep(0.1)
        process.terminate()
        err = process.communicate()[1]
    assert process.returncode == 143 and 'Traceback' not in err
    assert 'same command' in err.splitlines()[-1]
    assert len(list(trials.glob('[!.]*'))) == len(list(trials.iterdir())) == 4


def test_a_work_directory_in_use_is_left_alone(again, capsys):
    before = (again / 'config.json').read_bytes(), kept(again)
    with records.opened(again):
        assert main([*ARGUMENTS, '--config.seed=5']) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert '--workdir=work' in line and str(os.getpid()) in line
    assert before == ((again / 'config.json').read_bytes(), kept(again))


@pytest.mark.parametrize('other', ['width=3', 'convolution=direct'])
def test_another_execution_than_the_first_is_refused(again, capsys, other):
    before = (again / 'config.json').read_bytes()
    assert main([*ARGUMENTS, f'--config.execution.{other}']) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f'execution.{other}' in line and '--workdir' in line
    assert before == (again / 'config.json').read_bytes()


def test_a_kill_while_writing_loses_no_finished_trial_and_repeats_none(here):
    """The second sweep is killed at a write, goes on, and ends as the first one.

    It finds the programs that the first compiled.
    """
    environment = os.environ | {
        'JAX_ENABLE_COMPILATION_CACHE': 'true',
        'XDG_CACHE_HOME': str(here / 'cache'),
    }

    def sweep(workdir, kill_at=0):
        call = f'import kills; kills.run({kill_at})'
        pins = ('--config=tiny.py', f'--workdir={workdir}')
        more = ('--config.execution.checkpoint_seconds=0', '--config.epochs=2')
        command = [sys.executable, '-c', call, *pins, *more]
        paths = os.pathsep.join(filter(None, [TESTS, os.environ.get('PYTHONPATH')]))
        return subprocess.run(
            command, env=environment | {'PYTHONPATH': paths}, capture_output=True
        ).returncode

    assert sweep('whole') == 0
    compiled = sorted((here / 'cache/bnjax/programs').glob('*-cache'))
    # Writes: config.json, a checkpoint, two records of two files each ...
    assert sweep('killed', kill_at=6) == -signal.SIGKILL
    before = kept(here / 'killed')
    assert sweep('killed') == 0
    after = kept(here / 'killed')
    finished = [name for name in before if name.endswith('.json')]
    assert finished and all(after[name] == before[name] for name in finished)
    rows = [
        [row | {'seconds': ''} for row in table(here / workdir)]
        for workdir in ('whole', 'killed')
    ]
    assert rows[0] == rows[1]
    assert compiled == sorted((here / 'cache/bnjax/programs').glob('*-cache')) != []
    assert not list((here / 'killed').rglob('.bnjax-*'))
    assert not list((here / 'killed' / 'checkpoints').iterdir())


SETTLED = f"""\
{TINY}
from bnjax.results import probe
from bnjax.verdict import Verdict, above

def refine(add, results):
    arm = results.where(**{{'model.placement': 'before', 'seed': range(2)}})
    assert len(arm) == 2
    for seed in (2, 3):
        add(seed=seed, keep_state=True, **{{'model.placement': 'before'}})

def verdict(results):
    before = results.where(**{{'model.placement': 'before', 'keep_state': True}})
    found = before.mean('test_accuracy')
    return [Verdict('S1', above(found, 0.0), 'test accuracy', found, (0.0,))]
"""


def test_a_sweep_is_refined_and_ends_in_verdicts(here, capsys):
    (here / 'tiny.py').write_text(SETTLED)
    assert main(ARGUMENTS) == 0
    assert 'S1 ' in (shown := capsys.readouterr().out) and 'confirmed' in shown
    rows = table(here / 'work')
    assert [row['seed'] for row in rows] == ['0', '1', '0', '1', '2', '3']
    [(claim, said)] = json.loads((here / 'work/verdicts.json').read_text()).items()
    assert (claim, said['verdict'], said['bounds']) == ('S1', 'confirmed', [0.0])
    mean = np.mean([float(row['test_accuracy']) for row in rows[4:]])
    assert said['interval'][0] == pytest.approx(mean) and said['interval'][3] == 2
    page = (here / 'work/report.html').read_text()
    assert '<h2>Verdicts</h2>' in page and '<td>confirmed</td>' in page
    before = kept(here / 'work')
    assert main(ARGUMENTS) == 0
    assert kept(here / 'work') == before


def test_a_kept_network_can_be_used_again(here):
    (here / 'tiny.py').write_text(SETTLED)
    assert main(ARGUMENTS) == 0
    row = table(here / 'work')[-1]
    record = records.read(here / 'work', row['trial'])
    net = network(config.build(record.config).model, 10)
    test = data.load('digits').test
    logits = net.apply(records.variables_of(record), test.x, train=False)
    right = float((logits.argmax(-1) == test.y).mean())
    assert right == pytest.approx(float(row['test_accuracy']), abs=1e-6)
    plain = records.read(here / 'work', table(here / 'work')[0]['trial'])
    assert records.variables_of(plain) == {}
