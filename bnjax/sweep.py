"""Many trials: grouped into programs, run in chunks, each kept as it finishes."""

import collections
import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from bnjax import chunks, data, execution, program, records
from bnjax.config import Config, build
from bnjax.records import Record
from bnjax.study import Study, Trial


class Progress(NamedTuple):
    """How far a sweep is.

    Attributes:
      trials: finished, those of earlier runs included.
      diverged: of them.
      share: of all work, done so far.
      gained: of it, in this run.
      running: the arm at work, and the memory it needs.
      steps: its trials at work have taken, and will in all.
      message: what the user should know, or nothing.
    """

    trials: int
    diverged: int
    share: float
    gained: float
    running: str
    steps: tuple[int, int] = (0, 0)
    message: str = ''


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
                images=cfg.data.images,
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
    total, finished = len(study.trials), _finished(study, workdir, report)
    missing = [t for t in study.trials if t.id not in finished]
    before = len(finished)
    ended = collections.Counter(record.status for record in finished.values())
    for static in groups(study.trials).keys() - groups(missing).keys():
        # Killed when its last trial had just been written.
        _kept(workdir, static).unlink(missing_ok=True)
    for static, group in groups(missing).items():
        fields = dict(static)
        arm = ' '.join(str(fields[n]) for n in study.swept if n in fields)
        running = arm or fields['model.name']
        cfg = build(group[0].config)
        dataset = datasets[_data_key(cfg)]
        length = program.steps_in(cfg, len(dataset.train.y))

        def tell(
            share_of_chunk: float = 0,
            chunk: int = 0,
            note: str = '',
            message: str = '',
            arm: str = running,
            length: tuple[int, int] = length,
        ) -> None:
            done = len(finished) + share_of_chunk * chunk
            share, gained = done / total, (done - before) / total
            arm += f' ({note})' if note else ''
            per_epoch, steps = length
            epoch = round(share_of_chunk * -(-steps // per_epoch))
            so_far = len(finished), ended['diverged'], share, gained, arm
            report(Progress(*so_far, (epoch * per_epoch, steps), message))

        planned = execution.planned(static, plan)
        place = _kept(workdir, static)
        for record in chunks.run(planned, group, dataset, place, tell):
            records.write(workdir, record)
            finished[record.trial] = record
            ended[record.status] += 1
        tell()
    return [finished[trial.id] for trial in study.trials]


def _kept(workdir: pathlib.Path, static: program.Static) -> pathlib.Path:
    """Where a chunk of a program is kept."""
    return workdir / 'checkpoints' / f'{records.identity(dict(static))}.msgpack'


def _finished(
    study: Study, workdir: pathlib.Path, report: Callable[[Progress], None]
) -> dict[str, Record]:
    """What the work directory holds; a trial that failed is tried again."""
    found: dict[str, Record] = {}
    for trial in study.trials:
        try:
            record = records.read(workdir, trial.id)
        except records.DamagedError as error:
            message = f'{error}; the trial is run again'
            report(Progress(len(found), 0, 0.0, 0.0, 'reading', message=message))
            continue
        if record and record.status != 'failed':
            found[trial.id] = record
    return found


def groups(trials: Sequence[Trial]) -> dict[program.Static, list[Trial]]:
    """The trials of each program."""
    found: dict[program.Static, list[Trial]] = {}
    for trial in trials:
        found.setdefault(program.split_fields(trial.config)[0], []).append(trial)
    return found


def _data_key(cfg: Config) -> tuple:
    """What the arrays depend on; augmentation is of each step."""
    return dataclasses.astuple(dataclasses.replace(cfg.data, augment=False))
