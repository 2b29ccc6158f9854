"""The trials of one program, a chunk after another, from where they were kept."""

import functools
import itertools
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax

from bnjax import checkpoint, execution, outcome, program
from bnjax.checkpoint import Checkpoint
from bnjax.data import Dataset
from bnjax.records import DamagedError, Record
from bnjax.study import Trial


def run(
    static: program.Static,
    group: Sequence[Trial],
    dataset: Dataset,
    place: pathlib.Path,
    tell: Callable[..., None],
) -> Iterator[Record]:
    """Compiles one program and trains its trials; what fails is recorded as failed.

    Args:
      static: the fields of the program, those of its execution decided.
      group: its trials.
      dataset: which they name.
      place: the file in which a chunk in training is kept.
      tell: is told the share done of a chunk of so many trials, and may end it all.

    Yields:
      The record of each trial. When the next one is asked for, the chunk is no longer
      kept.
    """
    tell(note='compiling')
    try:
        numbers = program.split_fields(group[0].config)[1]
        compiled = program.compile_program(static, numbers, dataset)
        execution.check_memory(compiled.memory, compiled.width)
    except Exception as error:
        yield from (outcome.failure(trial, error) for trial in group)
        return
    every = dict(static)['execution.checkpoint_seconds']
    wanted = {trial.id: trial for trial in group}
    for chunk, begun in _chunks(wanted, compiled, place, tell):
        own = [wanted[trial] for trial in chunk if trial in wanted]
        note = f'{compiled.memory / 1e6:,.0f} MB'
        told = functools.partial(tell, chunk=len(own), note=note)
        try:
            ended, seconds = _train(compiled, chunk, begun, place, every, told)
            trained = _by_trial(ended, chunk)
            finished = [
                outcome.record(trial, *trained[trial.id], compiled.steps, seconds)
                for trial in own
            ]
        except OSError:
            raise  # of the disk, and no fault of a trial
        except Exception as error:
            finished = [outcome.failure(trial, error) for trial in own]
        yield from finished
        place.unlink(missing_ok=True)


def _chunks(
    wanted: Mapping[str, Trial],
    compiled: program.Program,
    place: pathlib.Path,
    tell: Callable[..., None],
) -> Iterator[tuple[Mapping[str, program.Numbers], Checkpoint | None]]:
    """What to train together; first the chunk that was kept, as it was.

    Some of its trials may have finished, or be wanted no longer: they train along.
    """
    left = {key: program.split_fields(t.config)[1] for key, t in wanted.items()}
    try:
        kept = checkpoint.read(place, compiled.shapes)
    except DamagedError as error:
        kept = None
        tell(message=str(error))
    if kept and left.keys() & kept.trials.keys():
        yield kept.trials, kept
        left = {key: numbers for key, numbers in left.items() if key not in kept.trials}
    rest = iter(left.items())
    while some := dict(itertools.islice(rest, compiled.width)):
        yield some, None


def _train(
    compiled: program.Program,
    chunk: Mapping[str, program.Numbers],
    begun: Checkpoint | None,
    place: pathlib.Path,
    every: int,
    tell: Callable[[float], None],
) -> tuple[program.Snapshot, float]:
    """Trains a chunk, and keeps it now and then and when told to end.

    Returns:
      Where it ended, and the seconds that each trial took.
    """
    earlier, resumed = (begun.seconds, begun.snapshot) if begun else (0.0, None)
    start = kept = time.perf_counter()

    def keep(snapshot: program.Snapshot) -> None:
        seconds = earlier + time.perf_counter() - start
        checkpoint.write(place, Checkpoint(chunk, seconds, snapshot))

    for snapshot in program.run_chunk(compiled, [*chunk.values()], resumed):
        share = (len(snapshot.logs) - 1) / compiled.epochs
        if share == 1:
            break  # untold: who is told may end the sweep, and the records come first
        if share > 0 and every <= time.perf_counter() - kept:
            keep(snapshot)
            kept = time.perf_counter()
        try:
            tell(share)
        except KeyboardInterrupt:
            keep(snapshot)
            raise
    seconds = earlier + time.perf_counter() - start
    return snapshot, seconds / len(chunk)


def _by_trial(
    ended: program.Snapshot, chunk: Mapping[str, program.Numbers]
) -> dict[str, tuple[list[dict], dict]]:
    """The logs of each trial's epochs, and its network at the end."""
    by_epoch = [program.by_trial(log, len(chunk)) for log in ended.logs]
    network = {name: getattr(ended.state, name) for name in ('params', 'batch_stats')}
    states = program.by_trial(jax.device_get(network), len(chunk))
    logs = map(list, zip(*by_epoch, strict=True))
    return dict(zip(chunk, zip(logs, states, strict=True), strict=True))
