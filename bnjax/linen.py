"""``BatchNorm`` for Flax Linen: swap it for ``flax.linen.BatchNorm``."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import canonicalize_dtype
from flax.linen.module import merge_param
from flax.typing import Dtype

from bnjax import layer
from bnjax.checks import named
from bnjax.reduction import AxisName, Groups


class BatchNorm(nn.Module):
    r"""Batch normalization with Flax's fields, defaults, names and shapes.

    .. math:: y = \gamma \, \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

    (Ioffe & Szegedy 2015, algorithm 1.) The batch's moments serve in training and
    the running ones, in the collection ``batch_stats``, afterwards.

    Attributes:
      use_running_average: normalise by the running statistics and leave them be;
        here or in the call.
      axis: the feature axis or axes; all others are reduced.
      momentum: the fraction of the running statistics kept at each step, in
        [0, 1] (torch's momentum is the fraction replaced); may be traced. None
        gives every batch the same weight.
      epsilon: added to the variance, > 0; may be traced.
      dtype: of the result; by default that of the input and parameters together.
      param_dtype: of the parameters. Statistics are float32 always.
      use_bias, use_scale: whether beta and gamma are learned.
      bias_init, scale_init: their initialisers.
      axis_name: the mapped axis or axes over which devices share statistics,
        each device counting by its unmasked positions.
      axis_index_groups: the indices along ``axis_name`` that share statistics.
      update_running_average: whether the batch's moments enter the running ones; by
        default where these do not serve.
      debias: leave the initial 0 and 1 out of the running statistics, which are then
        exact from the first step. This, or momentum None, adds ``count`` to them.
      unbiased: keep the running variance unbiased, n / (n - 1), as torch does.
      skip_nonfinite: keep the running statistics of features of which the batch's
        moments are not finite.
      ghost_batch_size: normalise each so many examples by their own moments; the
        running statistics are of all of them, over ``axis_name``, too.
      use_fast_variance, force_float32_reductions: accepted, without effect: the
        variance is always the accurate one and sums are always float32 or better.

    >>> import bnjax.linen, jax, jax.numpy as jnp
    >>> layer = bnjax.linen.BatchNorm(momentum=0.9)
    >>> x = jnp.array([[1.0], [3.0]])
    >>> variables = layer.init(jax.random.key(0), x, use_running_average=False)
    >>> y, new = layer.apply(variables, x, use_running_average=False,
    ...                      mutable=['batch_stats'])
    >>> print(new['batch_stats']['mean'])
    [0.2]
    """

    use_running_average: bool | None = None
    axis: int | Sequence[int] = -1
    momentum: float | jax.Array | None = 0.99
    epsilon: float | jax.Array = 1e-5
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    use_bias: bool = True
    use_scale: bool = True
    bias_init: Callable[..., Any] = nn.initializers.zeros
    scale_init: Callable[..., Any] = nn.initializers.ones
    axis_name: AxisName | None = None
    axis_index_groups: Groups | None = None
    use_fast_variance: bool = True
    force_float32_reductions: bool = True
    update_running_average: bool | None = None
    debias: bool = False
    unbiased: bool = False
    skip_nonfinite: bool = False
    ghost_batch_size: int | None = None

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        use_running_average: bool | None = None,
        *,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """Normalises ``x``; in training, updates ``batch_stats`` too.

        Args:
          x: an array of floats with the features on ``axis``.
          use_running_average: as the attribute; exactly one of the two is given.
          mask: broadcastable to ``x``, nonzero where a position counts (it holds no
            weights); not looked at with running statistics.

        Returns:
          An array of the shape of ``x``.

        Raises:
          TypeError: ``x`` is not an array of floats.
          ValueError: ``momentum``, ``epsilon``, ``mask`` or the number of
            features does not fit.
        """
        with named('/'.join(self.path) or type(self).__name__):
            use_running = merge_param(
                'use_running_average', self.use_running_average, use_running_average
            )
            x, shape = layer.check(self, x, mask)
            self._check_stored(x, shape)
            statistics = self._statistics(shape)
            scale, bias = self._affine(shape)
            training = not self.is_initializing()
            y, batch, new = layer.call(
                self,
                x,
                {name: variable.value for name, variable in statistics.items()},
                scale,
                bias,
                mask,
                use_running=use_running,
                dtype=canonicalize_dtype(x, scale, bias, dtype=self.dtype),
                synced=training,  # init knows no axis names
            )
        if training:
            # Not under mutable=True: carried, the collection would grow.
            asked = self.scope is not None and _names(self.scope.mutable, 'moments')
            if batch is not None and asked:
                self.sow('moments', 'batch', batch)
            for name, value in new.items():
                statistics[name].value = value
        return y

    @nn.nowrap
    def _check_stored(self, x: jax.Array, shape: tuple[int, ...]) -> None:
        stored = nn.unbox(self.variables)
        values = {**stored.get('params', {}), **stored.get('batch_stats', {})}
        for name in ('scale', 'bias', 'mean', 'var', 'count'):
            if name in values and jnp.shape(values[name]) != shape:
                raise ValueError(
                    f'{name} is stored with shape {jnp.shape(values[name])}, but x of '
                    f'shape {x.shape} has features of shape {shape} on axis '
                    f'{self.axis}; make them equal'
                )

    @nn.nowrap
    def _statistics(self, shape: tuple[int, ...]) -> dict[str, nn.Variable]:
        initial = {'mean': jnp.zeros, 'var': jnp.ones}
        counted = self.debias or self.momentum is None
        if counted and self.is_mutable_collection('batch_stats'):
            # Statistics that come without a count are Flax's: theirs is 1.
            stored = self.has_variable('batch_stats', 'mean')
            initial['count'] = jnp.ones if stored else jnp.zeros
        return {
            name: self.variable('batch_stats', name, init, shape, jnp.float32)
            for name, init in initial.items()
        }

    @nn.nowrap
    def _affine(
        self, shape: tuple[int, ...]
    ) -> tuple[jax.Array | None, jax.Array | None]:
        scale = bias = None
        if self.use_scale:
            scale = self.param('scale', self.scale_init, shape, self.param_dtype)
        if self.use_bias:
            bias = self.param('bias', self.bias_init, shape, self.param_dtype)
        return scale, bias


def _names(mutable: Any, collection: str) -> bool:
    """Whether a filter of Flax names the collection, and does not just take all."""
    listed = isinstance(mutable, Collection) and collection in mutable
    return listed or mutable == collection
