"""A trial's network by the statistics of all training images, not the running ones."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from bnjax import devices
from bnjax.config import Config
from bnjax.data import Split
from bnjax.models import network
from bnjax.population import reestimate
from bnjax.trial import State


def reestimated(
    cfg: Config, classes: int, state: State, train: Split, mesh: Mesh
) -> State:
    """The state with ``bnjax.reestimate``'s statistics in place of the running ones.

    Batches have the size of training's and are normalised by themselves. Images come
    in their order and without crops; the last short batch is left out.
    """
    net = network(cfg.model, classes, cfg.execution.convolution)
    batches = len(train.y) // cfg.batch_size
    rows = jnp.arange(batches * cfg.batch_size).reshape(batches, cfg.batch_size)

    def moments(variables: Any, rows: jax.Array) -> Any:
        def of_batch(_: None, rows: jax.Array) -> tuple[None, Any]:
            x = devices.over_data(mesh, train.x[rows])
            collections = ['batch_stats', 'moments']
            changed = net.apply(variables, x, train=True, mutable=collections)[1]
            return None, changed.get('moments', {})

        return None, {'moments': lax.scan(of_batch, None, rows)[1]}

    variables = {'params': state.params, 'batch_stats': state.batch_stats}
    return state._replace(batch_stats=reestimate(moments, variables, [rows]))
