"""The networks of the workloads in torch's own layers, and weights for them."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bnjax.benchmark.workloads import CLASSES, MOMENTUM, Workload


def network(workload: Workload) -> nn.Module:
    """The network of a workload: images ``(n, channels, height, width)`` to logits."""
    build = {'mlp': _mlp, 'cnn': _cnn, 'resnet': _resnet}[workload.model]
    return nn.Sequential(*build(workload))


def load_weights(net: nn.Module, file: str) -> None:
    """Gives the network the weights of a file that ``program_loop.losses`` wrote."""
    weights = np.load(file)
    layers: Any = [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    names = [*(f'hidden_{i}' for i in range(len(layers) - 1)), 'output']
    with torch.no_grad():
        for name, layer in zip(names, layers, strict=True):
            kernel = torch.from_numpy(weights[f'{name}/kernel'])
            # Inputs, features last here and outputs, inputs first there.
            layer.weight.copy_(kernel.movedim((-1, -2), (0, 1)))
        layers[-1].bias.copy_(torch.from_numpy(weights['output/bias']))


def _mlp(workload: Workload) -> Iterator[nn.Module]:
    height, width, channels = workload.image
    yield nn.Flatten()
    sizes = (height * width * channels, *workload.features)
    for inputs, outputs in itertools.pairwise(sizes):
        yield nn.Linear(inputs, outputs, bias=False)
        yield nn.BatchNorm1d(outputs, momentum=1 - MOMENTUM)
        yield _activation(workload)
    yield nn.Linear(sizes[-1], CLASSES)


def _cnn(workload: Workload) -> Iterator[nn.Module]:
    inputs = workload.image[-1]
    for outputs in workload.features:
        for channels in (inputs, outputs):
            yield from _conv_and_norm(channels, outputs)
            yield _activation(workload)
        yield nn.MaxPool2d(2)
        inputs = outputs
    yield from (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, CLASSES))


def _resnet(workload: Workload) -> Iterator[nn.Module]:
    inputs = workload.features[0]
    yield from _conv_and_norm(workload.image[-1], inputs)
    yield _activation(workload)
    for outputs, stride in workload.blocks():
        yield Block(inputs, outputs, stride, workload)
        inputs = outputs
    yield from (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, CLASSES))


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut without parameters."""

    def __init__(self, inputs: int, outputs: int, stride: int, workload: Workload):
        super().__init__()
        self.layers = nn.Sequential(
            *_conv_and_norm(inputs, outputs, stride),
            _activation(workload),
            *_conv_and_norm(outputs, outputs),
        )
        self.activation = _activation(workload)
        self.stride, self.missing = stride, outputs - inputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x[:, :, :: self.stride, :: self.stride]
        if self.missing:
            shortcut = functional.pad(shortcut, (0, 0, 0, 0, 0, self.missing))
        return self.activation(self.layers(x) + shortcut)


def _conv_and_norm(inputs: int, outputs: int, stride: int = 1) -> Iterator[nn.Module]:
    yield nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    yield nn.BatchNorm2d(outputs, momentum=1 - MOMENTUM)


def _activation(workload: Workload) -> nn.Module:
    return {'relu': nn.ReLU(inplace=True), 'sigmoid': nn.Sigmoid()}[workload.activation]
