"""The command: from its arguments to an exit status.

0 done, 1 a trial failed, 2 the user's mistake, 130 or 143 interrupted.
"""

import ast
import contextlib
import pathlib
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from absl import flags
from rich.console import Console

from bnjax import config, records, study
from bnjax.errors import UserError

USAGE = """\
usage: python train.py --config=FILE[:ARGUMENT] [--workdir=DIR] [--data_dir=DIR]
                       [--config.FIELD=VALUE ...]
"""
GOES_ON = 'the same command goes on from here'


class _FieldParser(flags.ArgumentParser):
    def __init__(self, name: str):
        self.name = name

    def parse(self, argument: Any) -> Any:
        return config.parse(self.name, str(argument))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status; prints what went wrong.

    Args:
      argv: the arguments, the program's name first; those of the process if None.
    """
    arguments = list(sys.argv if argv is None else argv)
    try:
        with _stopping_at(signal.SIGTERM):
            return _main(arguments)
    except (UserError, flags.Error) as error:
        print(f'{pathlib.Path(arguments[0]).name}: {error}', file=sys.stderr)
        return 2
    except OSError as error:
        place = error.filename or 'the disk'
        print(f'{place}: {error.strerror}; mend it, then {GOES_ON}', file=sys.stderr)
        return 2
    except (KeyboardInterrupt, _Terminated) as stop:
        print(f'interrupted: {GOES_ON}', file=sys.stderr)
        return 143 if isinstance(stop, _Terminated) else 130


def _main(arguments: Sequence[str]) -> int:
    known, pins = _parse(arguments)
    if known.help:
        print(f'{USAGE}\n{field_table()}')
        return 0
    if not known.config:
        print(f'{USAGE}\n{_listing(pathlib.Path("configs"))}', file=sys.stderr)
        return 2
    asked = study.load(known.config, pins)
    workdir = pathlib.Path(known.workdir or f'runs/{asked.name}')
    return _run(asked, workdir, known.data_dir, shlex.join(['python', *arguments]))


def _run(
    asked: study.Study, workdir: pathlib.Path, data_dir: str | None, command: str
) -> int:
    # Imported here so that a listing and a wrong config do not wait for Flax.
    from bnjax import execution, report, sweep
    from bnjax.progress import shown

    begun = time.monotonic()
    datasets = sweep.load_data(asked, data_dir)
    widths = execution.widths(asked.trials, records.read_config(workdir))
    with records.opened(workdir):
        notes = execution.environment() | {'command': command}
        asked_for = {'widths': widths, **study.summary(asked)}
        records.write_json(workdir / 'config.json', notes | asked_for)
        with shown(len(asked.trials)) as tell:
            finished = sweep.run(asked, datasets, widths, workdir, tell)
        records.write_csv(workdir, finished, asked.swept)
        page = report.write(
            workdir,
            finished,
            title=asked.name,
            description=asked.description,
            swept=asked.swept,
            notes=notes | {'seconds': f'{time.monotonic() - begun:.0f}'},
        )
    out = Console(highlight=False, markup=False)
    out.print(report.summary(finished, asked.swept))
    for line in report.headlines(finished, asked.swept):
        out.print(line)
    out.print(f'report: {page}', soft_wrap=True)
    return _verdict(finished)


def _verdict(finished: Sequence[records.Record]) -> int:
    failed = [r for r in finished if r.status == 'failed']
    for error in dict.fromkeys(str(r.error) for r in failed):
        count = sum(r.error == error for r in failed)
        print(f'{count} of {len(finished)} trials failed: {error}', file=sys.stderr)
    return 1 if failed else 0


def _parse(arguments: Sequence[str]) -> tuple[flags.FlagValues, dict[str, Any]]:
    """The command's own flags, and the fields it pins."""
    known = flags.FlagValues()
    flags.DEFINE_string('config', None, 'a config file', flag_values=known)
    flags.DEFINE_string('workdir', None, 'runs/<config>', flag_values=known)
    flags.DEFINE_string('data_dir', None, 'where TFDS keeps', flag_values=known)
    flags.DEFINE_bool('help', False, 'show this', flag_values=known)
    for name, field in config.FIELDS.items():
        flag = flags.Flag(
            _FieldParser(name), None, f'config.{name}', None, field.metadata['help']
        )
        flag.boolean = field.type is bool
        flags.DEFINE_flag(flag, known)
    rest = known(arguments)
    if len(rest) > 1:
        raise UserError(
            f'{rest[1]!r} is no flag; fields are given as --config.FIELD=VALUE'
        )
    values = {name: known[f'config.{name}'].value for name in config.FIELDS}
    return known, {name: v for name, v in values.items() if v is not None}


def _listing(directory: pathlib.Path) -> str:
    lines = []
    for file in sorted(directory.glob('*.py')):
        try:
            text = ast.get_docstring(ast.parse(file.read_text())) or ''
        except (OSError, ValueError, SyntaxError):
            text = '(cannot be read)'
        lines.append(f'  {file}: {text.partition(chr(10))[0]}')
    return '\n'.join(['configs:', *lines] if lines else [f'no configs in {directory}/'])


def field_table() -> str:
    """Every field with its default and meaning, as a Markdown table."""
    rows = ['| field | default | meaning |', '| --- | --- | --- |']
    for name, field in config.FIELDS.items():
        choices = field.metadata['choices']
        among = f': {", ".join(choices)}' if choices else ''
        default: Any = field.default
        if isinstance(default, tuple):
            default = ', '.join(map(str, default)) or 'none'
        rows.append(f'| `{name}` | {default} | {field.metadata["help"]}{among} |')
    return '\n'.join(rows)


class _Terminated(BaseException):
    """SIGTERM came."""


@contextlib.contextmanager
def _stopping_at(signum: signal.Signals) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise _Terminated

    before: Any = signal.signal(signum, stop)
    try:
        yield
    finally:
        signal.signal(signum, before)
