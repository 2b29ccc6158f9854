"""What checks on images, shapes and texts are made of, where the answer is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bnjax
from bnjax.claims import checking
from bnjax.claims.exact import images, planes, shapes, texts
from bnjax.claims.register import CLAIMS
from bnjax.errors import UserError


def test_without_the_data_a_line_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
    with pytest.raises(UserError, match='mnist.*fetch'):
        images.train_pixels.__wrapped__('mnist')


def test_neighbours_are_counted_by_the_value_of_the_first():
    pairs = np.zeros((256, 256), int)
    pairs[30, 200], pairs[25, 101], pairs[35, 100], pairs[24, 200] = 1, 1, 6, 90
    bright, _ = images.neighbour_statistics(pairs)
    assert bright == 2 / 8


@pytest.mark.parametrize('correlation', [-0.5, 0.0, 1.0])
def test_neighbours_have_the_correlation_that_was_planted(correlation):
    agree, differ = (1 + correlation) / 4, (1 - correlation) / 4
    pairs = np.zeros((256, 256))
    pairs[np.ix_([40, 50], [30, 90])] = [[agree, differ], [differ, agree]]
    with np.errstate(invalid='ignore'):  # no pixel here is dark
        _, found = images.neighbour_statistics(pairs)
    assert found == pytest.approx(correlation)


def test_spectra_lose_first_the_mean_and_then_the_scales():
    variances, mean = np.geomspace(1000, 1, 300), np.full(300, 10.0)
    second = np.diag(variances) + np.outer(mean, mean)
    raw, centred, scored, whitened = images.spectrum_ratios(second, mean)
    assert centred == pytest.approx(variances[0] / variances[199])
    assert raw > 25 * centred
    assert scored == pytest.approx(1)
    assert 1 < whitened < 1.5


def test_second_moments_are_exact_sums(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (600, 28, 28, 1), np.uint8)
    monkeypatch.setattr(images, 'train_pixels', lambda name: pixels)
    second, mean = images.second_moments.__wrapped__()
    rows = pixels.reshape(600, -1).astype(int)
    assert np.array_equal(second, rows.T @ rows / 600)
    assert np.array_equal(mean, rows.sum(0) / 600)


def test_planes_are_counted_by_what_they_leave_on_each_side():
    assert planes.splits(np.array([0, 0.02, 0.05, 0.5, 0.97, 1])) == (4 / 6, 2 / 6)


def test_a_plane_divides_a_cloud_by_the_sign_of_its_products():
    cloud = np.array([[1.0, 2.0], [2.0, 1.0], [4.0, 1.0], [5.0, 1.0]])
    normals = np.array([[1.0, 0.0], [-1.0, 1.0], [-1.0, -1.0]]).T
    assert planes.shares(cloud, normals).tolist() == [1, 0.25, 0]


def test_the_narrow_cloud_is_narrow():
    cloud = planes.narrow_cloud(50, seed=0)
    assert cloud.min() >= 0
    assert cloud.max() <= 255
    correlation = np.corrcoef(cloud.T)[np.triu_indices(50, 1)]
    # Of a common deviation of 40 and one of 8 of each feature's own.
    assert correlation.mean() == pytest.approx(40**2 / (40**2 + 8**2), abs=0.01)


def test_a_difference_of_zero_is_within_its_interval_and_a_planted_one_is_not():
    noise = np.random.default_rng(1).normal(size=2000)
    none, planted = (planes.difference(noise + shift) for shift in (0, 0.2))
    assert none.low < 0 < none.high
    assert 0.1 < planted.low < 0.2 < planted.high < 0.3
    # Of the mean of normal values, to the noise of 1000 resamples.
    assert none.high - none.low == pytest.approx(2 * 1.96 / np.sqrt(2000), rel=0.1)


def test_two_values_are_far_from_a_normal_law():
    distance, kurtosis = shapes.shape(np.tile([[-1.0], [1.0]], (500, 1)))
    # Half lies at one deviation below the mean, where the normal law has 15.9 %.
    assert distance == pytest.approx(0.5 - 0.1587, abs=1e-4)
    assert kurtosis == pytest.approx(-2)


def test_the_scale_of_a_law_does_not_change_its_shape():
    x = np.random.default_rng(0).uniform(size=(10_000, 1))
    distance, kurtosis = shapes.shape(np.concatenate([x, 7 - 3 * x], 1))
    assert kurtosis == pytest.approx([-1.2, -1.2], abs=0.05)
    assert distance[0] == pytest.approx(distance[1], abs=1e-3)


def test_a_steep_sigmoid_is_a_step_and_a_flat_one_a_line():
    assert shapes.line_fit(1e-3) == pytest.approx(1, abs=1e-5)
    assert shapes.line_fit(400) == pytest.approx(2 / np.pi, abs=1e-2)
    assert shapes.line_to_sigmoid(0.49)[0] < 1e-6


def test_the_worked_example_with_its_eighth_value_holds(monkeypatch):
    assert not shapes.worked_example().holds
    words = CLAIMS['S51'].words
    whole = words[0].replace('0.08, 2.19', '0.08, 0.68, 2.19')
    assert shapes.numbers_in(whole)[4:7] == [0.08, 0.68, 2.19]
    _say(monkeypatch, 'S51', whole, *words[1:])
    assert shapes.worked_example().holds


CORRECTED = {
    'E13': (('要对所有的gamma和beta进行统计', 'nn.mean_gamma{i-1}'), True),
    'E19': (('个人认为四点', '  4. ', '求这个batch的均值μ和方差σ^2'), False),
    'E20': (
        (
            r'$\tilde Z_j=\gamma_j\hat Z_j$',
            '$M$ ：',
            '$X$ 的一列',
            '$m$ ：',
            r'$x^{(m)}\rbrace$',
        ),
        False,
    ),
    'E21': (('BN往往用在卷积层之后,激活函数之前', '在Wx+b之后进行归一化'), False),
    'E22': (('batch normalization', 'C H W', '有: y'), False),
    'E29': (('将去均值后的值除以标准差', '方差) sigma^2'), False),
    'E30': (('缓解', '缓解', '缓解'), False),
}


@pytest.mark.parametrize('key', CORRECTED)
def test_a_text_that_says_something_else_is_found_to(key, monkeypatch):
    check = getattr(texts, CLAIMS[key].check.partition('.')[2])
    words, holds = CORRECTED[key]
    assert check().holds != holds
    _say(monkeypatch, key, *words)
    assert check().holds == holds


batch_norm, normalize, moments = bnjax.batch_norm, bnjax.normalize, bnjax.moments


def mean_not_subtracted(x, *affine, **options):
    batch = moments(x)
    return normalize(x, batch._replace(mean=0 * batch.mean), *affine, **options), batch


def not_divided(x, *affine, **options):
    batch = moments(x)
    return normalize(x, batch._replace(var=jnp.ones_like(batch.var)), *affine), batch


def divided_by_m_less_one(x, *affine, **options):
    batch = moments(x)
    batch = batch._replace(var=batch.var * batch.count / (batch.count - 1))
    return normalize(x, batch, *affine, **options), batch


def root_of_the_scale(x, scale, bias=None, **options):
    return batch_norm(x, jnp.sqrt(scale), bias, **options)


def variance_left_out_of_the_derivative(x, *affine, **options):
    batch = moments(x)
    batch = batch._replace(var=jax.lax.stop_gradient(batch.var))
    return normalize(x, batch, *affine, **options), batch


MUTATIONS = {
    'S25': mean_not_subtracted,
    'S17': not_divided,
    'S51': divided_by_m_less_one,
    'M1': not_divided,
    'E27': root_of_the_scale,
    'M13': variance_left_out_of_the_derivative,
    'S15': variance_left_out_of_the_derivative,
}


@pytest.mark.parametrize('key', MUTATIONS)
def test_a_library_that_is_broken_turns_the_check_red(key, monkeypatch):
    monkeypatch.setattr(bnjax, 'batch_norm', MUTATIONS[key])
    (found,) = checking.checked([CLAIMS[key]])
    assert found.broken


def test_a_probe_tells_a_shift_that_normalising_did_not_make(monkeypatch):
    monkeypatch.setattr(bnjax, 'normalize', lambda x, *rest, **options: x)
    (found,) = checking.checked([CLAIMS['M2']])
    assert found.broken


def _say(monkeypatch, key, *words):
    said = dataclasses.replace(CLAIMS[key], words=words)
    monkeypatch.setitem(CLAIMS, key, said)
