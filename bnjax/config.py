"""The fields of a trial as config files have them, checked and frozen.

A config file edits ``defaults()``, a ConfigDict. At the border it is checked, field
by field, and becomes a frozen ``Config``; nothing inside ever sees a ConfigDict.
"""

import ast
import dataclasses
from collections.abc import Mapping
from typing import Any, get_args, get_origin

from ml_collections import ConfigDict

from bnjax.errors import UserError
from bnjax.fields import ACTIVATIONS, Config, Model, Optimizer, Probes
from bnjax.values import checked, suggestion

__all__ = [
    'ACTIVATIONS',
    'FIELDS',
    'Config',
    'Model',
    'Optimizer',
    'Probes',
    'build',
    'check',
    'defaults',
    'flatten',
    'parse',
]


def _declarations(cls: Any = Config, prefix: str = '') -> dict[str, dataclasses.Field]:
    found: dict[str, dataclasses.Field] = {}
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(field.type):
            found |= _declarations(field.type, f'{prefix}{field.name}.')
        else:
            found[prefix + field.name] = field
    return found


FIELDS: Mapping[str, dataclasses.Field] = _declarations()


def defaults() -> ConfigDict:
    """A ConfigDict of every field at its default, for a config file to edit."""
    # What it would say of a wrong type lacks the value and the full name.
    return ConfigDict(dataclasses.asdict(Config()), type_safe=False)


def flatten(nested: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    """``{'a': {'b': 1}}`` to ``{'a.b': 1}``."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping | ConfigDict):
            flat |= flatten(value, f'{prefix}{key}.')
        else:
            flat[prefix + key] = value
    return flat


def build(flat: Mapping[str, Any], cls: Any = Config, prefix: str = '') -> Any:
    """The frozen ``Config`` of every dotted field; floats may be traced arrays."""
    return cls(
        **{
            field.name: build(flat, field.type, f'{prefix}{field.name}.')
            if dataclasses.is_dataclass(field.type)
            else flat[prefix + field.name]
            for field in dataclasses.fields(cls)
        }
    )


def check(name: str, value: Any) -> Any:
    """Returns the value of a field as its type has it, or says what it must be.

    Raises:
      UserError: no such field, or a value of the wrong type or out of range.
    """
    if name not in FIELDS:
        hint = suggestion(name, FIELDS) or '; python train.py --help lists the fields'
        raise UserError(f'there is no field {name}{hint}')
    field = FIELDS[name]
    if get_origin(field.type) is tuple:
        if not isinstance(value, tuple | list):
            raise UserError(f'{name}={value!r} must be a tuple, such as (64, 64)')
        item = get_args(field.type)[0]
        return tuple(checked(name, v, item, field.metadata) for v in value)
    return checked(name, value, field.type, field.metadata)


def parse(name: str, text: str) -> Any:
    """``check`` of a value from the command line."""
    if name in FIELDS and FIELDS[name].type is str:
        return check(name, text)
    several = name in FIELDS and get_origin(FIELDS[name].type) is tuple
    if several and not text:
        return check(name, ())
    try:
        value = ast.literal_eval({'true': 'True', 'false': 'False'}.get(text, text))
    except Exception:  # of many types, a MemoryError where brackets are too deep
        value = tuple(text.split(',')) if ',' in text else text
    if several and not isinstance(value, tuple | list):
        value = (value,)
    return check(name, value)
