"""Networks of a batch norm study, each with batch norm in any of its places."""

from bnjax import config
from bnjax.models.convolution import Conv3x3
from bnjax.models.feedforward import CNN, MLP, Darknet
from bnjax.models.initial import with_noise_on_biases
from bnjax.models.layers import Network, max_pool
from bnjax.models.recurrent import LSTM, RNN
from bnjax.models.residual import ResNet

NETWORKS: dict[str, type[Network]] = {
    'mlp': MLP,
    'cnn': CNN,
    'resnet': ResNet,
    'darknet': Darknet,
    'rnn': RNN,
    'lstm': LSTM,
}


def network(
    settings: config.Model, classes: int, convolution: str = 'product'
) -> Network:
    """The network that the settings name; their floats may be traced.

    Its parameters are drawn by layer name, so that with one key those that two
    placements share are equal.
    """
    return NETWORKS[settings.name](settings, classes, convolution)


__all__ = [
    'NETWORKS',
    'Conv3x3',
    'Network',
    'max_pool',
    'network',
    'with_noise_on_biases',
]
