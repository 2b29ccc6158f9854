"""torch trains what bnjax trains, with channels last in memory."""

import numpy as np
import torch
from test_benchmark_training import CNN, MLP, TINY, losses_of, losses_of_bnjax

from bnjax.benchmark import python_loop
from bnjax.benchmark.workloads import training_images


@TINY
def test_torch_has_the_same_losses_over_twenty_steps(workload):
    ours, _ = losses_of_bnjax(workload)
    np.testing.assert_allclose(losses_of('torch', workload), ours, rtol=1e-4)


def test_every_convolution_of_torch_has_channels_last_in_memory():
    trainer = python_loop.trainer_of('torch', CNN)
    state, last = trainer.begin(0, 0.1), []

    def note(module, inputs, output):
        for tensor in (*inputs, output, module.weight):
            last.append(tensor.is_contiguous(memory_format=torch.channels_last))

    for module in state.net.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(note)
    data = trainer.place(training_images(CNN))
    trainer.step(state, data, CNN.order(0)[: CNN.batch_size])
    assert last == [True] * 12


def test_torch_scores_by_running_statistics_and_leaves_them_alone():
    trainer = python_loop.trainer_of('torch', MLP)
    state, data = trainer.begin(0, 0.1), trainer.place(training_images(MLP))
    rows = MLP.order(0)[: MLP.batch_size]
    first = [float(s) for s in trainer.evaluate(state, data, rows)]
    assert [float(s) for s in trainer.evaluate(state, data, rows)] == first
    state, _ = trainer.step(state, data, rows)
    assert [float(s) for s in trainer.evaluate(state, data, rows)] != first
