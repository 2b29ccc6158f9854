"""``BatchNorm`` for Flax NNX: swap it for ``flax.nnx.BatchNorm``."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from bnjax import layer
from bnjax.checks import check_size, named


class BatchNorm(nnx.BatchNorm):
    r"""Batch normalization with the constructor, attributes and state of Flax's.

    .. math:: y = \gamma \, \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

    (Ioffe & Szegedy 2015, algorithm 1.) The batch's moments serve in training and
    the running ones afterwards: ``model.train()`` and ``model.eval()`` switch.
    It is an ``nnx.BatchNorm``, so what looks for those finds it.

    Attributes:
      scale, bias: gamma and beta, ``nnx.Param`` of shape ``(num_features,)``, or None.
      mean, var: the running statistics, ``nnx.BatchStat`` of that shape. float32
        always, and never rounded to ``dtype``.
      num_features: how many features ``x`` has on ``axis``, taken together.
      use_running_average: normalise by the running statistics and leave them be.
      axis: the feature axis, or a tuple of them; all others are reduced.
      momentum: the fraction of the running statistics kept at each step, in
        [0, 1] (torch's momentum is the fraction replaced). None gives every batch
        the same weight.
      epsilon: added to the variance, > 0.
      dtype: of the result; by default that of the input and the state together,
        so float32 at least.
      param_dtype: of the parameters.
      use_bias, use_scale: whether beta and gamma are learned.
      axis_name: the mapped axis or axes over which devices share statistics,
        each device counting by its unmasked positions.
      axis_index_groups: the indices along ``axis_name`` that share statistics,
        as tuples.
      update_running_average: whether the batch's moments enter the running ones; by
        default where these do not serve.
      debias: leave the initial 0 and 1 out of the running statistics, which are then
        exact from the first step. This, or momentum None, adds ``count`` to the state.
      unbiased: keep the running variance unbiased, n / (n - 1), as torch does.
      skip_nonfinite: keep the running statistics of features of which the batch's
        moments are not finite.
      ghost_batch_size: normalise each so many examples by their own moments; the
        running statistics are of all of them, over ``axis_name``, too.
      promote_dtype: asked for dtypes only; no value passes through it.
      use_fast_variance: without effect: the variance is always the accurate one.

    >>> import bnjax.nnx, jax.numpy as jnp
    >>> from flax import nnx
    >>> layer = bnjax.nnx.BatchNorm(1, momentum=0.9, rngs=nnx.Rngs(0))
    >>> y = layer(jnp.array([[1.0], [3.0]]))
    >>> print(layer.mean[...])
    [0.2]
    >>> layer.eval()
    >>> print(layer(jnp.array([[0.2]])))
    [[0.]]
    """

    def __init__(
        self,
        num_features: int,
        *,
        update_running_average: bool | None = None,
        debias: bool = False,
        unbiased: bool = False,
        skip_nonfinite: bool = False,
        ghost_batch_size: int | None = None,
        **fields: Any,
    ):
        """Takes the keywords of ``flax.nnx.BatchNorm`` and five of its own.

        Raises:
          TypeError: a keyword is not known, or ``num_features`` no whole number.
          ValueError: ``num_features`` is below 1.
        """
        with named(self._name(num_features)):
            check_size('num_features', num_features)
            super().__init__(num_features, **fields)
        self.update_running_average = update_running_average
        self.debias = debias
        self.unbiased = unbiased
        self.skip_nonfinite = skip_nonfinite
        self.ghost_batch_size = ghost_batch_size
        if debias or self.momentum is None:
            self.count = nnx.BatchStat(jnp.zeros(num_features, jnp.float32))

    def __call__(
        self,
        x: jax.Array,
        use_running_average: bool | None = None,
        *,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """Normalises ``x``; in training, updates the running statistics too.

        Args:
          x: an array of floats with the features on ``axis``.
          use_running_average: in place of the attribute, where given.
          mask: broadcastable to ``x``, nonzero where a position counts (it holds no
            weights); not looked at with running statistics.

        Returns:
          An array of the shape of ``x``.

        Raises:
          TypeError: ``x`` is not an array of floats.
          ValueError: ``momentum``, ``epsilon``, ``mask`` or the number of
            features does not fit, or ``use_running_average`` is nowhere given.
        """
        with named(self._name(self.num_features)):
            use_running = self._use_running(use_running_average)
            x, shape = layer.check(self, x, mask)
            self._check_features(x, shape)
            names = ('mean', 'var', 'count')
            variables = {n: getattr(self, n) for n in names if hasattr(self, n)}
            # The features may lie on several axes of x; the state has one.
            statistics = {n: v[...].reshape(shape) for n, v in variables.items()}
            scale, bias = (
                None if p is None else p[...].reshape(shape)
                for p in (self.scale, self.bias)
            )
            y, batch, new = layer.call(
                self,
                x,
                statistics,
                scale,
                bias,
                mask,
                use_running=use_running,
                dtype=self._result_dtype(x),
            )
        if batch is not None and hasattr(self, '__captures__'):  # by nnx.capture
            self.sow(nnx.Intermediate, 'batch', batch)
        for name, value in new.items():
            new_value = value.reshape(variables[name].shape)
            variables[name][...] = jax.lax.stop_gradient(new_value)
        return y

    @classmethod
    def _name(cls, num_features: int) -> str:
        """What tells it from others: a module of NNX does not know where it is."""
        return f'{cls.__name__}({num_features})'

    def _use_running(self, given: bool | None) -> bool:
        use_running = self.use_running_average if given is None else given
        if use_running is None:
            raise ValueError(
                'use_running_average=None; give True or False to the constructor or '
                'the call, or use model.train() or model.eval()'
            )
        return use_running

    def _check_features(self, x: jax.Array, shape: tuple[int, ...]) -> None:
        if math.prod(shape) != self.num_features:
            raise ValueError(
                f'num_features={self.num_features}, but x of shape {x.shape} has '
                f'{math.prod(shape)} on axis {self.axis}; make them equal'
            )
        for name in ('scale', 'bias', 'mean', 'var', 'count'):
            stored = getattr(self, name, None)
            if stored is not None and stored.size != self.num_features:
                raise ValueError(
                    f'{name} has shape {stored.shape}, but '
                    f'num_features={self.num_features}; make them equal'
                )

    def _result_dtype(self, x: jax.Array) -> jnp.dtype:
        """Flax's rule: that of what ``promote_dtype`` makes of input and parameters."""
        values = (x, self.mean, self.var, self.scale, self.bias)
        arrays = tuple(v[...] if isinstance(v, nnx.Variable) else v for v in values)
        promote = functools.partial(self.promote_dtype, dtype=self.dtype)
        x, _, _, scale, bias = jax.eval_shape(promote, arrays)
        own = jnp.result_type(*(a for a in (x, scale, bias) if a is not None))
        return jnp.dtype(own if self.dtype is None else self.dtype)
