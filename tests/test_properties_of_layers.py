"""What both layers hold to over several batches, whatever the switches are."""

import jax
import numpy as np
import oracle
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import (
    F32,
    Problem,
    accuracy,
    check_moments,
    close,
    groups_of,
    masks,
    near,
    problem,
    seeds,
)

import bnjax
import bnjax.linen
import bnjax.nnx

SWITCHES = {
    'momentum': st.sampled_from([0.0, 0.9, 1.0, None]),
    'debias': st.booleans(),
    'unbiased': st.booleans(),
    'skip_nonfinite': st.booleans(),
    'use_running_average': st.booleans(),
    'update_running_average': st.sampled_from([None, True, False]),
    'ghost_batch_size': st.sampled_from([None, None, 1, 16]),
    'use_scale': st.booleans(),
    'use_bias': st.booleans(),
}
options = st.fixed_dictionaries(SWITCHES)
initials = {
    name: jax.nn.initializers.normal(1.0) for name in ('scale_init', 'bias_init')
}


def linen_steps(batches: list[Problem], **options):
    """Scale, bias, then each step's output and running statistics."""
    layer = bnjax.linen.BatchNorm(**initials, **options)
    variables = layer.init(jax.random.key(0), batches[0].x)
    params = variables.get('params', {})
    yield params.get('scale'), params.get('bias')
    for p in batches:
        y, new = layer.apply(variables, p.x, mask=p.where, mutable=['batch_stats'])
        variables = {**variables, **new}
        yield y, variables['batch_stats']


def nnx_steps(batches: list[Problem], **options):
    layer = bnjax.nnx.BatchNorm(4, rngs=nnx.Rngs(0), **initials, **options)
    yield tuple(v if v is None else v[...] for v in (layer.scale, layer.bias))
    for p in batches:
        y = layer(p.x, mask=p.where)
        names = [n for n in ('mean', 'var', 'count') if hasattr(layer, n)]
        yield y, {n: getattr(layer, n)[...] for n in names}


LAYERS = {'linen': linen_steps, 'nnx': nnx_steps}


def expected_output(p: Problem, running, affine, use):
    """In evaluation the mask is not looked at."""
    if use:
        return oracle.normalize(p.x, running, *affine), running
    return oracle.batch_norm(p.x, *affine, where=p.where)


def check_output(y, p: Problem, running, affine, use):
    """Of features whose statistics are finite."""
    want, used = expected_output(p, running, affine, use)
    fit = np.isfinite(used.mean)
    size = np.abs(want).max(0, initial=0, where=np.isfinite(want)) + 1
    bound = accuracy(p, used) * size
    close('y', y[:, fit], want[:, fit], bound[fit])


def spoil(p: Problem):
    """Infinity among the values that count, unless the mask is empty there."""
    return p._replace(x=p.x.at[:, 1].set(np.inf))


@np.errstate(invalid='ignore')
def check_steps(taken, batches: list[Problem], options):
    use = options['use_running_average']
    moves = options['update_running_average']
    moves = (not use) if moves is None else moves
    counted = options['debias'] or options['momentum'] is None
    switches = {k: options[k] for k in ('unbiased', 'skip_nonfinite')}
    running = oracle.Stats(np.zeros(4), np.ones(4), np.full(4, 1.0 - counted))
    affine = next(taken)
    for p, (y, statistics) in zip(batches, taken, strict=True):
        p = p if p.where is None else p._replace(where=p.where > 0)
        for at, part in groups_of(p, options['ghost_batch_size'] or 32):
            check_output(np.asarray(y)[at], part, running, affine, use)
        if moves:
            batch = oracle.moments(p.x, where=p.where)
            running = oracle.update(running, batch, options['momentum'], **switches)
        assert set(statistics) == {'mean', 'var'} | ({'count'} if counted else set())
        assert {v.dtype for v in statistics.values()} == {np.dtype(F32)}
        check_moments(bnjax.Moments(**{'count': running.count} | statistics), running)


@pytest.mark.parametrize('steps', LAYERS.values(), ids=LAYERS)
@settings(derandomize=True, deadline=None, max_examples=20)
@given(seeds, st.lists(masks, min_size=1, max_size=3), near, st.integers(0, 9), options)
def test_a_layer_over_several_batches(steps, rng, kinds, like, spoilt, options):
    batches = [problem(rng, (32, 4), -1, kind, like) for kind in kinds]
    batches = [spoil(p) if i == spoilt else p for i, p in enumerate(batches)]
    check_steps(steps(batches, **options), batches, options)
