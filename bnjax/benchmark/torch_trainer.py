"""Training as torch's users write it: eager, step by step, images channels-last.

Imported only in a process of its own, for it imports torch.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bnjax.benchmark.python_loop import Trainer
from bnjax.benchmark.torch_networks import load_weights, network
from bnjax.benchmark.workloads import MOMENTUM, Images, Workload

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


class State(NamedTuple):
    """What a step changes in place."""

    net: nn.Module
    optimizer: torch.optim.Optimizer


def trainer(workload: Workload) -> Trainer:
    """That of a workload, on the GPU if there is one."""

    def begin(seed: int, learning_rate: float, weights: str | None = None) -> State:
        torch.manual_seed(seed)
        layout: Any = {'memory_format': torch.channels_last}
        net = network(workload).to(DEVICE, **layout)
        if weights:
            load_weights(net, weights)
        sgd = torch.optim.SGD(net.parameters(), learning_rate, momentum=MOMENTUM)
        return State(net, sgd)

    return Trainer(begin, _place, _step, _evaluate, DEVICE)


def _place(data: Images) -> Any:
    x, y = data
    # Channels are last in memory and stay there: the step only renumbers the axes.
    return torch.from_numpy(x).to(DEVICE), torch.from_numpy(y).long().to(DEVICE)


def _batch(data: Any, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    chosen = torch.from_numpy(rows).to(DEVICE)
    return data[0][chosen].permute(0, 3, 1, 2), data[1][chosen]


def _step(state: State, data: Any, rows: np.ndarray) -> tuple[State, Any]:
    x, y = _batch(data, rows)
    state.net.train()
    state.optimizer.zero_grad()
    logits = state.net(x)
    loss = cross_entropy(logits, y)
    loss.backward()
    state.optimizer.step()
    return state, (loss.detach(), _accuracy(logits, y))


@torch.inference_mode()
def _evaluate(state: State, data: Any, rows: np.ndarray) -> Any:
    x, y = _batch(data, rows)
    state.net.eval()
    logits = state.net(x)
    return cross_entropy(logits, y), _accuracy(logits, y)


@torch.inference_mode()
def _accuracy(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (logits.argmax(1) == y).float().mean()
