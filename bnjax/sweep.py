"""Many trials: grouped into programs, run in chunks, each kept as it finishes."""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bnjax import data, execution, program, records
from bnjax.config import Config, build
from bnjax.probes import in_depth_order
from bnjax.records import METRICS, Record
from bnjax.study import Study, Trial


class Progress(NamedTuple):
    """How far a sweep is.

    Attributes:
      trials: finished, those of earlier runs included.
      share: of all work, done so far.
      gained: of it, in this run.
      running: the arm at work, and the memory it needs.
    """

    trials: int
    share: float
    gained: float
    running: str


def load_data(study: Study, data_dir: str | None) -> dict[tuple, data.Dataset]:
    """Every data set that the trials name, and a check that the trials fit it."""
    datasets: dict[tuple, data.Dataset] = {}
    for group in groups(study.trials).values():
        cfg = build(group[0].config)
        key = _data_key(cfg)
        if key not in datasets:
            datasets[key] = data.load(
                cfg.data.name,
                preprocess=cfg.data.preprocess,
                validation_percent=cfg.data.validation_percent,
                data_dir=data_dir,
            )
        program.check_fit(cfg, datasets[key])
    return datasets


def run(
    study: Study,
    datasets: Mapping[tuple, data.Dataset],
    plan: execution.Plan,
    workdir: pathlib.Path,
    report: Callable[[Progress], None],
) -> list[Record]:
    """Trains what the work directory does not yet hold.

    Args:
      study: its trials are what is asked for.
      datasets: as ``load_data`` gives them.
      plan: how each program runs, as ``execution.plan`` has it.
      workdir: opened by the caller; a record is in it before it is reported.
      report: is told how far the sweep is.

    Returns:
      The records of all trials of the study, in its order.
    """
    found = {t.id: records.read(workdir, t.id) for t in study.trials}
    finished = {k: r for k, r in found.items() if r and r.status != 'failed'}
    missing = [t for t in study.trials if t.id not in finished]
    total, before = len(study.trials), len(finished)
    for static, group in groups(missing).items():
        fields = dict(static)
        planned = execution.planned(static, plan)
        arm = ' '.join(str(fields[n]) for n in study.swept if n in fields)
        running = arm or fields['model.name']

        def tell(
            share_of_chunk: float, chunk: int, note: str = '', arm: str = running
        ) -> None:
            done = len(finished) + share_of_chunk * chunk
            share, gained = done / total, (done - before) / total
            arm += f' ({note})' if note else ''
            report(Progress(len(finished), share, gained, arm))

        dataset = datasets[_data_key(build(group[0].config))]
        for record in _run_group(planned, group, dataset, tell):
            records.write(workdir, record)
            finished[record.trial] = record
        tell(0, 0)
    return [finished[trial.id] for trial in study.trials]


def _run_group(
    static: program.Static,
    group: Sequence[Trial],
    dataset: data.Dataset,
    tell: Callable[..., None],
) -> Iterator[Record]:
    """Compiles one program and runs its trials; what fails is recorded as failed."""
    numbers = [program.split_fields(trial.config)[1] for trial in group]
    width = dict(static)['execution.width']
    tell(0, 0, 'compiling')
    try:
        compiled = program.compile_program(static, numbers[0], dataset)
        execution.check_memory(compiled.memory, width)
    except Exception as error:
        yield from (_failure(trial, error) for trial in group)
        return
    for start in range(0, len(group), width):
        chunk = group[start : start + width]
        begun, logs = time.perf_counter(), []
        try:
            for log in program.run_chunk(compiled, numbers[start : start + width]):
                logs.append(log)
                # Not after the last: who is told may end the sweep, and a trial that
                # has finished is kept first.
                if len(logs) <= compiled.epochs:
                    share = (len(logs) - 1) / compiled.epochs
                    tell(share, len(chunk), f'{compiled.memory / 1e9:.1g} GB')
            seconds = (time.perf_counter() - begun) / len(chunk)
            by_trial = zip(chunk, *logs, strict=True)
            finished = [
                _record(trial, own, compiled.steps, seconds) for trial, *own in by_trial
            ]
        except Exception as error:
            finished = [_failure(trial, error) for trial in chunk]
        yield from finished


def _record(trial: Trial, logs: Sequence[dict], total: int, seconds: float) -> Record:
    curves = {
        metric: np.array([log.get(metric, np.nan) for log in logs])
        for metric in METRICS
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
        | _probe_curves(trial.config, logs[1:], total),
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


def _failure(trial: Trial, error: Exception) -> Record:
    text = f'{type(error).__name__}: {" ".join(str(error).split())}'
    unknown = dict.fromkeys(METRICS, float('nan'))
    return Record(trial.id, 'failed', trial.config, unknown, 0, 0.0, error=text)


def groups(trials: Sequence[Trial]) -> dict[program.Static, list[Trial]]:
    """The trials of each program."""
    found: dict[program.Static, list[Trial]] = {}
    for trial in trials:
        found.setdefault(program.split_fields(trial.config)[0], []).append(trial)
    return found


def _data_key(cfg: Config) -> tuple:
    """What the arrays depend on; augmentation is of each step."""
    return dataclasses.astuple(dataclasses.replace(cfg.data, augment=False))
