"""torch takes the same step that bnjax takes."""

import torch
from test_benchmark import TINY, assert_same, one_step

from bnjax.benchmark import torch_layer
from bnjax.benchmark.cases import Case, arrays


def step_of_torch(case):
    """The result, its gradient if there is one, and the running statistics."""
    x, dy = arrays(case.shape)
    layers = torch_layer.layer_of(case)
    x, dy = (torch_layer.tensor(a, case) for a in (x, dy))
    y, dx = torch_layer.step(layers, x, dy, case)
    n, norm = y.numel() / y.shape[1], layers[0]
    var = 0.9 + (norm.running_var - 0.9) * (n - 1) / n  # torch's is the unbiased one
    gradients = {'scale': norm.weight.grad, 'bias': norm.bias.grad}
    y, dx = (t.movedim(1, -1) for t in (y, dx))
    if not case.backward:
        dx = gradients = None
    return y, dx, norm.running_mean, var, gradients


@TINY
def test_torch_takes_the_same_step(case):
    assert_same(one_step('bnjax', case), step_of_torch(case))


def test_in_torch_features_are_second_but_last_in_memory():
    case = Case((6, 3, 3, 4), 'bfloat16', relu=True, backward=True)
    x, dy = (torch_layer.tensor(a, case) for a in arrays(case.shape))
    for tensor in (x, *torch_layer.step(torch_layer.layer_of(case), x, dy, case)):
        assert tensor.shape == (6, 4, 3, 3)
        assert tensor.dtype == torch.bfloat16
        assert tensor.is_contiguous(memory_format=torch.channels_last)
