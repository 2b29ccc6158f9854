"""Runs every mode on four CPU devices, for test_modes.py.

``modes_worker.py OUT`` saves what each mode gives for each problem, and
``modes_worker.py OUT ADDRESS PROCESS`` what those modes give that span two processes
of two devices. A program of its own, for devices are counted when JAX starts.
"""

import functools
import re
import sys
import traceback
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from modes import (
    ACROSS_PROCESSES,
    GROUPS,
    IN_GROUPS,
    MODES,
    PAIRS,
    TRIALS,
    mesh,
    problems,
    specs,
    synced,
    trials,
)

import bnjax
from bnjax.ghost import ghost_batch_norm
from bnjax.linen import BatchNorm


# How many values each all-reduce of a compiled program adds up, branches left out.
def collectives(f: Callable, *args: Any) -> list[int]:
    program = jax.jit(f).lower(*args).compile().as_text()
    entry = program[program.index('\nENTRY') :]
    results = re.findall(r' = (.*?) all-reduce(?:-start)?\(', entry)
    return [sum(map(elements, re.findall(r'\[([\d,]*)\]', r))) for r in results]


def elements(shape: str) -> int:
    return int(np.prod([int(n) for n in shape.split(',') if n]))


def count_collectives(masked: bool, check: bool, groups: Any = None) -> dict[str, Any]:
    p = problems()['masked' if masked else 'whole']
    f = functools.partial(synced, axis_index_groups=groups)

    def loss(x, scale, bias, where):
        return jnp.sin(f(x, scale, bias, where)[0]).sum()

    def compiled(f, out):
        into = (P('data'), P(), P(), specs(p).where)
        f = jax.shard_map(f, mesh=mesh(), in_specs=into, out_specs=out, check_vma=check)
        return collectives(f, p.x, p.scale, p.bias, p.where)

    # Unchecked, gradients of parameters are each device's: to be summed by the user.
    row = P('data')
    out = (row, P(), P()) if check else row
    return {
        'forward': compiled(lambda *args: f(*args)[0], row),
        'both': compiled(jax.grad(loss, (0, 1, 2)), out),
    }


CASES = {
    f'{mask}, {check}, {name}': (mask == 'masked', check == 'checked', groups)
    for mask in ('masked', 'whole')
    for check in ('checked', 'unchecked')
    for name, groups in (('all', None), ('groups', GROUPS))
}


def local_statistics() -> dict[str, Any]:
    """Ghost batches of a device's rows, under ``jit`` of an array spread over four."""
    p = problems()['whole']
    x = jax.device_put(p.x.reshape(32, 3), jax.NamedSharding(mesh(), P('data')))

    def y(x):
        return ghost_batch_norm(x, 8, p.scale, p.bias)[0]

    def dx(x):
        return jax.vjp(y, x)[1](p.dy.reshape(32, 3))[0]

    sent = [collectives(f, x) for f in (y, dx)]
    return {'y': jax.jit(y)(x), 'x': jax.jit(dx)(x), 'sent': sent}


def features_divided() -> dict[str, Any]:
    """Under an explicit mesh whose devices have a feature each."""
    x = np.random.default_rng(0).normal(size=(6, 4)).astype('f4')
    with jax.set_mesh(mesh(AxisType.Explicit)):
        divided = jax.device_put(x, P(None, 'data'))
        y, batch = bnjax.batch_norm(divided, where=np.arange(6)[:, None] > 1)
        dx = jax.grad(lambda x: (bnjax.batch_norm(x)[0] ** 3).sum())(divided)
        layer = BatchNorm(False, momentum=0.0, debias=True)
        variables = layer.init(jax.random.key(0), divided)
        _, new = layer.apply(variables, divided, mutable=['batch_stats'])
    kept = {f'kept_{name}': value for name, value in new['batch_stats'].items()}
    return {'x': x, 'y': y, 'var': batch.var, 'dx': dx} | kept


def run(results: dict[str, Any], key: str, f: Callable, *args: Any) -> None:
    """Keeps what ``f`` returns, or why it does not, so that one mode fails alone."""
    try:
        result = f(*args)
        if jax.process_count() > 1:
            result = multihost_utils.process_allgather(result, tiled=True)
        results |= {f'{key}/{name}': np.asarray(a) for name, a in result.items()}
    except Exception:
        results[f'{key}/error'] = np.array(traceback.format_exc()[-3000:])


def everything() -> dict[str, Any]:
    results: dict[str, Any] = {}
    for mode, name in PAIRS:
        run(results, f'{mode}/{name}', MODES[mode], problems()[name])
    for mode in IN_GROUPS:
        f = functools.partial(MODES[mode], axis_index_groups=GROUPS)
        for name in ('masked', 'far'):
            run(results, f'{mode}, groups/{name}', f, problems()[name])
    for mode, f in TRIALS.items():
        run(results, f'trials/{mode}', f, trials())
    run(results, 'local', local_statistics)
    run(results, 'features', features_divided)
    for name, case in CASES.items():
        run(results, f'collectives/{name}', count_collectives, *case)
    return results


def across_processes() -> dict[str, Any]:
    results: dict[str, Any] = {}
    for mode in ACROSS_PROCESSES:
        for name in ('whole', 'masked', 'far'):
            run(results, f'{mode}/{name}', MODES[mode], problems()[name])
    return results


def main(out: str, address: str = '', process: str = '0') -> None:
    if address:
        jax.config.update('jax_cpu_collectives_implementation', 'gloo')
        jax.distributed.initialize(address, 2, int(process))
    np.savez(out, **(across_processes() if address else everything()))


if __name__ == '__main__':
    main(*sys.argv[1:])
