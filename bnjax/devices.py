"""Trials, and the images of each batch, spread over all devices.

The mesh has the axes ``trial`` and ``data``. XLA divides the program; batch norm's
statistics stay those of the whole batch.
"""

import math
import os
import pathlib
import platform
import re
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


def mesh(width: int, batch_size: int) -> Mesh:
    """As many devices as divide the trials, and the rest of them the batch.

    Devices that divide neither stay idle.
    """
    devices = jax.devices()
    trials = math.gcd(width, len(devices))
    images = math.gcd(batch_size, len(devices) // trials)
    return jax.make_mesh(
        (trials, images),
        ('trial', 'data'),
        axis_types=(AxisType.Auto, AxisType.Auto),
        devices=devices[: trials * images],
    )


def by_trial(mesh: Mesh) -> NamedSharding:
    """Each device has its trials, stacked on the first axis."""
    return NamedSharding(mesh, P('trial'))


def everywhere(mesh: Mesh) -> NamedSharding:
    """Each device has all of it."""
    return NamedSharding(mesh, P())


def over_data(mesh: Mesh, batch: Any) -> Any:
    """Has XLA divide arrays by their first axis, that of the images, in a trial."""
    return jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, P('data')))


def described() -> str:
    """All devices in words."""
    kind, count = jax.devices()[0], jax.device_count()
    if kind.platform != 'cpu':
        return f'{count} x {kind.device_kind} ({kind.platform})'
    return f'{count} x cpu: {os.cpu_count()} cores of {processor()}'


def processor() -> str:
    """The name of the host's processor."""
    try:
        about = pathlib.Path('/proc/cpuinfo').read_text()
    except OSError:
        about = ''
    name = re.search(r'^model name\s*:\s*(.+)$', about, re.MULTILINE)
    return name[1] if name else platform.processor() or platform.machine()
