"""The layers of bnjax and Flax, many steps inside one ``lax.scan``.

A step's result is the next one's input, and its gradient the next one's incoming
gradient, so nothing can be hoisted out of the loop.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import bnjax.linen
from bnjax.benchmark.cases import UNROLL, Case, arrays, cases
from bnjax.benchmark.cost import bytes_accessed
from bnjax.benchmark.timing import median_seconds

LAYERS: dict[str, Any] = {
    'bnjax': bnjax.linen.BatchNorm,
    'flax': flax.linen.BatchNorm,
}


class State(NamedTuple):
    """What goes from one step to the next.

    Attributes:
      batch_stats: the running statistics.
      x: the input.
      dy: the gradient of the result; None where no gradient is taken.
      gradients: of the parameters, summed over steps as torch does; None likewise.
    """

    batch_stats: Any
    x: jax.Array
    dy: jax.Array | None
    gradients: Any


def measure(side: str, shape: list[int], dtype: str) -> dict[str, Any]:
    """Seconds a step for each of ``cases(shape, dtype)``, and where they ran."""
    return {
        'seconds': [_seconds(side, case) for case in cases(tuple(shape), dtype)],
        'device': jax.devices()[0].device_kind,
    }


def passes(shape: list[int], dtype: str) -> dict[str, list[float]]:
    """Bytes accessed in units of the input's, for each of ``cases`` by side."""
    group = cases(tuple(shape), dtype)
    return {side: [_passes(side, case) for case in group] for side in LAYERS}


def one_step(side: str, case: Case, x: np.ndarray, dy: np.ndarray) -> State:
    """The state after a step that begins with ``x`` and ``dy``."""
    return jax.jit(step_of(side, case))(*initial(side, case, x, dy))


def _seconds(side: str, case: Case) -> float:
    loop = loop_of(side, case)
    params, state = initial(side, case, *arrays(case.shape))

    def run() -> None:
        nonlocal state
        state = jax.block_until_ready(loop(params, state, True))

    return median_seconds(run) / case.steps


def _passes(side: str, case: Case) -> float:
    array = jax.ShapeDtypeStruct(case.shape, jnp.float32)
    begin = functools.partial(initial, side, case)
    params, state = jax.eval_shape(begin, array, array)
    whole = bytes_accessed(step_of(side, case), params, state)
    return whole / (state.x.size * state.x.dtype.itemsize)


def initial(side: str, case: Case, x: Any, dy: Any) -> tuple[Any, State]:
    """Parameters and state to begin with."""
    x, dy = (jnp.asarray(array, case.dtype) for array in (x, dy))
    variables = jax.jit(_layer(side, case).init)(jax.random.key(0), x)
    params, batch_stats = variables['params'], variables['batch_stats']
    if not case.backward:
        return params, State(batch_stats, x, None, None)
    gradients = jax.tree.map(jnp.zeros_like, params)
    return params, State(batch_stats, x, dy, gradients)


def loop_of(side: str, case: Case) -> Any:
    """``case.steps`` steps as one compiled function of parameters, state and True."""
    step = step_of(side, case)

    @functools.partial(jax.jit, donate_argnums=1)
    def loop(params: Any, state: State, do: jax.Array) -> State:
        def turn(state: State, _: None) -> tuple[State, None]:
            # Fences the step in: XLA fuses nothing across a branch.
            step_taken = lax.cond(do, step, lambda _, state: state, params, state)
            return step_taken, None

        # Two steps a turn go from buffer to buffer and back; one would need copies.
        return lax.scan(turn, state, None, case.steps, unroll=UNROLL)[0]

    return loop


def step_of(side: str, case: Case) -> Callable[[Any, State], State]:
    """A step of training: from parameters and state to the next state."""
    layer = _layer(side, case)

    def apply(params: Any, x: jax.Array, batch_stats: Any) -> tuple[jax.Array, Any]:
        variables = {'params': params, 'batch_stats': batch_stats}
        y, new = layer.apply(variables, x, mutable=['batch_stats'])
        return jax.nn.relu(y) if case.relu else y, new['batch_stats']

    def forward(params: Any, state: State) -> State:
        y, batch_stats = apply(params, state.x, state.batch_stats)
        return state._replace(x=y, batch_stats=batch_stats)

    def forward_and_backward(params: Any, state: State) -> State:
        applied = functools.partial(apply, batch_stats=state.batch_stats)
        y, pull_back, stats = jax.vjp(applied, params, state.x, has_aux=True)
        dparams, dx = pull_back(state.dy)
        return State(stats, y, dx, jax.tree.map(jnp.add, state.gradients, dparams))

    return forward_and_backward if case.backward else forward


def _layer(side: str, case: Case) -> Any:
    # With a bias of 1 a ReLU after a ReLU leaves most of the data above 0.
    return LAYERS[side](
        use_running_average=False,
        momentum=0.9,
        dtype=case.dtype,
        bias_init=flax.linen.initializers.ones,
    )
