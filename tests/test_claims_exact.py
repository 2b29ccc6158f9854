"""Each exact check comes out as the register expects."""

import importlib
import inspect

import jax
import numpy as np
import pytest

from bnjax.claims import checking
from bnjax.claims.finding import BrokenError, Finding, require
from bnjax.claims.register import CLAIMS

# One claim for each check: the others would run it again.
EXACT = {(claim.check, claim.expected): claim for claim in CLAIMS.values()}
EXACT = {key: claim for key, claim in EXACT.items() if claim.check}
CHECKS = {check for check, _ in EXACT}
MODULES = sorted({check.partition('.')[0] for check in CHECKS})


@pytest.fixture(scope='module', autouse=True)
def _forget_what_was_traced_in_float64():
    yield
    jax.clear_caches()


@pytest.mark.parametrize('claim', EXACT.values(), ids=[check for check, _ in EXACT])
def test_a_check_finds_what_the_register_expects(claim):
    (found,) = checking.checked([claim])
    if found.verdict == 'not run' and not found.broken:
        pytest.skip(found.effect)  # its data is not there
    assert not found.broken, found.effect
    assert found.verdict == claim.expected
    assert found.effect.isprintable()


@pytest.mark.parametrize('module', MODULES)
def test_every_check_of_a_module_is_named_by_a_claim(module):
    content = importlib.import_module(f'bnjax.claims.exact.{module}')
    checks = {
        f'{module}.{name}'
        for name, value in inspect.getmembers(content, inspect.isfunction)
        if value.__module__ == content.__name__
        and inspect.signature(value).return_annotation is Finding
        and not name.startswith('_')
    }
    assert checks == {check for check in CHECKS if check.startswith(f'{module}.')}


def test_a_control_that_fails_stops_the_check():
    require(True, 'true')
    with pytest.raises(BrokenError, match='^one is two$'):
        require(False, 'one is two')


def test_a_control_on_nan_fails():
    with pytest.raises(BrokenError):
        require(bool(np.float64('nan') <= 1), 'small')
