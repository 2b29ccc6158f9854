"""``step`` and ``sweep``: networks trained by bnjax's program, Flax and torch."""

import dataclasses
import pathlib
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console

from bnjax.benchmark import table
from bnjax.benchmark.timing import in_own_process, in_turn
from bnjax.benchmark.workloads import CHECKED_STEPS, Workload

STEP_NOTES = f"""\
ms: of one training step of one trial; the median over rounds. bnjax trains as many
trials side by side as its program does, the others one.
vs: the time of bnjax in units of theirs.
GFLOP, MB: the least such a step takes: its products and convolutions; what they, batch
norm and the update read and write.
apart: the largest relative difference between losses of {CHECKED_STEPS} steps from the
same weights on the same batches."""
SWEEP_NOTES = """\
s: of all trials, wall clock; the median over rounds. "compiled before" is the same
again in the same process. Flax compiles once for all trials, bnjax for a chunk.
vs: the time of bnjax in units of theirs.
GFLOP, GB: the least their training steps take, as of `step`."""


def measure_steps(workloads: Iterable[Workload], rounds: int) -> dict[str, Any]:
    """Measures a training step of each.

    Args:
      workloads: the lines of the table.
      rounds: how often every side is measured; the sides take turns.

    Returns:
      What JSON can hold: ``devices`` by side; ``rows``, each with the ``workload``,
      ``width`` (trials side by side in bnjax), ``milliseconds`` of every round,
      ``losses`` of the checked steps by side, ``flops`` and ``bytes``.
    """
    rows: list[dict[str, Any]] = []
    devices: dict[str, str] = {}
    for workload in workloads:
        losses = _losses(workload)
        timed = _in_turn('step', workload, rounds)
        devices |= _devices(timed)
        ms = {
            side: [1e3 * r['seconds'] for r in found] for side, found in timed.items()
        }
        width = timed['bnjax'][0]['width']
        rows.append(
            _about(workload) | {'width': width, 'milliseconds': ms, 'losses': losses}
        )
    return {'rounds': rounds, 'devices': devices, 'rows': rows}


def measure_sweeps(workloads: Iterable[Workload], rounds: int) -> dict[str, Any]:
    """Measures a sweep of each, as ``measure_steps`` does a step.

    Its rows have ``seconds`` with compilation and ``seconds_compiled`` without, and
    by side the mean ``loss`` of the last epochs, each side from weights of its own.
    """
    rows: list[dict[str, Any]] = []
    devices: dict[str, str] = {}
    for workload in workloads:
        timed = _in_turn('sweep', workload, rounds)
        devices |= _devices(timed)
        first, again = (
            {side: [r['seconds'][i] for r in found] for side, found in timed.items()}
            for i in range(2)
        )
        loss = {side: found[0]['loss'] for side, found in timed.items()}
        times = {'seconds': first, 'seconds_compiled': again, 'loss': loss}
        rows.append(_about(workload) | times)
    return {'rounds': rounds, 'devices': devices, 'rows': rows}


def show_steps(report: Mapping[str, Any], console: Console) -> None:
    """Prints ``circumstances`` and what ``measure_steps`` returned."""
    columns = ('GFLOP', 'MB', 'apart')
    shown = table.table('step of a trial', 'ms', columns, console.is_terminal)
    for row in report['rows']:
        w, width = row['workload'], row['width']
        name = f'{w["name"]}, batch {w["batch_size"]}, {width} wide'
        times = table.time_cells(row['milliseconds'])
        least = f'{row["flops"] / 1e9:.3g}', f'{row["bytes"] / 1e6:.3g}'
        shown.add_row(name, *times, *least, f'{apart(row["losses"]):.0e}')
    table.show(shown, STEP_NOTES, report, console)


def show_sweeps(report: Mapping[str, Any], console: Console) -> None:
    """Prints ``circumstances`` and what ``measure_sweeps`` returned."""
    columns = ('GFLOP', 'GB')
    shown = table.table('sweep', 's', columns, console.is_terminal)
    for row in report['rows']:
        w = row['workload']
        steps = w['trials'] * w['epochs'] * w['steps']
        least = [f'{steps * row[what] / 1e9:.3g}' for what in ('flops', 'bytes')]
        name = f'{w["name"]}, {w["trials"]} x {w["epochs"] * w["steps"]} steps'
        shown.add_row(name, *table.time_cells(row['seconds']), *least)
        again = table.time_cells(row['seconds_compiled'])
        shown.add_row('  compiled before', *again, *least)
    table.show(shown, SWEEP_NOTES, report, console)


def _in_turn(function: str, workload: Workload, rounds: int) -> dict[str, list[Any]]:
    """What each side's function of that name returns, round by round."""
    sides = {
        side: lambda side=side: _call(side, function, workload)
        for side in table.installed_sides()
    }
    return in_turn(sides, rounds)


def _losses(workload: Workload) -> dict[str, list[float]]:
    """Of the checked steps by side, all from the weights that bnjax began with."""
    with tempfile.TemporaryDirectory() as directory:
        weights = str(pathlib.Path(directory, 'weights.npz'))
        return {
            side: _call(side, 'losses', workload, weights=weights)
            for side in table.installed_sides()
        }


def _call(side: str, function: str, workload: Workload, **more: Any) -> Any:
    arguments = {'workload': dataclasses.asdict(workload), **more}
    if side == 'bnjax':
        return in_own_process(f'bnjax.benchmark.program_loop:{function}', **arguments)
    loop = f'bnjax.benchmark.python_loop:{function}'
    return in_own_process(loop, side=side, **arguments)


def _about(workload: Workload) -> dict[str, Any]:
    fields = dataclasses.asdict(workload)
    flops, number = in_own_process('bnjax.benchmark.floor:floor', workload=fields)
    return {'workload': fields, 'flops': flops, 'bytes': number}


def _devices(timed: Mapping[str, list[Any]]) -> dict[str, str]:
    return {side: found[0]['device'] for side, found in timed.items()}


def apart(losses: Mapping[str, list[float]]) -> float:
    """The largest relative difference of any side's loss from that of bnjax."""
    ours = losses['bnjax']
    return max(
        abs(theirs / own - 1)
        for side in losses
        for theirs, own in zip(losses[side], ours, strict=True)
    )
