"""Residual networks for small images, in three arrangements of their blocks."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from bnjax import config
from bnjax.errors import UserError
from bnjax.models.layers import Network, activated, conv, normalized, output


class ResNet(Network):
    r"""The residual networks of He et al. for CIFAR, ``settings.depth`` layers deep.

    A 3 x 3 convolution; for each entry of ``settings.features`` a stage of n blocks of
    two; the mean over positions; a linear output. The depth is 2 n stages + 2: 20, 32,
    56 and 110 are n = 3, 5, 9 and 18 with three stages, in the papers of 16, 32 and 64
    channels. Each stage but the first begins with stride 2; its shortcut then takes
    every second row and column and fills up the channels with zeros (option A), so
    that no shortcut has parameters.

    ``settings.block``, with placement ``before``, where BN is batch norm and f the
    activation:

    - ``post``: x = f(x + BN(conv(f(BN(conv(x)))))). He et al. (2015), and fig. 4a of
      He et al. (2016).
    - ``addition``: x = f(BN(x + conv(f(BN(conv(x)))))). Fig. 4b there.
    - ``pre``: x = x + conv(f(BN(conv(f(BN(x)))))). Fig. 4e there, full
      pre-activation: the first block takes f(BN(.)) of the first convolution on both
      of its paths, and f(BN(.)) follows the last sum.

    With placement ``after`` each f(BN(.)) and each f alone is BN(f(.)), so that no
    batch norm stands between a convolution and an addition; with ``none`` there is f
    alone. ``post`` and ``addition`` then are one network.

    Batch norm and activation ``i`` are those that follow convolution ``i`` or the sum
    that it ends in. Takes images ``(n, height, width, channels)``, returns logits.
    """

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        widths = self.settings.features
        blocks = _blocks_in_stage(self.settings)
        x = conv(self, 0, widths[0])(x)
        x = activated(self, normalized(self, x, 0, train, 'before'), 0, train)
        carried = x
        for block in range(blocks * len(widths)):
            stage, place = divmod(block, blocks)
            stride = 2 if stage and not place else 1
            shape = (2 * block + 1, widths[stage], stride)
            x, carried = _block(self, x, carried, *shape, train)
        return output(self, x)


def _block(
    net: ResNet,
    x: jax.Array,
    carried: jax.Array,
    i: int,
    width: int,
    stride: int,
    train: bool,
) -> tuple[jax.Array, jax.Array]:
    """Convolutions ``i`` and ``i + 1``.

    Takes and gives what goes into the convolutions and what the shortcut carries; only
    with full pre-activation are they two.
    """
    x = conv(net, i, width, stride)(x)
    x = activated(net, normalized(net, x, i, train, 'before'), i, train)
    x = conv(net, i + 1, width)(x)
    carried = shortcut(carried, width, stride)
    if net.settings.block == 'post':
        total = carried + normalized(net, x, i + 1, train, 'before')
        x = total
    else:
        total = carried + x
        x = normalized(net, total, i + 1, train, 'before')
    x = activated(net, x, i + 1, train)
    return x, total if net.settings.block == 'pre' else x


def shortcut(x: jax.Array, width: int, stride: int) -> jax.Array:
    """Every ``stride``-th row and column, with channels of zeros up to ``width``."""
    missing = width - x.shape[-1]
    return jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (0, missing)))


def _blocks_in_stage(settings: config.Model) -> int:
    """The n of depth = 2 n stages + 2.

    Raises:
      UserError: the depth is no such number, or the channels become fewer.
    """
    features, depth = settings.features, settings.depth
    if not features or list(features) != sorted(features):
        raise UserError(
            f'model.features={features} must be one width or more, none below the one '
            'before it: the shortcuts of a resnet can only add channels'
        )
    per_block = 2 * len(features)
    blocks, rest = divmod(depth - 2, per_block)
    if blocks < 1 or rest:
        nearest = [per_block * n + 2 for n in (blocks, blocks + 1) if n > 0]
        raise UserError(
            f'model.depth={depth} must be 2 + {per_block} n with {len(features)} '
            f'model.features; the nearest: {" and ".join(map(str, nearest))}'
        )
    return blocks
