"""Batch norm in two lines of NumPy, and the library's, compiled, beside it."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

import bnjax
from bnjax.claims.finding import Finding

Axis: TypeAlias = int | Sequence[int]

# Leaves every variance of the checks as it is, to the last bit of a float64: the
# formula without epsilon, which the library refuses as it may divide by 0.
NO_EPSILON = 1e-300


def in_float64(check: Callable[[], Finding]) -> Callable[[], Finding]:
    """Runs a check with JAX's float64 on; float32 input is still served in float32."""

    @functools.wraps(check)
    def run() -> Finding:
        with jax.enable_x64(True):
            return check()

    return run


def standardised(x: Any, over: Axis = 0, epsilon: float = 1e-5) -> np.ndarray:
    """``x`` less its mean over some axes, divided by the root of variance + epsilon."""
    over = (over,) if isinstance(over, int) else tuple(over)
    mean, variance = (f(x, over, keepdims=True) for f in (np.mean, np.var))
    return (x - mean) / np.sqrt(variance + epsilon)


def batch_norm(
    x: Any,
    scale: Any = None,
    bias: Any = None,
    *,
    axis: Axis = -1,
    epsilon: float = 1e-5,
) -> tuple[np.ndarray, bnjax.Moments]:
    """``bnjax.batch_norm``, compiled once for each shape; epsilon is traced."""
    axis = axis if isinstance(axis, int) else tuple(axis)
    function = jax.jit(bnjax.batch_norm, static_argnames='axis')
    result = function(x, scale, bias, axis=axis, epsilon=epsilon)
    return jax.tree.map(np.asarray, result)


def normalize(
    x: Any,
    moments: bnjax.Moments,
    scale: Any = None,
    bias: Any = None,
    *,
    epsilon: float = 1e-5,
) -> np.ndarray:
    """``bnjax.normalize`` of features on the last axis, compiled."""
    function = jax.jit(bnjax.normalize)
    return np.asarray(function(x, moments, scale, bias, epsilon=epsilon))


def largest(values: jax.typing.ArrayLike) -> float:
    """The largest magnitude; nan where there is one."""
    return float(np.abs(np.asarray(values)).max())
