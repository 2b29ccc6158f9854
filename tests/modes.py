"""Batch norm in every mode that four devices allow: what test_modes.py compares."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import bnjax

RUNNING = bnjax.Moments(*np.float32([[0.5, -1, 2], [0.2, 3, 1], [1, 1, 1]]))
GROUPS = ((0, 3), (1, 2))
ROW, WHOLE = P('data'), P()
NAMES = ('y', 'mean', 'var', 'x', 'scale', 'bias')


class Problem(NamedTuple):
    """One row of the leading axis for each device; a mask of one row is everyone's."""

    x: Any  # (4, 8, 3)
    scale: Any  # (3,)
    bias: Any  # (3,)
    dy: Any  # (4, 8, 3)
    where: Any  # (4, 8, 3), (1, 8, 3) or None


def problems() -> dict[str, Problem]:
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(2, 4, 8, 3))
    scale, bias = rng.normal(size=(2, 3)).astype('float32')
    uneven = rng.uniform(size=x.shape) < np.array([0.9, 0.4, 0.7, 0])[:, None, None]
    shared = rng.uniform(size=(1, 8, 3)) < 0.6

    def problem(x, where):
        x = x if where is None else np.where(where, x, np.nan)
        return Problem(x.astype('f4'), scale, bias, dy.astype('f4'), where)

    return {
        'whole': problem(x, None),
        'masked': problem(x, uneven),
        'far': problem(x + 1e4, uneven),
        'shared': problem(x, shared),
    }


def train(x, scale, bias, where, **kwargs):
    y, batch = bnjax.batch_norm(x, scale, bias, where=where, **kwargs)
    running = bnjax.update(RUNNING, batch, 0.9)
    return y, running.mean, running.var


synced = functools.partial(train, axis_name='data')


def with_gradients(f: Callable, p: Problem) -> dict[str, jax.Array]:
    """What modes are compared by: output, running statistics and gradients."""

    def loss(x, scale, bias):
        out = f(x, scale, bias, p.where)
        return (p.dy * out[0]).sum(), out

    grads, out = jax.grad(loss, (0, 1, 2), has_aux=True)(p.x, p.scale, p.bias)
    return dict(zip(NAMES, (*out, *grads), strict=True))


differentiated = jax.jit(with_gradients, static_argnums=0)


def mesh(kind: AxisType = AxisType.Auto, **axes: int) -> jax.sharding.Mesh:
    axes = axes or {'data': 4}
    return jax.make_mesh(tuple(axes.values()), tuple(axes), (kind,) * len(axes))


def specs(p: Problem, row: P = ROW, whole: P = WHOLE) -> Problem:
    shared = p.where is not None and p.where.shape[0] == 1
    where = None if p.where is None else whole if shared else row
    return Problem(row, whole, whole, row, where)


def place(p: Problem, mesh: jax.sharding.Mesh, **kwargs: P) -> Problem:
    """The problem as arrays over all devices of all processes."""

    def put(a, spec):
        sharding = NamedSharding(mesh, spec)
        return jax.make_array_from_callback(a.shape, sharding, lambda i: a[i])

    wanted = specs(p, **kwargs)
    return Problem(
        *(a if a is None else put(a, s) for a, s in zip(p, wanted, strict=True))
    )


# One device, and one program over many that XLA divides.
def plain(p):
    return with_gradients(train, p)


rematerialised = jax.checkpoint(train)


def checkpointed(p):
    return differentiated(rematerialised, p)


def repeated(loop):
    """Twice in a loop, at half the cotangent each."""

    def f(x, scale, bias, where):
        out = loop(lambda x: train(x, scale, bias, where), jnp.stack([x, x]))
        return jnp.mean(out[0], 0), out[1][1], out[2][1]

    return functools.partial(differentiated, f)


def scanned(f, xs):
    return jax.lax.scan(lambda carry, x: (carry, f(x)), 0, xs)[1]


def divided(kind):
    def mode(p):
        with jax.set_mesh(mesh(kind)):
            p = place(p, mesh(kind))
            return differentiated(train, p)

    return mode


# The same function on each device, with a name for the axis. It is cached, so that
# problems with masks of one kind share what is compiled.
def one_mask(p):
    """Whether the mask is everyone's; the problem, with that as it is on a device."""
    shared = p.where is not None and p.where.shape[0] == 1
    return shared, p._replace(where=p.where[0]) if shared else p


def vmapped(p, names=('data',), grid=(4,), **kwargs):
    shared, p = one_mask(p)

    def split(a):
        return a if a is None or a.ndim < 3 else a.reshape(*grid, *a.shape[1:])

    return differentiated(lanes(names, shared, **kwargs), Problem(*map(split, p)))


@functools.cache
def lanes(names, shared, **kwargs):
    f = functools.partial(train, axis_name=names, **kwargs)
    for name in reversed(names):
        f = jax.vmap(f, (0, None, None, None if shared else 0), axis_name=name)
    return f


def pmapped(p, **kwargs):
    shared, p = one_mask(p)
    return with_gradients(on_each_device(shared, **kwargs), p)


@functools.cache
def on_each_device(shared, **kwargs):
    f = functools.partial(synced, **kwargs)
    return jax.pmap(f, 'data', in_axes=(0, None, None, None if shared else 0))


def sharded(check, names=('data',), grid=(4,)):
    """Gradients taken outside ``shard_map``."""
    row = P(names)

    @functools.cache
    def in_shards(where, **kwargs):
        def block(*args):
            y, mean, var = train(*args, axis_name=names, **kwargs)
            return y, mean[None], var[None]

        return jax.shard_map(
            block,
            mesh=mesh(**dict(zip(names, grid, strict=True))),
            in_specs=(row, P(), P(), where),
            out_specs=row,
            check_vma=check,
        )

    def mode(p, **kwargs):
        over = mesh(**dict(zip(names, grid, strict=True)))
        f = in_shards(specs(p, row).where, **kwargs)
        return differentiated(f, place(p, over, row=row))

    return mode


def total(result):
    """Sums over devices what each has of the gradients of parameters."""
    grads = {k: jax.lax.psum(result[k], 'data') for k in ('scale', 'bias')}
    return result | grads


def sharded_with_gradients(check):
    """Gradients taken inside ``shard_map``, statistics the same on all devices."""

    @functools.cache
    def in_shards(wanted):
        def block(p):
            result = with_gradients(synced, p)
            return result if check else total(result)

        out = {name: P('data') if name in ('x', 'y') else P() for name in NAMES}
        f = jax.shard_map(
            block, mesh=mesh(), in_specs=(wanted,), out_specs=out, check_vma=check
        )
        return jax.jit(f)

    return lambda p: in_shards(specs(p))(place(p, mesh()))


def pmapped_with_gradients(p):
    if p.where is not None:
        p = p._replace(where=np.broadcast_to(p.where, p.x.shape))
    return gradients_on_each_device()(p)


@functools.cache
def gradients_on_each_device():
    return jax.pmap(
        lambda p: total(with_gradients(synced, p)),
        'data',
        in_axes=(Problem(0, None, None, 0, 0),),
        out_axes={name: 0 if name in ('y', 'x') else None for name in NAMES},
    )


TWO = {'names': ('host', 'data'), 'grid': (2, 2)}
MODES = {
    'plain': plain,
    'checkpoint': checkpointed,
    'scan': repeated(scanned),
    'map': repeated(jax.lax.map),
    'jit, auto mesh': divided(AxisType.Auto),
    'jit, explicit mesh': divided(AxisType.Explicit),
    'vmap': vmapped,
    'vmap, two axes': functools.partial(vmapped, **TWO),
    'pmap': pmapped,
    'pmap of grad': pmapped_with_gradients,
    'shard_map': sharded(True),
    'shard_map, unchecked': sharded(False),
    'shard_map, two axes': sharded(True, **TWO),
    'shard_map of grad': sharded_with_gradients(True),
    'shard_map of grad, unchecked': sharded_with_gradients(False),
}
# A mask of all devices' differs from others only where there are devices.
PAIRS = [(mode, name) for mode in MODES for name in ('whole', 'masked', 'far')]
PAIRS += [(mode, 'shared') for mode in list(MODES)[4:]]
IN_GROUPS = ('vmap', 'pmap', 'shard_map', 'shard_map, unchecked')
ACROSS_PROCESSES = (
    'jit, auto mesh',
    'jit, explicit mesh',
    'shard_map',
    'shard_map of grad',
)


# Two trials at a time, of which the second alone needs the centred second pass.
def trials() -> Problem:
    near, far = problems()['masked'], problems()['far']
    far = far._replace(x=far.x[::-1], scale=-far.bias, bias=far.scale, dy=far.dy * 2)
    far = far._replace(where=far.where[::-1])
    return Problem(*map(np.stack, zip(near, far, strict=True)))


def trials_sharded(check):
    """Synced over the data axis of a mesh of trials and data."""

    def mode(p):
        def block(p):
            result = with_gradients(synced, jax.tree.map(lambda a: a[0], p))
            result = result if check else total(result)
            return jax.tree.map(lambda a: a[None], result)

        over, row, trial = mesh(trial=2, data=2), P('trial', 'data'), P('trial')
        out = {name: row if name in ('x', 'y') else trial for name in NAMES}
        wanted = (Problem(row, trial, trial, row, row),)
        f = jax.shard_map(
            block, mesh=over, in_specs=wanted, out_specs=out, check_vma=check
        )
        return jax.jit(f)(p)

    return mode


def trials_mapped_in_shards(p):
    """Lanes of a vmap that differ in their branch, on every device."""
    row, whole = P(None, 'data'), P()
    out = {name: row if name in ('x', 'y') else whole for name in NAMES}
    f = jax.shard_map(
        jax.vmap(functools.partial(with_gradients, synced)),
        mesh=mesh(),
        in_specs=(Problem(row, whole, whole, row, row),),
        out_specs=out,
    )
    return jax.jit(f)(p)


def trials_divided(p):
    over = mesh(trial=2, data=2)
    p = place(p, over, row=P('trial', 'data'), whole=P('trial'))
    return jax.jit(jax.vmap(plain))(p)


TRIALS = {
    'shard_map': trials_sharded(True),
    'shard_map, unchecked': trials_sharded(False),
    'vmap in shard_map': trials_mapped_in_shards,
    'vmap of vmap': jax.vmap(vmapped),
    'vmap, jit, auto mesh': trials_divided,
}
