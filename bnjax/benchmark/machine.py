"""On what, with what and when something was measured."""

import datetime
import importlib.metadata
import os
import platform
from typing import Any

from bnjax.devices import processor

PACKAGES = ('bnjax', 'jax', 'jaxlib', 'flax', 'numpy', 'torch')


def circumstances() -> dict[str, Any]:
    """Date, machine, its load and versions; imports none of the packages it names."""
    return {
        'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
        'processor': processor(),
        'cores': os.cpu_count(),
        'load': os.getloadavg()[0],  # processes that wanted a core in the last minute
        'system': platform.platform(),
        'versions': {'python': platform.python_version()}
        | {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
