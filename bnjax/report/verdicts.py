"""What a sweep says of claims: for a terminal, the page, and other programs."""

import math
import pathlib
from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from bnjax.records import write_json
from bnjax.report import tables
from bnjax.report.numbers import estimate
from bnjax.verdict import CONFIRMED, REFUTED, Verdict

COLOURS = {CONFIRMED: 'green', REFUTED: 'red'}
HEAD = 'claim', 'verdict', 'measured', 'mean [95 % interval]', 'n'


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """A row for each claim: the verdict, what was measured, and its interval."""
    table = Table(*HEAD, title='Verdicts')
    for verdict in verdicts:
        claim, said, *texts = _texts(verdict)
        table.add_row(claim, Text(said, COLOURS.get(said, '')), *map(Text, texts))
    return table


def section(verdicts: Sequence[Verdict]) -> str:
    """The same table for the page; empty where the config has no verdict."""
    if not verdicts:
        return ''
    caption = (
        'By the rules in the config; the interval is 95 % unless another level is '
        'named.'
    )
    rows = [[tables.Cell(text) for text in _texts(v)] for v in verdicts]
    return tables.section('Verdicts', caption, HEAD, rows)


def _texts(verdict: Verdict) -> list[str]:
    interval = verdict.interval
    found = ['', '']
    if interval:
        found = [estimate(interval, verdict.bounds), str(interval.n)]
    return [verdict.claim, verdict.verdict, verdict.effect, *found]


def as_fields(verdict: Verdict) -> dict[str, Any]:
    """What JSON keeps of a verdict beside its claim: null where it has no number."""
    known = [v if math.isfinite(v) else None for v in verdict.interval or ()]
    own = verdict._asdict()
    own |= {'interval': known or None, 'bounds': [*verdict.bounds]}
    del own['claim']
    return own


def write_verdicts(workdir: pathlib.Path, verdicts: Sequence[Verdict]) -> None:
    """Writes verdicts.json: by claim the verdict, and what it is from."""
    fields = {verdict.claim: as_fields(verdict) for verdict in verdicts}
    write_json(workdir / 'verdicts.json', fields)
