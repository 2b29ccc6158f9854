"""A config file, executed and checked: the trials it asks for."""

import dataclasses
import inspect
import json
import pathlib
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from bnjax import config, effect
from bnjax.errors import UserError
from bnjax.records import Record, identity


@dataclasses.dataclass(frozen=True)
class Trial:
    """One resolved config: every field by its dotted name."""

    id: str
    config: Mapping[str, Any]


class Source(NamedTuple):
    """A config file, executed.

    Attributes:
      file: it.
      module: what it defines.
      base: every field of a trial that the sweep does not change.
      pins: fields from the command line, which no trial may change.
    """

    file: pathlib.Path
    module: ModuleType
    base: Mapping[str, Any]
    pins: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Study:
    """What a config file asks for.

    Attributes:
      name: of the file, without its directory and suffix.
      description: the file's docstring.
      trials: each once, in the order of the sweep.
      swept: fields that differ between trials, ``seed`` apart, in the sweep's order.
      source: the file.
    """

    name: str
    description: str
    trials: tuple[Trial, ...]
    swept: tuple[str, ...]
    source: Source


def load(path: str, pins: Mapping[str, Any]) -> Study:
    """Executes a config file and resolves its trials.

    Args:
      path: of the file; what follows a colon is handed to ``get_config``.
      pins: dotted fields from the command line, which no trial may change.

    Raises:
      UserError: the file is missing, fails, or asks for what there is not.
    """
    path, _, argument = path.partition(':')
    file = pathlib.Path(path)
    if not file.is_file() or file.suffix != '.py':
        state = 'is not a Python file' if file.exists() else 'does not exist'
        raise UserError(
            f'--config={path} {state}; '
            'python train.py without arguments lists the configs'
        )
    with _blaming(file):
        module = _execute(file)
        made = _get_config(module, argument)
        base = _checked(config.flatten(made))
        changes = _changes(module, made)
    description = inspect.cleandoc(module.__doc__ or file.stem)
    source = Source(file, module, base, pins)
    return _with(Study(file.stem, description, (), (), source), changes)


def refined(study: Study, finished: Sequence[Record]) -> Study:
    """The study with the trials that its ``refine`` adds, seeing those finished.

    Raises:
      UserError: the config file fails, or asks for what there is not.
    """
    refine = getattr(study.source.module, 'refine', None)
    if refine is None:
        return study
    with _blaming(study.source.file):
        changes = _collected(lambda add: refine(add, _results(finished)))
    return _with(study, changes)


def verdicts(study: Study, finished: Sequence[Record]) -> list[Any]:
    """The ``Verdict`` list of the config file's ``verdict``; empty where it has none.

    Raises:
      UserError: the config file fails.
    """
    verdict = getattr(study.source.module, 'verdict', None)
    if verdict is None:
        return []
    with _blaming(study.source.file):
        found = verdict(_results(finished))
        if isinstance(found, tuple) or not all(hasattr(v, 'claim') for v in found):
            raise UserError(f'verdict() returns {found}; it must return [Verdict(...)]')
        return list(found)


def _results(finished: Sequence[Record]) -> Any:
    from bnjax.results import Results  # not before it is needed: SciPy takes a second

    return Results(tuple(finished))


def _with(study: Study, changes: Sequence[Mapping[str, Any]]) -> Study:
    """The study with a trial for each of the changes, those it has already apart."""
    trials = {trial.id: trial for trial in study.trials}
    for change in changes:
        fields = {**study.source.base, **change, **study.source.pins}
        if fields['steps']:  # which decides, so that epochs tells no trials apart
            fields['epochs'] = config.FIELDS['epochs'].default
        trial = Trial(identity(fields), fields)
        trials.setdefault(trial.id, trial)
    effect.check([trial.config for trial in trials.values()])
    named = dict.fromkeys((*study.swept, *(n for change in changes for n in change)))
    swept = (n for n in named if n != 'seed' and _differs(n, trials.values()))
    return dataclasses.replace(study, trials=tuple(trials.values()), swept=tuple(swept))


def summary(study: Study) -> dict[str, Any]:
    """What is asked, for config.json: the fields all trials share, and the others."""
    named = (*study.swept, 'seed')
    shared = {k: v for k, v in study.trials[0].config.items() if k not in named}
    own = {t.id: {name: t.config[name] for name in named} for t in study.trials}
    return {'swept': study.swept, 'fields': shared, 'trials': own}


def changed(begun: Mapping[str, Any], study: Study) -> str:
    """Says which fields that all trials share had other values before; or nothing.

    Args:
      begun: the config.json of an earlier run, or nothing.
      study: what is asked now.
    """
    before, now = begun.get('fields'), summary(study)['fields']
    if not isinstance(before, Mapping):
        return ''
    differing = [
        f'{name} was {before[name]}, is {value}'
        for name, value in json.loads(json.dumps(now)).items()
        if name in before
        and before[name] != value
        and not name.startswith('execution.')
    ]
    if not differing:
        return ''
    return f'other trials than before, which stay in trials/: {"; ".join(differing)}'


def _get_config(module: ModuleType, argument: str) -> Mapping[str, Any] | ConfigDict:
    get_config: Any = getattr(module, 'get_config', None)
    if not callable(get_config):
        raise UserError('there is no get_config(); it must return a ConfigDict')
    if argument and not inspect.signature(get_config).parameters:
        raise UserError(
            f'get_config() takes no argument; leave out :{argument} after the file'
        )
    made = get_config(argument) if argument else get_config()
    if not isinstance(made, Mapping | ConfigDict):
        raise UserError(
            f'get_config() returns {made!r}; '
            'it must return bnjax.config.defaults(), edited'
        )
    return made


def _changes(
    module: ModuleType, fields: Mapping[str, Any] | ConfigDict
) -> list[dict[str, Any]]:
    """What each call of ``add`` in the file's ``sweep`` changes."""
    sweep: Any = getattr(module, 'sweep', None)
    if sweep is None:
        return [{}]
    if not callable(sweep):
        raise UserError(f'sweep is {sweep!r}; it must be a function sweep(add)')
    seen = [fields] if len(inspect.signature(sweep).parameters) > 1 else []
    changes = _collected(lambda add: sweep(add, *seen))
    if not changes:
        raise UserError('sweep(add) adds no trial; call add(...) in it')
    return changes


def _collected(sweep: Callable[[Callable[..., None]], Any]) -> list[dict[str, Any]]:
    """What each call of ``add`` changes, checked."""
    changes: list[dict[str, Any]] = []

    def add(*unnamed: Any, **overrides: Any) -> None:
        if unnamed:
            raise UserError("add() takes fields by name: add(**{'model.name': 'mlp'})")
        changes.append(
            {name: config.check(name, value) for name, value in overrides.items()}
        )

    sweep(add)
    return changes


def _checked(flat: Mapping[str, Any]) -> dict[str, Any]:
    missing = [name for name in config.FIELDS if name not in flat]
    if missing:
        raise UserError(
            f'get_config() returns no field {missing[0]}; '
            'start from bnjax.config.defaults() and edit it'
        )
    checked = {name: config.check(name, value) for name, value in flat.items()}
    return {name: checked[name] for name in config.FIELDS}


def _differs(name: str, trials: Any) -> bool:
    return len({trial.config[name] for trial in trials}) > 1


def _execute(file: pathlib.Path) -> ModuleType:
    module = ModuleType(f'bnjax_config_{file.stem}')
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # dataclasses look their module up there
    exec(compile(file.read_bytes(), file, 'exec'), module.__dict__)
    return module


@contextmanager
def _blaming(file: pathlib.Path) -> Iterator[None]:
    """Turns what goes wrong in a config file into a line with its place."""
    try:
        yield
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f.lineno for f in frames if f.filename == str(file)]
        line = error.lineno if isinstance(error, SyntaxError) else (lines or [None])[-1]
        place = f'{file}:{line}' if line else str(file)
        kind = '' if isinstance(error, UserError) else f'{type(error).__name__}: '
        # A ConfigDict puts the repr of one message, line ends and all, in another.
        text = ' '.join(str(error).replace('\\n', ' ').split())
        raise UserError(f'{place}: {kind}{text}') from error
