"""docs/claims.md: the verdict on every claim, for a reader of the documents."""

import pathlib
from collections.abc import Mapping
from typing import Any

from bnjax.claims.figures import forest
from bnjax.claims.page import checks, documents, overview, studies
from bnjax.claims.page.markdown import blocks
from bnjax.claims.page.panels import panels, picture
from bnjax.claims.register import CLAIMS
from bnjax.claims.settled import Settled, collect
from bnjax.errors import UserError
from bnjax.records import write_atomically

__all__ = ['render', 'write']


def write(docs: pathlib.Path, kept: Mapping[str, Any]) -> None:
    """Writes `claims.md` under `docs`, and the studies' pictures beside it.

    Other pictures that a study names must be there already.

    Args:
      docs: the directory of the documentation.
      kept: what came out: 'claims', 'exact' and 'studies', each by its name.

    Raises:
      UserError: a picture that a study names is not there.
    """
    settled = collect(CLAIMS, kept)
    images = docs / studies.IMAGES
    images.mkdir(parents=True, exist_ok=True)
    for name in settled.studies:
        shown = panels(name, settled)
        if shown:
            write_atomically(images / picture(name), forest(shown))
        for file in studies.figures(name, settled):
            _require(images / file, name)
    write_atomically(docs / 'claims.md', render(settled).encode())


def render(settled: Settled) -> str:
    """The page as Markdown."""
    parts = (
        overview.top(settled),
        documents.sections(settled),
        '## Studies',
        *(studies.section(name, settled) for name in settled.studies),
        checks.section(settled),
        documents.errors(settled),
        documents.not_run(settled),
    )
    return blocks(parts) + '\n'


def _require(file: pathlib.Path, study: str) -> None:
    if not file.is_file():
        raise UserError(f'{file}: the study {study} names this picture, put it there')
