"""What is measured inside a network, by layer, on the sampled steps.

A probe is a function that gives a number for each layer: of a ``Sample``, the network
on the batch of a step, or of a ``Step``, which also knows where the step ends and can
look anywhere else. What a probe does not read is not computed.

To add one, write the function, and its name into ``bnjax.probe_names``.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from bnjax import config
from bnjax.probe_names import OF_SAMPLES, OF_STEPS
from bnjax.probes import activations, gradients, norms, steps
from bnjax.probes.sample import ByModule, Sample
from bnjax.probes.steps import Step

__all__ = [
    'PROBES',
    'Sample',
    'Step',
    'in_depth_order',
    'measure',
    'on_sampled_steps',
]

_FUNCTIONS = vars(activations) | vars(gradients) | vars(norms) | vars(steps)
PROBES: Mapping[str, Callable[[Any], dict[str, jax.Array]]] = {
    name: _FUNCTIONS[name] for name in (*OF_SAMPLES, *OF_STEPS)
}


Measured: TypeAlias = dict[str, dict[str, jax.Array]]


def measure(names: tuple[str, ...], step: Step) -> Measured:
    """The named probes at one step: probe, then layer, to a number.

    A name that is no probe by layer has no layers.
    """
    of = dict.fromkeys(OF_SAMPLES, step.sample) | dict.fromkeys(OF_STEPS, step)
    return {name: PROBES[name](of[name]) if name in PROBES else {} for name in names}


def on_sampled_steps(
    settings: config.Probes,
    i: jax.Array,
    before: ByModule,
    after: ByModule,
    look: Callable[[ByModule], Sample],
) -> Measured:
    """Measures on the chosen steps; zeros on the others, which the reader drops.

    Nothing is taken over from training, whose numbers are to the last bit those it
    has without probes, and whose other steps cost what they do without.

    Args:
      settings: which probes, and how many steps lie between two samples.
      i: the number of the step, from 0; may be traced.
      before, after: the parameters where it begins and ends.
      look: parameters to the sample of its batch.
    """
    if not settings.names:
        return {}

    def measured() -> Measured:
        return measure(settings.names, Step(look(before), after, look))

    nothing = jax.tree.map(jnp.zeros_like, jax.eval_shape(measured))
    return lax.cond(i % settings.every == 0, measured, lambda: nothing)


def in_depth_order(layers: Mapping[str, object]) -> list[str]:
    """Layer names with their numbers read as numbers: hidden_2 before hidden_10."""

    def parts(name: str) -> list[tuple[int, str]]:
        return [
            (int(p), '') if p.isdigit() else (0, p) for p in re.split(r'(\d+)', name)
        ]

    return sorted(layers, key=parts)
