"""The work directory: a record for each finished trial, and what derives from them.

config.json        what was asked, on what it ran
checkpoints/       chunks in training, between two epochs
trials/<id>.json   a finished trial, written last, whole or not at all
trials/<id>.npz    its curves and probes
trials.csv         a line for each trial of the sweep, made anew each time
verdicts.json      what the config's verdict says of them, made anew each time
"""

import contextlib
import csv
import dataclasses
import fcntl
import hashlib
import io
import json
import math
import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bnjax.errors import UserError

SCHEMA = 1
METRICS = (
    *('train_loss', 'train_accuracy'),
    *('validation_loss', 'validation_accuracy'),
    *('test_loss', 'test_accuracy'),
)
DIRECTORIES = ('trials', 'checkpoints', 'figures')
_UNFINISHED = '.bnjax-'  # the names of files that are being written begin with it
# How a trial is run is no part of what it is.
NOT_IDENTITY = ('execution.',)


@dataclasses.dataclass(frozen=True)
class Record:
    """A finished trial.

    Attributes:
      trial: its identity, 12 hexadecimal digits.
      status: 'done', 'diverged' or 'failed'.
      config: every field by its dotted name.
      metrics: ``METRICS``; accuracies are fractions of 1, losses nats, unknown nan.
        Those of a diverged trial are its last finite ones.
      steps: training steps taken.
      seconds: its share of the time its chunk ran, without compilation.
      bad_step: the first step whose loss was not finite (diverged).
      error: what went wrong (failed).
      curves: arrays by name: ``epoch`` and ``METRICS`` by epoch from 0, before
        training; ``probe_step``, and for each probe ``probe/<name>`` (samples,
        layers) and ``layers/<name>``; with ``keep_state`` the network at the end,
        ``state/params/...`` and ``state/batch_stats/...``.
    """

    trial: str
    status: str
    config: Mapping[str, Any]
    metrics: Mapping[str, float]
    steps: int
    seconds: float
    bad_step: int | None = None
    error: str | None = None
    curves: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


def variables_of(record: Record) -> dict[str, Any]:
    """The Flax variables of a trained network, kept by ``keep_state``; else empty."""
    variables: dict[str, Any] = {}
    for name, array in record.curves.items():
        head, *path = name.split('/')
        if head == 'state':
            place = variables
            for key in path[:-1]:
                place = place.setdefault(key, {})
            place[path[-1]] = array
    return variables


def identity(config: Mapping[str, Any]) -> str:
    """Twelve digits that stand for what the trial is."""
    fields = {k: v for k, v in config.items() if not k.startswith(NOT_IDENTITY)}
    return _digest({'schema': SCHEMA} | fields, b'')[:12]


def write(workdir: pathlib.Path, record: Record) -> None:
    """Keeps a finished trial; its json appears last, and vouches for both files."""
    path = workdir / 'trials' / record.trial
    curves = io.BytesIO()
    np.savez_compressed(curves, **dict[str, Any](record.curves))
    write_atomically(path.with_suffix('.npz'), curves.getvalue())
    fields = dataclasses.asdict(dataclasses.replace(record, curves={}))
    del fields['curves']
    fields['schema'] = SCHEMA
    fields['metrics'] = {k: _known(v) for k, v in record.metrics.items()}
    digest = _digest(fields, curves.getvalue())
    write_json(path.with_suffix('.json'), fields | {'sha256': digest})


class DamagedError(ValueError):
    """A file is not as it was written; the message says which, and what is wrong."""


def read(workdir: pathlib.Path, trial: str) -> Record | None:
    """A finished trial, or None where there is none.

    Raises:
      DamagedError: a record is there, but cut short, edited, or of other code.
    """
    path = workdir / 'trials' / trial
    try:
        text = path.with_suffix('.json').read_bytes()
    except FileNotFoundError:
        return None
    try:
        fields = dict(json.loads(text))
        curves = path.with_suffix('.npz').read_bytes()
    except (ValueError, TypeError, RecursionError, FileNotFoundError) as error:
        raise DamagedError(f'{path}.json is damaged ({error})') from error
    if fields.pop('sha256', None) != _digest(fields, curves):
        raise DamagedError(f'{path}.json or .npz is not what was written')
    if fields.pop('schema', None) != SCHEMA or fields['trial'] != trial:
        raise DamagedError(f'{path}.json is of another version of bnjax, or trial')
    config = {
        k: tuple(v) if type(v) is list else v for k, v in fields['config'].items()
    }
    metrics = {k: math.nan if v is None else v for k, v in fields['metrics'].items()}
    with np.load(io.BytesIO(curves), allow_pickle=False) as stored:
        arrays = dict(stored)
    return Record(**fields | {'config': config, 'metrics': metrics, 'curves': arrays})


def _digest(fields: Mapping[str, Any], curves: bytes) -> str:
    text = json.dumps(fields, sort_keys=True)
    return hashlib.sha256(text.encode() + curves).hexdigest()


def read_config(workdir: pathlib.Path) -> dict[str, Any]:
    """The config.json of an earlier run; empty where there is none.

    Raises:
      DamagedError: it is cut short or edited.
    """
    path = workdir / 'config.json'
    try:
        # Not path.exists(), which raises where a name is too long.
        return dict(json.loads(path.read_text())) if os.path.exists(path) else {}
    except (ValueError, TypeError, RecursionError) as error:
        raise DamagedError(f'{path} is damaged ({error})') from error


def write_csv(
    workdir: pathlib.Path, records: Sequence[Record], swept: Sequence[str]
) -> None:
    """Writes trials.csv: a line for each trial, with the swept fields by name."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator='\n')
    out.writerow(
        ['trial', 'status', 'seed', *swept, *METRICS, 'steps', 'seconds', 'bad_step']
    )
    for r in records:
        out.writerow(
            [r.trial, r.status, r.config['seed']]
            + [r.config[name] for name in swept]
            + [r.metrics[name] for name in METRICS]
            + [r.steps, round(r.seconds, 4), '' if r.bad_step is None else r.bad_step]
        )
    write_atomically(workdir / 'trials.csv', text.getvalue().encode())


def _known(value: float) -> float | None:
    """JSON has no nan: what is unknown is null."""
    return value if math.isfinite(value) else None


def write_json(path: pathlib.Path, fields: Mapping[str, Any]) -> None:
    """Writes JSON whole or not at all."""
    text = json.dumps(fields, indent=1, allow_nan=False)
    write_atomically(path, f'{text}\n'.encode())


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Writes a file whole or not at all, and leaves nothing else behind."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=_UNFINISHED)
    try:
        with os.fdopen(handle, 'wb') as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


@contextlib.contextmanager
def opened(workdir: pathlib.Path) -> Iterator[None]:
    """Makes the work directory and holds it, so that one process writes at a time.

    Raises:
      UserError: it cannot be written, or another process holds it.
    """
    try:
        for directory in (*(workdir / name for name in DIRECTORIES), workdir):
            directory.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=directory).close()
        lock = open(workdir / '.lock', 'a+')  # noqa: SIM115
    except OSError as error:
        raise UserError(
            f'--workdir={workdir} cannot be written '
            f'({error.strerror}: {error.filename}); give another with --workdir=DIR'
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise UserError(
                f'--workdir={workdir} is in use by process {lock.read().strip()}; '
                'wait for it or give another with --workdir=DIR'
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        # What a killed process was writing.
        for directory in (workdir, *(workdir / name for name in DIRECTORIES)):
            for unfinished in directory.glob(f'{_UNFINISHED}*'):
                unfinished.unlink(missing_ok=True)
        yield
