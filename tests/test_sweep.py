"""Many trials: what each ends as, and that neighbours and restarts change nothing."""

import dataclasses
import json
import pathlib
import re
import time
from types import ModuleType

import numpy as np
import pytest

from bnjax import config, execution, program, records, sweep
from bnjax.records import METRICS
from bnjax.study import Source, Study, Trial

WIDTH = 4
PER_EPOCH = 10  # 1 295 training images in batches of 128
TINY = {
    'model.features': (8,),
    'model.placement': 'none',
    'model.activation': 'identity',
    'batch_size': 128,
    'epochs': 1,
    'execution.width': WIDTH,
}

pytestmark = pytest.mark.usefixtures('compiled_once')


def study(*changes):
    """What a config file with these calls of ``add`` asks for."""
    defaults = config.flatten(config.defaults())
    trials = [
        Trial(records.identity(fields), fields)
        for fields in (
            {n: config.check(n, v) for n, v in (defaults | TINY | change).items()}
            for change in changes
        )
    ]
    swept = dict.fromkeys(name for change in changes for name in change)
    source = Source(pathlib.Path('tiny.py'), ModuleType('tiny'), {}, {})
    named = tuple(n for n in swept if n != 'seed')
    return Study('tiny', 'Tiny?', tuple(trials), named, source)


def rates(*learning_rates):
    """Trials of one program, one of which may be sent to infinity."""
    return [{'optimizer.learning_rate': rate} for rate in learning_rates]


def run(workdir, *changes, report=lambda progress: None):
    for name in records.DIRECTORIES:
        (workdir / name).mkdir(parents=True, exist_ok=True)
    asked = study(*changes)
    datasets = sweep.load_data(asked, None)
    plan = execution.plan(sweep.groups(asked.trials), {})
    return sweep.run(asked, datasets, plan, workdir, report)


def same(a, b):
    """Bit by bit, the time it took apart."""
    np.testing.assert_equal(dict(a.curves), dict(b.curves))
    np.testing.assert_equal(dict(a.metrics), dict(b.metrics))
    rest = {'curves': {}, 'metrics': {}, 'seconds': 0.0}
    assert dataclasses.replace(a, **rest) == dataclasses.replace(b, **rest)
    return True


@pytest.fixture(scope='module')
def diverging(tmp_path_factory):
    """Three trials side by side, the middle one sent to infinity."""
    return run(tmp_path_factory.mktemp('diverging'), *rates(0.1, 1e30, 0.01))


def test_a_trial_that_diverges_keeps_its_last_finite_metrics(diverging):
    done, diverged, also_done = diverging
    assert [r.status for r in diverging] == ['done', 'diverged', 'done']
    assert diverged.error is None and done.bad_step is also_done.bad_step is None
    assert 1 <= diverged.bad_step <= 2, 'the first step is finite, soon none is'
    assert all(np.isfinite(value) for value in diverged.metrics.values())
    for name in METRICS:
        finite = np.isfinite(diverged.curves[name.split('_')[0] + '_loss'])
        assert diverged.metrics[name] == diverged.curves[name][finite][-1]
    assert not np.isfinite(diverged.curves['test_loss'][-1])


def test_a_diverging_neighbour_changes_no_bit(diverging, tmp_path):
    alone = run(tmp_path, *rates(0.1, 0.01))
    assert same(alone[0], diverging[0]) and same(alone[1], diverging[2])


def test_a_resumed_trial_is_the_same_as_an_uninterrupted_one(diverging, tmp_path):
    run(tmp_path, *rates(0.01))
    resumed = run(tmp_path, *rates(0.1, 1e30, 0.01))
    assert all(same(a, b) for a, b in zip(resumed, diverging, strict=True))


def test_a_record_returned_is_the_record_kept(tmp_path):
    (made,) = run(tmp_path, *rates(0.05))
    assert same(made, records.read(tmp_path, made.trial))


def test_numbers_are_sane(tmp_path):
    begun = time.perf_counter()
    found = run(tmp_path, *({'seed': s, 'epochs': 2} for s in range(3)))
    assert 0 < sum(r.seconds for r in found) < time.perf_counter() - begun
    for r in found:
        assert r.steps == 2 * PER_EPOCH
        assert set(r.metrics) == set(METRICS)
        assert r.curves['epoch'].tolist() == [0, 1, 2]
        for name in METRICS:
            assert r.metrics[name] == r.curves[name][-1]
            assert np.isnan(r.curves[name][0]) == name.startswith('train_')
            high = 1 if name.endswith('accuracy') else np.inf
            assert 0 <= r.metrics[name] <= high
    losses = {r.metrics['test_loss'] for r in found}
    assert len(losses) == 3, 'every seed is another network'


def test_arms_start_from_the_same_noise_and_data(tmp_path):
    """The same seed gives the same network before training, whatever its rate."""
    a, b, c = run(tmp_path, *rates(0.1, 0.2), {'seed': 1})
    assert a.curves['test_loss'][0] == b.curves['test_loss'][0]
    assert a.curves['test_loss'][0] != c.curves['test_loss'][0]


def test_steps_end_within_an_epoch_and_probes_with_them(tmp_path):
    names = ('gradient_norm', 'activation_mean', 'zero_fraction')
    change = {'steps': 15, 'probes.names': names, 'probes.every': 4}
    (made,) = run(tmp_path, change | {'data.validation_percent': 0})
    assert made.status == 'done' and made.steps == 15
    assert made.curves['probe_step'].tolist() == [0, 4, 8, 12]
    assert np.isnan(made.metrics['validation_loss'])
    assert np.isfinite(made.metrics['test_loss'])
    for name in names:
        layers = made.curves[f'layers/{name}'].tolist()
        last = ['output'] if name == 'gradient_norm' else []
        assert layers == ['hidden_0', *last]
        values = made.curves[f'probe/{name}']
        assert values.shape == (4, len(layers)) and np.isfinite(values).all()
    fields = json.loads((tmp_path / 'trials' / f'{made.trial}.json').read_text())
    assert fields['metrics']['validation_loss'] is None


def failing_when(broken):
    """`compile_program` that runs out of memory for some static fields."""
    compile_program = program.compile_program

    def compile_or_fail(static, *rest):
        if broken(dict(static)):
            raise MemoryError('no room\nfor it')
        return compile_program(static, *rest)

    return compile_or_fail


def test_a_trial_that_fails_says_why_and_the_others_go_on(tmp_path, monkeypatch):
    broken = failing_when(lambda fields: fields['model.features'] == (9,))
    monkeypatch.setattr(program, 'compile_program', broken)
    failed, done = run(tmp_path, {'model.features': (9,)}, {})
    assert (failed.status, done.status) == ('failed', 'done')
    assert failed.error == 'MemoryError: no room for it'
    assert not failed.curves and all(np.isnan(v) for v in failed.metrics.values())
    assert records.read(tmp_path, failed.trial).error == failed.error


@pytest.mark.parametrize('broken', ['compile_program', 'run_chunk'])
def test_a_rerun_tries_again_what_failed_and_only_that(tmp_path, monkeypatch, broken):
    (kept,) = run(tmp_path, *rates(0.1))
    tried = []

    def fail(*_):
        tried.append(1)
        raise MemoryError('once')

    with monkeypatch.context() as patch:
        patch.setattr(program, broken, fail)
        found = run(tmp_path, *rates(0.1, 0.2))
    assert [r.status for r in found] == ['done', 'failed']
    assert found[1].error == 'MemoryError: once' and len(tried) == 1
    found = run(tmp_path, *rates(0.1, 0.2))
    assert [r.status for r in found] == ['done', 'done']
    assert same(found[0], kept) and found[0].seconds == kept.seconds


def test_more_trials_than_the_width_run_in_chunks(tmp_path):
    changes = rates(*(0.01 * (1 + i) for i in range(WIDTH + 1)))
    found = run(tmp_path / 'all', *changes)
    (last,) = run(tmp_path / 'last', changes[-1])
    assert [r.config['optimizer.learning_rate'] for r in found] == [
        change['optimizer.learning_rate'] for change in changes
    ]
    assert same(found[-1], last)


def test_progress_only_rises_and_ends_whole(tmp_path):
    told = []
    run(tmp_path, *rates(0.1, 0.2), {'epochs': 2}, report=told.append)
    shares = [p.share for p in told]
    assert shares == sorted(shares) and shares[-1] == 1
    assert told[-1].trials == 3 and all(p.running for p in told)
    steps = [p.steps for p in told]
    assert (0, PER_EPOCH) in steps and (PER_EPOCH, 2 * PER_EPOCH) in steps


def test_a_record_is_kept_before_it_is_reported_and_outlives_an_interrupt(tmp_path):
    def stop(progress):
        if progress.trials:
            assert len(list((tmp_path / 'trials').glob('*.json'))) == progress.trials
            raise KeyboardInterrupt

    changes = [{'seed': 0}, {'seed': 0, 'epochs': 2}]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, *changes, report=stop)
    first, second = (trial.id for trial in study(*changes).trials)
    kept = records.read(tmp_path, first)
    assert kept.status == 'done' and records.read(tmp_path, second) is None
    assert same(run(tmp_path, *changes)[0], kept)


def test_nothing_is_compiled_where_all_is_done(tmp_path, monkeypatch):
    before = run(tmp_path, *rates(0.1))
    monkeypatch.delattr(program, 'compile_program')
    assert same(run(tmp_path, *rates(0.1))[0], before[0])


def test_a_trial_that_has_finished_is_kept_whenever_the_sweep_is_ended(tmp_path):
    """An end that was asked for during the last epoch comes after its record."""
    steps = []
    run(tmp_path / 'whole', {}, report=lambda progress: steps.append(progress.share))
    for told in range(1, len(steps) + 1):
        left, workdir = iter(range(told - 1)), tmp_path / str(told)

        def report(progress, left=left):
            if next(left, None) is None:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(workdir, {}, report=report)
        kept = len(list((workdir / 'trials').glob('*.json')))
        assert kept == (1 if told == len(steps) else 0)
    assert steps[-1] == 1 and all(share < 1 for share in steps[:-1])


def test_a_program_that_does_not_fit_is_not_run_and_the_cure_is_said(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(execution, '_free_memory', lambda: 1000)
    (failed,) = run(tmp_path, {})
    assert failed.status == 'failed'
    assert 'MemoryError: width 4 needs' in failed.error
    assert 'give a smaller execution.width' in failed.error


def test_the_memory_of_a_program_is_said_before_it_runs(tmp_path):
    said = []
    run(tmp_path, {}, report=said.append)
    assert [p.running.partition(' (')[2] for p in said][:1] == ['compiling)']
    assert re.search(r' \(\d[\d,]* MB\)$', said[1].running) and said[1].gained == 0


@pytest.fixture
def stopped(tmp_path):
    """A work directory in which a trial has trained for one of three epochs."""

    def stop(progress):
        if progress.share > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, {'epochs': 3}, report=stop)
    return tmp_path


def test_a_chunk_that_was_stopped_goes_on_where_it_was(stopped, tmp_path_factory):
    (whole,) = run(tmp_path_factory.mktemp('whole'), {'epochs': 3})
    told = []
    (found,) = run(stopped, {'epochs': 3}, report=told.append)
    assert same(found, whole)
    # Compiling, and after one epoch and two; the last one is told with the record.
    shares = [progress.share for progress in told]
    np.testing.assert_allclose(shares, [0, 1 / 3, 2 / 3, 1])
    assert not list((stopped / 'checkpoints').iterdir())


def test_a_damaged_checkpoint_is_named_and_its_trials_begin_anew(stopped):
    (kept,) = (stopped / 'checkpoints').iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])
    told = []
    (found,) = run(stopped, {'epochs': 3}, report=told.append)
    assert found.status == 'done'
    (message,) = (progress.message for progress in told if progress.message)
    assert str(kept) in message and 'begin anew' in message


def test_a_chunk_with_trials_no_longer_asked_for_goes_on_for_the_others(tmp_path):
    changes = [{'epochs': 2, 'seed': seed} for seed in range(3)]

    def stop(progress):
        if progress.share > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / 'some', *changes, report=stop)
    told = []
    found = run(tmp_path / 'some', *changes[1:], report=told.append)
    assert told[1].share > 0, 'it goes on'
    shares = [progress.share for progress in told]
    assert shares == sorted(shares) and shares[-1] == 1
    assert all(map(same, found, run(tmp_path / 'whole', *changes)[1:]))


def test_a_damaged_record_is_named_and_the_trial_run_again(tmp_path):
    (before,) = run(tmp_path, {})
    path = tmp_path / 'trials' / f'{before.trial}.json'
    path.write_bytes(path.read_bytes()[:-9])
    told = []
    (found,) = run(tmp_path, {}, report=told.append)
    assert same(found, before)
    (message,) = (progress.message for progress in told if progress.message)
    assert str(path) in message and 'run again' in message
