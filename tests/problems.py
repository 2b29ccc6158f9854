"""Batch norm problems of every kind, and how near to float64 an answer must be."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import oracle
from hypothesis import strategies as st

import bnjax

F32, F64 = np.float32, np.float64
TINY = np.finfo(F32).tiny
FINER = 2.0**-29  # a rounding error of float64 beside one of float32
HALVES = {jnp.bfloat16: 2.0**-8, jnp.float16: 2.0**-11}
seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)


class Problem(NamedTuple):
    x: Any
    scale: Any
    bias: Any
    where: Any
    dy: Any
    axis: Any = -1


# How far a feature lies from 0, in deviations, and the size of a deviation.
OFFSETS = (0, 1, -1, 10, -17, 18, 100, -1e3, 3e3, 1e4, -1e4)
SIZES = (1, 1, 1e-3, 30, 1e-10, 1e10)
features = st.lists(
    st.tuples(st.sampled_from(OFFSETS), st.sampled_from(SIZES)), min_size=1, max_size=4
)
MASKS = ('none', 'booleans', 'weights', 'one row', 'one feature', 'nothing', 'scalar')
masks = st.sampled_from(MASKS)


def mask(rng, kind: str, shape, axis):
    """`where` of a kind; never weights of which a few make up the whole."""
    over = oracle.batch_axes(len(shape), axis)
    row = [n if a in over else 1 for a, n in enumerate(shape)]
    feature = [1 if a in over else n for a, n in enumerate(shape)]
    keep = rng.uniform(0.2, 1)
    return {
        'none': lambda: None,
        'booleans': lambda: rng.uniform(size=shape) < keep,
        'weights': lambda: F32(
            rng.uniform(0.3, 3, shape) * (rng.uniform(size=shape) < keep)
        ),
        'one row': lambda: rng.uniform(size=row) < keep,
        'one feature': lambda: F32(rng.uniform(0.1, 9, feature)),
        'nothing': lambda: np.zeros(shape, bool),
        'scalar': lambda: F32(rng.uniform(0.1, 9)),
    }[kind]()


def problem(rng, shape, axis, kind, like=((1, 1),), dtype=jnp.float32) -> Problem:
    """Normal values, many of those under the mask replaced by NaN or infinity."""
    form = oracle.feature_shape(np.empty(shape), axis)
    offset, size = np.resize(np.array(like, float), (math.prod(form), 2)).T
    offset, size = (
        oracle.spread(a.reshape(form), np.empty(shape), axis) for a in (offset, size)
    )
    wide = F64 if dtype == jnp.float64 else F32
    x = wide(size * (offset + rng.normal(size=shape)))
    where = mask(rng, kind, shape, axis)
    spoilt = (oracle.weights(x, where) == 0) & (rng.uniform(size=shape) < 0.6)
    x = np.where(spoilt, rng.choice(wide([np.nan, np.inf, -np.inf]), shape), x)
    scale, bias = wide(rng.normal(size=(2, *form)))
    dy = jnp.asarray(rng.normal(size=shape), dtype)
    return Problem(jnp.asarray(x, dtype), scale, bias, where, dy, axis)


FORMS = {'columns': ((64, 4), -1), 'rows': ((4, 65), 0), 'images': ((3, 4, 5, 3), -1)}
forms = st.sampled_from(list(FORMS.values()))


# Of which even a single value, without a deviation, has a gradient of some accuracy.
near = st.lists(st.tuples(st.sampled_from(OFFSETS[:7]), st.just(1)), min_size=1)


@st.composite
def shapes(draw):
    """A shape of any rank and any feature axes, counted from either end."""
    shape = draw(st.lists(st.sampled_from([0, 1, 2, 3, 5]), min_size=1, max_size=5))
    chosen = draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))
    signed = [a - len(shape) * draw(st.booleans()) for a in chosen]
    axis = tuple(draw(st.permutations(signed)))
    return tuple(shape), axis[0] if len(axis) == 1 and draw(st.booleans()) else axis


FEATURES = 4
positive = st.floats(2.0**-20, 2.0**20, width=32)
counts = st.one_of(st.just(0.0), st.sampled_from([1.0, 2.0, 64.0]), positive)


def groups_of(p: Problem, size: int):
    """Indices of the examples of each ghost batch, and these as problems."""
    axis = oracle.batch_axes(p.x.ndim, p.axis)[0]
    where = p.where
    if where is not None:
        where = np.broadcast_to(where, p.x.shape)
    p = p._replace(x=np.asarray(p.x), dy=np.asarray(p.dy))
    for start in range(0, p.x.shape[axis], size):
        at = (slice(None),) * axis + (slice(start, start + size),)
        x, w, dy = (a if a is None else a[at] for a in (p.x, where, p.dy))
        yield at, Problem(x, p.scale, p.bias, w, dy, p.axis)


@st.composite
def stats(draw):
    """Moments such as sets of values have: those of nothing are zeros."""
    rows = []
    for _ in range(FEATURES):
        n = draw(counts)
        offset, size = draw(st.sampled_from(OFFSETS)), draw(positive)
        rows.append((offset * size, size**2, n) if n else (0, 0, 0))
    return bnjax.Moments(*F32(rows).T)


def close(name, got, want, bound):
    """Finite where `want` is, and there no further from it than `bound`."""
    got, want = np.asarray(got, np.float64), np.asarray(want)
    assert got.shape == want.shape, name
    finite = np.isfinite(want)
    np.testing.assert_array_equal(np.isfinite(got), finite, name)
    error = np.abs(np.where(finite, got, 0) - np.where(finite, want, 0))
    wrong = error > bound
    assert not wrong.any(), f'{name} off by {error[wrong]}'


def check_moments(got, want):
    """To the documented accuracy, beyond its range to that of the mean."""
    unit = FINER if got.mean.dtype == F64 else 1
    ratio = np.abs(want.mean) / np.sqrt(np.where(want.var > 0, want.var, 1))
    far = (want.var == 0) | (ratio > 1.5e4)
    sizes = np.abs(want.mean) + np.sqrt(want.var)
    close('mean', got.mean, want.mean, 3e-7 * unit * sizes)
    noise = np.where(far, (3e-7 * unit * want.mean) ** 2, 0) + TINY
    close('var', got.var, want.var, 1e-5 * unit * want.var + noise)
    close('count', got.count, want.count, 1e-6 * want.count)


def accuracy(p: Problem, want: oracle.Stats):
    """The documented 1e-6, times mean/deviation where that is above 1."""
    unit = FINER if p.x.dtype == F64 else 1
    return 1e-6 * unit * np.maximum(1, np.abs(want.mean) / np.sqrt(want.var + 1e-5))


def check_entries(p: Problem, y, dx, of_largest_entry=False):
    """Relative to the largest entry of a feature, or to terms that may cancel in it."""
    x, at = np.asarray(p.x, np.float64), {'axis': p.axis, 'where': p.where}
    want_y, want = oracle.batch_norm(x, p.scale, p.bias, **at)
    grads = oracle.gradients(x, p.scale, p.dy, **at)
    over = oracle.batch_axes(x.ndim, p.axis)
    assert (y.dtype, dx.dtype) == (p.x.dtype, p.x.dtype)
    largest_y = np.abs(want_y).max(over, initial=0) + np.abs(p.bias)
    largest = np.abs(grads.x).max(over, initial=0)
    largest = largest if of_largest_entry else grads.size.x
    for name, got, wanted, size in (
        ('y', y, want_y, largest_y),
        ('dx', dx, grads.x, largest),
    ):
        rounding = HALVES.get(p.x.dtype.type, 0.0) * np.abs(wanted)
        bound = oracle.spread(accuracy(p, want) * size, x, p.axis)
        close(name, got, wanted, bound + rounding)


def check_parameters(parts: list[Problem], grads):
    """Gradients of scale and bias, summed over what is normalised apart."""
    expected = [
        oracle.gradients(*p[:2], p.dy, 0, 0, p.axis, 1e-5, p.where) for p in parts
    ]
    errors = [accuracy(p, oracle.moments(p.x, p.axis, p.where)) for p in parts]
    for name, got in zip(('scale', 'bias'), grads, strict=True):
        want = sum(getattr(e, name) for e in expected)
        sizes = (getattr(e.size, name) for e in expected)
        bound = sum(a * b for a, b in zip(errors, sizes, strict=True))
        close(name, got, want, bound)


def check(p: Problem, got, **options):
    """`run(*p)` against float64."""
    y, moments, (dx, *grads) = got
    wide = np.dtype(F64 if p.x.dtype == F64 else F32)
    assert {a.dtype for a in (*moments, *grads)} == {wide}
    check_moments(moments, oracle.moments(p.x, p.axis, p.where))
    check_entries(p, y, dx, **options)
    check_parameters([p], grads)


def same(got, want, largest=0.0):
    """`largest` mean that went into them, by which intermediate results are rounded."""
    slack = 3e-7 * np.abs(largest)
    close('mean', got.mean, want.mean, 1e-6 * np.abs(want.mean) + slack + TINY)
    spread = np.sqrt(want.var)
    close('var', got.var, want.var, 1e-6 * want.var + slack * spread + slack**2 + TINY)
    close('count', got.count, want.count, 1e-6 * want.count)
