"""`python -m bnjax.report RUNS...` reads work directories as one sweep."""

import dataclasses
import json

import numpy as np
import pytest
from sweeps import PLACEMENT, RATE, sweep

from bnjax import records
from bnjax.report import __main__ as command
from bnjax.report import runs


@pytest.fixture(autouse=True)
def without_figures(monkeypatch):
    """Figures are other tests' matter, and take time."""
    monkeypatch.setattr(command, 'drawn', lambda comparison: [])


def workdir(path, found, swept, **fields):
    """A work directory as `train.py` leaves it; `fields` are shared by its trials."""
    (path / 'trials').mkdir(parents=True)
    own = [{**r.config, **fields} for r in found]
    found = [
        dataclasses.replace(r, config=c, trial=records.identity(c))
        for r, c in zip(found, own, strict=True)
    ]
    for record in found:
        records.write(path, record)
    trials = {r.trial: {'seed': r.config['seed']} for r in found}
    config = {'swept': swept, 'fields': fields, 'trials': trials}
    records.write_json(path / 'config.json', config)
    return found


def placements(seeds=2):
    return sweep(seeds, **{PLACEMENT: ('none', 'before')})


def test_trials_that_their_own_sweeps_tell_apart_need_no_field_more(tmp_path):
    workdir(tmp_path / 'a', sweep(2, **{PLACEMENT: ('none',)}), [PLACEMENT])
    workdir(tmp_path / 'b', sweep(2, **{PLACEMENT: ('before',)}), [PLACEMENT])
    found = runs.read([str(tmp_path / 'a'), str(tmp_path / 'b')])
    assert found.swept == [PLACEMENT] and len(found.records) == 4
    assert found.warnings == []


def test_directories_of_the_same_settings_are_told_apart_by_their_names(tmp_path):
    for name, size in (('small', 32), ('large', 64)):
        workdir(tmp_path / name, placements(), [PLACEMENT], batch_size=size)
    found = runs.read([str(tmp_path / 'small'), str(tmp_path / 'large')])
    assert found.swept == ['run', PLACEMENT]
    assert {r.config['run'] for r in found.records} == {'small', 'large'}
    assert found.notes['small'].startswith('4 of 4 trials, batch_size 32; ')


def test_directories_of_one_name_are_told_apart_by_their_paths(tmp_path):
    for name, size in (('x', 32), ('y', 64)):
        workdir(tmp_path / name / 'run', placements(), [PLACEMENT], batch_size=size)
    found = runs.read([str(tmp_path / 'x/run'), str(tmp_path / 'y/run')])
    assert list(found.notes) == ['x/run', 'y/run']


def test_a_trial_that_two_directories_hold_counts_once(tmp_path):
    workdir(tmp_path / 'a', placements(2), [PLACEMENT])
    workdir(tmp_path / 'b', placements(3), [PLACEMENT])
    found = runs.read([str(tmp_path / 'a'), str(tmp_path / 'b'), f'{tmp_path}/a/.'])
    assert len(found.records) == 6 and found.swept == [PLACEMENT]
    assert found.warnings == [
        '4 trials in several directories: the first of them counts'
    ]


def test_the_command_writes_a_page_and_a_table(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    workdir(tmp_path / 'a', placements(), [PLACEMENT])
    workdir(
        tmp_path / 'b', sweep(2, **{RATE: (0.1, 0.01)}), [RATE], **{PLACEMENT: 'none'}
    )
    workdir(tmp_path / 'c', placements(3), [PLACEMENT], batch_size=8)
    assert command.main(['a', 'c']) == 0
    out, err = capsys.readouterr()
    assert 'Final test accuracy' in out and 'report: comparison.html' in out and not err
    text = (tmp_path / 'comparison.html').read_text()
    assert 'How do the trials of a and c compare?' in text
    assert '<dt>c</dt><dd>6 of 6 trials, batch_size 8; c</dd>' in text
    assert command.main(['a', 'b', '--output=both.html']) == 0
    assert (tmp_path / 'both.html').exists()


def test_a_damaged_record_is_left_out_and_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = workdir(tmp_path / 'a', placements(), [PLACEMENT])
    file = tmp_path / 'a/trials' / f'{found[0].trial}.json'
    file.write_text(file.read_text().replace('"done"', '"DONE"'))
    assert command.main(['a']) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert found[0].trial in line and line.endswith('it is left out')
    assert '3 of 4 trials' in (tmp_path / 'comparison.html').read_text()


def missing(path):
    return [str(path / 'nowhere')], 'nowhere does not exist'


def empty(path):
    (path / 'empty').mkdir()
    return [str(path / 'empty')], 'empty is no work directory'


def a_file(path):
    (path / 'file').write_text('x')
    return [str(path / 'file')], 'file is no work directory'


def other_json(path):
    (path / 'other').mkdir()
    (path / 'other/config.json').write_text(json.dumps({'trials': [1]}))
    return [str(path / 'other')], 'other is no work directory'


def unfinished(path):
    found = workdir(path / 'a', placements(), [PLACEMENT])
    for record in found:
        (path / 'a/trials' / f'{record.trial}.json').unlink()
    return [str(path / 'a')], 'no trial has finished'


def unreadable(path):
    (found, *_) = workdir(path / 'a', placements(), [PLACEMENT])
    file = path / 'a/trials' / f'{found.trial}.npz'
    file.unlink()
    file.mkdir()
    return [str(path / 'a')], f'{found.trial}.npz cannot be read (Is a directory)'


def no_output(path):
    workdir(path / 'a', placements(), [PLACEMENT])
    return [str(path / 'a'), f'--output={path}/none/x.html'], 'give another --output'


@pytest.mark.parametrize(
    'case', [missing, empty, a_file, other_json, unfinished, unreadable, no_output]
)
def test_what_cannot_be_compared_is_one_line_and_status_2(case, tmp_path, capsys):
    arguments, said = case(tmp_path)
    assert command.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('python -m bnjax.report: ') and said in line


def test_records_are_read_as_they_were_written(tmp_path):
    before = workdir(tmp_path / 'a', placements(), [PLACEMENT])
    (after,) = [r for r in runs.read([str(tmp_path / 'a')]).records[:1]]
    assert after.config == before[0].config
    np.testing.assert_array_equal(
        after.curves['test_loss'], before[0].curves['test_loss']
    )
