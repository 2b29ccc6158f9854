"""What the logs of a trial come to: its record."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from bnjax.probes import in_depth_order
from bnjax.records import METRICS, Record
from bnjax.study import Trial


def record(
    trial: Trial,
    logs: Sequence[dict],
    network: Mapping[str, Any],
    total: int,
    seconds: float,
) -> Record:
    """The record of a trial that was trained.

    Args:
      trial: as it was asked for.
      logs: of each epoch, the one before training first.
      network: at the end, ``params`` and ``batch_stats``.
      total: steps in all.
      seconds: its share of the time.
    """
    curves = {
        metric: np.array([log.get(metric, np.nan) for log in logs])
        for metric in dict.fromkeys((*METRICS, *logs[0]))
    }
    bad = [int(log['bad_step']) for log in logs[1:] if log['bad_step'] >= 0]
    if not bad and not np.isfinite(curves['test_loss'][-1]):
        bad = [total]  # the last step itself broke the network
    return Record(
        trial=trial.id,
        status='diverged' if bad else 'done',
        config=trial.config,
        metrics=_final(curves, last_finite=bool(bad)),
        steps=total,
        seconds=seconds,
        bad_step=bad[0] if bad else None,
        curves={'epoch': np.arange(len(logs))}
        | curves
        | _probe_curves(trial.config, logs[1:], total)
        | (_kept(network) if trial.config['keep_state'] else {}),
    )


def _final(curves: Mapping[str, np.ndarray], last_finite: bool) -> dict[str, float]:
    """The last metrics, or for a diverged trial the last whose loss was finite."""
    metrics = {}
    for name in METRICS:
        finite = np.isfinite(curves[name.split('_')[0] + '_loss'])
        values = curves[name][finite] if last_finite else curves[name]
        metrics[name] = float(values[-1]) if len(values) else float('nan')
    return metrics


def _probe_curves(
    config: Mapping[str, Any], logs: Sequence[dict], total: int
) -> dict[str, np.ndarray]:
    if not config['probes.names']:
        return {}
    sampled = np.arange(0, total, config['probes.every'])
    curves = {'probe_step': sampled}
    for name in config['probes.names']:
        layers = in_depth_order(logs[0]['probes'][name])
        if not layers:
            continue  # a network without hidden layers has no activations
        by_layer = [
            np.concatenate([log['probes'][name][layer] for log in logs])[sampled]
            for layer in layers
        ]
        curves |= {
            f'probe/{name}': np.stack(by_layer, axis=-1),
            f'layers/{name}': np.array(layers),
        }
    return curves


def _kept(network: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Its arrays by name."""
    return flatten_dict({'state': network}, sep='/')


def failure(trial: Trial, error: Exception) -> Record:
    """The record of a trial that could not be trained."""
    text = f'{type(error).__name__}: {" ".join(str(error).split())}'
    unknown = dict.fromkeys(METRICS, float('nan'))
    return Record(trial.id, 'failed', trial.config, unknown, 0, 0.0, error=text)
