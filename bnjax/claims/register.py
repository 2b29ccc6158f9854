"""The claims of the five documents: what each says, and the rule that settles it.

Claims stand in register/*.toml, by document; ``errors`` are what is wrong in the
documents, and ``missing`` what a second reading found.
"""

import dataclasses
import pathlib
import tomllib
from collections.abc import Mapping
from typing import Any

_FILES = ('000', '001', '002', '003', '004', 'errors', 'missing')
_DIRECTORY = pathlib.Path(__file__).parent / 'register'


@dataclasses.dataclass(frozen=True)
class Claim:
    """A statement of the documents.

    Attributes:
      id: S and a number; E of an error of theirs, M of what was found later.
      documents: in which it stands, '000' to '004'.
      statement: in English.
      words: the document's own.
      rule: what confirms and what refutes it.
      check: the function of ``bnjax.claims.exact`` that settles it, or nothing.
      expected: what that must find, 'confirmed' or 'refuted', or nothing.
      study: the config in configs/claims that settles it, or nothing.
      same: the claim whose rule and verdict are this one's too, or nothing.
      reason: why it is not run, or nothing.
    """

    id: str
    documents: tuple[str, ...]
    statement: str
    words: tuple[str, ...]
    rule: str = ''
    check: str = ''
    expected: str = ''
    study: str = ''
    same: str = ''
    reason: str = ''

    @property
    def kind(self) -> str:
        """What settles it: 'study', 'exact', or 'not run'."""
        return 'study' if self.study else 'exact' if self.check else 'not run'

    @property
    def command(self) -> str:
        """What repeats its verdict."""
        verb = {'study': 'run', 'exact': 'check'}.get(self.kind)
        return f'python -m bnjax.claims {verb} {self.id}' if verb else ''


def _load() -> dict[str, Claim]:
    tables: dict[str, dict[str, Any]] = {}
    for stem in _FILES:
        path = _DIRECTORY / f'{stem}.toml'
        for key, table in tomllib.loads(path.read_text(encoding='utf-8')).items():
            tables[key] = {'documents': [stem]} | table
    return {key: _claim(key, tables) for key in sorted(tables, key=_order)}


def _claim(key: str, tables: Mapping[str, dict[str, Any]]) -> Claim:
    own = tables[key]
    shared = tables[own['same']] if 'same' in own else {}
    borrowed = ('rule', 'check', 'expected', 'study', 'reason')
    fields = {name: shared[name] for name in borrowed if name in shared} | own
    lists = {name: tuple(fields[name]) for name in ('documents', 'words')}
    return Claim(key, **fields | lists)


def _order(key: str) -> tuple[int, int]:
    return 'SEM'.index(key[0]), int(key[1:])


CLAIMS: Mapping[str, Claim] = _load()
