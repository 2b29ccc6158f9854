"""The verdicts that are kept with the code, and the table of them."""

import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from bnjax.claims import studies
from bnjax.claims.checking import Checked
from bnjax.claims.register import CLAIMS
from bnjax.claims.settled import collect
from bnjax.records import DamagedError, write_atomically, write_json
from bnjax.report.numbers import estimate
from bnjax.report.verdicts import COLOURS, as_fields
from bnjax.verdict import CONFIRMED, NOT_RUN, REFUTED, UNDECIDED

FILE = pathlib.Path(__file__).parent / 'verdicts.json'


def read() -> dict[str, Any]:
    """By ``exact``, ``claims`` and ``studies`` what came out of them so far."""
    empty: dict[str, Any] = {'exact': {}, 'claims': {}, 'studies': {}}
    try:
        found = dict(json.loads(FILE.read_text())) if FILE.exists() else {}
        return empty | {name: dict(found[name]) for name in empty if name in found}
    except (ValueError, TypeError) as error:
        raise DamagedError(f'{FILE} is damaged ({error})') from error


def write(kept: Mapping[str, Any]) -> None:
    """Keeps what came out."""
    write_json(FILE, kept)


def add_checks(kept: dict[str, Any], found: Iterable[Checked]) -> None:
    """Puts in what the exact checks said; one that could not run keeps what it had."""
    for outcome in found:
        if outcome.verdict == NOT_RUN and outcome.claim.id in kept['exact']:
            continue
        kept['exact'][outcome.claim.id] = {
            'verdict': outcome.verdict,
            'effect': outcome.effect,
            'check': outcome.claim.check,
        }


def add_study(
    kept: dict[str, Any],
    name: str,
    configs: pathlib.Path,
    runs: pathlib.Path,
    images: pathlib.Path,
) -> bool:
    """Puts in what a study said, and said again with other first seeds.

    What is kept of a study stays where its work directory is not there, or not done.

    Returns:
      Whether it is done.
    """
    at = studies.place(name, configs, runs)
    if not (found := studies.outcome(at)):
        return False
    for claim in [c for c, old in kept['claims'].items() if old['study'] == name]:
        del kept['claims'][claim]
    summary = studies.summary(at, found)
    if png := studies.figure(found):
        write_atomically(images / f'{name}.png', png)
        summary['figures'] = [f'{name}.png']
    kept['studies'][name] = summary
    again = _again(name, configs, runs)
    for verdict in found.verdicts:
        other = again.get(verdict.claim)
        kept['claims'][verdict.claim] = as_fields(verdict) | {
            'verdict': _together(verdict.verdict, other),
            'alone': verdict.verdict,
            'study': name,
            'rule': studies.rule_digest(at.file),
            'begun': studies.began(at),
            'again': other,
        }
    return True


def _together(alone: str, other: Mapping[str, Any] | None) -> str:
    """What other seeds turn round, as by another rate that they tuned, is undecided."""
    said = {alone, other['verdict']} if other else {alone}
    return UNDECIDED if said == {CONFIRMED, REFUTED} else alone


def _again(
    name: str, configs: pathlib.Path, runs: pathlib.Path
) -> dict[str, dict[str, Any]]:
    """By claim, what the same study said with other seeds, where it ran so."""
    ends = (place.name.removeprefix(f'{name}-') for place in runs.glob(f'{name}-*'))
    for seed in sorted(int(end) for end in ends if end.isdigit()):
        if other := studies.outcome(studies.place(name, configs, runs, seed)):
            return {v.claim: as_fields(v) | {'seeds': seed} for v in other.verdicts}
    return {}


def table(kept: Mapping[str, Any]) -> Table:
    """A row for each claim: verdict, what was measured, n, and what repeats it."""
    made = Table('claim', 'verdict', 'measured', 'n', 'repeat', title='Claims')
    verdicts = collect(CLAIMS, kept).verdicts
    for claim in CLAIMS.values():
        found = verdicts[claim.id]
        n, effect = '', found.effect
        if found.interval:
            n = str(found.interval.n)
            effect += f': {estimate(found.interval, found.bounds)}'
        made.add_row(
            claim.id,
            Text(found.verdict, COLOURS.get(found.verdict, '')),
            Text(effect),
            n,
            claim.command.removeprefix('python -m bnjax.claims '),
        )
    return made
