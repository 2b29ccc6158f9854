"""How trials are run, and on what: how many side by side, and the environment."""

import platform
from collections.abc import Mapping, Sequence
from typing import Any

import flax
import jax

import bnjax
from bnjax.errors import UserError
from bnjax.study import Trial

# On CPU a convolution gains nothing from company and costs memory; the small
# matrices of an mlp do gain. The rows other than cpu's are guesses, not measured.
WIDTH: Mapping[str, Mapping[str, int]] = {
    'cpu': {'mlp': 32, 'cnn': 1},
    'gpu': {'mlp': 64, 'cnn': 8},
    'tpu': {'mlp': 64, 'cnn': 8},
}


def check_device() -> None:
    """Raises a ``UserError`` where JAX finds no device to run on."""
    try:
        jax.devices()
    except RuntimeError as error:
        reason = ' '.join(str(error).split())
        raise UserError(
            f'JAX finds no device ({reason}); set or unset JAX_PLATFORMS'
        ) from error


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
