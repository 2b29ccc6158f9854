"""The command: ``python -m bnjax.benchmark --help``."""

import argparse
import itertools
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, NoReturn

from rich.console import Console
from rich.progress import track

from bnjax.benchmark import cases, growth, layer, machine, training
from bnjax.benchmark.timing import MeasurementError
from bnjax.benchmark.workloads import WORKLOADS
from bnjax.errors import UserError
from bnjax.records import write_json

ROUNDS = 3


class Command(NamedTuple):
    """What one word measures, of each item by rounds, and how that is printed."""

    about: str
    items: Sequence[Any]
    measure: Callable[[Iterable[Any], int], dict[str, Any]]
    show: Callable[[Any, Console], None]


COMMANDS = {
    'layer': Command(
        'batch norm, with ReLU and without, beside Flax and torch; ten minutes',
        list(itertools.product(cases.SHAPES, cases.DTYPES)),
        layer.measure,
        layer.show,
    ),
    'step': Command(
        'a training step of a network beside Flax and torch; a quarter of an hour',
        WORKLOADS,
        training.measure_steps,
        training.show_steps,
    ),
    'sweep': Command(
        'a small sweep of networks beside Flax and torch; ten minutes',
        WORKLOADS,
        training.measure_sweeps,
        training.show_sweeps,
    ),
    'growth': Command(
        'a training step by trials, width, depth and lowering; twenty minutes',
        growth.CASES,
        growth.measure,
        growth.show,
    ),
}


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
        _run(COMMANDS[arguments.name], arguments)
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
    for name, (about, *_) in COMMANDS.items():
        command = commands.add_parser(name, help=about, description=about)
        command.set_defaults(name=name)
        command.add_argument(
            '--rounds', type=int, default=ROUNDS, help=f'of each side ({ROUNDS})'
        )
        command.add_argument(
            '--output', type=pathlib.Path, metavar='FILE.json', help='all of it'
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


def _run(command: Command, arguments: argparse.Namespace) -> None:
    watched = track(
        command.items, 'measuring', console=Console(stderr=True), transient=True
    )
    report = machine.circumstances() | command.measure(watched, arguments.rounds)
    if arguments.output:
        write_json(arguments.output, {'command': arguments.name} | report)
    # Lines of Markdown may not be folded.
    width = None if sys.stdout.isatty() else 200
    command.show(report, Console(width=width))


if __name__ == '__main__':
    sys.exit(main())
