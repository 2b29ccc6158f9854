"""What the benchmark trains is the same on every side, and compiled as it says."""

import dataclasses
import functools
import importlib
import json
import sys
import tempfile

import jax
import numpy as np
import pytest
from rich.console import Console

from bnjax.benchmark import (
    flax_trainer,
    machine,
    program_loop,
    python_loop,
    training,
)
from bnjax.benchmark.floor import floor
from bnjax.benchmark.workloads import (
    CHECKED_STEPS,
    WORKLOADS,
    Workload,
    held_out_images,
    training_images,
)

MLP = Workload(
    name='tiny mlp',
    model='mlp',
    features=(7, 5),
    activation='sigmoid',
    image=(3, 2, 1),
    batch_size=8,
    steps=3,
    epochs=2,
    trials=3,
    learning_rate=0.1,
)
CNN = dataclasses.replace(
    MLP, model='cnn', features=(3, 4), activation='relu', image=(6, 4, 3), trials=2
)
RESNET = dataclasses.replace(CNN, model='resnet', depth=6)
LEARNING = dataclasses.replace(MLP, epochs=30, learning_rate=0.5)
TINY = pytest.mark.parametrize('workload', [MLP, CNN, RESNET], ids=lambda w: w.model)
COMPILED = '/jax/core/compile/backend_compile_duration'
COMPILATIONS = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: COMPILATIONS.append(event) if event == COMPILED else None
)


@pytest.fixture(autouse=True, scope='module')
def compiled_once():
    """Saves time: what one test compiled, the next takes."""
    compile_program, trainer = program_loop.compile_program, flax_trainer.trainer
    programs, trainers = {}, {}

    def remembered_program(static, numbers, data):
        key = static, *(np.asarray(a).tobytes() for a in jax.tree.leaves(data))
        if key not in programs:
            programs[key] = compile_program(static, numbers, data)
        return programs[key]

    def remembered_trainer(workload):
        key = dataclasses.replace(workload, epochs=1, trials=1, learning_rate=1.0)
        if key not in trainers:
            trainers[key] = trainer(workload)
        return trainers[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program_loop, 'compile_program', remembered_program)
        patch.setattr(flax_trainer, 'trainer', remembered_trainer)
        yield


def as_json(workload):
    return json.loads(json.dumps(dataclasses.asdict(workload)))


@functools.cache
def losses_of_bnjax(workload):
    """And a directory with the weights that they began with."""
    directory = tempfile.TemporaryDirectory()
    return program_loop.losses(as_json(workload), weights_in(directory)), directory


def losses_of(side, workload):
    _, directory = losses_of_bnjax(workload)
    return python_loop.losses(side, as_json(workload), weights_in(directory))


def weights_in(directory):
    return f'{directory.name}/weights.npz'


@TINY
def test_flax_has_the_same_losses_over_twenty_steps(workload):
    ours, _ = losses_of_bnjax(workload)
    assert len(ours) == CHECKED_STEPS
    np.testing.assert_allclose(losses_of('flax', workload), ours, rtol=1e-4)


def test_losses_that_are_apart_are_told():
    ours, directory = losses_of_bnjax(MLP)
    faster = as_json(dataclasses.replace(MLP, learning_rate=0.11))
    theirs = python_loop.losses('flax', faster, weights_in(directory))
    assert theirs[0] == pytest.approx(ours[0], rel=1e-6)
    assert training.apart({'bnjax': ours, 'flax': theirs}) > 1e-3
    assert training.apart({'bnjax': [1.0, 4.0], 'flax': [1.0, 3.0]}) == 0.25


def test_bnjax_compiles_one_program_for_all_trials():
    w = dataclasses.replace(MLP, trials=5)
    data = program_loop.dataset_of(w, training_images(w), held_out_images(w))
    program = program_loop.program_of(w, data, width=2)
    first = program_loop.all_trials(w, program)
    COMPILATIONS.clear()
    assert program_loop.all_trials(w, program) == first
    faster = dataclasses.replace(w, trials=3, learning_rate=1.0)
    assert program_loop.all_trials(faster, program) != first
    assert not COMPILATIONS


def test_flax_compiles_one_step_for_all_trials():
    w = dataclasses.replace(MLP, features=(7, 4))  # of no other test
    trainer = python_loop.trainer_of('flax', w)
    data = training_images(w), held_out_images(w)
    COMPILATIONS.clear()
    first = python_loop.all_trials(w, trainer, *data)
    assert len(COMPILATIONS) == 3  # begin, step, evaluate
    faster = dataclasses.replace(w, trials=5, learning_rate=1.0)
    assert python_loop.all_trials(w, trainer, *data) == first
    assert python_loop.all_trials(faster, trainer, *data) != first
    assert len(COMPILATIONS) == 3


def test_sides_of_a_sweep_train_as_many_steps_and_learn_as_much():
    ours = program_loop.sweep(as_json(LEARNING))
    theirs = python_loop.sweep('flax', as_json(LEARNING))
    # From weights of their own, on data that one can only learn by heart.
    assert ours['loss'] < 2.1
    assert theirs['loss'] == pytest.approx(ours['loss'], abs=0.3)


def test_the_least_that_an_mlp_takes_by_hand():
    flops, number = floor(as_json(MLP))
    first, second, last = 6 * 7, 7 * 5, 5 * 10
    assert flops == 2 * 8 * (2 * first + 3 * second + 3 * last)
    products = 8 * (2 * 6 + 2 * 7 + 3 * 7 + 2 * 5 + 3 * 5 + 2 * 10)
    norms = 8 * 8 * (7 + 5)
    parameters = first + second + last + 10 + 2 * (7 + 5)
    assert number == 4 * (products + norms + 4 * parameters)


def test_the_least_that_a_cnn_takes_by_hand():
    flops, _ = floor(as_json(CNN))
    rows = 8 * 24  # positions of all images; a quarter in the second pair
    convolutions = rows * 9 * (2 * 3 * 3 + 3 * 3 * 3)
    convolutions += rows // 4 * 9 * 3 * (3 * 4 + 4 * 4)
    assert flops == 2 * (convolutions + 8 * 3 * 4 * 10)


def test_a_resnet_of_twenty_layers_takes_its_known_products():
    resnet = next(w for w in WORKLOADS if w.model == 'resnet')
    flops, _ = floor(as_json(resnet))
    # 0.041e9 multiplications an image, three times but for the first convolution.
    forward = 3 * 16 * 9 * 1024 + 6 * (16 * 16 * 9 * 1024)
    forward += (16 * 32 + 5 * 32 * 32) * 9 * 256 + (32 * 64 + 5 * 64 * 64) * 9 * 64
    forward += 640
    assert forward == pytest.approx(0.041e9, rel=0.02)
    assert flops == 2 * 128 * (3 * forward - 3 * 16 * 9 * 1024)


@pytest.fixture
def in_this_process(monkeypatch):
    """Measures without torch, in this process, with what JSON can hold."""

    def call(function, **arguments):
        module, _, name = function.partition(':')
        arguments = json.loads(json.dumps(arguments))
        result = getattr(importlib.import_module(module), name)(**arguments)
        return json.loads(json.dumps(result))

    monkeypatch.setattr(training, 'in_own_process', call)
    monkeypatch.setitem(sys.modules, 'torch', None)


def shown(show, report):
    """The lines of a table, in cells, and all that is printed."""
    console = Console(width=200)
    with console.capture() as capture:
        show(machine.circumstances() | report, console)
    lines = [line for line in capture.get().splitlines() if line.startswith('|')]
    return [[c.strip() for c in line.split('|')[1:-1]] for line in lines], capture.get()


def test_a_report_of_steps_has_times_losses_and_the_least(in_this_process):
    report = json.loads(json.dumps(training.measure_steps([MLP], rounds=1)))
    assert report['devices'].keys() == {'bnjax', 'flax'}
    (row,) = report['rows']
    assert row['workload'] == as_json(MLP)
    assert row.keys() == {
        *('workload', 'width', 'milliseconds', 'losses', 'flops', 'bytes')
    }
    assert all(len(t) == 1 and t[0] > 0 for t in row['milliseconds'].values())
    (head, _, line), text = shown(training.show_steps, report)
    assert len(head) == len(line) == 9
    assert [cell == '-' for cell in line] == [i in (3, 5) for i in range(9)]
    assert "pip install -e '.[peers]'" in text


def test_a_report_of_sweeps_has_times_with_compilation_and_without(in_this_process):
    report = json.loads(json.dumps(training.measure_sweeps([LEARNING], rounds=1)))
    (row,) = report['rows']
    assert row.keys() == {
        *('workload', 'seconds', 'seconds_compiled', 'loss', 'flops', 'bytes')
    }
    for side in ('bnjax', 'flax'):
        assert all(row[when][side][0] > 0 for when in ('seconds', 'seconds_compiled'))
    lines, _ = shown(training.show_sweeps, report)
    assert len(lines) == 4
    assert {len(line) for line in lines} == {8}


def test_tables_have_medians_ratios_and_units():
    row = {
        'workload': as_json(MLP),
        'width': 32,
        'milliseconds': {'bnjax': [9, 1, 2], 'flax': [4, 4, 9], 'torch': [8, 8, 8]},
        'losses': {side: [1.0, 2.0] for side in ('bnjax', 'flax', 'torch')},
        'flops': 3e9,
        'bytes': 5e6,
    }
    report = {'rounds': 3, 'devices': dict.fromkeys(row['losses'], 'cpu')}
    (_, _, line), _ = shown(training.show_steps, report | {'rows': [row]})
    assert line[1:] == ['2', '4', '8', '0.50', '0.25', '3', '5', '0e+00']
    times = row.pop('milliseconds')
    row |= {'seconds': times, 'seconds_compiled': times | {'bnjax': [1, 1, 1]}}
    lines, _ = shown(training.show_sweeps, report | {'rows': [row]})
    assert lines[2][1:] == ['2', '4', '8', '0.50', '0.25', '54', '0.09']
    assert lines[3][1:] == ['1', '4', '8', '0.25', '0.12', '54', '0.09']
