"""Several work directories read as one sweep."""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bnjax import records
from bnjax.errors import UserError
from bnjax.records import Record
from bnjax.report.wording import plural, short_names, show

RUN = 'run'  # the field that tells directories apart where nothing else does


class Runs(NamedTuple):
    """What several work directories hold together.

    Attributes:
      records: each trial once.
      swept: the fields that vary, without 'seed'.
      notes: for each run what it is, and in what it differs from the others.
      warnings: what was left out, a line each.
    """

    records: list[Record]
    swept: list[str]
    notes: dict[str, str]
    warnings: list[str]


class Run(NamedTuple):
    """The finished trials of one work directory."""

    name: str
    path: pathlib.Path
    config: Mapping[str, Any]  # its config.json
    records: list[Record]
    damaged: list[str]


def read(directories: Sequence[str]) -> Runs:
    """Reads work directories; a trial that several of them hold counts once.

    Trials that only fields which their own sweep did not vary tell apart get a field
    'run', the name of their directory.

    Raises:
      UserError: a directory is none that `train.py` wrote, cannot be read, or all of
        them together hold no finished trial.
    """
    paths = {pathlib.Path(d).resolve(): pathlib.Path(d) for d in directories}
    names = _names(list(paths))
    runs = [_read(*each) for each in zip(names, paths.values(), strict=True)]
    warnings = [line for run in runs for line in run.damaged]
    runs, repeated = _once(runs)
    if repeated:
        said = plural(repeated, 'trial')
        warnings.append(f'{said} in several directories: the first of them counts')
    found = [record for run in runs for record in run.records]
    if not found:
        raise UserError(
            f'{", ".join(directories)}: no trial has finished; '
            'run train.py with this --workdir first'
        )
    swept = list(dict.fromkeys(name for run in runs for name in run.config['swept']))
    for name in swept:
        found = [_with(r, {name: r.config.get(name, 'unknown')}) for r in found]
    notes = _notes(runs, swept)
    if _ambiguous(found, swept):
        swept = [RUN, *swept]
        of = {r.trial: run.name for run in runs for r in run.records}
        found = [_with(r, {RUN: of[r.trial]}) for r in found]
    return Runs(found, swept, notes, warnings)


def _names(paths: Sequence[pathlib.Path]) -> list[str]:
    """The last part of each path, or where two share it as much as tells them apart."""
    count = collections.Counter(path.name for path in paths)
    common = os.path.commonpath([path.parent for path in paths])
    return [
        path.name if count[path.name] == 1 else str(path.relative_to(common))
        for path in paths
    ]


def _read(name: str, path: pathlib.Path) -> Run:
    try:
        config = records.read_config(path)
    except records.DamagedError as error:
        raise UserError(f'{error}; train.py with this --workdir mends it') from error
    trials, swept = config.get('trials'), config.get('swept')
    if not isinstance(trials, dict) or not isinstance(swept, list):
        state = 'does not exist' if not path.exists() else 'is no work directory'
        raise UserError(
            f'{path} {state}; give a directory with the config.json of train.py'
        )
    found, damaged = [], []
    for trial in trials:
        try:
            record = records.read(path, trial)
        except records.DamagedError as error:
            damaged.append(f'{error}; it is left out')
        except OSError as error:
            raise UserError(
                f'{error.filename} cannot be read ({error.strerror}); mend it, or '
                'leave out its directory'
            ) from error
        else:
            found += [record] if record else []
    return Run(name, path, config, found, damaged)


def _once(runs: Sequence[Run]) -> tuple[list[Run], int]:
    """The runs without what an earlier one holds, and how many trials that were."""
    seen: set[str] = set()
    kept, repeated = [], 0
    for run in runs:
        own = [record for record in run.records if record.trial not in seen]
        repeated += len(run.records) - len(own)
        seen.update(record.trial for record in own)
        kept.append(run._replace(records=own))
    return kept, repeated


def _with(record: Record, fields: Mapping[str, Any]) -> Record:
    return dataclasses.replace(record, config={**record.config, **fields})


def _ambiguous(found: Sequence[Record], swept: Sequence[str]) -> bool:
    """Whether trials that the swept fields do not tell apart differ in another."""
    others: dict[tuple[Any, ...], str] = {}
    for r in found:
        key = tuple(r.config[name] for name in swept)
        rest = {k: v for k, v in r.config.items() if k not in (*swept, 'seed')}
        if others.setdefault(key, records.identity(rest)) != records.identity(rest):
            return True
    return False


def _notes(runs: Sequence[Run], swept: Sequence[str]) -> dict[str, str]:
    """For each run its trials, its place, and the shared fields that set it apart."""
    fields = [dict(run.config.get('fields') or {}) for run in runs]
    differing = [
        name
        for name in dict.fromkeys(name for own in fields for name in own)
        if name not in swept
        and not name.startswith(records.NOT_IDENTITY)
        and any(own.get(name) != fields[0].get(name) for own in fields)
    ]
    short = short_names(differing)
    notes = {}
    for run, own in zip(runs, fields, strict=True):
        said = [f'{len(run.records)} of {plural(len(run.config["trials"]), "trial")}']
        said += [f'{short[name]} {show(own.get(name))}' for name in differing]
        notes[run.name] = f'{", ".join(said)}; {run.path}'
    return notes
