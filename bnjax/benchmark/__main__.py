"""The command: ``python -m bnjax.benchmark --help``."""

import argparse
import itertools
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from rich.console import Console
from rich.progress import track

from bnjax.benchmark import cases, layer, machine
from bnjax.benchmark.timing import MeasurementError
from bnjax.errors import UserError
from bnjax.records import write_json

ROUNDS = 3


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f'{message}; --help lists what there is')


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status.

    0 done, 1 a measurement failed, 2 the user's mistake, 130 interrupted.
    """
    try:
        arguments = _parser().parse_args(argv)
        _check(arguments)
        arguments.run(arguments)
    except UserError as error:
        print(f'python -m bnjax.benchmark: {error}', file=sys.stderr)
        return 2
    except MeasurementError as error:
        print(f'python -m bnjax.benchmark: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('interrupted: nothing was written', file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog='python -m bnjax.benchmark')
    commands = parser.add_subparsers(required=True, metavar='COMMAND')
    about = 'batch norm, with ReLU and without, beside Flax and torch; ten minutes'
    command = commands.add_parser('layer', help=about, description=about)
    command.set_defaults(run=_layer)
    command.add_argument(
        '--rounds', type=int, default=ROUNDS, help=f'of each side ({ROUNDS})'
    )
    command.add_argument(
        '--output', type=pathlib.Path, metavar='FILE.json', help='all of it, as JSON'
    )
    return parser


def _check(arguments: argparse.Namespace) -> None:
    """Refuses what would fail only after the measurement."""
    if arguments.rounds < 1:
        raise UserError(
            f'--rounds={arguments.rounds} must be at least 1; left out, it is {ROUNDS}'
        )
    output = arguments.output
    if output and (output.is_dir() or not os.access(output.parent, os.W_OK)):
        raise UserError(
            f'--output={output} cannot be written; give a file in a directory that can'
        )


def _layer(arguments: argparse.Namespace) -> None:
    groups = list(itertools.product(cases.SHAPES, cases.DTYPES))
    watched = track(groups, 'measuring', console=Console(stderr=True), transient=True)
    report = machine.circumstances() | layer.measure(watched, arguments.rounds)
    if arguments.output:
        write_json(arguments.output, {'command': 'layer'} | report)
    # Lines of Markdown may not be folded.
    width = None if sys.stdout.isatty() else 200
    layer.show(report, Console(width=width))


if __name__ == '__main__':
    sys.exit(main())
