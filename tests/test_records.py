"""The work directory: whole records or none, and nothing that raises."""

import csv
import dataclasses
import json
import math
import os
import random

import numpy as np
import pytest

from bnjax import config, records
from bnjax.errors import UserError
from bnjax.records import METRICS, Record, identity

FLAT = {
    name: config.check(name, value)
    for name, value in config.flatten(config.defaults()).items()
}
TRIAL = identity(FLAT)


def record(**changes):
    curves = {'epoch': np.arange(2)} | {m: np.array([np.nan, 0.5]) for m in METRICS}
    probe = {
        'probe_step': np.array([0]),
        'probe/gradient_norm': np.ones((1, 2)),
        'layers/gradient_norm': np.array(['hidden_0', 'output']),
    }
    metrics = dict.fromkeys(METRICS, 0.1) | {'validation_loss': math.nan}
    made = Record(TRIAL, 'done', FLAT, metrics, 20, 0.1, curves=curves | probe)
    return dataclasses.replace(made, **changes)


@pytest.fixture
def workdir(tmp_path):
    (tmp_path / 'trials').mkdir()
    return tmp_path


@pytest.fixture
def kept(workdir):
    records.write(workdir, record())
    return workdir


def json_of(workdir):
    return workdir / 'trials' / f'{TRIAL}.json'


def npz_of(workdir):
    return workdir / 'trials' / f'{TRIAL}.npz'


def strict(text):
    def refuse(token):
        raise AssertionError(f'{token} is no JSON')

    return json.loads(text, parse_constant=refuse)


def other(value):
    if isinstance(value, bool):
        return not value
    return value + type(value)({str: 'x', tuple: (1,)}.get(type(value), 1))


def test_identity_is_this_number_for_ever():
    """SHA-256 of {"model.features": [8, 8], ..., "schema": 1, "seed": 0}, by hand."""
    fields = {'seed': 0, 'optimizer.learning_rate': 0.1, 'model.features': (8, 8)}
    assert identity(fields) == '079d7b09ddc0'


def test_identity_knows_neither_order_nor_lists_from_tuples():
    backwards = dict(reversed(FLAT.items()))
    lists = {k: list(v) if type(v) is tuple else v for k, v in FLAT.items()}
    assert identity(backwards) == identity(lists) == identity(FLAT)


@pytest.mark.parametrize('name', config.FIELDS)
def test_identity_depends_on_every_field_but_how_it_is_run(name):
    changed = identity(FLAT | {name: other(FLAT[name])})
    assert (changed == TRIAL) == name.startswith('execution.')


@pytest.mark.parametrize(
    'made',
    [
        record(),
        record(status='diverged', bad_step=3),
        record(status='failed', error='ValueError: no', curves={}),
    ],
    ids=lambda r: r.status,
)
def test_what_is_written_is_read(workdir, made):
    records.write(workdir, made)
    found = records.read(workdir, TRIAL)
    plain = dataclasses.replace(found, curves={}, metrics={})
    assert plain == dataclasses.replace(made, curves={}, metrics={})
    np.testing.assert_equal(dict(found.metrics), dict(made.metrics))
    np.testing.assert_equal(dict(found.curves), dict(made.curves))
    assert identity(found.config) == TRIAL


def test_json_is_strict_and_npz_needs_no_pickle(kept):
    fields = strict(json_of(kept).read_text())
    assert fields['metrics']['validation_loss'] is None
    with np.load(npz_of(kept), allow_pickle=False) as stored:
        assert all(stored[name].dtype != object for name in stored)


def test_a_record_that_is_not_there_is_missing(workdir):
    assert records.read(workdir, TRIAL) is None
    assert records.read(workdir / 'no', TRIAL) is None


def test_the_json_comes_last_so_it_speaks_for_both(workdir, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(records, 'write_json', stop)
    with pytest.raises(KeyboardInterrupt):
        records.write(workdir, record())
    assert npz_of(workdir).exists() and records.read(workdir, TRIAL) is None


@pytest.mark.parametrize('call', ['fsync', 'replace'])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    kept, monkeypatch, call
):
    before = json_of(kept).read_bytes()

    def fail(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match='No space'):
        records.write_json(json_of(kept), {'new': 1})
    assert json_of(kept).read_bytes() == before
    assert len(list((kept / 'trials').iterdir())) == 2


def damaged(workdir, trial=TRIAL):
    """Whoever reads is told which file, in one line."""
    with pytest.raises(records.DamagedError) as told:
        records.read(workdir, trial)
    assert trial in str(told.value) and '\n' not in str(told.value)


def test_json_cut_short_anywhere_is_damaged(kept):
    whole = json_of(kept).read_bytes()
    for length in range(len(whole) - 2):
        json_of(kept).write_bytes(whole[:length])
        damaged(kept)


def test_npz_cut_short_anywhere_is_damaged(kept):
    whole = npz_of(kept).read_bytes()
    for length in range(0, len(whole), 5):
        npz_of(kept).write_bytes(whole[:length])
        damaged(kept)


def test_npz_with_a_bad_byte_anywhere_is_damaged(kept):
    whole, noise = npz_of(kept).read_bytes(), random.Random(0)
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= noise.choice([0x01, 0x20, 0x80, 0xFF])
        npz_of(kept).write_bytes(content)
        damaged(kept)


@pytest.mark.parametrize(
    'text', ['', '[]', 'null', '3', '"x"', '{}', '{"schema": 1}', '[' * 9999]
)
def test_json_of_something_else_is_damaged(kept, text):
    json_of(kept).write_text(text)
    damaged(kept)


@pytest.mark.parametrize(
    'key', ['schema', 'trial', 'status', 'config', 'metrics', 'steps', 'seconds']
)
@pytest.mark.parametrize('edit', ['absent', 'null'])
def test_a_record_without_a_key_is_damaged(kept, key, edit):
    fields = json.loads(json_of(kept).read_text())
    fields[key] = None
    if edit == 'absent':
        del fields[key]
    json_of(kept).write_text(json.dumps(fields))
    damaged(kept)


EDITS = {
    'of no known status': lambda f: f.update(status='finished'),
    'with an unknown key': lambda f: f.update(unknown=1),
    'without a metric': lambda f: f['metrics'].pop('test_loss'),
    'whose metric is a word': lambda f: f['metrics'].update(test_loss='low'),
    'without a field': lambda f: f['config'].pop('seed'),
    'of another config': lambda f: f['config'].update(seed=7),
    'with an unknown field': lambda f: f['config'].update({'model.widht': 7}),
}


@pytest.mark.parametrize('edit', EDITS)
def test_an_edited_record_is_damaged(kept, edit):
    fields = json.loads(json_of(kept).read_text())
    EDITS[edit](fields)
    json_of(kept).write_text(json.dumps(fields))
    damaged(kept)


def test_a_record_of_another_schema_or_trial_is_damaged(workdir, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(records, 'SCHEMA', records.SCHEMA + 1)
        records.write(workdir, record())
    damaged(workdir)
    records.write(workdir, record())
    for path in (json_of(workdir), npz_of(workdir)):
        path.rename(path.with_stem('f' * 12))
    damaged(workdir, 'f' * 12)


def test_npz_without_curves_or_with_pickles_is_damaged(kept):
    for arrays in ({'epoch': np.arange(2)}, {'epoch': np.array([{}])}, {}):
        np.savez(npz_of(kept), **arrays)
        damaged(kept)
    npz_of(kept).unlink()
    damaged(kept)


def test_csv_has_a_line_for_each_trial_in_order(workdir):
    other_trial = record(trial='0' * 12, status='diverged', bad_step=0)
    swept = ('model.features', 'optimizer.learning_rate')
    records.write_csv(workdir, [record(), other_trial], swept)
    with open(workdir / 'trials.csv', newline='') as file:
        first, second = csv.DictReader(file)
    tail = ['steps', 'seconds', 'bad_step']
    assert list(first) == ['trial', 'status', 'seed', *swept, *METRICS, *tail]
    assert (first['trial'], second['trial']) == (TRIAL, '0' * 12)
    assert (first['bad_step'], second['bad_step']) == ('', '0')
    assert first['validation_loss'] == 'nan' and float(first['test_loss']) == 0.1
    assert first['model.features'] == '(64, 64)'


def test_one_process_at_a_time(tmp_path):
    workdir = tmp_path / 'a' / 'b'
    with records.opened(workdir):
        with pytest.raises(UserError) as caught, records.opened(workdir):
            pass
        assert str(os.getpid()) in str(caught.value)
        assert f'--workdir={workdir}' in str(caught.value)
    with records.opened(workdir):
        pass
