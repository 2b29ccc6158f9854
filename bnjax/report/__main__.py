"""Compares work directories: `python -m bnjax.report RUNS... [--output=FILE]`."""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from rich.console import Console

from bnjax.comparison import compare
from bnjax.errors import UserError
from bnjax.records import write_atomically
from bnjax.report import headlines, page, runs, summary
from bnjax.report.answer import conclude
from bnjax.report.figures import drawn


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the page, prints its table, and returns 0; 2 where that cannot be."""
    parser = argparse.ArgumentParser(
        prog='python -m bnjax.report',
        description='Compares the trials of several work directories on one page.',
    )
    parser.add_argument('runs', nargs='+', metavar='RUN', help='a work directory')
    parser.add_argument(
        '--output', type=pathlib.Path, default=pathlib.Path('comparison.html')
    )
    known = parser.parse_args(argv)
    try:
        _compare(known.runs, known.output)
    except UserError as error:
        print(f'{parser.prog}: {error}', file=sys.stderr)
        return 2
    except OSError as error:
        reason = f'{known.output} cannot be written ({error.strerror or error})'
        print(f'{parser.prog}: {reason}; give another --output', file=sys.stderr)
        return 2
    return 0


def _compare(directories: Sequence[str], output: pathlib.Path) -> None:
    found = runs.read(directories)
    for line in found.warnings:
        print(line, file=sys.stderr)
    comparison = compare(found.records, found.swept)
    description = f'How do the trials of {" and ".join(found.notes)} compare?'
    text = page.render(
        comparison,
        drawn(comparison),
        title=output.stem,
        description=description,
        answer=conclude(comparison),
        notes=found.notes,
    )
    write_atomically(output, text.encode(errors='replace'))
    out = Console(highlight=False, markup=False)
    out.print(summary(found.records, found.swept))
    for line in headlines(found.records, found.swept):
        out.print(line)
    out.print(f'report: {output}', soft_wrap=True)


if __name__ == '__main__':
    sys.exit(main())
