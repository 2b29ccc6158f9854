"""The layer of torch, step by step, doing what a turn of JAX's loop does.

torch is imported where it is called for: only its own process needs it.
"""

from typing import Any

import numpy as np

from bnjax.benchmark.cases import Case, arrays, cases
from bnjax.benchmark.timing import median_seconds


def measure(shape: list[int], dtype: str) -> dict[str, Any]:
    """Seconds a step for each of ``cases(shape, dtype)``, and where they ran."""
    return {
        'seconds': [_seconds(case) for case in cases(tuple(shape), dtype)],
        'device': _device(),
    }


def _seconds(case: Case) -> float:
    layer = layer_of(case)
    x, dy = (tensor(array, case) for array in arrays(case.shape))

    def run() -> None:
        nonlocal x, dy
        for _ in range(case.steps):
            x, dy = step(layer, x, dy, case)
        x[(0,) * x.ndim].item()  # an accelerator has finished when this is known

    return median_seconds(run) / case.steps


def layer_of(case: Case) -> Any:
    """Batch norm in training, and ReLU, as the JAX sides have them."""
    from torch import nn

    kind = nn.BatchNorm2d if len(case.shape) == 4 else nn.BatchNorm1d
    layer = kind(case.shape[-1], eps=1e-5, momentum=0.1)  # the fraction replaced
    nn.init.ones_(layer.bias)
    layers = [layer, nn.ReLU(inplace=True)] if case.relu else [layer]
    return nn.Sequential(*layers).to(_device()).requires_grad_(case.backward)


def tensor(array: np.ndarray, case: Case) -> Any:
    """The array with its features second; in memory, they stay last."""
    import torch

    values = torch.from_numpy(array).to(_device(), getattr(torch, case.dtype))
    return values.movedim(-1, 1)


def step(layer: Any, x: Any, dy: Any, case: Case) -> tuple[Any, Any]:
    """The next input and incoming gradient; those of parameters add up."""
    if not case.backward:
        return layer(x), dy
    x = x.detach().requires_grad_()
    y = layer(x)
    y.backward(dy)
    return y.detach(), x.grad


def _device() -> str:
    import torch

    return 'cuda' if torch.cuda.is_available() else 'cpu'
