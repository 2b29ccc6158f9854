"""batch_norm under transforms of one program, and synced over axes of vmap."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

import bnjax

F32 = np.float32
RNG = np.random.default_rng(0)
DMEAN, DVAR = RNG.normal(size=(2, 3)).astype(F32)


def forward(x, scale, bias, epsilon, where, **kwargs):
    y, m = bnjax.batch_norm(x, scale, bias, epsilon=epsilon, where=where, **kwargs)
    return y, m.mean, m.var


def loss(x, scale, bias, epsilon, where, dy):
    y, mean, var = forward(x, scale, bias, epsilon, where)
    return (dy * y + jnp.sin(y)).sum() + (DMEAN * mean).sum() + (DVAR * var**2).sum()


# Transforms: a batch of four problems, float32, with masked NaN and unequal masks.
XS = RNG.normal(size=(4, 8, 3)).astype(F32)
WHERES = RNG.uniform(size=XS.shape) < F32([0.9, 0.5, 0.3, 0.0])[:, None, None]
XS = np.where(WHERES, XS, np.resize(F32([np.nan, 0.3]), XS.shape))
SCALES, BIASES = RNG.normal(size=(2, 4, 3)).astype(F32)
EPSILONS = F32([1e-5, 1e-3, 1e-1, 1])
DYS = RNG.normal(size=XS.shape).astype(F32)
MANY = (XS, SCALES, BIASES, EPSILONS, WHERES, DYS)


def value_and_gradients(x, scale, bias, epsilon, where, dy):
    f = jax.value_and_grad(loss, (0, 1, 2, 3))
    return f(x, scale, bias, epsilon, where, dy)


def one_by_one():
    f = jax.jit(value_and_gradients)
    results = [f(*problem) for problem in zip(*MANY, strict=True)]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *results)


def scanned(*many):
    def step(carry, problem):
        return carry, value_and_gradients(*problem)

    return jax.lax.scan(step, 0, many)[1]


def gradient_of_vmap(*many):
    *args, where, dy = many

    def total(*args):
        losses = jax.vmap(loss)(*args, where, dy)
        return losses.sum(), losses

    grads, losses = jax.grad(total, (0, 1, 2, 3), has_aux=True)(*args)
    return losses, grads


def gradient_of_scan(*many):
    *args, where, dy = many

    def total(*args):
        def step(carry, problem):
            value = jax.checkpoint(loss)(*problem)
            return carry + value, value

        return jax.lax.scan(step, 0.0, (*args, where, dy))

    grads, losses = jax.grad(total, (0, 1, 2, 3), has_aux=True)(*args)
    return losses, grads


def checkpointed(*many):
    f = jax.value_and_grad(jax.checkpoint(loss), (0, 1, 2, 3))
    return jax.vmap(f)(*many)


TRANSFORMS = {
    'vmap of grad': jax.vmap(value_and_gradients),
    'grad of vmap': gradient_of_vmap,
    'scan over grad': scanned,
    'grad of scan over checkpoint': gradient_of_scan,
    'vmap of grad of checkpoint': checkpointed,
}


@pytest.fixture(scope='module')
def untransformed():
    return one_by_one()


@pytest.mark.parametrize('f', TRANSFORMS.values(), ids=TRANSFORMS)
def test_transforms_do_not_change_values_or_gradients(untransformed, f):
    got = jax.jit(f)(*MANY)
    for g, want in zip(*map(jax.tree.leaves, (got, untransformed)), strict=True):
        assert np.isfinite(g).all()
        np.testing.assert_allclose(g, want, rtol=1e-4, atol=2e-6 * np.abs(want).max())


def test_vmap_over_any_axis_of_x():
    x = XS[:3, :, :].transpose(1, 2, 0)
    f = jax.vmap(lambda x: bnjax.batch_norm(x, axis=0)[0], -1, -1)
    got = jax.jit(f)(np.nan_to_num(x))
    for i in range(3):
        want = oracle.batch_norm(np.nan_to_num(x[..., i]), axis=0)[0]
        np.testing.assert_allclose(got[..., i], want, rtol=1e-4, atol=1e-5)


# Sync: the leading axis of XS is now the device axis; the last device is all masked.
@functools.partial(jax.jit, static_argnames='names')
def synced(x, scale, bias, where, cotangents, names=('device',)):
    def f(x, scale, bias):
        def shard(x, where):
            return forward(x, scale, bias, 1e-5, where, axis_name=names)

        for name in reversed(names):
            shard = jax.vmap(shard, axis_name=name)
        return shard(x, where)

    out, pull = jax.vjp(f, x, scale, bias)
    return out, pull(cotangents)


@pytest.mark.parametrize('weighted', [False, True], ids=['mask', 'weights'])
@pytest.mark.parametrize('mean', [0, 1e3])
@pytest.mark.parametrize('grid', [(4,), (2, 2)], ids=['one axis', 'two axes'])
def test_sync_equals_one_device_on_the_valid_rows(grid, mean, weighted):
    weights = (WHERES * RNG.uniform(0.5, 2, WHERES.shape)).astype(F32)
    where = weights if weighted else WHERES
    x, scale, bias = XS + F32(mean), SCALES[0], BIASES[0]
    dmean, dvar = RNG.normal(size=(2, 4, 3)).astype(F32)

    def split(a):
        return a.reshape(*grid, *a.shape[1:])

    names = ('device', 'host')[: len(grid)]
    out, grads = synced(
        split(x),
        scale,
        bias,
        split(where),
        (split(DYS), split(dmean), split(dvar)),
        names,
    )
    rows = {'where': where.reshape(32, 3)}
    x, dy = x.reshape(32, 3), DYS.reshape(32, 3)
    want_y, want = oracle.batch_norm(x, scale, bias, **rows)
    size = max(1, mean)
    y, m, v = (np.reshape(a, (-1, 3)) for a in out)
    np.testing.assert_allclose(y, want_y, rtol=1e-5, atol=1e-5 * size)
    np.testing.assert_allclose(m, np.broadcast_to(want.mean, m.shape), 1e-6, 1e-6)
    np.testing.assert_allclose(v, np.broadcast_to(want.var, v.shape), 1e-5)
    want = oracle.gradients(x, scale, dy, dmean.sum(0), dvar.sum(0), **rows)
    for name, g in zip(('x', 'scale', 'bias'), grads, strict=True):
        w = getattr(want, name)
        g, bound = np.reshape(g, w.shape), 2e-6 * size * np.abs(w).max()
        np.testing.assert_allclose(g, w, rtol=1e-5, atol=bound, err_msg=name)


def test_valid_rows_alone_give_the_synced_moments():
    rows = np.repeat(WHERES[..., :1], 3, -1)
    x = np.nan_to_num(XS)
    f = jax.vmap(lambda x, w: bnjax.moments(x, where=w, axis_name='d'), axis_name='d')
    got = jax.jit(f)(x, rows)
    want = oracle.moments(x[rows[..., 0]])
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, np.broadcast_to(w, g.shape), 1e-5, 1e-6)


@pytest.mark.parametrize(
    ('option', 'value'),
    [('jax_numpy_rank_promotion', 'raise'), ('jax_numpy_dtype_promotion', 'strict')],
)
def test_nothing_is_promoted_silently(option, value):
    """Under the settings by which JAX refuses to."""
    before = getattr(jax.config, option)
    jax.config.update(option, value)
    try:
        for dtype in ('float32', 'bfloat16'):
            x = jax.ShapeDtypeStruct((4, 3, 2), dtype)
            where, scale = np.ones((4, 3, 1), bool), np.ones(2, F32)

            def loss(x, scale, where=where):
                y, batch = bnjax.batch_norm(x, scale, scale, where=where)
                return y.astype('float32').sum() + bnjax.update(batch, batch).var.sum()

            def normalized(x, scale):
                return bnjax.normalize(x, bnjax.moments(x), scale, scale)

            jax.eval_shape(jax.grad(loss, (0, 1)), x, scale)
            jax.eval_shape(normalized, x, scale)
    finally:
        jax.config.update(option, before)
