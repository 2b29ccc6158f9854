"""``BatchNorm`` for Flax NNX: swap it for ``flax.nnx.BatchNorm``."""

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx

from bnjax.functional import batch_norm, check_momentum, normalize, update
from bnjax.moments import Moments, reduction


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
        [0, 1] (torch's momentum is the fraction replaced).
      epsilon: added to the variance, > 0.
      dtype: of the result; by default that of the input and the state together,
        so float32 at least.
      param_dtype: of the parameters.
      use_bias, use_scale: whether beta and gamma are learned.
      axis_name: the mapped axis or axes over which devices share statistics,
        each device counting by its unmasked positions.
      axis_index_groups: the indices along ``axis_name`` that share statistics,
        as tuples.
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

    def __call__(
        self,
        x: jax.Array,
        use_running_average: bool | None = None,
        *,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """Normalises ``x``; in training, updates ``mean`` and ``var`` too.

        Args:
          x: an array of floats with the features on ``axis``.
          use_running_average: in place of the attribute, where given.
          mask: broadcastable to ``x``, nonzero where a position counts; not looked
            at with running statistics.

        Returns:
          An array of the shape of ``x``.

        Raises:
          TypeError: ``x`` is not an array of floats.
          ValueError: ``momentum``, ``epsilon``, ``mask`` or the number of
            features does not fit, or ``use_running_average`` is nowhere given.
        """
        x = jnp.asarray(x)
        self._check_momentum()
        use_running = self._use_running(use_running_average)
        running, scale, bias = self._per_feature(self._feature_shape(x))
        dtype = self._result_dtype(x)
        x = x.astype(jnp.promote_types(x.dtype, dtype))
        axis, epsilon = self.axis, self.epsilon
        if use_running:
            y = normalize(x, running, scale, bias, axis=axis, epsilon=epsilon)
            return y.astype(dtype)
        y, batch = batch_norm(
            x,
            scale,
            bias,
            axis=axis,
            epsilon=epsilon,
            where=None if mask is None else jnp.asarray(mask, bool),
            axis_name=self.axis_name,
            axis_index_groups=self.axis_index_groups,
        )
        new = jax.lax.stop_gradient(update(running, batch, self.momentum))
        self.mean[...] = new.mean.ravel()
        self.var[...] = new.var.ravel()
        return y.astype(dtype)

    def _check_momentum(self) -> None:
        check_momentum(self.momentum)
        if self.momentum is None:
            raise ValueError(
                f'{type(self).__name__}: momentum=None needs a count of the batches, '
                'which the state has not; give a number in [0, 1], for example 0.99'
            )

    def _use_running(self, given: bool | None) -> bool:
        use_running = self.use_running_average if given is None else given
        if use_running is None:
            raise ValueError(
                f'{type(self).__name__}: use_running_average=None; give True or False '
                'to the constructor or the call, or use model.train() or model.eval()'
            )
        return use_running

    def _feature_shape(self, x: jax.Array) -> tuple[int, ...]:
        shape = tuple(x.shape[a] for a in reduction(x, self.axis).features)
        if math.prod(shape) != self.num_features:
            raise ValueError(
                f'{type(self).__name__}: num_features={self.num_features}, but x of '
                f'shape {x.shape} has {math.prod(shape)} on axis {self.axis}; '
                'make them equal'
            )
        return shape

    def _result_dtype(self, x: jax.Array) -> jnp.dtype:
        """Flax's rule: that of what ``promote_dtype`` makes of input and parameters."""
        values = (x, self.mean, self.var, self.scale, self.bias)
        arrays = tuple(v[...] if isinstance(v, nnx.Variable) else v for v in values)
        promote = functools.partial(self.promote_dtype, dtype=self.dtype)
        x, _, _, scale, bias = jax.eval_shape(promote, arrays)
        own = jnp.result_type(*(a for a in (x, scale, bias) if a is not None))
        return jnp.dtype(own if self.dtype is None else self.dtype)

    def _per_feature(
        self, shape: tuple[int, ...]
    ) -> tuple[Moments, jax.Array | None, jax.Array | None]:
        """The state, in the shape that the features have in ``x``."""
        mean, var = (s[...].reshape(shape) for s in (self.mean, self.var))
        scale, bias = (
            None if p is None else p[...].reshape(shape)
            for p in (self.scale, self.bias)
        )
        return Moments(mean, var, jnp.ones_like(mean)), scale, bias
