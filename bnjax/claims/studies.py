"""The studies: run in work directories, and read from them again."""

import ast
import datetime
import hashlib
import inspect
import io
import json
import pathlib
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from bnjax import cli, records, study
from bnjax.errors import UserError
from bnjax.records import Record
from bnjax.results import Results
from bnjax.verdict import Verdict

RULE = 'rule.json'
SHOWN = 'tables', 'figure'
NAMED = 'device', 'bnjax', 'jax', 'flax', 'python'


class Place(NamedTuple):
    """Where a study stands and where it runs.

    Attributes:
      file: its config.
      workdir: of its trials.
      seed: the first of its seeds.
    """

    file: pathlib.Path
    workdir: pathlib.Path
    seed: int

    @property
    def config(self) -> str:
        """As ``--config`` takes it."""
        return f'{self.file}:{self.seed}' if self.seed else str(self.file)


class Outcome(NamedTuple):
    """What came out of a study."""

    study: study.Study
    records: Sequence[Record]
    verdicts: Sequence[Verdict]


def place(name: str, configs: pathlib.Path, runs: pathlib.Path, seed: int = 0) -> Place:
    """The place of a study by name.

    Raises:
      UserError: there is no such config.
    """
    file = configs / f'{name}.py'
    if not file.is_file():
        raise UserError(
            f'{file} does not exist; run this in a checkout of bnjax, or give '
            '--configs=DIR'
        )
    return Place(file, runs / (f'{name}-{seed}' if seed else name), seed)


def run(at: Place, arguments: Sequence[str]) -> int:
    """Runs a study, or goes on with it; returns the exit status of ``train.py``.

    What its rule is when it begins is kept beside its trials.
    """
    if not any((at.workdir / 'trials').glob('*.json')):
        at.workdir.mkdir(parents=True, exist_ok=True)
        records.write_json(at.workdir / RULE, _beginning(at.file))
    own = [f'--config={at.config}', f'--workdir={at.workdir}', *arguments]
    return cli.main(['train.py', *own])


def rule_digest(file: pathlib.Path) -> str:
    """SHA-256 of what a config runs and decides by.

    The code says which trials there are and when they confirm a claim: it is the rule.
    Comments, layout, docstrings, and the functions that only show, are not.
    """
    return digest_of(file.read_bytes())


def digest_of(code: bytes) -> str:
    """``rule_digest`` of the content of a config."""
    tree = ast.parse(code)
    tree.body = [n for n in tree.body if getattr(n, 'name', '') not in SHOWN]
    for node in ast.walk(tree):
        body = getattr(node, 'body', None)
        if isinstance(body, list) and body and _is_docstring(body[0]):
            del body[0]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()


def began(at: Place) -> Mapping[str, Any] | None:
    """The digest of the rule, the commit and the time when a study began, if known."""
    kept = at.workdir / RULE
    try:
        return dict(json.loads(kept.read_text())) if kept.exists() else None
    except (ValueError, TypeError) as error:
        raise records.DamagedError(f'{kept} is damaged ({error})') from error


def outcome(at: Place) -> Outcome | None:
    """What came out of a study; None where a trial is not there, or failed."""
    asked = study.load(at.config, {})
    while True:
        finished = [records.read(at.workdir, trial.id) for trial in asked.trials]
        known = [record for record in finished if record and record.status != 'failed']
        if len(known) < len(finished):
            return None
        further = study.refined(asked, known)
        if len(further.trials) == len(asked.trials):
            return Outcome(asked, known, study.verdicts(asked, known))
        asked = further


def summary(at: Place, found: Outcome) -> dict[str, Any]:
    """What a reader should know of a study that was run: texts, numbers, tables."""
    module, trials = found.study.source.module, found.records
    notes = records.read_config(at.workdir)
    tables: Callable = getattr(module, 'tables', lambda results: [])
    return {
        'description': found.study.description,
        'trials': len(trials),
        'steps': sum(record.steps for record in trials),
        'seconds': sum(record.seconds for record in trials),
        'device': notes.get('device', ''),
        'versions': ', '.join(f'{k} {notes[k]}' for k in NAMED[1:] if k in notes),
        'commit': (began(at) or {}).get('commit'),
        'command': f'python -m bnjax.claims run {found.study.name}',
        'lost': sum(record.status != 'done' for record in trials),
        'reduced': getattr(module, 'REDUCED', ''),
        'figures': [],
        'captions': {f'{found.study.name}.png': _caption(module)},
        'tables': tables(Results(tuple(trials))),
    }


def figure(found: Outcome) -> bytes | None:
    """The study's own figure as PNG, if it has one."""
    draw = getattr(found.study.source.module, 'figure', None)
    if draw is None:
        return None
    import matplotlib

    matplotlib.use('agg')
    import matplotlib.pyplot as plt

    from bnjax.report import drawing

    with matplotlib.rc_context(drawing.STYLE):
        drawn, png = draw(Results(tuple(found.records))), io.BytesIO()
        drawn.savefig(png, dpi=150)
    plt.close(drawn)
    return png.getvalue()


def _caption(module: Any) -> str:
    """What the docstring of its figure says."""
    draw = getattr(module, 'figure', None)
    return inspect.getdoc(draw) or '' if draw else ''


def _beginning(file: pathlib.Path) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
    return {'rule': rule_digest(file), 'commit': _commit(file), 'date': now}


def _commit(file: pathlib.Path) -> str | None:
    """The commit that has this file as it is; None where none is known to."""

    def git(*arguments: str) -> str:
        command = ['git', '-C', str(file.parent), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        changed = git('status', '--porcelain', '--', file.name)
        return None if changed else git('rev-parse', 'HEAD')
    except (OSError, subprocess.CalledProcessError):
        return None


def _is_docstring(node: ast.stmt) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)
