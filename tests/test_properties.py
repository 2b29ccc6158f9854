"""What the functions hold to, whatever the shape, mask, dtype, value or transform."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import (
    F32,
    FEATURES,
    HALVES,
    MASKS,
    TINY,
    Problem,
    check,
    check_entries,
    check_moments,
    check_parameters,
    close,
    features,
    forms,
    groups_of,
    masks,
    near,
    problem,
    same,
    seeds,
    shapes,
    stats,
)

import bnjax
from bnjax.ghost import ghost_batch_norm

repeatable = settings(derandomize=True, deadline=None, max_examples=30)
few = settings(repeatable, max_examples=15)


@functools.partial(jax.jit, static_argnames='axis')
def run(x, scale, bias, where, dy, axis=-1):
    """y, the moments, and the gradients of <dy, y>."""

    def forward(x, scale, bias):
        return bnjax.batch_norm(x, scale, bias, axis=axis, where=where)

    y, pull, moments = jax.vjp(forward, x, scale, bias, has_aux=True)
    return y, moments, pull(dy)


@repeatable
@given(seeds, shapes(), masks, st.sampled_from([jnp.float32, *HALVES]))
def test_any_shape_axis_mask_and_dtype(rng, form, kind, dtype):
    p = problem(rng, *form, kind, dtype=dtype)
    check(p, run(*p))


@settings(repeatable, max_examples=60)
@given(seeds, forms, st.sampled_from(MASKS[:4]), features)
def test_any_distance_from_zero_and_size(rng, form, kind, like):
    p = problem(rng, *form, kind, like)
    check(p, run(*p), of_largest_entry=True)


@few
@given(seeds, forms, st.sampled_from(MASKS[1:4]), features)
def test_what_stands_under_the_mask_changes_nothing_else(rng, form, kind, like):
    p = problem(rng, *form, kind, like)
    out = oracle.weights(p.x, p.where) == 0
    dy = np.where(out, F32(0), p.dy)
    hostile = rng.choice(F32([np.nan, np.inf, -3e38, 1e-40, 7]), p.x.shape)
    y, moments, grads = jax.device_get(run(*p._replace(dy=dy)))
    other = p._replace(x=np.where(out, hostile, p.x), dy=dy)
    other_y, *rest = jax.device_get(run(*other))
    jax.tree.map(np.testing.assert_array_equal, rest, [moments, grads])
    np.testing.assert_array_equal(other_y[~out], y[~out])
    ghost = out & ~np.isfinite(hostile)
    bias = oracle.spread(p.bias, hostile, p.axis)
    np.testing.assert_array_equal(
        other_y[ghost], np.broadcast_to(bias, out.shape)[ghost]
    )


merge = jax.jit(bnjax.merge)
update = jax.jit(bnjax.update, static_argnames=('unbiased', 'skip_nonfinite'))


@repeatable
@given(stats(), stats(), stats())
def test_merge_is_commutative_and_associative(a, b, c):
    largest = np.abs([a.mean, b.mean, c.mean]).max(0)
    same(merge(a, b), oracle.merge(a, b), largest)
    same(merge(a, b), oracle.Stats(*merge(b, a)), largest)
    left, right = merge(merge(a, b), c), merge(a, merge(b, c))
    same(left, oracle.Stats(*map(np.float64, right)), 2 * largest)


@repeatable
@given(seeds, forms, st.sampled_from(MASKS[:4]), features, st.integers(1, 5))
def test_merging_parts_gives_the_moments_of_the_whole(rng, form, kind, like, number):
    p = problem(rng, *form, kind, like)
    part, weights = rng.integers(number, size=p.x.shape), oracle.weights(p.x, p.where)
    parts = [run(*p._replace(where=F32(weights * (part == i))))[1] for i in range(5)]
    want = oracle.moments(p.x, p.axis, p.where)
    same(functools.reduce(merge, parts), want, np.abs(want.mean) + np.sqrt(want.var))


@functools.partial(jax.jit, static_argnames='groups')
def synced(x, scale, bias, where, dy, groups=None):
    """`run` on one device for each row of the first axis of `x`."""

    def forward(x, scale, bias):
        def device(x, where):
            at = {'axis_name': 'device', 'axis_index_groups': groups}
            return bnjax.batch_norm(x, scale, bias, where=where, **at)

        return jax.vmap(device, (0, None if where is None else 0), axis_name='device')(
            x, where
        )

    y, pull, moments = jax.vjp(forward, x, scale, bias, has_aux=True)
    return y, moments, pull(dy)


DEVICES = st.sampled_from([(4, 16, 3), (1, 40, 2), (6, 1, 3), (2, 0, 3)])


@repeatable
@given(seeds, DEVICES, masks, features, st.integers(0, 3))
def test_devices_that_share_statistics_are_one(rng, shape, kind, like, idle):
    p = problem(rng, shape, -1, kind, like)
    if p.where is not None:
        on = np.arange(shape[0]) >= idle
        p = p._replace(where=oracle.weights(p.x, p.where) * on[:, None, None])
    y, moments, grads = jax.device_get(synced(*p._replace(axis=None)[:5]))
    for row in zip(*moments, strict=True):
        jax.tree.map(np.testing.assert_array_equal, row, tuple(m[0] for m in moments))
    check(p, (y, bnjax.Moments(*(m[0] for m in moments)), grads))


GROUPS = [((0, 3), (2, 1)), ((3,), (1,), (0,), (2,)), ((2, 0, 1, 3),)]


@few
@given(seeds, st.sampled_from(MASKS[:4]), features, st.sampled_from(GROUPS))
def test_devices_share_with_their_group_alone(rng, kind, like, groups):
    p = problem(rng, (4, 16, 3), -1, kind, like)
    if p.where is not None:
        p = p._replace(where=np.broadcast_to(p.where, p.x.shape))
    y, moments, (dx, *grads) = jax.device_get(synced(*p[:5], groups))
    parts = []
    for group in map(list, groups):
        rows = [None if a is None else a[np.array(group)] for a in (p.x, p.where, p.dy)]
        parts.append(Problem(rows[0], p.scale, p.bias, *rows[1:]))
        check_entries(parts[-1], y[np.array(group)], dx[np.array(group)])
        for device in group:
            got = bnjax.Moments(*(m[device] for m in moments))
            check_moments(got, oracle.moments(parts[-1].x, -1, parts[-1].where))
    check_parameters(parts, grads)


def lane(momentum, running, *args):
    """All that a training step computes, for one lane of a `vmap`."""
    y, batch, grads = run(*args)
    return y, batch, grads, bnjax.update(running, batch, momentum, skip_nonfinite=True)


lanes = jax.jit(jax.vmap(lane))
HOSTILE = {
    'far': lambda x: x + 1e4,
    'farther': lambda x: 1e6 * x + 1e12,
    'huge': lambda x: 1e30 * x,
    'tiny': lambda x: 1e-30 * x,
    'constant': lambda x: 0 * x + 7,
    'not finite': lambda x: x / 0,
    'nothing': lambda x: x * np.nan,
}


@few
@given(seeds, features, st.permutations(list(HOSTILE)))
def test_no_lane_of_vmap_sees_another(rng, like, hostile):
    many = [problem(rng, (16, 3), -1, 'booleans', like)[:5] for _ in range(4)]
    momenta, running = F32(rng.uniform(size=4)), F32(rng.uniform(1, 2, (3, 4, 3)))
    args = [momenta, bnjax.Moments(*running), *map(np.stack, zip(*many, strict=True))]
    before = jax.device_get(lanes(*args))
    with np.errstate(all='ignore'):
        others = zip(many[1:], hostile, strict=False)
        x = [many[0][0], *(HOSTILE[kind](p[0]) for p, kind in others)]
    after = lanes(*args[:2], np.stack(x).astype(F32), *args[3:])
    for b, a in zip(*map(jax.tree.leaves, (before, after)), strict=True):
        np.testing.assert_array_equal(b[0], a[0])
    for i, p in enumerate(many):
        check(Problem(*p), jax.tree.map(lambda a, i=i: a[i], before[:3]))


@settings(repeatable, max_examples=100)
@given(
    stats(),
    stats(),
    st.sampled_from([0.0, 0.5, 0.9, 0.999, 1.0, None]),
    st.booleans(),
    st.sets(st.integers(0, FEATURES - 1)),
)
def test_update_is_the_weighted_average_stated(old, batch, momentum, unbiased, spoilt):
    spoilt = np.isin(np.arange(FEATURES), list(spoilt))
    batch = batch._replace(var=np.where(spoilt, F32(np.inf), batch.var))
    momentum = None if momentum is None else F32(momentum)
    options = {'unbiased': unbiased, 'skip_nonfinite': True}
    got = update(old, batch, momentum, **options)
    want = oracle.update(old, batch, momentum, **options)
    size = np.maximum(np.abs(old.mean), np.abs(batch.mean))
    close('mean', got.mean, want.mean, 3e-7 * size + TINY)
    close('var', got.var, want.var, 1e-6 * want.var + TINY)
    close('count', got.count, want.count, 1e-6 * want.count)
    for new, before in zip(got, old, strict=True):
        kept = spoilt | (batch.count == 0)
        np.testing.assert_array_equal(new[kept], before[kept])


@functools.partial(jax.jit, static_argnames=('axis', 'size'))
def ghosts(x, scale, bias, where, dy, axis, size):
    def forward(x, scale, bias):
        return ghost_batch_norm(x, size, scale, bias, axis=axis, where=where)

    y, pull, moments = jax.vjp(forward, x, scale, bias, has_aux=True)
    return y, moments, pull(dy)


@few
@given(seeds, forms, st.sampled_from(MASKS[:4]), near, st.sampled_from([1, 16, 99]))
def test_ghost_batches_are_batches_of_their_own(rng, form, kind, like, size):
    p = problem(rng, *form, kind, like)
    y, moments, (dx, *grads) = jax.device_get(ghosts(*p, size))
    parts = list(groups_of(p, size))
    for at, part in parts:
        check_entries(part, y[at], dx[at])
    check_parameters([part for _, part in parts], grads)
    want = oracle.moments(p.x, p.axis, p.where)
    same(moments, want, np.abs(want.mean) + np.sqrt(want.var))


@pytest.fixture
def x64():
    """Programs compiled here must not be found by float32 tests: JAX would run them."""
    with jax.enable_x64(True):
        yield
    jax.clear_caches()


def test_any_shape_axis_and_mask_in_float64(x64):
    @few
    @given(seeds, shapes(), masks)
    def holds(rng, form, kind):
        p = problem(rng, *form, kind, dtype=jnp.float64)
        check(p, run(*p))

    holds()
