"""Fields without effect: those of other networks, or switched off by another field.

A sweep over one trains the same network again under another name, and counts it twice.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from bnjax.config import FIELDS
from bnjax.errors import UserError
from bnjax.records import identity


def idle(fields: Mapping[str, Any]) -> dict[str, str]:
    """The fields that a trial does not look at, each with the field that is why.

    Args:
      fields: every field of the trial by its dotted name.

    >>> from bnjax import config
    >>> fields = config.flatten(config.defaults()) | {'model.placement': 'none'}
    >>> idle(fields)['model.depth'], idle(fields)['model.epsilon']
    ('model.name', 'model.placement')
    """
    found = {}
    for name, field in FIELDS.items():
        networks = field.metadata['of']
        if networks and fields['model.name'] not in networks:
            found[name] = 'model.name'
        for other, value in field.metadata['off'].items():
            if fields[other] == value:
                found[name] = other
    return found


def check(trials: Iterable[Mapping[str, Any]]) -> None:
    """Refuses fields that seem to matter and do not.

    Args:
      trials: every field of each trial, no two of them equal.

    Raises:
      UserError: a field of another network is not at its default, or two trials differ
        in nothing but fields without effect.
    """
    seen: dict[str, Mapping[str, Any]] = {}
    for fields in trials:
        why = idle(fields)
        defaults = {name: FIELDS[name].default for name in why}
        _check_network(fields, defaults)
        first = seen.setdefault(identity({**fields, **defaults}), fields)
        for name, other in why.items():
            if first[name] != fields[name]:
                raise UserError(
                    f'{name}={first[name]!r} and {fields[name]!r} give the same trial, '
                    f'for the field has no effect with {other}={fields[other]!r}; '
                    'keep one of the two there'
                )


def _check_network(fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    network = fields['model.name']
    for name, default in defaults.items():
        networks = FIELDS[name].metadata['of']
        if networks and network not in networks and fields[name] != default:
            raise UserError(
                f'{name}={fields[name]!r} has no effect on {network}, only on '
                f'{", ".join(networks)}; leave it at {default!r}'
            )
