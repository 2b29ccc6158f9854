"""How trials are run, and on what: how many side by side, and the environment."""

import contextlib
import os
import pathlib
import platform
import re
from collections.abc import Mapping, Sized
from typing import Any, TypeAlias

import flax
import jax

import bnjax
from bnjax import devices
from bnjax.data.cache import directory
from bnjax.errors import UserError
from bnjax.program import Static
from bnjax.records import identity

Plan: TypeAlias = dict[str, dict[str, Any]]  # by the identity of the static fields

_MEMINFO = pathlib.Path('/proc/meminfo')

_CONVOLUTIONAL = ('cnn', 'resnet', 'darknet')
_OTHERS = ('mlp', 'rnn', 'lstm')

# Trials that a device runs side by side. docs/performance.md has the times they are
# from: on CPU small matrices gain from company, and what is larger only takes more
# memory. Recurrent networks, and the rows other than cpu's, are guesses.
WIDTH: Mapping[str, Mapping[str, int]] = {
    'cpu': {'mlp': 8, **dict.fromkeys(('rnn', 'lstm', *_CONVOLUTIONAL), 1)},
    'gpu': {**dict.fromkeys(_OTHERS, 64), **dict.fromkeys(_CONVOLUTIONAL, 8)},
    'tpu': {**dict.fromkeys(_OTHERS, 64), **dict.fromkeys(_CONVOLUTIONAL, 8)},
}


def keep_programs() -> None:
    """Has JAX keep compiled programs on disk, unless it is told where, or not to.

    ``JAX_ENABLE_COMPILATION_CACHE=false`` is the switch, and
    ``JAX_COMPILATION_CACHE_DIR`` another place.
    """
    place = directory() / 'programs'
    with contextlib.suppress(OSError):
        place.mkdir(parents=True, exist_ok=True)
    told = jax.config.values['jax_compilation_cache_dir'] is not None
    if not told and os.access(place, os.W_OK):
        jax.config.update('jax_compilation_cache_dir', str(place))
        # The small ones, too: a sweep has dozens of them.
        jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)


def check_device() -> None:
    """Raises a ``UserError`` where JAX finds no device to run on."""
    try:
        jax.devices()
    except RuntimeError as error:
        reason = ' '.join(str(error).split())
        raise UserError(
            f'JAX finds no device ({reason}); set or unset JAX_PLATFORMS'
        ) from error


def check_memory(needed: int, width: int) -> None:
    """Raises a ``MemoryError`` with the cure where a program does not fit.

    Args:
      needed: bytes, as the compiler has them.
      width: trials side by side.
    """
    free = _free_memory()
    if free is not None and needed > free:
        cure = 'a smaller batch_size' if width == 1 else 'a smaller execution.width'
        raise MemoryError(
            f'width {width} needs {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB are '
            f'free; give {cure}'
        )


def _free_memory() -> int | None:
    """Bytes that the device has left, or None where nobody can say."""
    stats = jax.devices()[0].memory_stats() or {}
    if 'bytes_limit' in stats:
        return stats['bytes_limit'] - stats.get('bytes_in_use', 0)
    with contextlib.suppress(OSError):
        found = re.search(r'MemAvailable:\s*(\d+) kB', _MEMINFO.read_text())
        return int(found[1]) * 1024 if found else None
    return None


def plan(groups: Mapping[Static, Sized], begun: Mapping[str, Any]) -> Plan:
    """How each program runs: its width and the lowering of its convolutions.

    Args:
      groups: the trials of each program.
      begun: the config.json the work directory was begun with, or nothing. What it
        has of a program stays, for another width or lowering changes the last bits.

    Raises:
      UserError: a trial asks for other than was begun with.
    """
    kept = begun.get('programs')
    found = dict(kept) if isinstance(kept, Mapping) else {}
    for static, group in groups.items():
        key = identity(dict(static))
        found[key] = _planned(dict(static), len(group), found.get(key))
    return found


def planned(static: Static, plan: Plan) -> Static:
    """The fields of a program with those of its execution decided."""
    own = plan[identity(dict(static))]
    decided = {f'execution.{name}': value for name, value in own.items()}
    return tuple((dict(static) | decided).items())


def _planned(fields: Mapping[str, Any], trials: int, kept: Any) -> dict[str, Any]:
    """By what was begun with, or else by the fields, or else by the table."""
    asked = {name: fields[f'execution.{name}'] for name in ('width', 'convolution')}
    if not _is_plan(kept):
        width = asked['width'] or _width(fields['model.name'], trials)
        # Under vmap a convolution would be a grouped one, for which XLA has no fast
        # code; a product stays a product.
        lowering = 'direct' if width == 1 else 'product'
        kept = {'width': width, 'convolution': lowering}
        return kept | {name: v for name, v in asked.items() if v not in (0, 'auto')}
    for name, wanted in asked.items():
        if wanted not in (0, 'auto', kept[name]):
            raise UserError(
                f'execution.{name}={wanted}, but others of these trials have '
                f'{kept[name]}, and another changes the last bits; '
                'leave the field out or give another --workdir'
            )
    return dict(kept)


def _is_plan(kept: Any) -> bool:
    match kept:
        case {'width': int(width), 'convolution': 'direct' | 'product'}:
            return width > 0
    return False


def _width(model: str, trials: int) -> int:
    """At most the table's on each device, and chunks as full as can be."""
    table = WIDTH.get(jax.default_backend(), WIDTH['gpu'])
    count = jax.device_count()
    chunks = -(-trials // (table[model] * count))
    width = -(-trials // chunks)
    return width if width < count else -(-width // count) * count


def environment(begun: Mapping[str, Any]) -> dict[str, str]:
    """The versions and the device, by name.

    Args:
      begun: the config.json the work directory was begun with, or nothing. Where it
        names others, they are kept as 'begun with'.
    """
    now = {
        'bnjax': bnjax.__version__,
        'python': platform.python_version(),
        'jax': jax.__version__,
        'flax': flax.__version__,
        'device': devices.described(),
        'system': platform.platform(),
    }
    others = [f'{k} {begun[k]}' for k in now if begun.get(k, now[k]) != now[k]]
    earlier = begun.get('begun with') or ', '.join(others)
    return now | ({'begun with': earlier} if earlier else {})
