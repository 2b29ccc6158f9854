"""What a training step changes, and what lies along it.

The step is the one that training takes, by its learning rate, velocity and decay; of
plain SGD it is the gradient times the learning rate. Each place that is looked at
costs a way forward and back, on the sampled steps only, whichever probes share it.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from bnjax.probes.activations import of_units
from bnjax.probes.gradients import cosine, norm, product
from bnjax.probes.sample import ByModule, Sample, depth, weights

SHARES = (0.5, 1.0, 2.0, 4.0)


@dataclasses.dataclass(frozen=True)
class Step:
    """A training step, and the ground around it.

    Attributes:
      sample: where it begins.
      after: the parameters where it ends.
      look: parameters to the sample of the same batch there.
    """

    sample: Sample
    after: ByModule
    look: Callable[[ByModule], Sample]

    @functools.cached_property
    def end(self) -> Sample:
        """Where it ends."""
        return self.look(self.after)

    @functools.cached_property
    def way(self) -> tuple[jax.Array, jax.Array]:
        """By how much loss and gradient differ at each of ``SHARES``; two (shares,)."""
        here = self.sample

        def there(share: jax.Array) -> tuple[jax.Array, jax.Array]:
            params = jax.tree.map(
                lambda p, q: p + share * (q - p), here.params, self.after
            )
            found = self.look(params)
            return found.loss - here.loss, _apart(found.gradients, here.gradients)

        return lax.map(there, jnp.array(SHARES))

    @functools.cached_property
    def shifts(self) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Distance and cosine of each layer's gradient to that after the step below.

        By layer; the lowest has nothing below it, and no entry.
        """
        here, lowest = self.sample, min(map(depth, self.sample.params))
        old = {k: g for k, g in weights(here.gradients).items() if depth(k) > lowest}
        if not old:
            return {}
        below = [[depth(m) < depth(layer) for m in here.params] for layer in old]

        def shift(at: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            index, moved = at
            params = {
                module: jax.tree.map(
                    functools.partial(jnp.where, moved[i]), self.after[module], values
                )
                for i, (module, values) in enumerate(here.params.items())
            }
            new = weights(self.look(params).gradients)
            distances = jnp.stack([norm(new[k] - g) for k, g in old.items()])
            cosines = jnp.stack([cosine(new[k], g) for k, g in old.items()])
            return distances[index], cosines[index]

        # A loop, for with a copy for each layer a program would compile for long.
        found = lax.map(shift, (jnp.arange(len(old)), jnp.array(below)))
        return dict(zip(old, zip(*found, strict=True), strict=True))


def activation_mean_drift(step: Step) -> dict[str, jax.Array]:
    r"""How far the step moves the mean of each unit's activations on its batch.

    .. math:: \sqrt{\sum_u (\mu'_u - \mu_u)^2 / \sum_u \sigma_u^2}

    over the units of a hidden layer, with mean and deviation before and, with a
    prime, after the step: the root mean square in units of the deviation before.
    """
    return _drift(step, lambda before, after: after[0] - before[0])


def activation_std_drift(step: Step) -> dict[str, jax.Array]:
    r"""How far the step moves the deviation of each unit's activations on its batch.

    .. math:: \sqrt{\sum_u (\sigma'_u - \sigma_u)^2 / \sum_u \sigma_u^2}
    """
    return _drift(step, lambda before, after: after[1] - before[1])


def gradient_change(step: Step) -> dict[str, jax.Array]:
    r"""How far each layer's gradient has moved where the step ends.

    .. math:: \| \nabla_{W_i} L(w') - \nabla_{W_i} L(w) \|

    on the same batch, with w' after the step: how well a gradient predicts the next
    (Santurkar et al. 2018, sec. 3.1).
    """
    new, old = weights(step.end.gradients), weights(step.sample.gradients)
    return {layer: norm(new[layer] - g) for layer, g in old.items()}


def gradient_cosine(step: Step) -> dict[str, jax.Array]:
    """Cosine of the angle between each layer's gradients before and after the step."""
    new, old = weights(step.end.gradients), weights(step.sample.gradients)
    return {layer: cosine(new[layer], g) for layer, g in old.items()}


def covariate_shift(step: Step) -> dict[str, jax.Array]:
    r"""How far each layer's gradient moves because the layers below take the step.

    .. math:: \| \nabla_{W_i} L(w'_1, \dots, w'_{i-1}, w_i, \dots, w_k)
              - \nabla_{W_i} L(w_1, \dots, w_k) \|

    on the same batch: the internal covariate shift of Santurkar et al. (2018),
    definition 2.1. The batch norm of a layer belongs to it. Costs a way forward and
    back for each layer but the lowest, of which the shift is 0 and left out.
    """
    return {layer: distance for layer, (distance, _) in step.shifts.items()}


def covariate_shift_cosine(step: Step) -> dict[str, jax.Array]:
    """Cosine of the angle between the two gradients of ``covariate_shift``."""
    return {layer: angle for layer, (_, angle) in step.shifts.items()}


def loss_along_step(step: Step) -> dict[str, jax.Array]:
    r"""By how much the batch's loss changes at shares of the step.

    .. math:: L(w + t \Delta) - L(w), \quad t \in \{1/2, 1, 2, 4\}

    (Santurkar et al. 2018, sec. 3.1.) In place of layers there are the shares.
    """
    return _by_share(step.way[0])


def gradient_along_step(step: Step) -> dict[str, jax.Array]:
    r"""By how much the gradient of all parameters changes at shares of the step.

    .. math:: \| \nabla L(w + t \Delta) - \nabla L(w) \|
    """
    return _by_share(step.way[1])


def smoothness_along_step(step: Step) -> dict[str, jax.Array]:
    r"""The gradient's change relative to the distance, at shares of the step.

    .. math:: \| \nabla L(w + t \Delta) - \nabla L(w) \| / \| t \Delta \|

    The largest is the effective beta-smoothness (Santurkar et al. 2018, sec. 3.1).
    """
    length = _apart(step.after, step.sample.params)
    return _by_share(step.way[1] / (jnp.array(SHARES) * length))


def overshoot(step: Step) -> dict[str, jax.Array]:
    r"""By how much the loss falls short of its slope at shares of the step.

    .. math:: 1 - \frac{L(w + t \Delta) - L(w)}
                       {t \, \langle \nabla L(w), \Delta \rangle}

    0 where the loss goes on as it begins, 1 where the step has won nothing, above 1
    where it has lost. The slope is that of what is learned: with label smoothing, not
    quite of the loss.
    """
    moved = jax.tree.map(jnp.subtract, step.after, step.sample.params)
    slopes = jax.tree.leaves(jax.tree.map(product, step.sample.gradients, moved))
    return _by_share(1 - step.way[0] / (jnp.array(SHARES) * sum(slopes)))


def _drift(step: Step, difference: Callable[..., jax.Array]) -> dict[str, jax.Array]:
    def drift(layer: str) -> jax.Array:
        before = of_units(step.sample.activations[layer])
        after = of_units(step.end.activations[layer])
        return norm(difference(before, after)) / norm(before[1])

    return {layer: drift(layer) for layer in step.sample.activations}


def _by_share(values: jax.Array) -> dict[str, jax.Array]:
    return {f'x{share:g}': values[i] for i, share in enumerate(SHARES)}


def _apart(a: ByModule, b: ByModule) -> jax.Array:
    """The l2 distance of two trees of arrays."""
    apart = jax.tree.map(jnp.subtract, a, b)
    return norm(jnp.stack([norm(leaf) for leaf in jax.tree.leaves(apart)]))
