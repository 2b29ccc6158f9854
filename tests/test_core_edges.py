"""Edges of the core that once went wrong: groups, weights, rounding, eager calls."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bnjax


def test_a_bfloat16_value_under_the_mask_becomes_exactly_the_bias():
    x = jnp.array([[1000.0], [1004.0], [1000.0], [jnp.nan]], jnp.bfloat16)
    where = jnp.array([[True], [True], [True], [False]])
    y, _ = bnjax.batch_norm(x, bias=jnp.array([0.5]), where=where)
    assert y[3, 0] == 0.5


def test_weights_that_are_not_positive_do_not_count():
    x = jnp.array([[1.0], [2.0], [4.0]])
    found = bnjax.moments(x, where=jnp.array([[-1.0], [1.0], [1.0]]))
    np.testing.assert_allclose(found, ([3.0], [1.0], [2.0]))


@pytest.mark.parametrize('weight', [0.1, 0.3, 1.1])
def test_equal_weights_leave_the_moments_as_they_are(weight):
    """XLA on CPU added up their count one by one, to 2e-5; the variance lost more."""
    x = np.random.default_rng(0).normal(3, 1, (16_384, 16)).astype('f4')
    where = np.full((16_384, 1), weight, 'f4')
    found = jax.jit(lambda x, where: bnjax.moments(x, where=where))(x, where)
    np.testing.assert_allclose(found.count, where.sum(dtype='f8'), 1e-6)
    np.testing.assert_allclose(found.var, x.var(0, dtype='f8'), 1e-5)


def test_a_list_names_axes_as_a_tuple_does():
    found = jax.vmap(lambda x: bnjax.moments(x, axis_name=['d']), axis_name='d')
    np.testing.assert_array_equal(found(jnp.arange(6.0).reshape(3, 2, 1)).mean, 2.5)


@pytest.mark.parametrize('epsilon', [1e-5, np.float32(1e-5)])
def test_no_promotion_is_left_to_jax(epsilon):
    x, half = jnp.ones((4, 3)), jnp.ones(3, jnp.bfloat16)
    with jax.numpy_dtype_promotion('strict'):
        y, batch = bnjax.batch_norm(x, half, half, epsilon=epsilon)
        np.testing.assert_array_equal(y, 1.0)
        y = bnjax.normalize(x, batch, half, half, epsilon=epsilon)
        bnjax.normalize(x, bnjax.Moments(half, half, half), epsilon=epsilon)
    np.testing.assert_array_equal(y, 1.0)
    assert y.dtype == jnp.float32


def test_an_eager_call_is_compiled_once():
    x, other, compiled = jnp.ones((4, 3)), jnp.zeros((4, 3)), []
    bnjax.batch_norm(x)
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if 'compile' in event else None
    )
    bnjax.batch_norm(other)
    assert not compiled
