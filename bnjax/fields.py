"""The fields of a trial: the only list of their defaults, ranges, choices and help."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from bnjax.probe_names import NAMES

# Where there is no batch norm, what belongs to it has no effect.
NO_NORM = {'model.placement': 'none'}
# Where nothing is kept of the batches, what concerns it has none either.
NO_STATISTICS = NO_NORM | {'model.norm': 'layer'}


def _field(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    of: tuple[str, ...] = (),
    off: Mapping[str, Any] = MappingProxyType({}),
    **limits: Any,
):
    """A field; ``of`` which networks, if not all; ``off`` where others have a value."""
    metadata = {'help': help, 'choices': choices, 'limits': limits}
    return dataclasses.field(
        default=default, metadata=metadata | {'of': of, 'off': off}
    )


# Of jax.nn, those that map each number to a number by itself.
ACTIVATIONS = (
    *('celu', 'elu', 'gelu', 'hard_sigmoid', 'hard_silu', 'hard_swish', 'hard_tanh'),
    *('identity', 'leaky_relu', 'log_sigmoid', 'mish', 'relu', 'relu6', 'selu'),
    *('sigmoid', 'silu', 'soft_sign', 'softplus', 'sparse_plus', 'sparse_sigmoid'),
    *('squareplus', 'swish', 'tanh'),
)


@dataclasses.dataclass(frozen=True)
class Data:
    name: str = _field(
        'digits',
        'the images',
        choices=('digits', 'mnist', 'fashion_mnist', 'cifar10', 'cifar100'),
    )
    preprocess: str = _field(
        'unit',
        'pixels as they are stored, 0 to 255 (digits: 16); or to [0, 1], then nothing, '
        'minus the mean of the training images, over their deviation too, or whitened',
        choices=('raw', 'unit', 'center', 'zscore', 'pca', 'zca'),
    )
    validation_percent: int = _field(
        10, 'share of the training images set aside for validation', low=0, high=90
    )
    images: int = _field(
        0,
        'training images used, of those not set aside; the same for every seed, and '
        'preprocessing is fitted on them; 0: all',
        low=0,
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
        high=10**6,
    )
    depth: int = _field(
        20,
        'layers: 2 n stages + 2, as 20, 32, 56, 110 of three',
        of=('resnet',),
        low=4,
        high=10**4,
    )
    block: str = _field(
        'post',
        'activation after the addition, full pre-activation, or batch norm after the '
        'addition (He et al. 2016, fig. 4a, e, b)',
        of=('resnet',),
        choices=('post', 'pre', 'addition'),
    )
    statistics: str = _field(
        'shared',
        'the running statistics of all time steps or of each',
        of=('rnn', 'lstm'),
        off=NO_STATISTICS,
        choices=('shared', 'per_step'),
    )
    dtype: str = _field(
        'float32',
        'of activations and products; parameters, statistics and logits are float32',
        choices=('float32', 'bfloat16'),
    )
    activation: str = _field(
        'relu',
        'a function of jax.nn, where leaky_relu has slope 0.01; darknet (slope 0.1), '
        'rnn and lstm have their own',
        choices=ACTIVATIONS,
        of=('mlp', 'cnn', 'resnet'),
    )
    placement: str = _field(
        'before',
        'batch norm before or after the activation, or none',
        choices=('none', 'before', 'after'),
    )
    norm: str = _field(
        'batch',
        'what is placed as batch norm: itself; with a gradient that takes the mean, '
        'the variance or both for constants; with noise after it; or layer norm; rnn '
        'and lstm have batch and layer only',
        off=NO_NORM,
        choices=(
            *('batch', 'constant_mean', 'constant_variance', 'constant_statistics'),
            *('noisy', 'layer'),
        ),
    )
    use_scale: bool = _field(
        True, 'whether batch norm learns a scale (gamma)', off=NO_NORM
    )
    use_bias: bool = _field(
        True, 'whether batch norm learns a bias (beta)', off=NO_NORM
    )
    scale: float = _field(
        1.0,
        'scale (gamma) of batch norm at first, in rnn and lstm a tenth of it; without '
        'use_scale a fixed factor',
        off=NO_NORM,
        low=0,
    )
    momentum: float = _field(
        0.9,
        'fraction of the running statistics kept at each step',
        off=NO_STATISTICS,
        low=0,
        high=1,
    )
    epsilon: float = _field(1e-5, 'added to the variance', off=NO_NORM, above=0)
    dropout_percent: int = _field(
        0,
        'share of what each hidden layer gives out (after its batch norm) that is set '
        'to 0 in training, and the rest made larger by as much',
        low=0,
        high=99,
    )
    init: str = _field(
        'he_normal',
        'initialiser of the weights, of jax.nn.initializers; normal has deviation 1',
        choices=(
            *('he_normal', 'he_uniform', 'glorot_normal', 'glorot_uniform'),
            *('lecun_normal', 'lecun_uniform', 'normal', 'orthogonal'),
        ),
    )
    init_scale: float = _field(1.0, 'factor of all initial weights', low=0)
    bias_std: float = _field(
        0.0,
        'standard deviation of the initial biases of hidden layers and output, normal',
        low=0,
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
        False,
        'whether the velocity looks a step ahead; with adam this is Nadam',
        off={'optimizer.momentum': 0.0},
    )
    epsilon: float = _field(
        1e-8,
        'added to the root of the mean square gradient, by which rmsprop and adam '
        'divide',
        off={'optimizer.name': 'sgd'},
        above=0,
    )
    weight_decay: float = _field(
        0.0,
        'of the weights, never of biases or, without decay_norm, batch norm; added '
        'to the gradient (sgd, rmsprop) or decoupled from it (adam)',
        low=0,
    )
    decay_norm: bool = _field(
        False,
        "whether weight decay acts on batch norm's scale and shift too",
        off={'optimizer.weight_decay': 0.0} | NO_NORM,
    )
    frozen: int = _field(
        0,
        'hidden layers, from the input, whose weights, biases, scales and shifts stay '
        'as they are drawn',
        low=0,
    )


@dataclasses.dataclass(frozen=True)
class Probes:
    names: tuple[str, ...] = _field(
        (),
        'what is measured, by layer on the sampled steps; reestimated_scores: the '
        'accuracy and loss with re-estimated statistics, at each epoch',
        choices=NAMES,
    )
    every: int = _field(
        100,
        'steps from one measurement to the next',
        off={'probes.names': ()},
        low=1,
        high=2**31 - 1,
    )


@dataclasses.dataclass(frozen=True)
class Execution:
    width: int = _field(
        0,
        'trials run side by side in one program; 0: by platform, model and number',
        low=0,
        high=10**6,
    )
    convolution: str = _field(
        'auto',
        "XLA's own (direct) or a matrix product of patches; auto: direct in programs "
        'of width 1',
        choices=('auto', 'direct', 'product'),
    )
    checkpoint_seconds: int = _field(
        30, 'time, at least, between states of a chunk that are kept on the disk', low=0
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
        'of the weights, the order of the images, their crops, and noise',
        low=0,
        high=2**32 - 1,
    )
    keep_state: bool = _field(
        False,
        'whether the record of a trial keeps its final parameters and statistics',
    )
    probes: Probes = Probes()
    execution: Execution = Execution()
