"""A chunk in training, kept on the disk: a kill loses what came after, no more.

The file is a SHA-256 of what follows it, in the msgpack form of Flax.
"""

import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from flax import serialization

from bnjax.program import Numbers, Snapshot
from bnjax.records import DamagedError, write_atomically


class Checkpoint(NamedTuple):
    """A chunk between two epochs.

    Attributes:
      trials: the traced fields of each, by its identity, in the order of the chunk.
      seconds: that it has run, compilation apart.
      snapshot: from which it goes on.
    """

    trials: Mapping[str, Numbers]
    seconds: float
    snapshot: Snapshot


def write(path: pathlib.Path, checkpoint: Checkpoint) -> None:
    """Keeps a chunk, whole or not at all, instead of the one before it."""
    state, logs = checkpoint.snapshot
    content = serialization.msgpack_serialize(
        {
            'trials': list(checkpoint.trials),
            'numbers': [dict(n) for n in checkpoint.trials.values()],
            'seconds': checkpoint.seconds,
            'state': serialization.to_state_dict(jax.device_get(state)),
            'logs': logs,
        }
    )
    write_atomically(path, hashlib.sha256(content).digest() + content)


def read(path: pathlib.Path, like: Any) -> Checkpoint | None:
    """The chunk that was kept, or None where there is none.

    Args:
      path: of the file.
      like: a state of the same program, or its shapes.

    Raises:
      DamagedError: the file is cut short, edited, or of another program.
    """
    try:
        stored = path.read_bytes()
    except FileNotFoundError:
        return None
    digest, content = stored[:32], stored[32:]
    try:
        if hashlib.sha256(content).digest() != digest:
            raise ValueError('its content is not what was written')
        kept = serialization.msgpack_restore(content)
        state = serialization.from_state_dict(like, kept['state'])
        if jax.tree.map(_kind, state) != jax.tree.map(_kind, like):
            raise ValueError('it is of another program')
    except (ValueError, KeyError) as error:
        raise DamagedError(
            f'{path} is damaged ({error}); its trials begin anew'
        ) from error
    trials = dict(zip(kept['trials'], kept['numbers'], strict=True))
    return Checkpoint(trials, kept['seconds'], Snapshot(state, list(kept['logs'])))


def _kind(array: Any) -> str:
    return f'{array.dtype}{list(array.shape)}'
