"""Edges of the core that once went wrong: groups, weights, rounding, eager calls."""

import jax
import jax.numpy as jnp
import numpy as np

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


def test_an_eager_call_is_compiled_once():
    x, other, compiled = jnp.ones((4, 3)), jnp.zeros((4, 3)), []
    bnjax.batch_norm(x)
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if 'compile' in event else None
    )
    bnjax.batch_norm(other)
    assert not compiled
