"""The core's values and first derivatives against the float64 oracle."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

import bnjax

F32 = np.float32
ROUNDING = {jnp.bfloat16: 2.0**-8, jnp.float16: 2.0**-11, jnp.float32: 0.0}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(F32)


@functools.partial(jax.jit, static_argnames='axis')
def run(x, scale, bias, epsilon, where, cotangents, axis):
    """y, the moments, and the gradients of x, scale, bias, epsilon."""

    def forward(x, scale, bias, epsilon):
        y, m = bnjax.batch_norm(x, scale, bias, axis=axis, epsilon=epsilon, where=where)
        return (y, m.mean, m.var), m.count

    args = (x, scale, bias, epsilon)
    (y, mean, var), pull, count = jax.vjp(forward, *args, has_aux=True)
    return y, bnjax.Moments(mean, var, count), pull(cotangents)


def within(name, actual, expected, bound):
    actual = np.asarray(actual, np.float64)
    assert actual.shape == np.shape(expected), name
    assert np.isfinite(actual).all(), f'{name} is not finite:\n{actual}'
    excess = np.abs(actual - expected) - bound
    worst = np.max(excess, initial=-np.inf)
    assert worst <= 0, f'{name} off by {worst} too much:\n{actual}\n{expected}'


def check(x, axis=-1, where=None, epsilon=1e-5, seed=1, dy=None):
    """batch_norm and its gradients at `x` to the documented float32 accuracy."""
    x = jnp.asarray(x)
    shape = oracle.feature_shape(x, axis)
    at = {'axis': axis, 'epsilon': float(F32(epsilon)), 'where': where}
    scale, bias, dmean, dvar = normal(4, *shape, seed=seed)
    want_y, want = oracle.batch_norm(x, scale, bias, **at)
    std = np.sqrt(want.var + at['epsilon'])
    dy = jnp.asarray(normal(*x.shape, seed=seed + 1) if dy is None else dy, x.dtype)
    # In these units all three are of equal weight in the gradient of x.
    dmean, dvar = (dmean / std).astype(F32), (dvar / std**2).astype(F32)
    want_grads = oracle.gradients(x, scale, dy, dmean, dvar, **at)
    got = run(x, scale, bias, F32(epsilon), where, (dy, dmean, dvar), axis)
    y, moments, grads = got
    assert y.dtype == x.dtype
    assert [m.dtype for m in moments] == [jnp.float32] * 3
    check_moments(moments, want)
    ratio = np.maximum(1, np.abs(want.mean) / std)
    over = oracle.batch_axes(x.ndim, axis)
    unit = ROUNDING[x.dtype.type]

    def per_feature(bound):
        return oracle.spread(bound, np.asarray(x), axis)

    largest = np.abs(want_y).max(over, initial=0) + np.abs(bias)
    within('y', y, want_y, per_feature(1e-6 * ratio * largest) + unit * abs(want_y))
    dx = want_grads.x
    largest = np.maximum(np.abs(dx).max(over, initial=0), want_grads.size.x)
    within('dx', grads[0], dx, per_feature(1e-6 * ratio * largest) + unit * abs(dx))
    for name, g, bound in zip(
        ('scale', 'bias', 'epsilon'),
        grads[1:],
        (ratio, 1.0, ratio.max(initial=1.0)),
        strict=True,
    ):
        size = getattr(want_grads.size, name)
        bound = 1e-6 * bound * size + 1e-20  # 1 / std^3 may underflow
        within(f'd{name}', g, getattr(want_grads, name), bound)


def check_moments(got, want):
    sizes = np.abs(want.mean) + np.sqrt(want.var)
    within('mean', got.mean, want.mean, 3e-7 * sizes)
    tiny = np.finfo(F32).tiny
    within('var', got.var, want.var, 1e-5 * want.var + (3e-7 * want.mean) ** 2 + tiny)
    within('count', got.count, want.count, 1e-6 * want.count)


def test_oracle_gradients_are_its_complex_step_derivatives():
    x, dy = normal(2, 5, 3).astype(np.float64)
    x[1, 2] = np.inf
    where = np.random.default_rng(3).integers(0, 3, size=x.shape) * 0.7
    where[1, 2] = 0
    scale, bias, dmean, dvar = normal(4, 3, seed=4).astype(np.float64)

    def loss(x, scale, bias, epsilon):
        y, m = oracle.batch_norm(x, scale, bias, epsilon=epsilon, where=where)
        return (dy * y).sum() + (dmean * m.mean).sum() + (dvar * m.var).sum()

    got = oracle.gradients(x, scale, dy, dmean, dvar, epsilon=0.1, where=where)
    at = [x, scale, bias, np.float64(0.1)]
    for i, (name, value) in enumerate(zip(got._fields[:4], at, strict=True)):
        with np.errstate(invalid='ignore'):
            want = oracle.derivative(
                lambda v, i=i: loss(*at[:i], v, *at[i + 1 :]), value
            )
        np.testing.assert_allclose(got[i], want, rtol=1e-12, atol=1e-12, err_msg=name)


def test_worked_example_is_reproduced_with_the_biased_variance():
    row = np.array([1.0, 1.5, 1.2, 0.9, 1.7, 2.1, 3.1, 1.7], F32)
    y, m = bnjax.batch_norm(row[:, None], epsilon=1e-8)
    np.testing.assert_allclose([m.mean[0], m.var[0], m.count[0]], [1.65, 0.44, 8], 1e-6)
    x_hat = [-0.9799, -0.2261, -0.6784, -1.1307, 0.0754, 0.6784, 2.1860, 0.0754]
    np.testing.assert_allclose(y[:, 0], x_hat, atol=5e-5)


SHAPES = {
    'rank 1, every entry a feature': ((5,), -1),
    'rank 2, last axis': ((6, 3), -1),
    'rank 2, first axis': ((6, 3), 0),
    'rank 3, middle axis': ((4, 3, 2), 1),
    'rank 3, outer axes': ((4, 3, 2), (0, 2)),
    'rank 4, negative axes in any order': ((2, 3, 2, 4), (-1, 1)),
    'rank 5, middle axis': ((2, 2, 3, 2, 2), 2),
    'batch of one': ((1, 3), -1),
    'batch of two': ((2, 3), -1),
    'empty batch': ((0, 3), -1),
    'no features': ((4, 0), -1),
}


@pytest.mark.parametrize('shape, axis', SHAPES.values(), ids=SHAPES)
def test_batch_norm_is_right_for_every_shape_and_axis(shape, axis):
    check(normal(*shape) + F32(0.5), axis)


RATIOS = (0, 1, 10, 17, 18, 30, 100, 1e3, 1e4)
BASE = normal(64, 6, seed=7)
DATA = {f'mean/std {r:g}': BASE + F32(r) for r in RATIOS}
DATA |= {f'mean/std -{r:g}, small': F32(1e-3) * (BASE - F32(r)) for r in (17, 1e4)}
DATA |= {
    'a different mean/std per feature': BASE + F32([0, 1, 17, 100, 1e3, 1e4]),
    'constant features': np.ones_like(BASE) * F32([0, 0.1, -3, 77.7, 1e3 / 3, 1e4 / 3]),
    'one constant feature': np.where(np.arange(6) == 2, F32(0.1), BASE),
    'one outlier': np.where(np.arange(64)[:, None] == 9, F32(1e4), BASE),
    'two values': np.sign(BASE),
    'magnitude 1e-30': BASE * F32(1e-30),
    'magnitude 1e-10': BASE * F32(1e-10),
    'magnitude 1e8': BASE * F32(1e8),
    'magnitude 1e15': BASE * F32(1e15),
}


@pytest.mark.parametrize('x', DATA.values(), ids=DATA)
def test_batch_norm_is_right_for_hostile_values(x):
    check(x)


def with_gradient(x):
    y, pull = jax.vjp(lambda x: bnjax.batch_norm(x)[0], x)
    return y, *pull(jnp.asarray(BASE))


def test_squares_beyond_float32_give_infinite_variance_and_no_nan():
    """Means are right; var is inf as it must be, so y is the bias."""
    x = jnp.asarray(BASE * F32(1e30))
    m = bnjax.moments(x)
    np.testing.assert_allclose(m.mean, oracle.moments(x).mean, rtol=1e-5)
    assert np.isposinf(m.var).all()
    y, dx = jax.jit(with_gradient)(x)
    np.testing.assert_array_equal(y, np.zeros_like(x))
    assert np.isfinite(dx).all()


def test_numpy_input_is_not_computed_by_numpy():
    bnjax.moments(BASE * F32(1e30))  # NumPy would warn of an overflow


@pytest.mark.parametrize('epsilon', [1e-10, 1e-8, 1e-3, 1.0])
def test_epsilon_is_a_traced_value(epsilon):
    check(BASE * F32([1e-4, 1e-2, 1, 1, 10, 100]), epsilon=epsilon)


@pytest.mark.parametrize('size', [0, 1e-15])
def test_gradients_survive_where_the_cube_of_the_inverse_deviation_overflows(size):
    """1 / sqrt(var + epsilon) is a float32, its cube is not."""
    x = jnp.asarray(BASE * F32(size))

    def loss(x):
        return (BASE[::-1] * bnjax.batch_norm(x, epsilon=1e-30)[0]).sum()

    want = oracle.gradients(x, np.ones(6), BASE[::-1], epsilon=float(F32(1e-30))).x
    got = jax.jit(jax.grad(loss))(x)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())


def masks():
    rng, shape = np.random.default_rng(5), BASE.shape
    one, empty = np.zeros((2, *shape), bool)
    one[11] = True
    gone = np.broadcast_to(np.arange(6) != 4, shape)
    share = rng.uniform(size=shape) < np.linspace(0.05, 1, 6)
    return {
        'all': ~empty,
        'none': empty,
        'one': one,
        'rows': np.broadcast_to(rng.uniform(size=(64, 1)) < 0.4, shape),
        'a different share of each feature': share,
        'one feature has none': gone,
    }


MASKS = masks()


@pytest.mark.parametrize('where', MASKS.values(), ids=MASKS)
@pytest.mark.parametrize('mean', [0, 1e3])
def test_masked_positions_take_no_part_and_are_normalised(where, mean):
    check(BASE + F32(mean), where=where)


WEIGHTS = np.random.default_rng(6).uniform(size=BASE.shape).astype(F32)
FLOATS = {
    'uniform': WEIGHTS,
    'sum below one': WEIGHTS * F32(1e-6),
    'large': WEIGHTS * F32(1e6),
    'seven magnitudes': 10 ** (7 * WEIGHTS - 5),
    'some zero': np.where(MASKS['rows'], WEIGHTS, 0).astype(F32),
    'all zero': np.zeros_like(WEIGHTS),
}


@pytest.mark.parametrize('where', FLOATS.values(), ids=FLOATS)
@pytest.mark.parametrize('mean', [0, 17, 1e3])
def test_float_weights_are_counts(where, mean):
    x = np.where(where > 0, BASE + F32(mean), F32(np.nan))
    check(x, where=where)


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize('mean, size', [(0, 1), (100, 1), (3e4, 1e3)])
def test_half_precision_is_computed_in_float32(dtype, mean, size):
    check(jnp.asarray(BASE * F32(size) + F32(mean), dtype), where=MASKS['rows'])


def test_memory_layout_does_not_matter():
    big = normal(3, 128, 12, seed=2)
    for x, axis in ((big.T[::2, :, 1], 0), (big[1, ::2, ::-2], -1)):
        check(x, axis)
        check(jnp.asarray(x.T), (axis + 1) % 2)


def test_a_non_finite_valid_value_spoils_its_own_feature_only():
    x = BASE.copy()
    x[3, 2] = np.nan
    y, m = bnjax.batch_norm(x)
    others = np.arange(6) != 2
    np.testing.assert_allclose(y[:, others], oracle.batch_norm(x)[0][:, others], 1e-4)
    assert np.isnan(m.mean[2]) and np.isfinite(m.mean[others]).all()


def test_moments_are_those_of_batch_norm():
    for where in (None, MASKS['rows'], WEIGHTS):
        x = BASE + F32(40)
        got, (_, same) = bnjax.moments(x, where=where), bnjax.batch_norm(x, where=where)
        assert isinstance(got, bnjax.Moments)
        check_moments(got, oracle.moments(x, where=where))
        for a, b in zip(got, same, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
