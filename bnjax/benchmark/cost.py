"""What a compiled program reads and writes where no rare branch is taken."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core


def bytes_accessed(f: Callable[..., Any], *args: Any) -> float:
    """Bytes that the compiled ``f`` reads and writes; nothing is run.

    Args:
      f: a function of arrays.
      *args: its arguments, or their shapes and dtypes.

    Where ``f`` has a ``lax.cond``, that of the cheapest branch: bnjax sums a second
    time only where the mean dwarfs the deviation.
    """
    # XLA counts the dearest branch of each conditional.
    rare = sum(_extra_of_dearest(e) for e in _conditionals(jax.make_jaxpr(f)(*args)))
    return _bytes_accessed(f, *args) - rare


def _bytes_accessed(f: Callable[..., Any], *args: Any) -> float:
    costs: Any = jax.jit(f).lower(*args).compile().cost_analysis()
    return costs['bytes accessed']


def _extra_of_dearest(conditional: Any) -> float:
    operands = [v.aval for v in conditional.invars[1:]]
    operands = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in operands]
    costs = [
        _bytes_accessed(core.jaxpr_as_fun(branch), *operands)
        for branch in conditional.params['branches']
    ]
    return max(costs) - min(costs)


def _conditionals(program: Any) -> Iterator[Any]:
    """The equations of a jaxpr that branch, those within others included."""
    for equation in getattr(program, 'jaxpr', program).eqns:
        if equation.primitive.name == 'cond':
            yield equation
            continue
        for part in jax.tree.leaves(list(equation.params.values())):
            if isinstance(part, core.Jaxpr | core.ClosedJaxpr):
                yield from _conditionals(part)
