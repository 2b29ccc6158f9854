"""float64: derivatives of every order, and the dtypes of what comes out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

import bnjax

F32 = np.float32
RNG = np.random.default_rng(0)
X, DY = RNG.normal(size=(2, 8, 3))
WHERE = RNG.uniform(size=X.shape) < [0.4, 0.9, 0.7]
SCALE, BIAS, DMEAN, DVAR = RNG.normal(size=(4, 3))
EPSILON = np.float64(1e-2)
HOLES = np.where(WHERE, X, np.nan)
CASES = {
    'no mask': (X, None),
    'mask': (X, WHERE),
    'mask over NaN': (HOLES, WHERE),
    'weights': (X, WHERE * RNG.uniform(0.2, 3, X.shape)),
    'one feature masked': (X, WHERE & [True, False, True]),
}
cases = pytest.mark.parametrize('x, where', CASES.values(), ids=CASES)


@pytest.fixture(scope='module', autouse=True)
def x64():
    """Programs compiled here must not be found by float32 tests: JAX would run them."""
    with jax.enable_x64(True):
        yield
    jax.clear_caches()


def forward(x, scale, bias, epsilon, where=None, **kwargs):
    y, m = bnjax.batch_norm(x, scale, bias, epsilon=epsilon, where=where, **kwargs)
    return y, m.mean, m.var


def loss(x, scale, bias, epsilon, where=None, dy=DY):
    """Not linear in y, so that second derivatives have all their terms."""
    y, mean, var = forward(x, scale, bias, epsilon, where)
    dy, dmean, dvar = (jnp.asarray(c, y.dtype) for c in (dy, DMEAN, DVAR))
    return (dy * y + jnp.sin(y)).sum() + (dmean * mean).sum() + (dvar * var**2).sum()


def oracle_gradient(x, scale, bias, epsilon, where):
    """That of `loss`; complex-analytic, so that its derivative is the Hessian."""
    at = {'epsilon': epsilon, 'where': where}
    y, m = oracle.batch_norm(x, scale, bias, **at)
    dy, dvar = DY + np.cos(y), 2 * DVAR * m.var
    return oracle.gradients(x, scale, dy, DMEAN, dvar, **at)[:4]


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in tree])


@cases
def test_gradient_in_float64_is_exact(x, where):
    args = (x, SCALE, BIAS, EPSILON)
    got = jax.jit(jax.grad(loss, (0, 1, 2, 3)))(*args, where)
    with np.errstate(invalid='ignore'):
        want = oracle_gradient(*args, where)
    for name, g, w in zip(('x', 'scale', 'bias', 'epsilon'), got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-10, atol=1e-11, err_msg=name)


@cases
def test_forward_mode_is_the_transpose_of_reverse_mode(x, where):
    args = (x, SCALE, BIAS, EPSILON)
    tangents = tuple(RNG.normal(size=np.shape(a)) for a in args)
    cotangents = (DY, DMEAN, DVAR)

    @jax.jit
    def both(args, tangents, cotangents, where):
        f = functools.partial(forward, where=where)
        return jax.jvp(f, args, tangents)[1], jax.vjp(f, *args)[1](cotangents)

    pushed, pulled = both(args, tangents, cotangents, where)
    assert np.isfinite(flat(pushed)).all() and np.isfinite(flat(pulled)).all()
    left, right = flat(cotangents) @ flat(pushed), flat(pulled) @ flat(tangents)
    np.testing.assert_allclose(left, right, rtol=1e-11)


def test_forward_and_reverse_jacobians_agree():
    args = (HOLES[:4, :2], SCALE[:2], BIAS[:2], EPSILON)
    f = functools.partial(forward, where=WHERE[:4, :2])
    jacobians = (jax.jit(j(f, (0, 1, 2, 3))) for j in (jax.jacfwd, jax.jacrev))
    first, second = (jax.tree.leaves(j(*args)) for j in jacobians)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


@pytest.fixture(scope='module')
def hessian():
    return jax.jit(jax.hessian(loss, (0, 1, 2, 3)))


@cases
def test_hessian_is_the_derivative_of_the_gradient(hessian, x, where):
    args = (x, SCALE, BIAS, EPSILON)
    where = np.ones(x.shape) if where is None else np.float64(where)
    got = hessian(*args, where)
    for i, value in enumerate(args):

        def gradient(v, i=i):
            return flat(oracle_gradient(*args[:i], v, *args[i + 1 :], where))

        with np.errstate(invalid='ignore'):
            want = oracle.derivative(gradient, value)
        column = np.concatenate([np.reshape(r[i], (-1, *value.shape)) for r in got])
        np.testing.assert_allclose(column, want, rtol=1e-9, atol=1e-9)


def test_third_derivatives_exist():
    def along(t):
        return loss(X + t * DY, SCALE, BIAS, EPSILON)

    third = jax.jit(jax.grad(jax.grad(jax.grad(along))))
    h, second = 1e-4, jax.jit(jax.grad(jax.grad(along)))
    np.testing.assert_allclose(
        third(0.3), (second(0.3 + h) - second(0.3 - h)) / (2 * h), rtol=1e-6
    )


def test_where_is_a_constant():
    def by_weights(w):
        return loss(X.astype(F32), *map(F32, (SCALE, BIAS, EPSILON)), w)

    np.testing.assert_array_equal(
        jax.jit(jax.grad(by_weights))(np.ones(X.shape, F32)), 0
    )


def test_moments_alone_are_differentiable_beside_masked_nan():
    def f(x):
        m = bnjax.moments(x, where=WHERE)
        return (DMEAN * m.mean).sum() + (DVAR * m.var).sum()

    at = {'dmean': DMEAN, 'dvar': DVAR, 'where': WHERE}
    with np.errstate(invalid='ignore'):
        want = oracle.gradients(HOLES, SCALE, 0 * DY, **at).x
    np.testing.assert_allclose(jax.jit(jax.grad(f))(HOLES), want, atol=1e-12)
    tangent = jax.jit(lambda x, dx: jax.jvp(f, (x,), (dx,))[1])(HOLES, DY)
    np.testing.assert_allclose(tangent, (want * DY).sum(), rtol=1e-11)


@pytest.mark.parametrize('mean', [0, 100, 1e6])
def test_values_are_computed_in_float64(mean):
    y, m = bnjax.batch_norm(X + mean, where=WHERE)
    want_y, want = oracle.batch_norm(X + mean, where=WHERE)
    assert {a.dtype for a in (y, *m)} == {np.dtype(np.float64)}
    rtol = 1e-13 * (1 + mean)
    np.testing.assert_allclose(y, want_y, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(m.var, want.var, rtol=1e-11)
    np.testing.assert_array_equal(m.count, want.count)


def test_float32_input_stays_float32_beside_float64():
    def both(x, wide, scale, bias, where):
        y, m = bnjax.batch_norm(x, scale, bias, where=where)
        return y, *m, bnjax.normalize(x, bnjax.moments(wide))

    found = jax.eval_shape(both, X.astype(F32), X, SCALE, BIAS, WHERE * 1.0)
    assert [a.dtype for a in found] == [np.dtype(F32)] * 5


def test_running_moments_keep_their_dtype():
    def f(running, x, momentum):
        return bnjax.update(running, bnjax.moments(x), momentum)

    running = bnjax.Moments(*np.zeros((3, 3), F32))
    got = jax.eval_shape(f, running, X, np.float64(0.9))
    assert {a.dtype for a in got} == {np.dtype(F32)}
