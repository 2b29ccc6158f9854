"""``growth``: how the time of a training step grows with one thing at a time."""

import dataclasses
import statistics
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from bnjax.benchmark import table
from bnjax.benchmark.timing import in_own_process
from bnjax.benchmark.workloads import WORKLOADS, Workload

NOTES = """\
ms: of one training step of one trial; the median over rounds.
vs: in units of the first line of its kind.
GFLOP/s: the least that such a step takes, by the time it takes."""

MNIST, DIGITS, CNN, RESNET = WORKLOADS


class Case(NamedTuple):
    """A line of the table.

    Attributes:
      kind: of lines that are compared.
      name: of the line among them.
      workload: which has the number of trials, too.
      fields: of a config, other than the workload's.
    """

    kind: str
    name: str
    workload: Workload
    fields: Mapping[str, Any] = {}


def _cases() -> Iterable[Case]:
    replace = dataclasses.replace
    for w in (DIGITS, MNIST):
        for n in (1, 2, 4, 8, 16, 64):
            yield Case(f'{w.name}: trials', f'{n}', replace(w, trials=n))
    for width in (50, 100, 200, 400, 800):
        w = replace(MNIST, features=(width,) * 10)
        yield Case('MLP of 10 layers: units', f'{width}', w)
    for depth in (2, 5, 10, 20):
        w = replace(MNIST, features=(200,) * depth)
        yield Case('MLP of 200 units: layers', f'{depth}', w)
    for depth in (20, 32, 56):
        yield Case('ResNet: layers', f'{depth}', replace(RESNET, depth=depth))
    for w in (CNN, RESNET):
        for width, lowering in ((1, 'direct'), (1, 'product'), (4, 'product')):
            fields = {'execution.width': width, 'execution.convolution': lowering}
            name = f'{lowering}, {width} wide'
            yield Case(f'{w.name}: convolution', name, w, fields)


CASES = tuple(_cases())


def measure(cases: Iterable[Case], rounds: int) -> dict[str, Any]:
    """Measures a training step of each, by bnjax alone.

    Returns:
      What JSON can hold: ``devices``; ``rows``, each with ``kind``, ``name``,
      ``workload``, ``width``, ``milliseconds`` of every round and ``flops``.
    """
    rows, devices = [], {}
    for case in cases:
        fields = dataclasses.asdict(case.workload)
        step = {'workload': fields, 'fields': dict(case.fields)}
        found = [
            in_own_process('bnjax.benchmark.program_loop:step', **step)
            for _ in range(rounds)
        ]
        devices = {'bnjax': found[0]['device']}
        flops, _ = in_own_process('bnjax.benchmark.floor:floor', workload=fields)
        about = {'kind': case.kind, 'name': case.name, 'workload': fields}
        times = [1e3 * each['seconds'] for each in found]
        measured = {'width': found[0]['width'], 'milliseconds': times, 'flops': flops}
        rows.append(about | measured)
    return {'rounds': rounds, 'devices': devices, 'rows': rows}


def show(report: Mapping[str, Any], console: Console) -> None:
    """Prints ``circumstances`` and what ``measure`` returned."""
    framed = console.is_terminal
    style = box.SIMPLE_HEAD if framed else box.MARKDOWN
    shown = Table(box=style, pad_edge=not framed, collapse_padding=framed)
    shown.add_column('step of a trial', no_wrap=True)
    for header in ('side by side', 'ms', 'vs', 'GFLOP/s'):
        shown.add_column(header, justify='right')
    kind, first = None, 1.0
    for row in report['rows']:
        ms = statistics.median(row['milliseconds'])
        if row['kind'] != kind:
            kind, first = row['kind'], ms
            shown.add_row(kind)
        cells = f'{ms:.3g}', f'{ms / first:.2f}', f'{row["flops"] / ms / 1e6:.3g}'
        shown.add_row(f'  {row["name"]}', str(row['width']), *cells)
    table.show(shown, NOTES, report, console, sides=('bnjax',))
