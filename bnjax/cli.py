"""The command: from its arguments to an exit status.

0 done, 1 a trial failed, 2 the user's mistake, 130 or 143 interrupted, 141 nobody reads
the output any more.
"""

import ast
import collections
import contextlib
import errno
import io
import os
import pathlib
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from absl import flags

from bnjax import config, records, study
from bnjax.errors import UserError

USAGE = """\
usage: python train.py --config=FILE[:ARGUMENT] [--workdir=DIR] [--data_dir=DIR]
                       [--config.FIELD=VALUE ...] [--quiet]
"""
ANEW = (
    'is damaged: the widths of its programs are chosen anew, so that the last bits of '
    'new trials may be others'
)
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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='replace')  # no letter is worth a traceback
    try:
        return _status(arguments)
    except BrokenPipeError:  # as after `| head`
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in filter(None, (sys.stdout, sys.stderr)):
            os.dup2(nowhere, stream.fileno())  # for what Python writes when it ends
        return 128 + signal.SIGPIPE


def _status(arguments: Sequence[str]) -> int:
    try:
        return _main(arguments)
    except (UserError, flags.Error) as error:
        hint = '; --help lists what there is'
        unknown = isinstance(error, flags.UnrecognizedFlagError)
        name = pathlib.Path(arguments[0]).name
        line = ' '.join(str(error).splitlines())
        print(f'{name}: {line}{hint if unknown else ""}', file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        place = error.filename2 or error.filename or 'the disk'
        reason = error.strerror or error
        print(f'{place}: {reason}; mend it, then {GOES_ON}', file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f'interrupted: {GOES_ON}', file=sys.stderr)
        return 128 + (stop.signum if isinstance(stop, _Stopped) else signal.SIGINT)


def _main(arguments: Sequence[str]) -> int:
    known, pins = _parse(arguments)
    if known.help:
        print(f'{USAGE}\n{field_table()}', flush=True)
        return 0
    if not known.config:
        print(f'{USAGE}\n{_listing(pathlib.Path("configs"))}', file=sys.stderr)
        return 2
    # Imported here so that a listing does not wait for Flax.
    from bnjax import execution

    execution.keep_programs()
    execution.check_device()
    asked = study.load(known.config, pins)
    workdir = pathlib.Path(known.workdir or f'runs/{asked.name}')
    command = shlex.join(['python', *arguments])
    return _run(asked, workdir, known.data_dir, command, known.quiet)


def _run(
    asked: study.Study,
    workdir: pathlib.Path,
    data_dir: str | None,
    command: str,
    quiet: bool,
) -> int:
    os.environ['MPLBACKEND'] = 'agg'  # without a window, whatever it was
    from bnjax import execution, sweep

    if data_dir:
        os.environ['TFDS_DATA_DIR'] = data_dir  # a verdict may look at images, too
    datasets = sweep.load_data(asked, data_dir)
    groups = sweep.groups(asked.trials)
    execution.plan(groups, _begun(workdir))  # refused before anything is written
    with records.opened(workdir):
        begun = _begun(workdir)
        if not begun and (workdir / 'config.json').exists():
            print(f'{workdir}/config.json {ANEW}', file=sys.stderr)
        if change := study.changed(begun, asked):
            print(change, file=sys.stderr)
        while True:
            notes = execution.environment(_begun(workdir)) | {'command': command}
            finished = _train(asked, datasets, workdir, notes, quiet)
            further = study.refined(asked, finished)
            if len(further.trials) == len(asked.trials):
                break
            asked, datasets = further, sweep.load_data(further, data_dir)
        _show(asked, finished, workdir, notes)
    return _failures(finished)


def _train(
    asked: study.Study,
    datasets: Any,
    workdir: pathlib.Path,
    notes: Mapping[str, str],
    quiet: bool,
) -> list[records.Record]:
    """Trains what is missing, between the truth in config.json and in trials.csv."""
    from bnjax import execution, sweep
    from bnjax.progress import shown

    plan = execution.plan(sweep.groups(asked.trials), _begun(workdir))
    asked_for = {'programs': plan, **study.summary(asked)}
    records.write_json(workdir / 'config.json', {**notes, **asked_for})
    showing = shown(len(asked.trials), quiet)
    with showing as tell, _stopping_between_epochs(tell) as told:
        finished = sweep.run(asked, datasets, plan, workdir, told)
    records.write_csv(workdir, finished, asked.swept)
    return finished


def _show(
    asked: study.Study,
    finished: Sequence[records.Record],
    workdir: pathlib.Path,
    notes: Mapping[str, str],
) -> None:
    """Writes the report, and the verdicts where there are; prints both in short."""
    from bnjax import report
    from bnjax.progress import Terminal

    verdicts = study.verdicts(asked, finished)
    seconds = sum(record.seconds for record in finished)
    page = report.write(
        workdir,
        finished,
        title=asked.name,
        description=asked.description,
        swept=asked.swept,
        notes={**notes, 'training': f'{seconds:.0f} s, compilation apart'},
        verdicts=verdicts,
    )
    out = Terminal(highlight=False, markup=False)
    out.print(report.summary(finished, asked.swept))
    for line in report.headlines(finished, asked.swept):
        out.print(line)
    if verdicts:
        report.write_verdicts(workdir, verdicts)
        out.print(report.verdict_table(verdicts))
    out.print(f'report: {page}', soft_wrap=True)


def _begun(workdir: pathlib.Path) -> dict[str, Any]:
    """The config.json of an earlier run; nothing where it is damaged, too."""
    try:
        return records.read_config(workdir)
    except records.DamagedError:
        return {}


def _failures(finished: Sequence[records.Record]) -> int:
    errors = collections.Counter(r.error for r in finished if r.status == 'failed')
    for error, count in errors.items():
        print(f'failed, {count} of {len(finished)}: {error}', file=sys.stderr)
    return 1 if errors else 0


def _parse(arguments: Sequence[str]) -> tuple[flags.FlagValues, dict[str, Any]]:
    """The command's own flags, and the fields it pins."""
    known = flags.FlagValues()
    flags.DEFINE_string('config', None, 'a config file', flag_values=known)
    flags.DEFINE_string('workdir', None, 'runs/<config>', flag_values=known)
    flags.DEFINE_string('data_dir', None, 'where TFDS keeps', flag_values=known)
    flags.DEFINE_bool('quiet', False, 'show no progress', flag_values=known)
    flags.DEFINE_bool('help', False, 'show this', known, short_name='h')
    for name, field in config.FIELDS.items():
        flag = flags.Flag(
            _FieldParser(name), None, f'config.{name}', None, field.metadata['help']
        )
        flag.boolean = field.type is bool
        flags.DEFINE_flag(flag, known)
    rest = known(arguments)
    if len(rest) > 1:
        raise UserError(
            f'{rest[1]!r} is no flag; give --config=FILE and --config.FIELD=VALUE'
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
        networks = field.metadata['of']
        only = f'; {", ".join(networks)} only' if networks else ''
        default: Any = field.default
        if isinstance(default, tuple):
            default = ', '.join(map(str, default)) or 'nothing'
        rows.append(f'| `{name}` | {default} | {field.metadata["help"]}{among}{only} |')
    return '\n'.join(rows)


class _Stopped(KeyboardInterrupt):
    """A signal asked for an end, and now is a good time."""

    def __init__(self, signum: int):
        super().__init__()
        self.signum = signum


@contextlib.contextmanager
def _stopping_between_epochs(tell: Callable[[Any], None]) -> Iterator[Callable]:
    """Holds SIGINT and SIGTERM back until progress is told; a second one ends at once.

    An exception out of a signal handler may land where it is swallowed, or tear down
    a program that still runs.
    """
    asked: list[int] = []

    def stop(signum: int, _: Any) -> None:
        signal.signal(signum, signal.SIG_DFL)
        asked.append(signum)
        os.write(2, b'stopping after this epoch; once more stops at once\n')

    def told(progress: Any) -> None:
        tell(progress)
        if asked:
            raise _Stopped(asked[0])

    before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
