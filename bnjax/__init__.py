"""Batch normalization for JAX: pure functions of arrays, on one idea, moments merge.

In training, ``y, batch = bnjax.batch_norm(x, scale, bias)`` normalises by the batch
and ``running = bnjax.update(running, batch, momentum=0.99)`` keeps the statistics for
``y = bnjax.normalize(x, running, scale, bias)`` afterwards.
"""

from bnjax.fold import fold
from bnjax.functional import batch_norm, moments, normalize
from bnjax.moments import Moments, merge, update
from bnjax.population import reestimate

__version__ = '0.1.0'
__all__ = [
    'Moments',
    'batch_norm',
    'fold',
    'merge',
    'moments',
    'normalize',
    'reestimate',
    'update',
]
