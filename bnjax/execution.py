"""How trials are run, and on what: how many side by side, and the environment."""

import contextlib
import os
import pathlib
import platform
import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax
import jax

import bnjax
from bnjax.data.cache import directory
from bnjax.errors import UserError
from bnjax.study import Trial

_MEMINFO = pathlib.Path('/proc/meminfo')

_ACCELERATED = {
    **dict.fromkeys(('mlp', 'rnn', 'lstm'), 64),
    **dict.fromkeys(('cnn', 'resnet', 'darknet'), 8),
}

# On CPU a convolution or a recurrence gains nothing from company, which costs memory;
# the small matrices of an mlp do gain. The rows other than cpu's are guesses, not
# measured.
WIDTH: Mapping[str, Mapping[str, int]] = {
    'cpu': {
        'mlp': 32,
        **dict.fromkeys(('cnn', 'resnet', 'darknet', 'rnn', 'lstm'), 1),
    },
    'gpu': _ACCELERATED,
    'tpu': _ACCELERATED,
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
        jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)


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


def widths(trials: Sequence[Trial], begun: Mapping[str, Any]) -> dict[str, int]:
    """Trials in a chunk, by model.

    Args:
      trials: those asked for.
      begun: the config.json the work directory was begun with, or nothing. Its
        widths stay, for another width changes the last bits.

    Raises:
      UserError: a trial asks for another width than those before it.
    """
    table = WIDTH.get(jax.default_backend(), WIDTH['gpu'])
    kept = begun.get('widths') or {}
    found = {m: w for m, w in kept.items() if isinstance(w, int) and w > 0}
    for fields in (trial.config for trial in trials):
        model, wanted = fields['model.name'], fields['execution.width']
        width = found.setdefault(model, wanted or table[model])
        if wanted and wanted != width:
            raise UserError(
                f'execution.width={wanted}, but {model} trials of this work directory '
                f'have {width}, and another width changes the last bits; '
                'leave the field out or give another --workdir'
            )
    return found


def environment(begun: Mapping[str, Any]) -> dict[str, str]:
    """The versions and the device, by name.

    Args:
      begun: the config.json the work directory was begun with, or nothing. Where it
        names others, they are kept as 'begun with'.
    """
    device = jax.devices()[0]
    now = {
        'bnjax': bnjax.__version__,
        'python': platform.python_version(),
        'jax': jax.__version__,
        'flax': flax.__version__,
        'device': f'{jax.device_count()} x {device.device_kind} ({device.platform})',
        'system': platform.platform(),
    }
    others = [f'{k} {begun[k]}' for k in now if begun.get(k, now[k]) != now[k]]
    earlier = begun.get('begun with') or ', '.join(others)
    return now | ({'begun with': earlier} if earlier else {})
