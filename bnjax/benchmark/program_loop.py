"""The side of bnjax: the compiled program that ``train.py`` runs.

The functions are called by name, in processes of their own, with a workload as JSON
has it; ``python_loop`` has the same ones for the other sides.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import flax.traverse_util
import jax
import numpy as np

from bnjax import config, execution
from bnjax.benchmark.timing import median_seconds
from bnjax.benchmark.workloads import (
    CHECKED_STEPS,
    CLASSES,
    MOMENTUM,
    Workload,
    arrays,
    checked_images,
    checked_orders,
    held_out_images,
    parsed,
    training_images,
)
from bnjax.data import Dataset, Split
from bnjax.program import Program, compile_program, run_chunk, split_fields


def losses(workload: Mapping[str, Any], weights: str) -> list[float]:
    """The loss of each checked step, from weights that it writes to the file."""
    w = parsed(workload)
    data = dataset_of(w, checked_images(w), arrays(w, 1, seed=3))
    program = program_of(w, data, 1, epochs=CHECKED_STEPS)
    numbers = _stacked([_trial(w, 0, w.learning_rate)])
    state = program.init(numbers)
    params: Any = jax.tree.map(lambda a: a[0], state.params)
    np.savez(weights, **flax.traverse_util.flatten_dict(params, sep='/'))
    found = []
    for i, order in enumerate(checked_orders(w)):
        state, log = program.train(numbers, state, order[None], np.int32(i))
        found.append(float(log['train_loss'][0]))
    return found


def step(
    workload: Mapping[str, Any], fields: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Seconds a step takes a trial, beside as many others as the program sets.

    Args:
      workload: as JSON has it.
      fields: of a config, other than the workload's.
    """
    w, more = parsed(workload), fields or {}
    width = more.get('execution.width') or _width(w)
    data = dataset_of(w, training_images(w), arrays(w, 1, seed=3))
    program = program_of(w, data, width, **more)
    numbers = _stacked([_trial(w, i, w.learning_rate) for i in range(width)])
    state = program.init(numbers)
    orders = np.stack([w.order(i) for i in range(width)])

    def run() -> None:
        nonlocal state
        for epoch in range(w.epochs):
            state, log = program.train(numbers, state, orders, np.int32(epoch))
        jax.block_until_ready((state, log))

    seconds = median_seconds(run, repeats=3) / (w.epochs * w.steps * width)
    return {'seconds': seconds, 'device': jax.devices()[0].device_kind, 'width': width}


def sweep(workload: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds of all trials, compilation included, and of all again without it."""
    w = parsed(workload)
    data = dataset_of(w, training_images(w), held_out_images(w))
    begun = time.perf_counter()
    program = program_of(w, data, _width(w))
    loss = all_trials(w, program)
    compiled = time.perf_counter()
    all_trials(w, program)
    return {
        'seconds': [compiled - begun, time.perf_counter() - compiled],
        'device': jax.devices()[0].device_kind,
        'loss': loss,
    }


def all_trials(w: Workload, program: Program) -> float:
    """Trains and scores them; returns the mean training loss of their last epochs."""
    trials = [_trial(w, i, rate) for i, rate in enumerate(w.learning_rates())]
    found = []
    for first in range(0, w.trials, program.width):
        *_, last = run_chunk(program, trials[first : first + program.width])
        found += last.logs[-1]['train_loss'].tolist()
    return float(np.mean(found))


def program_of(w: Workload, data: Dataset, width: int, **fields: Any) -> Program:
    own = {'execution.width': width} | fields
    static, numbers = split_fields(_fields(w) | own)
    plan = execution.plan({static: range(width)}, {})
    return compile_program(execution.planned(static, plan), numbers, data)


def dataset_of(w: Workload, train: Any, test: Any) -> Dataset:
    none = Split(test[0][:0], test[1][:0])
    return Dataset(Split(*train), none, Split(*test), CLASSES)


def _fields(w: Workload) -> dict[str, Any]:
    return config.flatten(config.defaults()) | {
        'model.name': w.model,
        'model.features': w.features,
        'model.depth': w.depth,
        'model.activation': w.activation,
        'model.momentum': MOMENTUM,
        'optimizer.momentum': MOMENTUM,
        'optimizer.learning_rate': w.learning_rate,
        'batch_size': w.batch_size,
        'epochs': w.epochs,
    }


def _trial(w: Workload, seed: int, learning_rate: float) -> dict[str, Any]:
    own = {'seed': seed, 'optimizer.learning_rate': learning_rate}
    return split_fields(_fields(w) | own)[1]


def _stacked(trials: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    return {
        name: np.array(
            [trial[name] for trial in trials], 'u4' if name == 'seed' else 'f4'
        )
        for name in trials[0]
    }


def _width(w: Workload) -> int:
    """As ``train.py`` sets it for such trials on such a device."""
    static, _ = split_fields(_fields(w))
    (own,) = execution.plan({static: range(w.trials)}, {}).values()
    return own['width']
