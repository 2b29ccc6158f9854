#!/usr/bin/env python
"""Runs Flax's own tests of batch norm on bnjax's.

They come from the source distribution of the installed Flax, and run as they are, then
with ``flax.linen.BatchNorm`` and ``flax.nnx.BatchNorm`` replaced. Those count that make
a batch norm and pass as they are. The exit status is 1 if one of these fails with bnjax
and is not in EXPECTED, or is there and passes.
"""

import functools
import importlib.metadata
import inspect
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from multiprocessing import get_context
from pathlib import Path

import pytest

# What bnjax does otherwise on purpose (docs/batch_norm.md), and why the tests fail.
COMPLEX = 'tests/linen/linen_test.py::NormalizationTest::test_batch_norm_complex'
EXPECTED = {f'{COMPLEX}{mask}': 'complex input is refused' for mask in (0, 1)}
outcomes: dict[str, str | None] = {}  # of the tests that made a batch norm


def main() -> int:
    version = importlib.metadata.version('flax')
    with tempfile.TemporaryDirectory() as scratch:
        root = download(f'flax=={version}', Path(scratch))
        with get_context('spawn').Pool(1, maxtasksperchild=1) as pool:
            theirs, ours = (pool.apply(run, (root, of)) for of in ('flax', 'bnjax'))
    counted = {test for test in theirs if theirs[test] == 'passed'}
    failed = {test for test in counted if ours.get(test) != 'passed'}
    for test in sorted(counted | EXPECTED.keys()):
        note = '' if (test in failed) == (test in EXPECTED) else '(not as expected)'
        print(ours.get(test, 'not run'), test, EXPECTED.get(test, ''), note)
    print(f'Flax {version}: {len(counted)} tests, with bnjax {len(failed)} fail')
    return int(failed != EXPECTED.keys())


def download(requirement: str, scratch: Path) -> Path:
    """Unpacks the tests alone, so that Flax is imported from where it is installed."""
    pip = [sys.executable, '-m', 'pip', 'download', '-q', '--disable-pip-version-check']
    source = ['--no-deps', '--no-binary=flax', f'--dest={scratch}', requirement]
    subprocess.run([*pip, *source, 'cloudpickle'], check=True)  # the tests import it
    with tarfile.open(next(scratch.glob('flax-*.tar.gz'))) as archive:
        wanted = re.compile(r'[^/]+/(tests/.*|pyproject\.toml)')
        members = [m for m in archive.getmembers() if wanted.fullmatch(m.name)]
        archive.extractall(scratch, members, filter='data')
    return next(scratch.glob('flax-*/'))


def run(root: Path, library: str) -> dict[str, str | None]:
    """The outcomes of the tests that make a batch norm of the library."""
    os.chdir(root)
    sys.path += map(str, root.parent.glob('*.whl'))
    for kind in ('linen', 'nnx'):
        layer = importlib.import_module(f'{library}.{kind}').BatchNorm
        layer.__init__ = noted(layer.__init__)
        importlib.import_module(f'flax.{kind}').BatchNorm = layer
    files = [f for f in root.glob('tests/**/*.py') if 'BatchNorm' in f.read_text()]
    pytest.main(['-q', *map(str, sorted(files))], plugins=[sys.modules[__name__]])
    return outcomes


def noted(init):
    @functools.wraps(init)
    def noting(*args, **kwargs):
        outcomes.setdefault(os.environ['PYTEST_CURRENT_TEST'].removesuffix(' (call)'))
        return init(*args, **kwargs)

    return noting


def pytest_collection_modifyitems(items) -> None:
    """Leaves out what cannot make one: neither it nor a class beside it names it."""

    def named(place):
        return 'BatchNorm' in inspect.getsource(place)

    @functools.cache
    def beside(module):
        classes = [c for _, c in inspect.getmembers(module, inspect.isclass)]
        own = [c for c in classes if c.__module__ == module.__name__]
        return any(named(c) for c in own if 'test' not in c.__name__.lower())

    items[:] = [i for i in items if named(i.function) or beside(i.module)]


def pytest_runtest_logreport(report) -> None:
    if report.nodeid in outcomes and (report.when == 'call' or report.failed):
        outcomes[report.nodeid] = report.outcome


if __name__ == '__main__':
    sys.exit(main())
