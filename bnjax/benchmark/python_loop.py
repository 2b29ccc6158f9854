"""The sides of Flax and torch: a Python loop over their steps, trial by trial."""

import importlib
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from bnjax.benchmark.timing import median_seconds
from bnjax.benchmark.workloads import (
    Images,
    Workload,
    checked_images,
    checked_orders,
    held_out_images,
    parsed,
    training_images,
)


class Trainer(NamedTuple):
    """How one side trains a workload.

    Attributes:
      begin: seed, learning rate to a state; or, with the file of ``losses``, to that
        of its weights.
      place: images and labels to those that the others take.
      step: state, data, rows of the batch to the next state and (loss, accuracy).
      evaluate: state, data, rows to (loss, accuracy) by running statistics.
      device: its name.
    """

    begin: Callable[..., Any]
    place: Callable[[Images], Any]
    step: Callable[[Any, Any, np.ndarray], tuple[Any, tuple[Any, Any]]]
    evaluate: Callable[[Any, Any, np.ndarray], tuple[Any, Any]]
    device: str


def losses(side: str, workload: Mapping[str, Any], weights: str) -> list[float]:
    """The loss of each checked step, from the weights in the file."""
    w = parsed(workload)
    trainer = trainer_of(side, w)
    data = trainer.place(checked_images(w))
    state = trainer.begin(0, w.learning_rate, weights)
    found = []
    for order in checked_orders(w):
        state, (loss, _) = trainer.step(state, data, order[: w.batch_size])
        found.append(float(loss))
    return found


def step(side: str, workload: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds a step takes."""
    w = parsed(workload)
    trainer = trainer_of(side, w)
    data, order = trainer.place(training_images(w)), w.order(0)
    state = trainer.begin(0, w.learning_rate)

    def run() -> None:
        nonlocal state
        for _ in range(w.epochs):
            state, _ = _epoch(trainer, state, data, order, w)

    seconds = median_seconds(run, repeats=3) / (w.epochs * w.steps)
    return {'seconds': seconds, 'device': trainer.device}


def sweep(side: str, workload: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds of all trials, compilation included, and of all again without it."""
    w = parsed(workload)
    # Neither imports nor random numbers are part of it.
    make, data = _maker(side), (training_images(w), held_out_images(w))
    begun = time.perf_counter()
    trainer = make(w)
    loss = all_trials(w, trainer, *data)
    compiled = time.perf_counter()
    all_trials(w, trainer, *data)
    return {
        'seconds': [compiled - begun, time.perf_counter() - compiled],
        'device': trainer.device,
        'loss': loss,
    }


def trainer_of(side: str, workload: Workload) -> Trainer:
    """That of ``flax`` or ``torch``."""
    return _maker(side)(workload)


def _maker(side: str) -> Callable[[Workload], Trainer]:
    return importlib.import_module(f'bnjax.benchmark.{side}_trainer').trainer


def all_trials(w: Workload, trainer: Trainer, train: Images, test: Images) -> float:
    """Trains and scores them; returns the mean training loss of their last epochs."""
    train, test = trainer.place(train), trainer.place(test)
    found = []
    for seed, rate in enumerate(w.learning_rates()):
        state = trainer.begin(seed, rate)
        _evaluate(trainer, state, test, w)
        for epoch in range(w.epochs):
            order = w.order(1000 * seed + epoch)
            state, (loss, _) = _epoch(trainer, state, train, order, w)
            _evaluate(trainer, state, test, w)
        found.append(loss)
    return float(np.mean(found))


def _epoch(
    trainer: Trainer, state: Any, data: Any, order: np.ndarray, w: Workload
) -> tuple[Any, np.ndarray]:
    """A pass over the images; the mean of (loss, accuracy)."""
    scores = []
    for rows in order.reshape(-1, w.batch_size):
        state, score = trainer.step(state, data, rows)
        scores.append(score)
    # Read once an epoch: reading each step's would wait for it.
    return state, np.mean([[float(s) for s in score] for score in scores], axis=0)


def _evaluate(trainer: Trainer, state: Any, data: Any, w: Workload) -> np.ndarray:
    rows = np.arange(len(data[1])).reshape(-1, w.batch_size)
    scores = [trainer.evaluate(state, data, r) for r in rows]
    return np.mean([[float(s) for s in score] for score in scores], axis=0)
