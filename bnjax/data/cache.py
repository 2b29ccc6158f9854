"""Arrays that are slow to make, kept in a file: made once, by one process.

The file is an uncompressed npz, so the zip's CRC-32 checksums guard it.
"""

import contextlib
import fcntl
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np

Arrays = Mapping[str, Any]


def directory() -> Path:
    """``$XDG_CACHE_HOME/bnjax``, by default ``~/.cache/bnjax``."""
    base = Path(os.environ.get('XDG_CACHE_HOME', ''))
    # The XDG specification says to ignore a relative path.
    if not base.is_absolute():
        base = Path(os.path.expanduser('~/.cache'))
    # A user without a home.
    return (base if base.is_absolute() else Path(tempfile.gettempdir())) / 'bnjax'


def cached(path: Path, names: Collection[str], make: Callable[[], Arrays]) -> Arrays:
    """The arrays ``names`` in ``path``, or those of ``make``, which are kept there.

    A process that comes while another makes them waits. A damaged file is made anew,
    and a directory that cannot be written is no error; both are said on stderr.
    """
    arrays = _read(path, names)
    if arrays is not None:
        return arrays
    try:
        lock = _lock(path)
    except OSError as error:
        _say(f'cannot keep decoded data: {error}')
        return make()
    with lock:
        arrays = _read(path, names, report_damage=True)
        if arrays is None:
            arrays = make()
            _write(path, arrays)
    return arrays


def _lock(path: Path) -> TextIO:
    """An open file that holds the lock until it is closed or its process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_suffix('.lock').open('w')
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        file.close()
        raise
    return file


def _read(
    path: Path, names: Collection[str], *, report_damage: bool = False
) -> Arrays | None:
    try:
        # np.load alone stops, and checks nothing, where a damaged shape says so.
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
        if bad is not None:
            raise zipfile.BadZipFile(f'bad CRC-32 of {bad}')
        with np.load(path) as arrays:
            return {name: arrays[name] for name in names}
    except FileNotFoundError:
        return None
    # Damage raises many types, according to where it is; the cure is the same.
    except Exception as error:
        if report_damage:
            _say(f'{path} is damaged, decoding again ({error})')
        return None


def _write(path: Path, arrays: Arrays) -> None:
    # The lock makes this name ours; what a killed process left there is overwritten.
    temporary = path.with_suffix('.tmp')
    try:
        with temporary.open('wb') as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        _say(f'cannot keep decoded data: {error}')
        with contextlib.suppress(OSError):
            temporary.unlink()


def _say(line: str) -> None:
    print(f'bnjax: {line}', file=sys.stderr, flush=True)
