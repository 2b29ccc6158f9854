"""The command: ``python -m bnjax.claims --help``."""

import argparse
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

from rich.console import Console

from bnjax.claims import checking, kept, studies
from bnjax.claims.register import CLAIMS, Claim
from bnjax.errors import UserError
from bnjax.records import DamagedError

PROGRAM = 'python -m bnjax.claims'
APART = 100  # first seeds that are as far apart share none


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f'{message}; --help lists what there is')


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status.

    0 done, 1 a check or a trial failed, 2 the user's mistake, 130 interrupted.
    """
    try:
        known = _parser().parse_args(argv)
        return known.command(known)
    except (UserError, DamagedError) as error:
        print(f'{PROGRAM}: {error}', file=sys.stderr)
        return 2
    except OSError as error:
        place = error.filename or 'the disk'
        print(f'{PROGRAM}: {place}: {error.strerror or error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog=PROGRAM, description='Every claim, its rule, its verdict.')
    parser.set_defaults(command=_show)
    words = parser.add_subparsers(metavar='WORD')
    check = words.add_parser('check', help='run the exact checks; under two minutes')
    check.add_argument('ids', nargs='*', metavar='ID', help='all if none is given')
    check.set_defaults(command=_check)
    run = words.add_parser('run', help='run the study that settles a claim')
    run.add_argument('ids', nargs='+', metavar='ID', help='a claim, or a study')
    run.add_argument('--seed', type=int, default=0, help='the first of its seeds')
    run.add_argument('--data_dir', help='where TFDS keeps its data')
    run.add_argument('--quiet', action='store_true', help='show no progress')
    run.set_defaults(command=_run)
    write = words.add_parser('write', help='write the page from the work directories')
    write.add_argument('--docs', type=pathlib.Path, default=pathlib.Path('docs'))
    write.set_defaults(command=_write)
    for word in (run, write):
        word.add_argument(
            '--configs', type=pathlib.Path, default=pathlib.Path('configs/claims')
        )
        word.add_argument(
            '--runs', type=pathlib.Path, default=pathlib.Path('runs/claims')
        )
    return parser


def _show(known: argparse.Namespace) -> int:
    Console(highlight=False, markup=False).print(kept.table(kept.read()))
    return 0


def _check(known: argparse.Namespace) -> int:
    claims = [_claim(name) for name in known.ids] or [*CLAIMS.values()]
    if known.ids and not any(claim.check for claim in claims):
        raise UserError(f'{", ".join(known.ids)}: no exact check; use run')
    out = Console(highlight=False, markup=False)
    begun, counts = time.perf_counter(), {'as expected': 0, 'broken': 0, 'not run': 0}
    for found in checking.checked(claims):
        state = 'broken' if found.broken else 'as expected'
        state = 'not run' if found.verdict == 'not run' and not found.broken else state
        counts[state] += 1
        line = f'{found.claim.id:4} {found.verdict:9} {found.effect}'
        out.print(line, style='red' if found.broken else None, soft_wrap=True)
    seconds = time.perf_counter() - begun
    told = ', '.join(f'{count} {state}' for state, count in counts.items())
    out.print(f'{told}; {seconds:.0f} s')
    return 1 if counts['broken'] else 0


def _claim(name: str) -> Claim:
    if name not in CLAIMS:
        raise UserError(f'there is no claim {name}; {PROGRAM} lists them')
    return CLAIMS[name]


def _run(known: argparse.Namespace) -> int:
    if known.seed and known.seed < APART:
        raise UserError(
            f'--seed={known.seed} shares seeds with 0 to {APART}; give 0, or at least '
            f'{APART}'
        )
    names = dict.fromkeys(_study(name, known.configs) for name in known.ids)
    places = [studies.place(n, known.configs, known.runs, known.seed) for n in names]
    given = [f'--data_dir={known.data_dir}'] if known.data_dir else []
    given += ['--quiet'] if known.quiet else []
    return max(studies.run(at, given) for at in places)


def _study(name: str, configs: pathlib.Path) -> str:
    if name not in CLAIMS and (configs / f'{name}.py').is_file():
        return name
    claim = _claim(name)
    if not claim.study:
        hint = 'use check' if claim.check else claim.reason
        raise UserError(f'{name}: no study settles it; {hint}')
    return claim.study


def _write(known: argparse.Namespace) -> int:
    from bnjax.claims import page

    for place in (known.docs, known.configs):
        if not place.is_dir():
            raise UserError(f'{place}/ does not exist; run this in a checkout of bnjax')
    found, checks = kept.read(), list(checking.checked(CLAIMS.values()))
    for check in checks:
        if check.broken:
            print(f'{check.claim.id}: {check.effect}; not written', file=sys.stderr)
    if any(check.broken for check in checks):
        return 1
    kept.add_checks(found, checks)
    images = known.docs / 'images' / 'claims'
    images.mkdir(parents=True, exist_ok=True)
    for file in sorted(known.configs.glob('*.py')):
        if not kept.add_study(found, file.stem, known.configs, known.runs, images):
            print(f'{file.stem}: trials are missing, kept as it was', file=sys.stderr)
    page.write(known.docs, found)
    kept.write(found)
    return 0


if __name__ == '__main__':
    sys.exit(main())
