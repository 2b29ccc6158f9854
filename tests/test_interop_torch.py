"""A layer of torch and its conversion side by side."""

import dataclasses

import jax
import numpy as np
import pytest
import torch

from bnjax.interop import from_torch, to_nnx, to_torch
from bnjax.linen import BatchNorm

RNG = np.random.default_rng(0)
MOMENTA = {'cumulative': None, 'none': 0.0, 'some': 0.3, 'all': 1.0}
OPTIONS = {  # without parameters and statistics there is nothing to convert
    f'{name}, {", ".join(k for k, on in switches.items() if on)}': {
        'momentum': momentum,
        'eps': 1e-2,
        **switches,
    }
    for name, momentum in MOMENTA.items()
    for switches in (
        {'affine': True, 'track_running_stats': True},
        {'affine': True, 'track_running_stats': False},
        {'affine': False, 'track_running_stats': True},
    )
} | {'default': {}}
options = pytest.mark.parametrize('options', OPTIONS.values(), ids=OPTIONS)


def batches(number, *size):
    return (3 * RNG.normal(size=(number, 6, 4, *size)) + 1).astype('f4')


def trained(options, steps=3, layer_type=torch.nn.BatchNorm1d, size=(5,)):
    """A layer of torch after some steps, with parameters of its own."""
    torch.manual_seed(0)
    layer = layer_type(4, **options)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    for x in batches(steps, *size):
        layer(torch.from_numpy(x))
    return layer


def converted(layer):
    return from_torch(layer.state_dict(), momentum=layer.momentum, eps=layer.eps)


def back(fields, variables, layer_type=torch.nn.BatchNorm1d):
    arguments, state = to_torch(fields, variables)
    layer = layer_type(**arguments)
    layer.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})
    return layer


def step(fields, variables, x):
    """As torch's in training: the output and the next variables."""
    call = {} if 'use_running_average' in fields else {'use_running_average': False}
    layer = BatchNorm(**fields, axis=1)
    y, new = layer.apply(variables, x, **call, mutable=['batch_stats'])
    return y, {**variables, **new}


def evaluate(fields, variables, x):
    call = {} if 'use_running_average' in fields else {'use_running_average': True}
    return BatchNorm(**fields, axis=1).apply(variables, x, **call)


def statistics(layer):
    _, variables = converted(layer)
    return variables['batch_stats']


def run(layer, x):
    return layer(torch.from_numpy(x)).detach().numpy()


def assert_close(got, want, tolerance):
    got, want = jax.tree.leaves(got), jax.tree.leaves(want)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, tolerance, tolerance)


@pytest.mark.parametrize(
    ('layer_type', 'size'),
    [
        (torch.nn.BatchNorm1d, ()),
        (torch.nn.BatchNorm1d, (5,)),
        (torch.nn.BatchNorm2d, (3, 5)),
        (torch.nn.BatchNorm3d, (2, 3, 2)),
    ],
)
def test_evaluates_as_torch_does(layer_type, size):
    layer = trained({}, layer_type=layer_type, size=size).eval()
    (x,) = batches(1, *size)
    assert_close(evaluate(*converted(layer), x), run(layer, x), 1e-6)


@options
def test_five_more_steps_are_the_same_on_both_sides(options):
    layer = trained(options)
    fields, variables = converted(layer)
    for x in batches(5, 5):
        y, variables = step(fields, variables, x)
        assert_close(y, run(layer, x), 1e-5)
        assert_close(variables['batch_stats'], statistics(layer), 1e-5)
    (x,) = batches(1, 5)
    assert_close(evaluate(fields, variables, x), run(layer.eval(), x), 1e-5)


@options
def test_what_was_trained_here_goes_on_in_torch(options):
    fields, variables = converted(trained(options))
    for x in batches(3, 5):
        _, variables = step(fields, variables, x)
    layer = back(fields, variables)
    for x in batches(5, 5):
        y, variables = step(fields, variables, x)
        assert_close(run(layer, x), y, 1e-5)
        assert_close(statistics(layer), variables['batch_stats'], 1e-5)
    (x,) = batches(1, 5)
    assert_close(run(layer.eval(), x), evaluate(fields, variables, x), 1e-5)


@options
def test_a_layer_comes_back_as_it_was(options):
    layer = trained(options)
    again = back(*converted(layer))
    assert repr(again) == repr(layer)
    for name, value in layer.state_dict().items():
        if name != 'num_batches_tracked' or layer.momentum is None:
            assert torch.equal(again.state_dict()[name], value), name


def test_nnx_evaluates_as_torch_does():
    layer = trained({}).eval()
    fields, variables = converted(layer)
    own = to_nnx({**fields, 'axis': 1}, variables)
    own.eval()
    (x,) = batches(1, 5)
    assert_close(own(x), run(layer, x), 1e-6)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_comes_back_to_the_bit(dtype):
    layer = trained({}).to(dtype)
    _, variables = converted(layer)
    assert {str(p.dtype) for p in variables['params'].values()} == {str(dtype)[6:]}
    again = back(*converted(layer)).to(dtype)
    assert torch.equal(again.weight, layer.weight)
    assert torch.equal(again.running_var, layer.running_var)


def test_converted_statistics_stay_when_torch_trains_on():
    layer = trained({})
    before = statistics(layer)
    kept = jax.tree.map(np.array, before)
    trained_on = run(layer, batches(1, 5)[0])
    assert np.isfinite(trained_on).all()
    assert not np.array_equal(statistics(layer)['mean'], kept['mean'])
    np.testing.assert_array_equal(before['mean'], kept['mean'])


def test_a_layer_is_found_in_the_checkpoint_of_a_network(tmp_path):
    network = torch.nn.Sequential(torch.nn.Linear(2, 4), trained({}))
    torch.save(network.state_dict(), tmp_path / 'checkpoint.pt')
    state = torch.load(tmp_path / 'checkpoint.pt', weights_only=True)
    own = {k.removeprefix('1.'): v for k, v in state.items() if k.startswith('1.')}
    _, variables = from_torch(own)
    want = network[1].running_var.numpy()
    np.testing.assert_array_equal(variables['batch_stats']['var'], want)
    with pytest.raises(ValueError, match='removeprefix'):
        from_torch(state)


def test_of_torchs_layer_without_any_values_the_equal_is_named():
    layer = torch.nn.BatchNorm1d(4, eps=0.5, affine=False, track_running_stats=False)
    with pytest.raises(ValueError, match='state is empty.*BatchNorm') as refused:
        from_torch(layer.state_dict(), eps=layer.eps)
    cure = str(refused.value).split(' it is ')[-1]
    ours = eval(cure, {'BatchNorm': BatchNorm, 'eps': layer.eps})
    (x,) = batches(1)
    y, variables = ours.init_with_output(jax.random.key(0), x)
    assert_close(y, run(layer, x), 1e-5)
    names = [field.name for field in dataclasses.fields(BatchNorm)]
    fields = {name: getattr(ours, name) for name in names} | {'momentum': 0.9}
    arguments, state = to_torch(fields, variables)
    assert repr(torch.nn.BatchNorm1d(**arguments)) == repr(layer)
    assert state == {}
