"""What a sweep says of claims, for a terminal and for other programs."""

import math
import pathlib
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from bnjax.records import write_json
from bnjax.report.numbers import estimate
from bnjax.verdict import CONFIRMED, REFUTED, Verdict

COLOURS = {CONFIRMED: 'green', REFUTED: 'red'}


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """A row for each claim: the verdict, what was measured, and its interval."""
    table = Table(
        'claim',
        'verdict',
        'measured',
        'mean [95 % interval]',
        'n',
        title='Verdicts',
    )
    for v in verdicts:
        found = ('', '')
        if v.interval:
            found = estimate(v.interval, v.bounds), str(v.interval.n)
        colour = COLOURS.get(v.verdict, '')
        table.add_row(v.claim, Text(v.verdict, colour), Text(v.effect), *found)
    return table


def write_verdicts(workdir: pathlib.Path, verdicts: Sequence[Verdict]) -> None:
    """Writes verdicts.json: by claim the verdict, and what it is from."""
    fields = {}
    for verdict in verdicts:
        # JSON has no nan: what is unknown is null.
        known = [v if math.isfinite(v) else None for v in verdict.interval or ()]
        own = verdict._asdict() | {'interval': known or None}
        fields[own.pop('claim')] = own
    write_json(workdir / 'verdicts.json', fields)
