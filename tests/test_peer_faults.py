"""Right where other batch norms were found wrong: each test names one and its fault.

Faults that other tests guard against are left to these.
"""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from flax import nnx
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import bnjax
import bnjax.linen
import bnjax.nnx

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
DEVICES, LANES = 4, 2
X, DY = RNG.normal(size=(2, DEVICES * LANES, 5, 3)).astype('f4')
MASK = RNG.uniform(size=(*X.shape[:2], 1)) < np.linspace(0, 1, 8)[:, None, None]
GROUPS = ((0, 3), (1, 2))


def linen_step(x, variables=None, *, mask=None, **fields):
    """Output and new statistics of a training step."""
    layer = bnjax.linen.BatchNorm(use_running_average=False, **fields)
    variables = variables or layer.init(KEY, x)
    y, new = layer.apply(variables, x, mask=mask, mutable=['batch_stats'])
    return y, {**variables, **new}


def nnx_step(x, *, mask=None, **fields):
    axes = np.atleast_1d(fields.get('axis', -1))
    features = int(np.prod([x.shape[a] for a in axes]))
    layer = bnjax.nnx.BatchNorm(features, rngs=nnx.Rngs(0), **fields)
    y = layer(x, mask=mask)
    stats = {'mean': layer.mean[...], 'var': layer.var[...]}
    return y, {'batch_stats': stats}


STEPS = pytest.mark.parametrize('step', [linen_step, nnx_step])


@pytest.mark.parametrize('momentum', [0.9, 0.99, 0.999])
def test_bfloat16_input_does_not_round_the_momentum(momentum):
    """Haiku: in bfloat16 a decay of 0.999 is 1 and the average 0 / 0."""
    batches = jnp.asarray(3 + RNG.normal(size=(20, 8, 3)), 'bfloat16')
    variables = None
    for x in batches:
        fields = {'momentum': momentum, 'debias': True, 'dtype': jnp.bfloat16}
        _, variables = linen_step(x, variables, **fields)
    values = np.asarray(batches, 'f8')
    weights = momentum ** np.arange(20.0)[::-1]
    for name, each in (('mean', values.mean(1)), ('var', values.var(1))):
        want = np.average(each, 0, weights)
        np.testing.assert_allclose(variables['batch_stats'][name], want, 1e-5)


@STEPS
def test_a_variance_a_million_times_below_the_mean_is_positive_and_right(step):
    """Haiku: the difference of two large squares is negative, and its root NaN."""
    x = (1e3 + 1e-3 * RNG.normal(size=(64, 50))).astype('f4')
    y, variables = step(x, momentum=0.0, epsilon=1e-12)
    want, batch = oracle.batch_norm(x, epsilon=1e-12)
    np.testing.assert_allclose(variables['batch_stats']['var'], batch.var, 1e-3)
    np.testing.assert_allclose(y, want, 1e-3, 0.05)  # the mean is a float32 too


def test_a_scan_over_float64_batches_carries_the_statistics():
    """flax.linen: they become float64, and a scan refuses the changed type."""
    variables = bnjax.linen.BatchNorm(True).init(KEY, X[0])
    with jax.enable_x64(True):
        jax.clear_caches()

        def step(variables, x):
            y, new = linen_step(x, variables, momentum=0.5)
            return new, y

        new, y = jax.lax.scan(step, variables, jnp.asarray(X, 'f8'))
    jax.clear_caches()
    want = oracle.Stats(np.zeros(3), np.ones(3), np.ones(3))
    for i, x in enumerate(X):
        normalized, batch = oracle.batch_norm(x)
        want = oracle.update(want, batch, 0.5)
        np.testing.assert_allclose(y[i], normalized, 1e-9, 1e-9)
    assert y.dtype == 'f8' and new['batch_stats']['mean'].dtype == 'f4'
    np.testing.assert_allclose(new['batch_stats']['mean'], want.mean, 1e-5, 1e-6)
    np.testing.assert_allclose(new['batch_stats']['var'], want.var, 1e-5)


MASKED = {
    'one feature': (X[..., :1], -1),
    'one feature in front': (X[..., :1], 0),
    'features on axis 1': (X, 1),
    'features in front': (X, 0),
}


@STEPS
@pytest.mark.parametrize('x, axis', MASKED.values(), ids=MASKED)
def test_a_mask_goes_with_one_feature_and_with_any_axis(step, x, axis):
    """Keras: one feature is squeezed away, and the features must be last."""
    x = np.moveaxis(x, -1, axis)
    mask = np.broadcast_to(np.moveaxis(MASK, -1, axis), x.shape)
    y, variables = step(x, mask=mask, axis=axis, momentum=0.0)
    want, batch = oracle.batch_norm(x, axis=axis, where=mask)
    np.testing.assert_allclose(y, want, 1e-4, 1e-5)
    stats = variables['batch_stats']
    np.testing.assert_allclose(stats['mean'], batch.mean, 1e-5, 1e-6)
    np.testing.assert_allclose(stats['var'], batch.var, 1e-5)


@pytest.mark.parametrize('groups', [1, 2, 4])
def test_a_transposed_convolution_in_groups_takes_the_batch_norm_after_it(groups):
    """torch: its fusion multiplies the wrong axis where there are groups."""
    x, kernel = RNG.normal(size=(2, 6, 6, 4)), RNG.normal(size=(3, 3, 4 // groups, 8))
    mean, scale, shift = RNG.normal(size=(3, 8))
    var, epsilon = RNG.uniform(0.1, 4, 8), 1e-3

    def transposed(kernel):
        with jax.enable_x64(True):
            y = jax.lax.conv_general_dilated(
                jnp.asarray(x, 'f8'),
                jnp.asarray(kernel, 'f8'),
                window_strides=(1, 1),
                padding=((2, 2), (2, 2)),
                lhs_dilation=(2, 2),
                dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
                feature_group_count=groups,
            )
            return np.asarray(y)

    want = (transposed(kernel) - mean) / np.sqrt(var + epsilon) * scale + shift
    running = bnjax.Moments(*np.float32([mean, var, np.ones(8)]))
    affine = np.float32([scale, shift])
    folded, bias = bnjax.fold(
        kernel.astype('f4'), None, *affine, running, epsilon=epsilon
    )
    jax.clear_caches()
    np.testing.assert_allclose(transposed(folded) + bias, want, 1e-5, 1e-5)


def test_momentum_is_the_fraction_kept_wherever_it_is_documented():
    """inplace_abn: its docstring has the formula the wrong way round."""
    x = 4 + 2 * X[0]
    initial = bnjax.Moments(np.zeros(3, 'f4'), *np.ones((2, 3), 'f4'))
    updated = bnjax.update(initial, bnjax.moments(x), momentum=0.9)
    found = {
        bnjax.update: updated._asdict(),
        bnjax.linen.BatchNorm: linen_step(x, momentum=0.9)[1]['batch_stats'],
        bnjax.nnx.BatchNorm: nnx_step(x, momentum=0.9)[1]['batch_stats'],
    }
    want = oracle.moments(x)
    for documented, stats in found.items():
        np.testing.assert_allclose(stats['mean'], 0.1 * want.mean, 1e-5)
        np.testing.assert_allclose(stats['var'], 0.9 + 0.1 * want.var, 1e-5)
        text = ' '.join(documented.__doc__.split())
        assert re.search(r'momentum: the fraction of [^.;(]* kept', text)


# In a process of its own, which has four devices.


def trained(block, **check):
    """Output, statistics and gradient of what runs on each device."""
    mesh = jax.make_mesh((DEVICES,), ('device',), (AxisType.Auto,))
    specs = {'in_specs': P('device'), 'out_specs': P('device')}
    f = jax.shard_map(block, mesh=mesh, **specs, **check)

    def loss(x):
        y, stats = f(x, MASK)
        return (DY * y).sum(), (y, stats)

    dx, (y, stats) = jax.jit(jax.grad(loss, has_aux=True))(X)
    return {'y': y, 'dx': dx, **{k: s.reshape(-1, 3) for k, s in stats.items()}}


def worker(out):
    fields = {'use_running_average': False, 'momentum': 0.0}
    variables = bnjax.linen.BatchNorm(**fields).init(KEY, X[0])

    def each(x, mask, **over):
        layer = bnjax.linen.BatchNorm(**fields, **over)
        y, new = layer.apply(variables, x, mask=mask, mutable=['batch_stats'])
        return y, jax.tree.map(lambda s: s[None], new['batch_stats'])

    everyone = functools.partial(each, axis_name='device')
    group = functools.partial(everyone, axis_index_groups=GROUPS)
    lane = functools.partial(each, axis_name=('lane', 'device'))
    results = {
        'devices': trained(everyone),
        'groups': trained(group),
        'lanes': trained(jax.vmap(lane, axis_name='lane'), check_vma=False),
    }
    flat = {f'{case}/{k}': v for case, r in results.items() for k, v in r.items()}
    np.savez(out, **flat)


@pytest.fixture(scope='module')
def on_four_devices(tmp_path_factory):
    out = tmp_path_factory.mktemp('devices') / 'results.npz'
    paths = [str(Path(__file__).parents[1]), *sys.path]
    environment = os.environ | {
        'XLA_FLAGS': f'{os.environ["XLA_FLAGS"]} '
        f'--xla_force_host_platform_device_count={DEVICES}',
        'JAX_PLATFORMS': 'cpu',
        'PYTHONPATH': os.pathsep.join(filter(None, paths)),
    }
    command = [sys.executable, '-W', 'error', __file__, str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(out) as saved:
        return dict(saved)


def assert_one_batch(results, case, rows, of):
    """What was found on some rows of X is what one device finds on them."""
    y, batch = oracle.batch_norm(X[rows], where=MASK[rows])
    dx = oracle.gradients(X[rows], np.ones(3), DY[rows], where=MASK[rows]).x
    np.testing.assert_allclose(results[f'{case}/y'][rows], y, 1e-4, 1e-5)
    np.testing.assert_allclose(results[f'{case}/dx'][rows], dx, 1e-4, 1e-5)
    for name in ('mean', 'var'):
        for row in results[f'{case}/{name}'][list(of)]:
            np.testing.assert_allclose(row, getattr(batch, name), 1e-5, 1e-6)


def test_devices_share_statistics_in_a_shard_map_as_it_is(on_four_devices):
    """Equinox: it must run in a vmap, which the check of varying axes refuses."""
    assert_one_batch(on_four_devices, 'devices', slice(None), range(DEVICES))


def test_lanes_of_a_vmap_share_statistics_with_other_devices(on_four_devices):
    """Equinox: see above. In jax 0.10 no psum over lanes passes the check."""
    assert_one_batch(on_four_devices, 'lanes', slice(None), range(DEVICES * LANES))


@pytest.mark.parametrize('group', GROUPS)
def test_devices_in_groups_share_statistics_in_a_shard_map(on_four_devices, group):
    """flax.linen: NotImplementedError unless the check of varying axes is off."""
    rows = [LANES * device + lane for device in group for lane in range(LANES)]
    assert_one_batch(on_four_devices, 'groups', rows, group)


if __name__ == '__main__':
    worker(sys.argv[1])
