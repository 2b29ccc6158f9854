"""The program that trials with the same static fields share.

The floats and the seed of each trial are traced arguments; the loop over the steps
of an epoch is a ``lax.scan`` with the data on the device, ``vmap`` sets trials side by
side, and a mesh spreads them over devices. It is compiled once for chunks of one width.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh

from bnjax import config, devices, probes
from bnjax.config import Config
from bnjax.data import Dataset, Split
from bnjax.errors import UserError
from bnjax.probe_names import REESTIMATED
from bnjax.reestimated import reestimated
from bnjax.trial import Scores, State, check, evaluate, init, look, step

Static = tuple[tuple[str, Any], ...]
Numbers = Mapping[str, Any]


# Not worth the compiler's effort.
_RUN_ONCE = {'xla_backend_optimization_level': 1}


class Program(NamedTuple):
    """Compiled functions over ``width`` trials.

    Attributes:
      init: traced fields to the state.
      orders: seeds and the number of an epoch to the order of its images, by trial.
      train: traced fields, state (donated), epoch, order of the images to the
        state and the epoch's log.
      evaluate: traced fields, state to the scores of the held-out images.
      steps: of training, in all.
      epochs: how many there are, the last of them perhaps cut short.
      width: trials side by side.
      memory: bytes it needs at most, the data included, by the compiler's account.
      shapes: of the state, with its dtypes.
    """

    init: Callable[..., State]
    orders: Callable[..., jax.Array]
    train: Callable[..., tuple[State, dict]]
    evaluate: Callable[..., dict]
    steps: int
    epochs: int
    width: int
    memory: int
    shapes: State


def split_fields(flat: Mapping[str, Any]) -> tuple[Static, dict[str, float | int]]:
    """Parts the fields of a trial by type: floats and the seed are traced."""
    traced = {k: v for k, v in flat.items() if isinstance(v, float) or k == 'seed'}
    return tuple((k, v) for k, v in flat.items() if k not in traced), traced


def steps_in(cfg: Config, images: int) -> tuple[int, int]:
    """Steps in an epoch, which drops its last short batch, and steps in all."""
    if cfg.batch_size > images:
        raise UserError(
            f'batch_size={cfg.batch_size} must be at most {images}, the number of '
            f'training images of {cfg.data.name}'
        )
    per_epoch = images // cfg.batch_size
    total = cfg.steps or cfg.epochs * per_epoch
    if total >= 2**31:
        asked = f'steps={cfg.steps}' if cfg.steps else f'epochs={cfg.epochs}'
        raise UserError(
            f'{asked} makes {total} steps in all, too many to count; '
            'give at most 2**31 - 1'
        )
    return per_epoch, total


def check_fit(cfg: Config, data: Dataset) -> None:
    """Raises a ``UserError`` where a trial does not fit its data; compiles nothing."""
    check(cfg)
    steps_in(cfg, len(data.train.y))
    jax.eval_shape(lambda split: init(cfg, data.classes, split), data.train)


def compile_program(static: Static, numbers: Numbers, data: Dataset) -> Program:
    """Compiles for ``execution.width`` trials like that of the traced ``numbers``."""
    cfg, images = _config_of(static, numbers), len(data.train.y)
    width = cfg.execution.width
    mesh = devices.mesh(width, cfg.batch_size)
    held_out = jax.tree.map(_join, data.validation, data.test)
    splits = jax.device_put((data.train, held_out), devices.everywhere(mesh))
    init_one, train_one, score_one = _of_one_trial(static, data, mesh)
    many = _stack([numbers] * width)
    # Shapes alone: what does not fit is refused before any of it is made.
    state = jax.eval_shape(_side_by_side(init_one, width, 1), many, splits[0])
    order = jax.ShapeDtypeStruct((width, images), np.int32)
    train_args = many, state, order, np.int32(0), splits[0]
    compiled = functools.partial(_compiled, width, mesh)
    init_all = compiled(init_one, many, splits[0], mapped=1, options=_RUN_ONCE)
    train_all = compiled(train_one, *train_args, mapped=3, donated=1)
    score_all = compiled(score_one, many, state, *splits, mapped=2)
    per_epoch, total = steps_in(cfg, images)
    return Program(
        lambda numbers: init_all(numbers, splits[0]),
        _orders.lower(many['seed'], np.int32(0), images).compile(),
        lambda *args: train_all(*args, splits[0]),
        lambda *args: score_all(*args, *splits),
        total,
        math.ceil(total / per_epoch),
        width,
        max(_bytes_of_run(train_all) + _bytes_of(splits[1]), _bytes_of_run(score_all)),
        state,
    )


def _config_of(static: Static, numbers: Numbers) -> Config:
    return config.build({**dict(static), **numbers})


def _of_one_trial(
    static: Static, data: Dataset, mesh: Mesh
) -> tuple[Callable, Callable, Callable]:
    """What one trial does: it begins, trains for an epoch, and is scored."""
    classes, validated = data.classes, len(data.validation.y)

    def init_one(numbers: Numbers, train: Split) -> State:
        return init(_config_of(static, numbers), classes, train)

    def train_one(numbers, state, order, index, train):
        cfg = _config_of(static, numbers)
        return _train(cfg, classes, state, order, index, train, mesh)

    def score_one(numbers, state, train, held_out):
        cfg = _config_of(static, numbers)

        def means(state: State) -> dict[str, jax.Array]:
            scores = _evaluate(cfg, classes, state, held_out, mesh)
            return _held_out_means(scores, validated)

        asked = REESTIMATED in cfg.probes.names
        again = means(reestimated(cfg, classes, state, train, mesh)) if asked else {}
        return means(state) | {f'reestimated_{k}': v for k, v in again.items()}

    return init_one, train_one, score_one


def _compiled(
    width: int,
    mesh: Mesh,
    f: Callable,
    *args: Any,
    mapped: int,
    donated: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """``f`` of one trial for many, which have their own first ``mapped`` arguments."""
    own, shared = devices.by_trial(mesh), devices.everywhere(mesh)
    jitted = jax.jit(
        _side_by_side(f, width, mapped),
        in_shardings=(own,) * mapped + (shared,) * (len(args) - mapped),
        out_shardings=own,
        donate_argnums=donated,
        keep_unused=True,  # its bytes count, whether they are looked at or not
    )
    return jitted.lower(*args).compile(dict(options) if options else None)


def _bytes_of_run(compiled: Any) -> int:
    sizes = compiled.memory_analysis()
    kept = sizes.argument_size_in_bytes - sizes.alias_size_in_bytes
    return kept + sizes.output_size_in_bytes + sizes.temp_size_in_bytes


def _bytes_of(arrays: Any) -> int:
    return sum(a.nbytes for a in jax.tree.leaves(arrays))


class Snapshot(NamedTuple):
    """A chunk between two epochs: all that it takes to go on from there.

    Attributes:
      state: of its trials, stacked; the next epoch takes it over.
      logs: of each epoch so far, the one before training first; stacked, too.
    """

    state: State
    logs: list[dict]


def run_chunk(
    program: Program, trials: Sequence[Numbers], begun: Snapshot | None = None
) -> Iterator[Snapshot]:
    """Trains up to ``width`` trials; yields where they begin and after each epoch.

    A short chunk is filled up by repeating its last trial, for another width would
    be another program, with other last bits.

    Args:
      program: as compiled.
      trials: the traced fields of each.
      begun: where to go on, or None. What follows is the same to the last bit, for
        random numbers depend on seed and step alone.
    """
    padded = [*trials, *[trials[-1]] * (program.width - len(trials))]
    numbers = _stack(padded)
    if begun is None:
        state = program.init(numbers)
        begun = Snapshot(state, [jax.device_get(program.evaluate(numbers, state))])
    yield begun
    state, logs = begun
    for epoch in range(len(logs) - 1, program.epochs):
        order = program.orders(numbers['seed'], np.int32(epoch))
        state, log = program.train(numbers, state, order, np.int32(epoch))
        scores = program.evaluate(numbers, state)
        logs = [*logs, jax.device_get(log | scores)]
        yield Snapshot(state, logs)


def by_trial(log: dict, count: int) -> list[dict]:
    """The logs of the first ``count`` trials of a chunk."""
    return [jax.tree.map(lambda a, i=i: a[i], log) for i in range(count)]


@functools.partial(jax.jit, static_argnums=2)
def _orders(seeds: jax.Array, epoch: int, images: int) -> jax.Array:
    """The order of the images in one epoch, by seed: the same in every arm."""

    def order(seed: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(seed), 1 + epoch)
        return jax.random.permutation(key, images)

    return jax.vmap(order)(seeds)


def _train(
    cfg: Config,
    classes: int,
    state: State,
    order: jax.Array,
    index: jax.Array,
    train: Split,
    mesh: Mesh,
) -> tuple[State, dict[str, Any]]:
    """One epoch; its log has means over the steps and what the probes saw."""
    per_epoch, total = steps_in(cfg, len(train.y))
    numbered = index * per_epoch + jnp.arange(per_epoch)

    def one(state: State, at: tuple[jax.Array, jax.Array]) -> tuple[State, tuple]:
        i, rows = at
        batch = devices.over_data(mesh, Split(train.x[rows], train.y[rows]))
        after, scores = step(cfg, classes, state, batch, i, total)

        def there(params: Any) -> probes.Sample:
            return look(cfg, classes, state._replace(params=params), batch, i)

        ends = state.params, after.params
        return after, (scores, probes.on_sampled_steps(cfg.probes, i, *ends, there))

    def unless_over(state: State, at: tuple[jax.Array, jax.Array]):
        nothing = jax.tree.map(jnp.zeros_like, jax.eval_shape(one, state, at)[1])
        return lax.cond(at[0] < total, one, lambda s, _: (s, nothing), state, at)

    body = unless_over if total % per_epoch else one
    rows = order[: per_epoch * cfg.batch_size].reshape(per_epoch, cfg.batch_size)
    state, (scores, measured) = lax.scan(body, state, (numbered, rows))
    return state, _epoch_log(scores, numbered, total) | {'probes': measured}


def _epoch_log(scores: Scores, numbered: jax.Array, total: int) -> dict[str, Any]:
    """Means over the steps of an epoch whose loss was finite, and the first other."""
    finite = jnp.isfinite(scores.loss)
    counted = finite & (numbered < total)
    log = {
        f'train_{name}': jnp.where(counted, value, 0).sum() / counted.sum()
        for name, value in scores._asdict().items()
    }
    return log | {'bad_step': jnp.where(finite.all(), -1, numbered[finite.argmin()])}


def _evaluate(
    cfg: Config, classes: int, state: State, split: Split, mesh: Mesh
) -> Scores:
    """Scores each image of a split, batch by batch."""
    n = len(split.y)
    batches = -(-n // cfg.batch_size)
    # The last batch is filled up by repeating the last image, and cut again below.
    rows = jnp.minimum(jnp.arange(batches * cfg.batch_size), n - 1)

    def score(_: None, rows: jax.Array) -> tuple[None, Scores]:
        batch = devices.over_data(mesh, Split(split.x[rows], split.y[rows]))
        return None, evaluate(cfg, classes, state, batch)

    _, scores = lax.scan(score, None, rows.reshape(batches, cfg.batch_size))
    return jax.tree.map(lambda s: s.reshape(-1)[:n], scores)


def _held_out_means(scores: Scores, validated: int) -> dict[str, jax.Array]:
    """Means over the validation images, which come first, and over the test images."""
    parts = (('validation', slice(validated)), ('test', slice(validated, None)))
    # Without finite logits there is no answer, though argmax would give class 0.
    answered = jnp.where(jnp.isfinite(scores.loss), scores.accuracy, jnp.nan)
    scores = scores._replace(accuracy=answered)
    return {
        # Without validation images the mean is of nothing: nan, as it should be.
        f'{split}_{metric}': values[part].mean()
        for split, part in parts
        for metric, values in scores._asdict().items()
    }


def _join(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.concatenate([a, b])


def _side_by_side(f: Callable, width: int, mapped: int) -> Callable:
    """``f`` over trials stacked in its first ``mapped`` arguments."""

    def single(*args):
        own, shared = args[:mapped], args[mapped:]
        out = f(*jax.tree.map(lambda a: a[0], own), *shared)
        return jax.tree.map(lambda a: a[None], out)

    def many(*args):
        in_axes = [0] * mapped + [None] * (len(args) - mapped)
        return jax.vmap(f, in_axes, spmd_axis_name='trial')(*args)

    # Alone, a trial keeps the branches that vmap would turn into selections.
    return single if width == 1 else many


def _stack(trials: Sequence[Numbers]) -> dict[str, np.ndarray]:
    return {
        name: np.array(
            [t[name] for t in trials], np.uint32 if name == 'seed' else np.float32
        )
        for name in trials[0]
    }
