"""A library that is broken in a plausible way turns the checks about it red.

That they are green with the library as it is, tests/test_claims_exact.py shows.
"""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import bnjax
import bnjax.layer
from bnjax.claims import checking
from bnjax.claims.register import CLAIMS

# As they are before anything is broken.
batch_norm, normalize, moments = bnjax.batch_norm, bnjax.normalize, bnjax.moments
fold, update, call = bnjax.fold, bnjax.update, bnjax.layer.call


def by_moments(change):
    """Batch norm by what a function makes of the batch's moments and epsilon."""

    def changed(x, scale=None, bias=None, *, axis=-1, epsilon=1e-5, **over):
        batch = change(moments(x, axis=axis, **over), epsilon)
        y = normalize(x, batch, scale, bias, axis=axis, epsilon=epsilon)
        return y, batch

    changed.__name__ = change.__name__
    return changed


@by_moments
def mean_not_subtracted(batch, epsilon):
    return batch._replace(mean=0 * batch.mean)


@by_moments
def divided_by_m_less_one(batch, epsilon):
    return batch._replace(var=batch.var * batch.count / (batch.count - 1))


@by_moments
def deviation_for_variance(batch, epsilon):
    return batch._replace(var=jnp.sqrt(batch.var))


@by_moments
def epsilon_outside_the_root(batch, epsilon):
    return batch._replace(var=(jnp.sqrt(batch.var) + epsilon) ** 2 - epsilon)


@by_moments
def epsilon_of_its_own(batch, epsilon):
    return batch._replace(var=batch.var + 1e-3 - epsilon)


@by_moments
def variance_left_out_of_the_derivative(batch, epsilon):
    return batch._replace(var=lax.stop_gradient(batch.var))


@by_moments
def mean_left_out_of_the_derivative(batch, epsilon):
    return batch._replace(mean=lax.stop_gradient(batch.mean))


def bias_before_scale(x, scale=None, bias=None, **options):
    both = scale is not None and bias is not None
    return batch_norm(x, scale, bias * scale if both else bias, **options)


def each_image_by_itself(x, scale=None, bias=None, *, axis=-1, **options):
    y, _ = batch_norm(x, axis=0 if x.ndim == 4 else axis, **options)
    return y, moments(x, axis=axis)


def each_position_by_itself(x, scale=None, bias=None, *, axis=-1, **options):
    y, _ = batch_norm(x, axis=(1, 2, 3) if x.ndim == 4 else axis, **options)
    return y, moments(x, axis=axis)


def decorrelating(x, scale=None, bias=None, **options):
    y, batch = batch_norm(x, **options)
    values, axes = jnp.linalg.eigh(y.T @ y / len(y))
    return y @ axes / jnp.sqrt(values), batch


def not_synced(x, scale=None, bias=None, *, axis_name=None, **options):
    return batch_norm(x, scale, bias, **options)


def biased(*args, unbiased=False, **options):
    return update(*args, **options)


def fold_without_the_root(kernel, bias, scale, shift, running, *, epsilon, **options):
    squared = running._replace(var=(running.var + epsilon) ** 2 - epsilon)
    return fold(kernel, bias, scale, shift, squared, epsilon=epsilon, **options)


def fold_without_the_mean(kernel, bias, scale, shift, running, **options):
    centred = running._replace(mean=0 * running.mean)
    return fold(kernel, bias, scale, shift, centred, **options)


def fold_without_the_bias(kernel, bias, *rest, **options):
    folded, new = fold(kernel, None, *rest, **options)
    return folded, new if bias is None else new + bias


def by_running_statistics(layer, x, statistics, scale, bias, mask, **options):
    _, batch, new = call(layer, x, statistics, scale, bias, mask, **options)
    running = bnjax.Moments(count=1, **(statistics | new))
    return normalize(x, running, scale, bias), batch, new


# What is broken, by what, and the claims whose checks are about it.
MUTATIONS = [
    ('batch_norm', mean_not_subtracted, 'S9 S11 S16'),
    ('batch_norm', divided_by_m_less_one, 'S8 S14 S32 S47'),
    ('batch_norm', deviation_for_variance, 'E2'),
    ('batch_norm', epsilon_outside_the_root, 'S10 S27'),
    ('batch_norm', epsilon_of_its_own, 'S22'),
    ('batch_norm', variance_left_out_of_the_derivative, 'S74 S77'),
    ('batch_norm', mean_left_out_of_the_derivative, 'S54 S74 E16'),
    ('batch_norm', bias_before_scale, 'S8 S53 S76 E18'),
    ('batch_norm', each_image_by_itself, 'S36 S70'),
    ('batch_norm', each_position_by_itself, 'S26 S35'),
    ('batch_norm', decorrelating, 'S38'),
    ('batch_norm', not_synced, 'S45'),
    ('update', biased, 'S75 E15 E25'),
    ('fold', fold_without_the_root, 'S43'),
    ('fold', fold_without_the_mean, 'S43'),
    ('fold', fold_without_the_bias, 'S43'),
    ('layer.call', by_running_statistics, 'S42'),
]
CASES = {
    f'{broken.__name__}-{claim}': (place, broken, claim)
    for place, broken, claims in MUTATIONS
    for claim in claims.split()
}


@pytest.fixture(scope='module', autouse=True)
def _forget_what_was_traced_in_float64():
    yield
    jax.clear_caches()


@pytest.mark.parametrize(('place', 'broken', 'claim'), CASES.values(), ids=CASES)
def test_a_check_turns_red(place, broken, claim, monkeypatch):
    monkeypatch.setattr(f'bnjax.{place}', broken)
    (found,) = checking.checked([CLAIMS[claim]])
    assert found.broken


def test_every_check_of_the_library_is_turned_red_by_something():
    red = {CLAIMS[claim].check for _, _, claim in CASES.values()}
    modules = {check.partition('.')[0] for check in red}
    assert modules >= {'formulas', 'affine', 'axes', 'derivatives', 'folding'}
    assert modules >= {'whitening', 'small_batches'}
    checks = {claim.check for claim in CLAIMS.values()}
    assert red == {check for check in checks if check.partition('.')[0] in modules}
