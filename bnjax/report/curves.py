"""Curves and probes of the trials of a cell, averaged over them."""

from collections.abc import Sequence

import numpy as np

from bnjax.records import Record
from bnjax.stats import Interval, interval


def curve(records: Sequence[Record], metric: str) -> tuple[np.ndarray, Interval]:
    """Epochs (E,) and the interval over trials of a metric at each, arrays (E,).

    A value that is not finite is replaced by the last finite one before it, if any.
    """
    curves = [record.curves for record in records if metric in record.curves]
    length = min((len(c['epoch']) for c in curves), default=0)
    epochs = curves[0]['epoch'][:length] if curves else np.zeros(0)
    filled = [_carried(c[metric][:length]) for c in curves]
    return epochs, interval(np.array(filled).reshape(len(filled), length))


def layer_means(
    records: Sequence[Record], probe: str, *, first: bool, log: bool
) -> dict[str, Interval]:
    """The interval over trials of a probe's mean over steps, for each layer.

    With `first` it is of the first sampled step alone. With `log` the means are
    geometric, over the positive values.
    """
    recorded = [r.curves for r in records if f'probe/{probe}' in r.curves]
    if not recorded:
        return {}
    steps = slice(1) if first else slice(None)
    means = np.array([_step_mean(c[f'probe/{probe}'][steps], log) for c in recorded])
    value = interval(means)
    if log:
        value = Interval(10**value.mean, 10**value.low, 10**value.high, value.n)
    layers = recorded[0][f'layers/{probe}']
    return {
        str(layer): Interval(*(part[i] for part in value))
        for i, layer in enumerate(layers)
    }


def _step_mean(values: np.ndarray, log: bool) -> np.ndarray:
    """The mean over finite steps (S, L) -> (L,), of log10 where `log`."""
    values = np.asarray(values, np.float64)
    if log:
        positive = values > 0
        values = np.where(positive, np.log10(np.where(positive, values, 1)), np.nan)
    return interval(values).mean


def _carried(values: np.ndarray) -> np.ndarray:
    last = np.where(np.isfinite(values), np.arange(len(values)), 0)
    return np.asarray(values, np.float64)[np.maximum.accumulate(last)]


def layer_steps(
    records: Sequence[Record], probe: str, *, log: bool
) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Sampled steps (S,), layers (L,) and a probe's means over trials (L, S).

    With `log` the means are geometric, over the positive values. What not all trials
    have sampled is left out; without a trial that has the probe all are empty.
    """
    recorded = [r.curves for r in records if f'probe/{probe}' in r.curves]
    if not recorded:
        return np.zeros(0), [], np.zeros((0, 0))
    samples = min(len(curves[f'probe/{probe}']) for curves in recorded)
    values = np.array([curves[f'probe/{probe}'][:samples] for curves in recorded])
    means = _step_mean(values, log)
    layers = [str(layer) for layer in recorded[0][f'layers/{probe}']]
    return recorded[0]['probe_step'][:samples], layers, (10**means if log else means).T
