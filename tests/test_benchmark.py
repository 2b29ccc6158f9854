"""What the benchmark measures is what it says, and its sides compute the same."""

import functools
import importlib
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from bnjax.benchmark import jax_layer, layer, machine, timing
from bnjax.benchmark.__main__ import COMMANDS, Command, main
from bnjax.benchmark.cases import DTYPES, SHAPES, UNROLL, Case, arrays, cases
from bnjax.benchmark.cost import bytes_accessed

TINY = pytest.mark.parametrize(
    'case',
    [*cases((6, 3, 3, 4), 'float32'), Case((16, 5), 'float32', True, True)],
    ids=lambda c: f'{len(c.shape)}d relu={c.relu} backward={c.backward}',
)


@functools.cache
def one_step(side, case):
    """The result, its gradient if there is one, and the running statistics."""
    params, state = jax_layer.initial(side, case, *arrays(case.shape))
    after = jax.jit(jax_layer.step_of(side, case))(params, state)
    stats = after.batch_stats
    return after.x, after.dy, stats['mean'], stats['var'], after.gradients


def assert_same(a, b):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-4)


@TINY
def test_bnjax_and_flax_take_the_same_step(case):
    assert_same(one_step('bnjax', case), one_step('flax', case))


@pytest.mark.parametrize('dtype', DTYPES)
def test_a_thousand_steps_leave_something_to_compute(dtype):
    case = Case((64, 8), dtype, relu=True, backward=True)
    params, state = jax_layer.initial('bnjax', case, *arrays(case.shape))
    loop = jax_layer.loop_of('bnjax', case)
    for _ in range(1 + 1000 // case.steps):
        state = loop(params, state, True)
    for array in (state.x, state.dy):
        assert 0.1 < jnp.abs(array).mean() < 10


@pytest.mark.parametrize('side', ['bnjax', 'flax'])
@pytest.mark.parametrize('relu', [False, True])
@pytest.mark.parametrize('backward', [False, True])
def test_a_turn_of_the_loop_does_its_steps_and_nothing_else(side, relu, backward):
    case = Case((1024, 64), 'float32', relu, backward)
    params, state = jax_layer.initial(side, case, *arrays(case.shape))
    step = jax.jit(jax_layer.step_of(side, case)).lower(params, state).compile()
    loop = jax_layer.loop_of(side, case).lower(params, state, True).compile()
    steps, turn = (c.cost_analysis()['bytes accessed'] for c in (step, loop))
    assert turn / UNROLL == pytest.approx(steps, abs=state.x.nbytes / 4)
    assert case.steps % UNROLL == 0


def test_batch_norm_passes_over_its_input_ten_times_and_a_half_at_most():
    forward, both, _, _ = jax_layer.passes(SHAPES[0], 'float32')['bnjax']
    assert 3 <= forward <= 4.5
    assert 8 <= both <= 10.5


def test_a_rare_branch_costs_nothing():
    def common(x):
        return jnp.tanh(x)

    def with_branch(x):
        y = common(x)
        extra = jax.lax.cond(y[0] > 2, lambda x: jnp.sort(x).sum(), lambda x: 0.0, x)
        return y, extra

    x = jnp.ones(1000)
    assert bytes_accessed(jax.jit(with_branch), x) < bytes_accessed(common, x) + 100
    assert bytes_accessed(common, x) == 2 * x.nbytes


def test_sides_take_turns():
    calls = []
    sides = {name: lambda name=name: calls.append(name) for name in 'ab'}
    assert timing.in_turn(sides, 3) == {'a': [None] * 3, 'b': [None] * 3}
    assert calls == list('ababab')


def test_the_median_of_calls_leaves_warming_up_out(monkeypatch):
    clock = iter([0, 90, 0, 80, 0, 3, 0, 1, 0, 2])
    monkeypatch.setattr(timing.time, 'perf_counter', lambda: next(clock))
    assert timing.median_seconds(lambda: None, repeats=3) == 2


def test_a_process_that_fails_is_an_error_with_its_last_words():
    with pytest.raises(timing.MeasurementError, match="ValueError: it's gone"):
        timing.last_line(['-c', 'raise ValueError("it\'s gone")'])


def test_a_function_is_called_in_a_process_of_its_own():
    assert timing.in_own_process('os:getpid') != os.getpid()
    assert timing.in_own_process('textwrap:indent', text='a', prefix='b') == 'ba'


def in_this_process(function, **arguments):
    module, _, name = function.partition(':')
    arguments = json.loads(json.dumps(arguments))
    return json.loads(
        json.dumps(getattr(importlib.import_module(module), name)(**arguments))
    )


@pytest.fixture(scope='module')
def report():
    """A small measurement in this process, where torch is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layer, 'in_own_process', in_this_process)
        patch.setitem(sys.modules, 'torch', None)
        measured = layer.measure([((4, 8), 'float32')], rounds=1)
    return json.loads(json.dumps(machine.circumstances() | measured))


def test_a_report_holds_the_times_of_every_round(report):
    assert report['devices'].keys() == {'bnjax', 'flax'}
    assert len(report['cases']) == 4
    for row in report['cases']:
        assert row.keys() == {
            *('shape', 'dtype', 'relu', 'backward'),
            *('milliseconds', 'passes'),
        }
        assert all(len(t) == 1 and t[0] > 0 for t in row['milliseconds'].values())
    assert all(len(t) == 1 for t in report['import_milliseconds'].values())


def test_a_report_says_when_and_on_what(report):
    assert {'date', 'processor', 'cores', 'load', 'system', 'rounds'} <= report.keys()
    assert report['versions']['jax'] == jax.__version__
    assert report['cores'] >= 1


def shown(report):
    console = Console(width=120)
    with console.capture() as capture:
        layer.show(report, console)
    return capture.get()


def test_without_torch_its_columns_are_empty_and_a_line_says_how_to_get_it(report):
    text = shown(report)
    cells = [line.split('|')[1:-1] for line in text.splitlines() if 'BN' in line]
    assert [len(row) for row in cells] == [8] * 4
    for row in cells:
        assert [cell.strip() == '-' for cell in row] == [i in (3, 5) for i in range(8)]
    assert "pip install -e '.[peers]'" in text


@pytest.mark.parametrize(('load', 'said'), [(0.1, False), (0.9, True)])
def test_a_machine_that_was_busy_is_told(report, load, said):
    text = shown(report | {'load': load, 'cores': 2})
    assert ('load before: 0.9 of 2 cores' in text) == said


def test_a_table_has_medians_and_ratios_of_them():
    row = {
        **{'shape': [4, 8], 'dtype': 'float32', 'relu': False, 'backward': True},
        'milliseconds': {'bnjax': [9, 1, 2], 'flax': [4, 4, 9], 'torch': [8, 8, 8]},
        'passes': {'bnjax': 10.01, 'flax': 15.0},
    }
    console = Console(width=120)
    with console.capture() as capture:
        console.print(layer.table([row], framed=False))
    head, _, group, line = capture.get().strip().splitlines()
    assert group.split()[1:3] == ['4x8', 'float32']
    expected = ['BN, both', '2', '4', '8', '0.50', '0.25', '10.0', '15.0']
    assert [cell.strip() for cell in line.split('|')[1:-1]] == expected
    assert len(head.split('|')) == len(line.split('|'))


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ([], 'COMMAND'),
        (['lawyer'], 'lawyer'),
        (['layer', '--rounds=0'], '--rounds=0'),
        (['layer', '--rounds=few'], 'few'),
        (['step', '--rounds=-1'], '--rounds=-1'),
        (['sweep', '--steps=3'], '--steps=3'),
        (['layer', '--output=/nowhere/at/all.json'], '/nowhere/at/all.json'),
        (['layer', '--output=/'], '--output=/'),
    ],
)
def test_a_mistake_is_one_line_and_status_2(arguments, words, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ''
    assert err.count('\n') == 1
    assert words in err


def test_what_is_printed_is_written_too(tmp_path, monkeypatch, capsys):
    fake = Command(
        'about',
        ['one', 'two'],
        lambda items, rounds: {'items': list(items), 'rounds': rounds},
        lambda report, console: console.print(*report['items']),
    )
    monkeypatch.setitem(COMMANDS, 'step', fake)
    assert main(['step', '--rounds=2', f'--output={tmp_path}/file.json']) == 0
    written = json.loads((tmp_path / 'file.json').read_text())
    assert (written['command'], written['rounds']) == ('step', 2)
    assert written['items'] == ['one', 'two']
    assert written.keys() >= machine.circumstances().keys()
    assert capsys.readouterr().out == 'one two\n'


def test_the_process_that_prints_does_not_import_torch():
    code = 'import sys, bnjax.benchmark.__main__; print("torch" in sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, check=True)
    assert done.stdout.split() == [b'False']
