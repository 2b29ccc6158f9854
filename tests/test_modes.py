"""Every mode gives what one device gives on the concatenated batch.

The modes run on four CPU devices in processes of their own (modes_worker.py).
"""

import functools
import os
import socket
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import modes
import modes_worker as worker
import numpy as np
import oracle
import pytest

from bnjax.linen import BatchNorm

EVERYONE = [[0, 1, 2, 3]]
PROBLEMS = modes.problems()
FAR = 1e4  # mean / deviation of the problem of that name


def start(out, devices, *args):
    paths = [str(Path(worker.__file__).parents[1]), *sys.path]
    environment = os.environ | {
        'XLA_FLAGS': f'{os.environ["XLA_FLAGS"]} '
        f'--xla_force_host_platform_device_count={devices} '
        '--xla_backend_optimization_level=0',  # of machine code: it compiles sooner
        'JAX_PLATFORMS': 'cpu',
        'PYTHONPATH': os.pathsep.join(filter(None, paths)),
    }
    command = [sys.executable, '-W', 'error', worker.__file__, str(out), *args]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    """What the three processes give, which run at the same time."""
    outs = [tmp_path_factory.mktemp('modes') / f'{i}.npz' for i in range(3)]
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        address = f'127.0.0.1:{s.getsockname()[1]}'
    processes = [start(outs[0], 4)]
    processes += [start(outs[1 + i], 2, address, str(i)) for i in (0, 1)]
    try:
        errors = [p.communicate(timeout=300)[1] for p in processes]
    finally:
        for p in processes:
            p.kill()
    assert not any(p.returncode for p in processes), errors
    return [dict(np.load(out)) for out in outs]


@pytest.fixture
def four_devices(saved):
    return saved[0]


@pytest.fixture
def two_processes(saved):
    return saved[1:]


def expected(p, groups):
    """One device's numbers for each group: rows side by side, gradients added up."""
    where = np.ones(p.x.shape, bool) if p.where is None else p.where
    where = np.broadcast_to(where, p.x.shape)
    want = {name: np.zeros_like(p.x, 'f8') for name in ('y', 'x')}
    want |= {name: np.zeros((4, 3)) for name in ('mean', 'var')}
    want |= {name: np.zeros(3) for name in ('scale', 'bias')}
    for g in map(list, groups):
        rows = {'where': where[g]}
        want['y'][g], batch = oracle.batch_norm(p.x[g], p.scale, p.bias, **rows)
        running = oracle.update(modes.RUNNING, batch, 0.9)
        want['mean'][g], want['var'][g] = running[:2]
        grads = oracle.gradients(p.x[g], p.scale, p.dy[g], **rows)
        want['x'][g] = grads.x
        want['scale'] += grads.scale
        want['bias'] += grads.bias
    return want


def check(results, key, want, size):
    """Within 1e-5, or 1e-6 max(1, mean / deviation) of the largest entry."""
    assert f'{key}/error' not in results, str(results[f'{key}/error'])
    for name, w in want.items():
        g = results[f'{key}/{name}']
        kept = name in ('mean', 'var')  # on each device, or once for all
        g = np.broadcast_to(g.reshape(-1, 3), (4, 3)) if kept else g.reshape(w.shape)
        bound = 1e-6 * (1 if kept else size) * np.abs(w).max()
        np.testing.assert_allclose(g, w + 0 * g, 1e-5, bound, err_msg=f'{key}/{name}')


@pytest.mark.parametrize(('mode', 'problem'), modes.PAIRS)
def test_every_mode_equals_one_device(four_devices, mode, problem):
    want = expected(PROBLEMS[problem], EVERYONE)
    check(four_devices, f'{mode}/{problem}', want, FAR if problem == 'far' else 1)


@pytest.mark.parametrize('problem', ['masked', 'far'])
@pytest.mark.parametrize('mode', modes.IN_GROUPS)
def test_every_group_equals_one_device(four_devices, mode, problem):
    want = expected(PROBLEMS[problem], modes.GROUPS)
    size = FAR if problem == 'far' else 1
    check(four_devices, f'{mode}, groups/{problem}', want, size)


def own_name_resolves():
    try:
        return bool(socket.gethostbyname(socket.gethostname()))
    except OSError:
        return False


@pytest.mark.skipif(not own_name_resolves(), reason='gloo looks up the host by name')
@pytest.mark.parametrize('problem', ['whole', 'masked', 'far'])
@pytest.mark.parametrize('mode', modes.ACROSS_PROCESSES)
def test_two_processes_equal_one_device(two_processes, mode, problem):
    want = expected(PROBLEMS[problem], EVERYONE)
    for process in two_processes:
        check(process, f'{mode}/{problem}', want, FAR if problem == 'far' else 1)


@pytest.mark.parametrize('mode', modes.TRIALS)
def test_trials_synced_over_data_alone_are_separate(four_devices, mode):
    """The second needs the centred pass and the first does not."""
    trials = modes.trials()
    for i, size in enumerate([1, FAR]):
        want = expected(modes.Problem(*(a[i] for a in trials)), EVERYONE)
        row = {n: four_devices[f'trials/{mode}/{n}'][i] for n in modes.NAMES}
        check({f'trial {i}/{n}': row[n] for n in row}, f'trial {i}', want, size)


@pytest.mark.parametrize('case', worker.CASES)
def test_one_collective_forward_and_one_backward(four_devices, case):
    """In the compiled program, outside the branch of the centred pass."""
    forward = four_devices[f'collectives/{case}/forward']
    both = four_devices[f'collectives/{case}/both']
    assert (len(forward), len(both)) == (1, 2)
    # Sums of features: nothing of the size of x travels.
    assert max(both) <= 3 * 3 * (len(modes.GROUPS) if 'groups' in case else 1)


def test_local_statistics_under_an_auto_mesh_send_one_flag(four_devices):
    """Whether any group needs the centred pass, which all then make."""
    want = expected(PROBLEMS['whole'], [[0], [1], [2], [3]])
    check(four_devices, 'local', {name: want[name] for name in ('y', 'x')}, 1)
    np.testing.assert_array_equal(four_devices['local/sent'], [[1], [1]])


def test_features_may_be_divided_over_an_explicit_mesh(four_devices):
    assert 'features/error' not in four_devices, str(four_devices['features/error'])
    x, y, var, dx = (four_devices[f'features/{n}'] for n in ('x', 'y', 'var', 'dx'))
    want, batch = oracle.batch_norm(x, where=np.arange(6)[:, None] > 1)
    np.testing.assert_allclose(y, want, 1e-4, 1e-5)
    np.testing.assert_allclose(var, batch.var, 1e-5)
    normal, _ = oracle.batch_norm(x)
    grads = oracle.gradients(x, np.ones(4), 3 * normal**2)
    np.testing.assert_allclose(dx, grads.x, 1e-4, 1e-5)
    np.testing.assert_allclose(
        four_devices['features/kept_mean'], x.mean(0), 1e-5, 1e-6
    )
    np.testing.assert_array_equal(four_devices['features/kept_count'], 1.0)


# Lanes of a vmap: near, masked, a mean 1e4 deviations away, all masked, overflowing.
def lanes():
    near, far = (np.nan_to_num(PROBLEMS[name].x, nan=0.5) for name in ('whole', 'far'))
    x = np.stack([near, near[::-1], far, near[::-1] * 2, near * np.float32(1e25)])
    where = np.repeat(PROBLEMS['masked'].where[None], 5, 0)
    where[0], where[3] = True, False
    rng = np.random.default_rng(1)
    scale, bias = rng.normal(size=(2, 5, 3)).astype('f4')
    dy = rng.normal(size=x.shape).astype('f4')
    return modes.Problem(x, scale, bias, dy, where)


def synced_lane(p):
    f = jax.vmap(modes.synced, (0, None, None, 0), axis_name='data')
    return modes.with_gradients(f, p)


@pytest.mark.parametrize('one', [modes.plain, synced_lane], ids=['plain', 'synced'])
def test_no_lane_depends_on_another(one):
    f = jax.jit(jax.vmap(one))
    many = lanes()
    together = f(many)
    for i in range(5):
        others = np.roll(np.arange(5), 1 + i % 4)
        others[i] = i
        among = f(modes.Problem(*(a[others] for a in many)))
        alone = f(modes.Problem(*(a[[i]] for a in many)))
        for name in modes.NAMES:
            want = np.asarray(together[name][i])
            np.testing.assert_array_equal(among[name][i], want, f'{i}, {name}')
            # Another width is another program, with other last bits.
            size = 1e-6 * np.nan_to_num(np.abs(want), posinf=0).max(initial=0)
            np.testing.assert_allclose(alone[name][0], want, 1e-6, size)


# The layer itself: an ensemble of five, each with parameters and statistics.
MASKED = PROBLEMS['masked']
STATS = {'mean': modes.RUNNING.mean, 'var': modes.RUNNING.var}
LAYER = BatchNorm(use_running_average=False, momentum=0.9)


def layer(x, scale, bias, where=None, stats=STATS):
    variables = {'params': {'scale': scale, 'bias': bias}, 'batch_stats': stats}
    y, new = LAYER.apply(variables, x, mask=where, mutable=['batch_stats'])
    return y, new['batch_stats']['mean'], new['batch_stats']['var']


def test_an_ensemble_of_layers_equals_them_one_by_one():
    many = jax.tree.map(lambda a: a[:4], lanes())
    mean, var = np.random.default_rng(2).uniform(1, 2, (2, 4, 3)).astype('f4')

    def one(p, stats):
        return modes.with_gradients(lambda *a: layer(*a, stats=stats), p)

    got = jax.jit(jax.vmap(one))(many, {'mean': mean, 'var': var})
    for i, size in enumerate([1, 1, FAR, 1]):
        p = modes.Problem(*(a[i] for a in many))
        want = expected(p, EVERYONE)
        running = modes.RUNNING._replace(mean=mean[i], var=var[i])
        batch = oracle.moments(p.x, where=p.where)
        running = oracle.update(running, batch, 0.9)
        want |= {'mean': running.mean, 'var': running.var}
        check({f'{i}/{name}': got[name][i] for name in got}, str(i), want, size)


SMALL = {'x': MASKED.x[0], 'scale': MASKED.scale, 'bias': MASKED.bias}
ROWS = MASKED.where[0]


def small_layer(x, scale=MASKED.scale, bias=MASKED.bias):
    return layer(x, scale, bias, ROWS)[0]


def small_oracle(x, scale=MASKED.scale, bias=MASKED.bias):
    return oracle.batch_norm(x, scale, bias, where=ROWS)[0]


def near(got, want):
    np.testing.assert_allclose(got, want, 1e-5, 2e-6 * np.abs(want).max())


def test_jvp_of_the_layer():
    """Along x, scale and bias at once; NaN under the mask moves nothing."""
    rng = np.random.default_rng(3)
    along = {k: rng.normal(size=a.shape).astype('f4') for k, a in SMALL.items()}

    def moved(step):
        return small_oracle(*(SMALL[k] + step * along[k] for k in SMALL))

    f = jax.jit(functools.partial(jax.jvp, small_layer))
    _, got = f(tuple(SMALL.values()), tuple(along.values()))
    near(got, oracle.derivative(moved, 0.0))


@pytest.mark.parametrize('name', SMALL)
def test_jacfwd_of_the_layer(name):
    jacobian = jax.jacfwd(lambda a: small_layer(**SMALL | {name: a}))
    got = jax.jit(jacobian)(SMALL[name])
    clean = SMALL | {'x': np.nan_to_num(SMALL['x'])}
    want = oracle.derivative(lambda a: small_oracle(**clean | {name: a}), clean[name])
    void = ~ROWS & np.isnan(SMALL['x'])
    want[void] = {'x': 0, 'scale': 0, 'bias': np.eye(3)[np.nonzero(void)[1]]}[name]
    near(got, want)


def test_hessian_of_the_layer():
    x, dy = np.nan_to_num(SMALL['x'])[:4], MASKED.dy[0, :4]
    rows = {'where': ROWS[:4]}

    def loss(x):
        return (dy * layer(x, MASKED.scale, MASKED.bias, ROWS[:4])[0]).sum()

    def gradient(x):
        return oracle.gradients(x, MASKED.scale, dy, **rows).x

    near(jax.jit(jax.hessian(loss))(x), oracle.derivative(gradient, x))


class Step(nn.Module):
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, where):
        layer = BatchNorm(False, momentum=0.9, axis_name=self.axis_name)
        return layer(x, mask=where), None


def test_scan_and_remat_of_the_layer_update_statistics_once_a_step():
    """Two steps of one layer; the second normalises what the first returned."""
    steps = nn.scan(
        nn.remat(Step, prevent_cse=False),
        variable_broadcast='params',
        variable_carry='batch_stats',
        split_rngs={'params': False},
        in_axes=nn.broadcast,
        length=2,
    )()
    affine = {'scale': MASKED.scale, 'bias': MASKED.bias}
    stats = {'batch_stats': {'BatchNorm_0': STATS}}

    def loss(x, affine):
        variables = {'params': {'BatchNorm_0': affine}} | stats
        (y, _), new = steps.apply(variables, x, MASKED.where, mutable=['batch_stats'])
        return (MASKED.dy * y).sum(), (y, new['batch_stats']['BatchNorm_0'])

    (dx, daffine), (y, new) = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(
        MASKED.x, affine
    )

    rows = {'where': MASKED.where}
    middle, first = oracle.batch_norm(MASKED.x, MASKED.scale, MASKED.bias, **rows)
    want, second = oracle.batch_norm(middle, MASKED.scale, MASKED.bias, **rows)
    running = oracle.update(oracle.update(modes.RUNNING, first, 0.9), second, 0.9)
    later = oracle.gradients(middle, MASKED.scale, MASKED.dy, **rows)
    earlier = oracle.gradients(MASKED.x, MASKED.scale, later.x, **rows)
    near(y, want)
    near(new['mean'], running.mean)
    near(new['var'], running.var)
    near(dx, earlier.x)
    near(daffine['scale'], later.scale + earlier.scale)
    near(daffine['bias'], later.bias + earlier.bias)


def test_nn_vmap_of_the_layer_over_devices_shares_parameters_and_statistics():
    replicas = nn.vmap(
        Step,
        variable_axes={'params': None, 'batch_stats': None},
        split_rngs={'params': False},
        axis_name='data',
    )('data')

    def shared(x, scale, bias, where):
        params = {'BatchNorm_0': {'scale': scale, 'bias': bias}}
        variables = {'params': params, 'batch_stats': {'BatchNorm_0': STATS}}
        (y, _), new = replicas.apply(variables, x, where, mutable=['batch_stats'])
        new = new['batch_stats']['BatchNorm_0']
        return y, new['mean'], new['var']

    got = modes.differentiated(shared, MASKED)
    check(
        {f'all/{name}': got[name] for name in got}, 'all', expected(MASKED, EVERYONE), 1
    )
