"""Where images come from: scikit-learn's digits, or what TFDS has prepared."""

import contextlib
import hashlib
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import Progress

from bnjax.data import cache
from bnjax.errors import UserError

_TEST_PERCENT = 20  # of digits, which has no test split of its own
_BATCH = 1000  # records decoded at once


class Raw(NamedTuple):
    """Pixels ``x`` uint8 from 0 to ``white``, as stored; labels ``y`` int32."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: int
    white: int


def hold_out(n: int, count: int) -> np.ndarray:
    """A mask (n,) with ``count`` positions set: random, but always the same."""
    mask = np.zeros(n, bool)
    # RandomState's stream is frozen; default_rng's may change with NumPy.
    mask[np.random.RandomState(0).permutation(n)[:count]] = True
    return mask


def digits() -> Raw:
    """1797 images of 8x8, of which 20 % are the test split."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = bunch.images[..., np.newaxis].astype(np.uint8)
    y = bunch.target.astype(np.int32)
    test = hold_out(len(x), len(x) * _TEST_PERCENT // 100)
    return Raw(x[~test], y[~test], x[test], y[test], classes=10, white=16)


def prepared(name: str, data_dir: str | None) -> Raw:
    """Read what TFDS prepared, decoded at most once.

    Raises:
      UserError: it is not there, or it cannot be read.
    """
    directory = _find(name, data_dir)
    try:
        path = cache.directory() / f'{name}-{_fingerprint(directory)}.npz'
    except OSError as error:
        raise _unreadable(directory, directory, error) from error
    arrays = cache.cached(path, Raw._fields, lambda: _decode(directory)._asdict())
    scalars = {field: int(arrays[field]) for field in ('classes', 'white')}
    return Raw(**{**arrays, **scalars})


def _find(name: str, data_dir: str | None) -> Path:
    """The newest version of ``name`` in a format that needs no TensorFlow."""
    given = data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
    root = Path(os.path.expanduser(given)).absolute()
    # TFDS itself would look for it on the network, for minutes.
    versions = [
        path.parent
        for path in root.glob(f'{name}/*/dataset_info.json')
        if re.fullmatch(r'\d+\.\d+\.\d+', path.parent.name)
    ]
    readable = [path for path in versions if any(path.glob('*.array_record*'))]
    if readable:
        return max(readable, key=lambda path: [int(n) for n in path.name.split('.')])
    if versions:
        problem = f'{root / name} has no array_record files; move it away, then'
    else:
        problem = f'not prepared in {root}; set TFDS_DATA_DIR to where it is, or'
    raise UserError(f'data.name={name!r}: {problem} {_fetch(name, root)}')


def _fetch(name: str, root: Path) -> str:
    # Not `tfds build`, which needs apache_beam. Not without file_format either: the
    # default one can be read by TensorFlow only.
    return (
        "fetch it once with: pip install -e '.[prepare]' && "
        'python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder('{name}', data_dir='{root}', file_format='array_record')"
        '.download_and_prepare()"'
    )


def _unreadable(directory: Path, what: Any, error: Exception) -> UserError:
    name, root = directory.parent.name, directory.parent.parent
    reason = ' '.join(f'{type(error).__name__}: {error}'.split())
    return UserError(
        f'data.name={name!r}: cannot read {what} ({reason}); move {directory} away, '
        f'then {_fetch(name, root)}'
    )


def _fingerprint(directory: Path) -> str:
    """A hash of every byte that decoding reads: two sources never share a cache."""
    total = hashlib.sha256()
    for path in sorted(directory.iterdir()):
        if path.suffix == '.json' or '.array_record' in path.name:
            with path.open('rb') as file:
                one = hashlib.file_digest(file, 'sha256').hexdigest()
            total.update(f'{path.name}\0{one}\0'.encode())
    return total.hexdigest()[:16]


def _decode(directory: Path) -> Raw:
    # TFDS, protobuf and array_record raise many types, for one cause: these files.
    try:
        with _quiet():
            return _decode_splits(directory)
    except UserError:
        raise
    except Exception as error:
        raise _unreadable(directory, directory, error) from error


def _decode_splits(directory: Path) -> Raw:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(directory)
    total = sum(builder.info.splits[s].num_examples for s in ('train', 'test'))
    with _progress(f'decoding {builder.info.name}', total) as advance:
        train = _decode_split(directory, builder, 'train', advance)
        test = _decode_split(directory, builder, 'test', advance)
    classes = builder.info.features['label'].num_classes
    return Raw(*train, *test, classes=classes, white=255)


def _decode_split(
    directory: Path, builder: Any, split: str, advance: Callable[[int], None]
) -> tuple[np.ndarray, np.ndarray]:
    info, source = builder.info.splits[split], builder.as_data_source(split)
    x = np.empty((len(source), *builder.info.features['image'].shape), np.uint8)
    y = np.empty(len(source), np.int32)
    end = 0
    for path, length in zip(info.filepaths, info.shard_lengths, strict=True):
        start, end = end, end + length
        for first in range(start, end, _BATCH):
            batch = range(first, min(first + _BATCH, end))
            try:
                rows = source.__getitems__(batch)
            except Exception as error:
                raise _unreadable(directory, path, error) from error
            x[batch.start : batch.stop] = [row['image'] for row in rows]
            y[batch.start : batch.stop] = [row['label'] for row in rows]
            advance(len(batch))
    return x, y


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Withholds third-party warnings, and advice such as to install OpenCV."""
    from absl import logging

    logger = logging.get_absl_logger()
    level = logger.level
    logger.setLevel('ERROR')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Progress on stderr: a bar on a terminal, else one line."""
    console = Console(stderr=True)
    if not console.is_terminal:
        print(f'bnjax: {what}: {total} images, once', file=sys.stderr, flush=True)
        yield lambda count: None
        return
    with Progress(console=console) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)
