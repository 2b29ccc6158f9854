"""merge, normalize and update against the float64 oracle."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

import bnjax
from bnjax import Moments

F32 = np.float32
RNG = np.random.default_rng(0)
X = (RNG.normal(size=(48, 3)) * [1, 5, 0.1] + [0, 300, 10]).astype(F32)
NOTHING = Moments(*jnp.zeros((3, 3)))
merge = jax.jit(bnjax.merge)
update = jax.jit(bnjax.update)


def same(got, want, rtol=1e-6):
    assert isinstance(got, Moments)
    for name, g, w in zip(Moments._fields, got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=rtol, atol=1e-7, err_msg=name)


def parts(*cuts):
    return [bnjax.moments(part) for part in np.split(X, cuts)]


def test_moments_of_nothing_are_neutral_for_merge():
    a = bnjax.moments(X)
    same(merge(a, NOTHING), a, rtol=0)
    same(merge(NOTHING, a), a, rtol=0)
    same(merge(NOTHING, NOTHING), NOTHING, rtol=0)
    same(bnjax.moments(X, where=False), NOTHING, rtol=0)


def test_merge_is_accurate_for_distant_large_and_small_counts():
    a = Moments(*jnp.float32([[1e4], [1.0], [1e6]]))
    b = Moments(*jnp.float32([[1e4 + 1], [2.0], [1e-3]]))
    same(merge(a, b), oracle.merge(a, b))
    far = Moments(*jnp.float32([[-1e4], [0.0], [1e6]]))
    same(merge(a, far), oracle.merge(a, far))


def test_merge_reduces_a_scan_over_micro_batches():
    def step(carry, x):
        return merge(carry, bnjax.moments(x)), None

    got, _ = jax.lax.scan(step, NOTHING, X.reshape(8, 6, 3))
    same(got, oracle.moments(X), rtol=1e-5)


def test_merge_has_finite_gradients_beside_nothing():
    def loss(a, b):
        m = bnjax.merge(a, b)
        return (m.mean + m.var).sum()

    for pair in ((bnjax.moments(X), NOTHING), (NOTHING, NOTHING)):
        for g in jax.tree.leaves(jax.grad(loss, (0, 1))(*pair)):
            assert np.isfinite(g).all()


STATS = Moments(*map(F32, ([0.5, 299, 10], [1, 30, 0.02], [1, 1, 1])))
SCALE, BIAS = F32([1.5, -2, 0.3]), F32([0, 4, -1])


@pytest.mark.parametrize('scale', [None, SCALE], ids=['no scale', 'scale'])
@pytest.mark.parametrize('bias', [None, BIAS], ids=['no bias', 'bias'])
@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16, jnp.float16], ids=str)
def test_normalize_uses_the_given_moments(dtype, scale, bias):
    x = jnp.asarray(X, dtype)
    got = bnjax.normalize(x, STATS, scale, bias, epsilon=1e-3)
    want = oracle.normalize(x, STATS, scale, bias, epsilon=1e-3)
    assert got.dtype == dtype
    rtol = max(2e-6, float(jnp.finfo(dtype).eps))
    np.testing.assert_allclose(np.asarray(got, np.float64), want, rtol, 4e-6)


@pytest.mark.parametrize('axis', [0, 1, -2, (0, 2), (-1, 0)], ids=str)
def test_normalize_takes_any_feature_axes(axis):
    x = RNG.normal(size=(4, 3, 2)).astype(F32)
    shape = oracle.feature_shape(x, axis)
    mean, var, scale, bias = RNG.uniform(0.5, 2, size=(4, *shape)).astype(F32)
    stats = Moments(mean, var, np.ones(shape, F32))
    got = bnjax.normalize(x, stats, scale, bias, axis=axis)
    want = oracle.normalize(x, stats, scale, bias, axis)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_normalize_is_differentiable_in_everything():
    x, dy = RNG.normal(size=(2, 5, 3)).astype(F32)

    def f(x, mean, var, scale, bias, epsilon):
        stats = Moments(mean, var, STATS.count)
        return bnjax.normalize(x, stats, scale, bias, epsilon=epsilon)

    args = (x, *STATS[:2], SCALE, BIAS, F32(1e-3))
    got = jax.vjp(f, *args)[1](dy)

    for i, (g, value) in enumerate(zip(got, args, strict=True)):

        def loss(v, i=i):
            x, mean, var, *affine, epsilon = (*args[:i], v, *args[i + 1 :])
            stats = oracle.Stats(mean, var, None)
            return (dy * oracle.normalize(x, stats, *affine, epsilon=epsilon)).sum()

        want = oracle.derivative(loss, value)
        np.testing.assert_allclose(g, want, rtol=2e-5, atol=1e-5 * np.abs(want).max())


MOMENTA = {'none kept': 0.0, '0.9': 0.9, 'all kept': 1.0, 'cumulative': None}


def test_momentum_may_be_traced_and_vmapped():
    batch = bnjax.moments(X)
    momenta = F32([0, 0.5, 0.99])
    got = jax.vmap(update, (None, None, 0))(STATS, batch, momenta)
    for i, momentum in enumerate(momenta):
        one = Moments(*(a[i] for a in got))
        same(one, oracle.update(STATS, batch, momentum))


def test_count_one_is_the_average_of_flax():
    batch, m = bnjax.moments(X), 0.9
    got = bnjax.update(STATS, batch, m)
    want = [m * old + (1 - m) * new for old, new in zip(STATS, batch, strict=True)]
    same(got, (*want[:2], np.ones(3)))


@pytest.mark.parametrize('momentum', [0.0, 0.9, 0.999, None], ids=str)
def test_from_count_zero_the_first_step_is_exact(momentum):
    start = Moments(*np.full((2, 3), 123, F32), np.zeros(3, F32))
    batch = bnjax.moments(X)
    got = bnjax.update(start, batch, momentum)
    same(got._replace(count=batch.count), batch, rtol=1e-6)


def test_cumulative_average_weighs_all_batches_alike():
    running = NOTHING
    batches = parts(3, 20, 30)
    for batch in batches:
        running = update(running, batch, None)
    for name in ('mean', 'var'):
        want = np.mean([getattr(b, name) for b in batches], 0, dtype=np.float64)
        np.testing.assert_allclose(getattr(running, name), want, rtol=1e-6)
    np.testing.assert_array_equal(running.count, 4)


def test_running_averages_over_many_steps_follow_the_oracle():
    running = expected = Moments(*np.float32([[0] * 3, [1] * 3, [0] * 3]))
    for step, momentum in enumerate([0.9, 0.9, None, 0.5, 0.99, 0.0, 0.7]):
        x = X[step : 7 * step]  # empty at first
        running = bnjax.update(running, bnjax.moments(x), momentum)
        expected = oracle.update(expected, oracle.moments(x), momentum)
    same(running, expected, rtol=1e-5)
