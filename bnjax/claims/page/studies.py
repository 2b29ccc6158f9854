"""A study as a section: what was asked, what was done, what came out."""

from collections.abc import Mapping
from typing import Any

from bnjax.claims.page.description import describe
from bnjax.claims.page.documents import check_link, link, measured
from bnjax.claims.page.markdown import blocks, cell, item, paragraph, table, text
from bnjax.claims.page.panels import panels, picture
from bnjax.claims.register import Claim
from bnjax.claims.settled import Result, Settled
from bnjax.report.numbers import duration, estimate, number, thousands

IMAGES = 'images/claims'
CAPTION = (
    'Mean and interval of each effect, of 95 % where the effect names no other level '
    'and no Bonferroni; dashed: the bounds that decide; grey, where there is any: with '
    'other seeds.'
)
DIGEST, DAY = 12, 10  # characters that tell a digest, or a date's day


def section(name: str, settled: Settled) -> str:
    """All there is to know of a study, for a reader who has read nothing else."""
    study = settled.studies[name]
    question, done = describe(study['description'])
    claims = settled.of_study(name)
    return blocks(
        (
            f'### {name}',
            paragraph(f'**Asked.** {question}'),
            '**Done.**',
            done,
            '**Came out.**' if claims else '**Came out.** No claim rests on it.',
            '\n'.join(_verdict(claim, settled) for claim in claims),
            *(_image(name, file, settled) for file in figures(name, settled)),
            *(_table(entry) for entry in study['tables']),
            '**Run.**',
            _run(name, study, settled),
        )
    )


def figures(name: str, settled: Settled) -> list[str]:
    """The files of its pictures, that of the intervals first."""
    own = [picture(name)] if panels(name, settled) else []
    return list(dict.fromkeys([*own, *settled.studies[name]['figures']]))


def _verdict(claim: Claim, settled: Settled) -> str:
    """A claim with its verdict, what that rests on, and its rule, as a list."""
    result = settled.verdicts[claim.id]
    others = ', '.join(map(link, settled.same_as(claim)))
    asked = f'{link(claim.id)} (and {others})' if others else link(claim.id)
    parts = (
        f'**{result.verdict}**: {measured(result)}{_size(result)}',
        _exact_part(claim, settled),
        _again(result),
        f'Rule: {text(claim.rule)}',
    )
    head = item(f'{asked}: {text(claim.statement)}')
    return '\n'.join([head, *(item(part, 1) for part in parts if part)])


def _size(result: Result) -> str:
    """The seeds behind an interval and the numbers that decide."""
    n = '' if result.interval is None else f', n = {result.interval.n}'
    bounds = ' and '.join(number(bound, 3) for bound in result.bounds)
    noun = 'bound' if len(result.bounds) == 1 else 'bounds'
    return f'{n}; {noun} {bounds}' if bounds else n


def _exact_part(claim: Claim, settled: Settled) -> str:
    part = settled.exact.get(claim.id)
    if part is None:
        return ''
    return (
        f'Its exact part, {check_link(claim.check, f"`{claim.check}`")}: '
        f'{part.verdict}, {text(part.effect)}'
    )


def _again(result: Result) -> str:
    if result.again is None:
        return ''
    verdict, interval, seeds = result.again
    found = ''
    if interval is not None:
        found = f', {estimate(interval, result.bounds)}, n = {interval.n}'
    turned = '' if result.alone == result.verdict else f'; by the first: {result.alone}'
    return f'With other seeds, from {seeds} on: **{verdict}**{found}{turned}'


def _ruled(name: str, settled: Settled) -> list[Result]:
    found = (settled.verdicts[claim.id] for claim in settled.of_study(name))
    return [result for result in found if result.rule]


def _rule_history(result: Result) -> str:
    """When the code that applies the rules was fixed, and whether it is still that."""
    if result.begun is None:
        return 'What the rules were when the run began was not recorded'
    digest, commit, date = result.begun
    begun = f'`{digest[:DIGEST]}` (commit {_commit(commit)}, {date[:DAY]})'
    if result.rule_changed:
        return (
            f'**Rules changed after the run began**: their code was {begun} then and '
            f'is `{result.rule[:DIGEST]}` now'
        )
    return f'Rules as when the run began: code {begun}'


def _image(name: str, file: str, settled: Settled) -> str:
    """A picture with its alternative text, which for intervals says them all."""
    spoken = file.removesuffix('.png').replace('_', ' ')
    if file == picture(name):
        spoken = 'Intervals and bounds. ' + '; '.join(
            f'{p.claim} {p.measured.verdict} {estimate(p.measured.interval, p.bounds)}'
            for p in panels(name, settled)
        )
    said = settled.studies[name].get('captions', {}).get(file, '')
    caption = CAPTION if file == picture(name) else text(said)
    return blocks((f'![{spoken}]({IMAGES}/{file})', paragraph(caption)))


def _table(entry: Mapping[str, Any]) -> str:
    head = [cell(value) for value in entry['head']]
    rows = [[cell(value) for value in row] for row in entry['rows']]
    caption = paragraph(f'**{text(entry["title"])}.** {text(entry["caption"])}')
    return blocks((caption, table(head, rows)))


def _run(name: str, study: Mapping[str, Any], settled: Settled) -> str:
    reduced = study['reduced']
    size = f'Not run at full size: {text(reduced)}' if reduced else 'Run at full size.'
    lost = study.get('lost')
    parts = (
        f'`{study["command"]}`, by '
        f'[configs/claims/{name}.py](../configs/claims/{name}.py)',
        f'{thousands(study["trials"])} trials, {thousands(study["steps"])} training '
        f'steps in all, {duration(study["seconds"])} on {text(study["device"])}'
        + (f'; {thousands(lost)} of the trials diverged or failed' if lost else ''),
        f'{text(study["versions"])}; rules as of commit {_commit(study["commit"])}',
        *dict.fromkeys(map(_rule_history, _ruled(name, settled))),
        size,
    )
    return '\n'.join(item(part) for part in parts)


def _commit(commit: str | None) -> str:
    """A commit as short as it can be told from others."""
    return f'`{commit[:DIGEST]}`' if commit else 'unknown'
