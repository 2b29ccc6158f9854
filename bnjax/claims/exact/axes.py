"""Over which axes of feature maps (N, C, H, W) the statistics of batch norm are.

One test for all: each choice of axes is held against batch norm of a layer with shared
weights (Ioffe & Szegedy 2015, section 3.2), for which a channel is a feature.
"""

from typing import NamedTuple

import jax
import numpy as np

import bnjax.linen
from bnjax.claims.exact.reference import batch_norm, in_float64, largest, standardised
from bnjax.claims.finding import Finding, require

N, C, H, W = SHAPE = 6, 4, 5, 3
CHANNEL, SAMPLE, EVERYTHING, POSITION = (1,), (0,), (), (1, 2, 3)


class Outcome(NamedTuple):
    """What normalising by the statistics of some features makes of maps.

    Attributes:
      off: the largest of |mean| and |variance - 1| of a channel.
      apart: the difference from batch norm of the rows (N H W, C).
      moved: what it changes to move the maps around before, and not after.
      groups: how many gammas there are.
      values: how many values a mean is of.
    """

    off: float
    apart: float
    moved: float
    groups: int
    values: int

    def is_of_convolutions(self) -> bool:
        exact = self.off <= 1e-5 and self.apart <= 1e-6 and self.moved <= 1e-6
        return exact and self.groups == C and self.values == N * H * W

    def __str__(self) -> str:
        return (
            f'channel mean and variance off by {self.off:.1g}, output off by '
            f'{self.apart:.1g} from that of rows (N H W, C), by {self.moved:.1g} for '
            f'moved maps; gammas: {self.groups}, channels: {C}'
        )


@in_float64
def per_channel() -> Finding:
    """Statistics over samples, height and width; no other choice does as well."""
    outcome = _outcome(CHANNEL)
    others = [_outcome(features) for features in (SAMPLE, EVERYTHING, POSITION)]
    alone = not any(other.is_of_convolutions() for other in others)
    return Finding(alone and outcome.is_of_convolutions(), str(outcome))


@in_float64
def per_sample() -> Finding:
    """Statistics over all of a sample, as layer norm has them."""
    return _found(SAMPLE)


@in_float64
def all_elements() -> Finding:
    """One mean and one variance of all there is."""
    return _found(EVERYTHING)


@in_float64
def every_position() -> Finding:
    """Statistics over the samples alone, for each position of the maps."""
    return _found(POSITION)


def _found(features: tuple[int, ...]) -> Finding:
    outcome = _outcome(features)
    return Finding(outcome.is_of_convolutions(), str(outcome))


def _outcome(features: tuple[int, ...]) -> Outcome:
    x = _maps()
    over = tuple(axis for axis in range(4) if axis not in features)
    shape = [SHAPE[axis] for axis in features]
    y, batch = batch_norm(x, np.ones(shape), np.zeros(shape), axis=features)
    error = largest(y - standardised(x, over))
    require(error <= 1e-12, f'the library reduces axes {over}, off by {error:.1g}')

    channels = y.transpose(1, 0, 2, 3).reshape(C, -1)
    rows, _ = batch_norm(x.transpose(0, 2, 3, 1).reshape(-1, C))
    # With gamma 1 and beta 0 any choice of axes could be moved.
    affine = np.random.default_rng(1).normal(size=(2, *shape))
    first, second = (
        batch_norm(maps, *affine, axis=features)[0]
        for maps in (np.roll(x, 1, axis=3), x)
    )
    return Outcome(
        off=max(largest(channels.mean(1)), largest(channels.var(1) - 1)),
        apart=largest(y - rows.reshape(N, H, W, C).transpose(0, 3, 1, 2)),
        moved=largest(first - np.roll(second, 1, axis=3)),
        groups=_groups(features),
        values=int(batch.count.min()),
    )


def _maps() -> np.ndarray:
    """Maps (N, C, H, W) that differ between samples, channels and positions."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=SHAPE) * rng.uniform(0.5, 2, (1, C, 1, 1))
    for axis, size in enumerate(SHAPE):
        x += rng.normal(size=[size if a == axis else 1 for a in range(4)])
    # Against all of this, epsilon is too small to see.
    return 100 * x


def _groups(features: tuple[int, ...]) -> int:
    """How many gammas a layer with these features has."""
    layer = bnjax.linen.BatchNorm(use_running_average=False, axis=features)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), np.ones(SHAPE, 'f4'))
    return shapes['params']['scale'].size
