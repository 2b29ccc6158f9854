"""The claims of each document, a line each; the errors; what was not run."""

from collections.abc import Mapping, Sequence

from bnjax.claims.page.markdown import anchor, blocks, item, paragraph, table, text
from bnjax.claims.register import Claim
from bnjax.claims.settled import Result, Settled
from bnjax.report.numbers import estimate
from bnjax.verdict import NOT_RUN

DOCUMENTS = {
    '000': 'chapter “Batch Normalization” of the book machine-learning-notes',
    '001': '“批量归一化(Batch Normalization)”, www.kler.cn/news/365147.html',
    '002': '“1bn是多少钱,permutation invariant”, an article of 2023-05-05',
    '003': '“经典算法：Batch Normalization”, notes on a lecture',
    '004': 'notes of happynear on the paper of Ioffe and Szegedy (2015), with code',
}
BREAK = '<br>'  # of a line in a cell
HEAD = 'id', 'claim', 'verdict', 'effect [95 % interval]', 'n', 'settled by'
ERRORS = """Each line is either what a document asserts, and then *refuted* says that
it is wrong, or what we found wrong in it, and then *confirmed* says that it is."""


def sections(settled: Settled) -> str:
    """A table for each of the documents, in their order."""
    return blocks(
        blocks((f'## Document {key}', _capital(name) + '.', _table(settled, claims)))
        for key, name in DOCUMENTS.items()
        if (claims := of_document(settled.claims, key))
    )


def errors(settled: Settled) -> str:
    claims = [claim for claim in settled.claims.values() if is_error(claim)]
    return blocks(
        ('## Errors of the documents', paragraph(ERRORS), _table(settled, claims))
    )


def not_run(settled: Settled) -> str:
    """The claims without a verdict and why; and the studies that were made smaller."""
    missing = [
        item(f'{link(claim.id)}: {text(claim.statement)} {_reason(settled, claim)}')
        for claim in settled.claims.values()
        if settled.verdicts[claim.id].verdict == NOT_RUN
    ]
    smaller = [
        item(f'{study_link(name, settled)}: {text(study["reduced"])}')
        for name, study in settled.studies.items()
        if study['reduced']
    ]
    return blocks(
        (
            '## What was not run, and why',
            '\n'.join(missing) or 'Every claim was.',
            'Not at full size:' if smaller else 'Every study was run at full size.',
            '\n'.join(smaller),
        )
    )


def of_document(claims: Mapping[str, Claim], document: str) -> list[Claim]:
    """What it is the first to say, without its errors."""
    first = (claim for claim in claims.values() if claim.documents[0] == document)
    return [claim for claim in first if not is_error(claim)]


def is_error(claim: Claim) -> bool:
    return claim.id.startswith('E')


def link(claim: str) -> str:
    """To the line of a claim."""
    return f'[{claim}](#{claim.lower()})'


def check_link(check: str, label: str) -> str:
    """To the lines of an exact check."""
    return f'[{label}](#{check})'


def study_link(study: str, settled: Settled) -> str:
    """To the section of a study; to its config where it was not run."""
    run = study in settled.studies
    return f'[{study}]({f"#{study}" if run else f"../configs/claims/{study}.py"})'


def measured(result: Result, between: str = ' ') -> str:
    """What was measured, and its interval where it has one."""
    effect = text(result.effect)
    if result.interval is None:
        return effect
    return f'{effect}:{between}{estimate(result.interval, result.bounds)}'


def _capital(name: str) -> str:
    return name[0].upper() + name[1:]


def _table(settled: Settled, claims: Sequence[Claim]) -> str:
    return table(HEAD, [_row(settled, claim) for claim in claims])


def _row(settled: Settled, claim: Claim) -> tuple[str, ...]:
    result = settled.verdicts[claim.id]
    opening = f'{anchor(claim.id.lower())}{claim.id}', _said(claim)
    verdict = f'**{result.verdict}**'
    if claim.same:
        return *opening, verdict, '', '', f'as {link(claim.same)}'
    n = '' if result.interval is None else str(result.interval.n)
    return *opening, verdict, _effect(settled, claim), n, _settled_by(settled, claim)


def _said(claim: Claim) -> str:
    """The statement, the document's own words, and the other documents that say it."""
    others = claim.documents if is_error(claim) else claim.documents[1:]
    also = '' if is_error(claim) else 'also '
    statement = text(claim.statement)
    if others:
        statement += f' ({also}{", ".join(others)})'
    return BREAK.join([statement, *map(_quoted, claim.words)])


def _quoted(words: str) -> str:
    """The document's own; an address may break, or its column would be too wide."""
    written = text(words)
    return f'“{written.replace("/", "/<wbr>") if "://" in words else written}”'


def _effect(settled: Settled, claim: Claim) -> str:
    """What was measured; beside a study's whether the exact part holds."""
    said = [measured(settled.verdicts[claim.id], BREAK)]
    part = settled.exact.get(claim.id)
    if claim.study and part is not None:
        said.append(f'exact part: {part.verdict}')
    return BREAK.join(said)


def _settled_by(settled: Settled, claim: Claim) -> str:
    study = study_link(claim.study, settled) if claim.study else ''
    check = check_link(claim.check, 'check') if claim.check else ''
    return ', '.join(part for part in (study, check) if part)


def _reason(settled: Settled, claim: Claim) -> str:
    if claim.same:
        return f'As {link(claim.same)}.'
    return f'*{_capital(text(settled.verdicts[claim.id].effect))}*'
