"""The claims of each document, a line each; the errors; what was not run."""

from collections.abc import Mapping, Sequence

from bnjax.claims.page.markdown import anchor, blocks, item, paragraph, table, text
from bnjax.claims.page.results import Result, Results
from bnjax.claims.register import Claim
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


def sections(results: Results) -> str:
    """A table for each of the documents, in their order."""
    return blocks(
        blocks((f'## Document {key}', _capital(name) + '.', _table(results, claims)))
        for key, name in DOCUMENTS.items()
        if (claims := of_document(results.claims, key))
    )


def errors(results: Results) -> str:
    claims = [claim for claim in results.claims.values() if is_error(claim)]
    return blocks(
        ('## Errors of the documents', paragraph(ERRORS), _table(results, claims))
    )


def not_run(results: Results) -> str:
    """The claims without a verdict and why; and the studies that were made smaller."""
    missing = [
        item(f'{link(claim.id)}: {text(claim.statement)} {_reason(results, claim)}')
        for claim in results.claims.values()
        if results.verdicts[claim.id].verdict == NOT_RUN
    ]
    smaller = [
        item(f'{study_link(name, results)}: {text(study["reduced"])}')
        for name, study in results.studies.items()
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


def study_link(study: str, results: Results) -> str:
    """To the section of a study; to its config where it was not run."""
    run = study in results.studies
    return f'[{study}]({f"#{study}" if run else f"../configs/claims/{study}.py"})'


def measured(result: Result, between: str = ' ') -> str:
    """What was measured, and its interval where it has one."""
    effect = text(result.effect)
    if result.interval is None:
        return effect
    return f'{effect}:{between}{estimate(result.interval, result.bounds)}'


def _capital(name: str) -> str:
    return name[0].upper() + name[1:]


def _table(results: Results, claims: Sequence[Claim]) -> str:
    return table(HEAD, [_row(results, claim) for claim in claims])


def _row(results: Results, claim: Claim) -> tuple[str, ...]:
    result = results.verdicts[claim.id]
    opening = f'{anchor(claim.id.lower())}{claim.id}', _said(claim)
    verdict = f'**{result.verdict}**'
    if claim.same:
        return *opening, verdict, '', '', f'as {link(claim.same)}'
    n = '' if result.interval is None else str(result.interval.n)
    return *opening, verdict, _effect(results, claim), n, _settled_by(results, claim)


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


def _effect(results: Results, claim: Claim) -> str:
    """What was measured; beside a study's whether the exact part holds."""
    said = [measured(results.verdicts[claim.id], BREAK)]
    part = results.exact.get(claim.id)
    if claim.study and part is not None:
        said.append(f'exact part: {part.verdict}')
    return BREAK.join(said)


def _settled_by(results: Results, claim: Claim) -> str:
    study = study_link(claim.study, results) if claim.study else ''
    check = check_link(claim.check, 'check') if claim.check else ''
    return ', '.join(part for part in (study, check) if part)


def _reason(results: Results, claim: Claim) -> str:
    if claim.same:
        return f'As {link(claim.same)}.'
    return f'*{_capital(text(results.verdicts[claim.id].effect))}*'
