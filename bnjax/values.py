"""What a field takes: its type, its range, its choices; and what is said otherwise."""

import contextlib
import difflib
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bnjax.errors import UserError

LIMITS: Mapping[str, tuple[str, Callable[[Any, Any], bool]]] = {
    'low': ('at least', operator.ge),
    'above': ('above', operator.gt),
    'high': ('at most', operator.le),
    'below': ('below', operator.lt),
}
WORDS = {float: 'a finite number', int: 'a whole number', str: 'a name'}


def checked(name: str, value: Any, kind: Any, metadata: Mapping[str, Any]) -> Any:
    """A value as its type has it.

    Args:
      name: of the field, for the message.
      value: which may be a number of NumPy, and a whole one where a float is meant.
      kind: float, int, str or bool.
      metadata: the ``choices`` and ``limits`` of the field.

    Raises:
      UserError: it is of another type, out of range, or none of the choices.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if kind is float and type(value) is int:
        with contextlib.suppress(OverflowError):
            value = float(value)
    # Programs compute in float32, where 1e39 is no number and 1e-50 is 0.
    size = _in_float32(value) if type(value) is kind is float else value
    if type(value) is not kind or (kind is float and not math.isfinite(size)):
        expected = WORDS.get(kind, 'true or false')
        raise UserError(f'{name}={value!r} must be {expected}')
    choices = metadata['choices']
    if choices and value not in choices:
        hint = suggestion(value, choices)
        raise UserError(f'{name}={value!r} must be one of {", ".join(choices)}{hint}')
    for limit, bound in metadata['limits'].items():
        relation, holds = LIMITS[limit]
        if not holds(size, bound):
            raise UserError(f'{name}={value!r} must be {relation} {bound}')
    return value


def _in_float32(value: float) -> float:
    with np.errstate(over='ignore', under='ignore'):
        return float(np.float32(value))


def suggestion(value: Any, known: Any) -> str:
    """``; did you mean ...?``, or nothing where no name that is known is near."""
    near = difflib.get_close_matches(str(value), list(known), n=1)
    return f'; did you mean {near[0]}?' if near else ''
