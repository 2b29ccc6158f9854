"""The fields of a trial: the only list of their defaults, ranges, choices and help.

A config file edits ``defaults()``, a ConfigDict. At the border it is checked, field
by field, and becomes a frozen ``Config``; nothing inside ever sees a ConfigDict.
"""

import ast
import dataclasses
import difflib
import functools
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, get_args, get_origin

import numpy as np
from ml_collections import ConfigDict

from bnjax.errors import UserError

LIMITS: Mapping[str, tuple[str, Callable[[Any, Any], bool]]] = {
    'low': ('at least', operator.ge),
    'above': ('above', operator.gt),
    'high': ('at most', operator.le),
    'below': ('below', operator.lt),
}


def _field(default: Any, help: str, *, choices: tuple[str, ...] = (), **limits: Any):
    metadata = {'help': help, 'choices': choices, 'limits': limits}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Data:
    name: str = _field(
        'digits',
        'the images',
        choices=('digits', 'mnist', 'fashion_mnist', 'cifar10', 'cifar100'),
    )
    preprocess: str = _field(
        'unit',
        'fitted on the training images: to [0, 1], then nothing, minus the mean, '
        'over the deviation too, or whitened',
        choices=('unit', 'center', 'zscore', 'pca', 'zca'),
    )
    validation_percent: int = _field(
        10, 'share of the training images set aside for validation', low=0, high=90
    )
    augment: bool = _field(
        False,
        'whether each step sees a random crop of its images, padded by 4 zeros on '
        'each side, and half of them mirrored; usual for CIFAR, unfit for digits',
    )


@dataclasses.dataclass(frozen=True)
class Model:
    name: str = _field(
        'mlp',
        'the network; its docstring in bnjax/models says what each placement is',
        choices=('mlp', 'cnn', 'resnet', 'darknet', 'rnn', 'lstm'),
    )
    features: tuple[int, ...] = _field(
        (64, 64),
        'width of each hidden layer (mlp, rnn, lstm), pair of them (cnn) or stage '
        '(resnet, darknet)',
        low=1,
    )
    depth: int = _field(
        20, 'layers of a resnet: 2 n stages + 2, as 20, 32, 56, 110 of three', low=4
    )
    block: str = _field(
        'post',
        'of a resnet: activation after the addition, full pre-activation, or batch '
        'norm after the addition (He et al. 2016, fig. 4a, e, b)',
        choices=('post', 'pre', 'addition'),
    )
    statistics: str = _field(
        'shared',
        'of an rnn or lstm: the running statistics of all time steps or of each',
        choices=('shared', 'per_step'),
    )
    dtype: str = _field(
        'float32',
        'of activations and products; parameters, statistics and logits are float32',
        choices=('float32', 'bfloat16'),
    )
    activation: str = _field(
        'relu',
        'an elementwise function of jax.nn, where leaky_relu has slope 0.01; darknet '
        '(slope 0.1), rnn and lstm have their own',
    )
    placement: str = _field(
        'before',
        'batch norm before or after the activation, or none',
        choices=('none', 'before', 'after'),
    )
    use_scale: bool = _field(True, 'whether batch norm learns a scale (gamma)')
    use_bias: bool = _field(True, 'whether batch norm learns a bias (beta)')
    momentum: float = _field(
        0.9, 'fraction of the running statistics kept at each step', low=0, high=1
    )
    epsilon: float = _field(1e-5, 'added to the variance', above=0)
    init: str = _field(
        'he_normal',
        'initialiser of the weights, of jax.nn.initializers',
        choices=(
            *('he_normal', 'he_uniform', 'glorot_normal', 'glorot_uniform'),
            *('lecun_normal', 'lecun_uniform'),
        ),
    )


@dataclasses.dataclass(frozen=True)
class Optimizer:
    name: str = _field('sgd', 'the update rule', choices=('sgd', 'rmsprop', 'adam'))
    learning_rate: float = _field(0.1, 'step size', low=0)
    schedule: str = _field(
        'constant',
        'the learning rate over all steps: constant, a tenth from 1/2 and a hundredth '
        'from 3/4 of them, half a cosine down to 0 after the warm-up, or a cosine from '
        'a 25th up to 1 at 30 % and down to 0',
        choices=('constant', 'step', 'cosine', 'one_cycle'),
    )
    warmup_percent: float = _field(
        0.0,
        'share of all steps in which a factor of the learning rate rises from 0 to 1',
        low=0,
        below=100,
    )
    momentum: float = _field(
        0.9,
        'fraction of the velocity kept at each step; beta_1 of adam',
        low=0,
        below=1,
    )
    nesterov: bool = _field(
        False, 'whether the velocity looks a step ahead; with adam this is Nadam'
    )
    weight_decay: float = _field(
        0.0,
        'of the weights, never of biases or, without decay_norm, batch norm; added '
        'to the gradient (sgd, rmsprop) or decoupled from it (adam)',
        low=0,
    )
    decay_norm: bool = _field(
        False, "whether weight decay acts on batch norm's scale and shift too"
    )


@dataclasses.dataclass(frozen=True)
class Probes:
    names: tuple[str, ...] = _field(
        (),
        'what is measured by layer',
        choices=('gradient_norm', 'activation_mean', 'activation_std', 'zero_fraction'),
    )
    every: int = _field(100, 'steps from one measurement to the next', low=1)


@dataclasses.dataclass(frozen=True)
class Execution:
    width: int = _field(
        0,
        'trials run side by side in one program; 0: by platform, model and number',
        low=0,
    )
    convolution: str = _field(
        'auto',
        "XLA's own (direct) or a matrix product of patches; auto: direct in programs "
        'of width 1',
        choices=('auto', 'direct', 'product'),
    )


@dataclasses.dataclass(frozen=True)
class Config:
    data: Data = Data()
    model: Model = Model()
    optimizer: Optimizer = Optimizer()
    label_smoothing: float = _field(
        0.0,
        'share of a label spread evenly over all classes; the losses reported are '
        'without it',
        low=0,
        below=1,
    )
    batch_size: int = _field(64, 'images in a step', low=1)
    micro_batches: int = _field(
        1,
        'parts a batch is cut into, each normalised by itself; their gradients are '
        'averaged and the running statistics updated once',
        low=1,
    )
    epochs: int = _field(10, 'passes over the training images', low=1)
    steps: int = _field(0, 'training steps in all; 0: as many as epochs make', low=0)
    seed: int = _field(
        0,
        'of the weights, the order of the images and their crops',
        low=0,
        high=2**32 - 1,
    )
    probes: Probes = Probes()
    execution: Execution = Execution()


def _declarations(cls: Any = Config, prefix: str = '') -> dict[str, dataclasses.Field]:
    found: dict[str, dataclasses.Field] = {}
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(field.type):
            found |= _declarations(field.type, f'{prefix}{field.name}.')
        else:
            found[prefix + field.name] = field
    return found


FIELDS: Mapping[str, dataclasses.Field] = _declarations()


def defaults() -> ConfigDict:
    """A ConfigDict of every field at its default, for a config file to edit."""
    return ConfigDict(dataclasses.asdict(Config()))


def flatten(nested: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    """``{'a': {'b': 1}}`` to ``{'a.b': 1}``."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping | ConfigDict):
            flat |= flatten(value, f'{prefix}{key}.')
        else:
            flat[prefix + key] = value
    return flat


def build(flat: Mapping[str, Any], cls: Any = Config, prefix: str = '') -> Any:
    """The frozen ``Config`` of every dotted field; floats may be traced arrays."""
    return cls(
        **{
            field.name: build(flat, field.type, f'{prefix}{field.name}.')
            if dataclasses.is_dataclass(field.type)
            else flat[prefix + field.name]
            for field in dataclasses.fields(cls)
        }
    )


def check(name: str, value: Any) -> Any:
    """Returns the value of a field as its type has it, or says what it must be.

    Raises:
      UserError: no such field, or a value of the wrong type or out of range.
    """
    if name not in FIELDS:
        hint = _suggest(name, FIELDS) or '; python train.py --help lists the fields'
        raise UserError(f'there is no field {name}{hint}')
    field = FIELDS[name]
    if get_origin(field.type) is tuple:
        if not isinstance(value, tuple | list):
            raise UserError(f'{name}={value!r} must be a tuple, such as (64, 64)')
        item = get_args(field.type)[0]
        return tuple(_check_one(name, v, item, field.metadata) for v in value)
    return _check_one(name, value, field.type, field.metadata)


def parse(name: str, text: str) -> Any:
    """``check`` of a value from the command line."""
    if name in FIELDS and FIELDS[name].type is str:
        return check(name, text)
    if not text:
        return check(name, ())
    try:
        value = ast.literal_eval({'true': 'True', 'false': 'False'}.get(text, text))
    except (ValueError, SyntaxError):
        value = tuple(text.split(',')) if ',' in text else text
    if name in FIELDS and get_origin(FIELDS[name].type) is tuple:
        value = value if isinstance(value, tuple | list) else (value,)
    return check(name, value)


def _check_one(name: str, value: Any, kind: Any, metadata: Mapping[str, Any]) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    # Programs compute in float32, where 1e39 is no number and 1e-50 is 0.
    size = _in_float32(value) if type(value) is kind is float else value
    if type(value) is not kind or (kind is float and not math.isfinite(size)):
        words = {float: 'a finite number', int: 'a whole number', str: 'a name'}
        expected = words.get(kind, 'true or false')
        raise UserError(f'{name}={value!r} must be {expected}')
    choices = metadata['choices']
    if name == 'model.activation' and not _is_activation(value):
        choices = activations()
    if choices and value not in choices:
        hint = _suggest(value, choices)
        raise UserError(f'{name}={value!r} must be one of {", ".join(choices)}{hint}')
    for limit, bound in metadata['limits'].items():
        relation, holds = LIMITS[limit]
        if not holds(size, bound):
            raise UserError(f'{name}={value!r} must be {relation} {bound}')
    return value


def _in_float32(value: float) -> float:
    with np.errstate(over='ignore', under='ignore'):
        return float(np.float32(value))


def activations() -> tuple[str, ...]:
    """The functions of ``jax.nn`` that map each number to a number by itself."""
    import jax

    return tuple(name for name in dir(jax.nn) if _is_activation(name))


@functools.cache
def _is_activation(name: str) -> bool:
    import jax

    shapes = [jax.ShapeDtypeStruct(shape, 'float32') for shape in ((), (2,))]
    try:  # softmax fails on a scalar, logsumexp reduces a vector, log1mexp wants x > 0
        function = getattr(jax.nn, name)
        each = [jax.eval_shape(function, shape) for shape in shapes] == shapes
        return each and bool(np.isfinite(function(np.array([-1.0, 1.0], 'f4'))).all())
    except Exception:
        return False  # it wants other arguments, so it is no activation


def _suggest(name: Any, known: Any) -> str:
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f'; did you mean {near[0]}?' if near else ''
