"""Splits and preprocessing of the data sets."""

import numpy as np
import pytest
from conftest import needs_tfds
from sklearn.datasets import load_digits

from bnjax import data
from bnjax.config import FIELDS
from bnjax.data import sources
from bnjax.errors import UserError


@pytest.fixture(scope='session')
def session_cache(tmp_path_factory):
    return tmp_path_factory.mktemp('cache')


@pytest.fixture
def decoded_once(session_cache, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(session_cache))


def rows(images):
    """Images as (n, features) float64."""
    return images.reshape(len(images), -1).astype(np.float64)


def covariance(images):
    return np.cov(rows(images).T, bias=True)


# Splits


def test_digits_has_the_documented_shapes_and_types():
    digits = data.load('digits')
    for split, n in zip(digits[:3], (1295, 143, 359), strict=True):
        assert split.x.shape == (n, 8, 8, 1)
        assert split.y.shape == (n,)
        assert split.x.dtype == np.float32
        assert split.y.dtype == np.int32
        assert set(split.y) == set(range(10))
    assert digits.classes == 10


def test_every_digit_is_in_exactly_one_split():
    digits = data.load('digits')
    ours = np.concatenate([np.c_[rows(s.x) * 16, s.y] for s in digits[:3]])
    theirs = load_digits()
    expected = np.c_[theirs.data, theirs.target]
    assert sorted(map(tuple, ours)) == sorted(map(tuple, expected))


def test_loading_twice_gives_the_same_bits():
    first, second = (data.load('digits', preprocess='zca') for _ in range(2))
    for a, b in zip(first[:3], second[:3], strict=True):
        np.testing.assert_array_equal(a.x, b.x)
        np.testing.assert_array_equal(a.y, b.y)


def test_the_digits_split_never_changes():
    """The sums pin which images are where, on any machine and NumPy version."""
    digits = data.load('digits')
    sums = [(int(s.x.sum() * 16), int(s.y.sum())) for s in digits[:3]]
    assert sums == [(405092, 5689), (44879, 657), (111747, 1724)]


@pytest.mark.parametrize('preprocess', FIELDS['data.preprocess'].metadata['choices'])
def test_no_validation_split_is_one_of_length_zero(preprocess):
    digits = data.load('digits', preprocess=preprocess, validation_percent=0)
    assert len(digits.train.x) == 1438
    assert digits.validation.x.shape == (0, 8, 8, 1)
    assert digits.validation.y.shape == (0,)


def test_the_test_split_does_not_depend_on_validation_percent():
    none, half = (data.load('digits', validation_percent=p) for p in (0, 50))
    np.testing.assert_array_equal(none.test.x, half.test.x)


def test_the_split_does_not_follow_sorted_labels():
    sorted_labels = np.repeat(np.arange(10), 100)
    held_out = sources.hold_out(1000, 200)
    assert held_out.sum() == 200
    assert np.bincount(sorted_labels[held_out], minlength=10).min() > 5


@pytest.mark.parametrize(
    ('arguments', 'field'),
    [
        ({'name': 'mnst'}, "data.name='mnst'"),
        ({'name': 'digits', 'preprocess': 'PCA'}, "data.preprocess='PCA'"),
        ({'name': 'digits', 'validation_percent': 101}, 'data.validation_percent=101'),
        ({'name': 'digits', 'validation_percent': 0.1}, 'data.validation_percent=0.1'),
        ({'name': 'digits', 'images': -1}, 'data.images=-1'),
        ({'name': 'digits', 'images': 1296}, 'data.images=1296 must be at most 1295'),
        (
            {'name': 'digits', 'images': 720, 'validation_percent': 50},
            'data.images=720 must be at most 719',
        ),
    ],
)
def test_a_wrong_argument_is_named(arguments, field):
    with pytest.raises(UserError, match=f'^{field}'):
        data.load(**arguments)


# Fewer images


def test_fewer_training_images_leave_the_other_splits_as_they_are():
    every, some = data.load('digits'), data.load('digits', images=300)
    for a, b in zip(every[1:3], some[1:3], strict=True):
        np.testing.assert_array_equal(a.x, b.x)
        np.testing.assert_array_equal(a.y, b.y)
    assert some.train.x.shape == (300, 8, 8, 1) and some.train.y.shape == (300,)


def test_fewer_images_are_some_of_more_and_as_many_as_there_are_are_all():
    def numbered(images):
        x, y = data.load('digits', preprocess='raw', images=images).train
        return {(*row, label) for row, label in zip(rows(x), y, strict=True)}

    sets = [numbered(n) for n in (1, 10, 300, 1295)]
    assert [len(s) for s in sets] == [1, 10, 300, 1295]
    assert all(a < b for a, b in zip(sets, sets[1:], strict=False))
    every, all_of_them = data.load('digits'), data.load('digits', images=1295)
    np.testing.assert_array_equal(every.train.x, all_of_them.train.x)


def test_the_images_used_are_of_all_classes_and_always_the_same(monkeypatch):
    raw = sources.digits()
    by_label = np.argsort(raw.y_train, kind='stable')
    in_order = raw._replace(
        x_train=raw.x_train[by_label], y_train=raw.y_train[by_label]
    )
    monkeypatch.setattr(sources, 'digits', lambda: in_order)
    for percent in (0, 10):
        y = data.load('digits', images=300, validation_percent=percent).train.y
        assert np.bincount(y, minlength=10).min() >= 15
        assert (np.diff(y) >= 0).all()  # in their order
    # NumPy's frozen stream, as the split has it: validation first, then these.
    used = np.random.RandomState(0).permutation(len(by_label))[143:443]
    np.testing.assert_array_equal(y, in_order.y_train[np.sort(used)])


@pytest.mark.parametrize('preprocess', ['center', 'zscore', 'zca'])
def test_preprocessing_is_fitted_on_the_images_used(preprocess):
    fields = {'preprocess': preprocess, 'images': 200}
    x = rows(data.load('digits', **fields).train.x)
    np.testing.assert_allclose(x.mean(0), 0, atol=2e-6)
    other = data.load('digits', preprocess=preprocess).test.x
    assert not np.allclose(data.load('digits', **fields).test.x, other)


# Preprocessing


def test_raw_is_the_pixel_as_it_is_stored():
    raw, stored = data.load('digits', preprocess='raw'), sources.digits()
    np.testing.assert_array_equal(raw.test.x, stored.x_test)
    assert raw.test.x.dtype == np.float32
    assert (raw.train.x.min(), raw.train.x.max()) == (0, 16)
    np.testing.assert_array_equal(raw.train.x, 16 * data.load('digits').train.x)


def test_unit_is_the_pixel_over_the_white_one():
    digits = data.load('digits')
    assert digits.train.x.min() == 0
    assert digits.train.x.max() == 1
    np.testing.assert_array_equal(digits.train.x * 16, np.rint(digits.train.x * 16))


@pytest.mark.parametrize('preprocess', ['center', 'zscore', 'pca', 'zca'])
def test_the_training_mean_is_zero(preprocess):
    x = rows(data.load('digits', preprocess=preprocess).train.x)
    np.testing.assert_allclose(x.mean(0), 0, atol=2e-6)


def test_zscore_gives_unit_variance_and_constant_features_zero():
    unit = data.load('digits').train.x
    x = data.load('digits', preprocess='zscore').train.x
    constant = np.ptp(unit, axis=0) == 0
    assert constant.any()
    np.testing.assert_array_equal(x[:, constant], 0)
    np.testing.assert_allclose(rows(x).std(0)[~constant.ravel()], 1, rtol=1e-6)


def test_a_feature_constant_in_training_is_not_blown_up_elsewhere(monkeypatch):
    raw = sources.digits()
    dark = raw._replace(x_train=raw.x_train * (np.arange(8) > 0)[:, np.newaxis])
    monkeypatch.setattr(sources, 'digits', lambda: dark)
    for preprocess in ('zscore', 'pca', 'zca'):
        loaded = data.load('digits', preprocess=preprocess)
        lit = raw.x_test[:, :, 0].any((1, 2))
        assert lit.any()
        assert np.abs(loaded.test.x).max() < 40  # sqrt(1295) is 36


def test_pca_whitens_all_that_varies():
    center, pca = (data.load('digits', preprocess=p) for p in ('center', 'pca'))
    variance = np.linalg.eigvalsh(covariance(center.train.x))[::-1].clip(0)
    expected = np.diag(variance / (variance + 1e-5))
    np.testing.assert_allclose(covariance(pca.train.x), expected, atol=1e-4)
    large = variance > 1e-2
    whitened = covariance(pca.train.x)[np.ix_(large, large)]
    np.testing.assert_allclose(whitened, np.eye(large.sum()), atol=2e-3)


def test_pca_puts_the_largest_variance_first():
    center, pca = (data.load('digits', preprocess=p) for p in ('center', 'pca'))
    shared = rows(center.train.x).T @ rows(pca.train.x) / len(pca.train.x)
    along = np.linalg.norm(shared, axis=0)  # each axis's standard deviation, nearly
    assert (np.diff(along) < 1e-6).all()
    # An axis points to where its largest pixel is positive.
    assert (shared[np.abs(shared).argmax(0), np.arange(64)] > -1e-9).all()


def test_zca_is_pca_rotated_back_to_pixels():
    center, pca, zca = (
        data.load('digits', preprocess=p) for p in ('center', 'pca', 'zca')
    )
    norms = [np.linalg.norm(rows(d.test.x), axis=1) for d in (pca, zca)]
    np.testing.assert_allclose(*norms, rtol=1e-4)
    # The rotation is the one for which pixels stay in their place.
    across = rows(center.train.x).T @ rows(zca.train.x) / len(zca.train.x)
    np.testing.assert_allclose(across, across.T, atol=1e-6)
    assert np.linalg.eigvalsh(across).min() > -1e-6


@pytest.mark.parametrize('preprocess', ['center', 'zscore', 'pca', 'zca'])
def test_only_the_training_split_is_fitted(preprocess, monkeypatch):
    before = data.load('digits', preprocess=preprocess)
    raw = sources.digits()
    held_out = sources.hold_out(len(raw.x_train), len(before.validation.x))
    x_train = raw.x_train.copy()
    x_train[held_out] = 16 - x_train[held_out]
    changed = raw._replace(x_train=x_train, x_test=16 - raw.x_test)
    monkeypatch.setattr(sources, 'digits', lambda: changed)
    after = data.load('digits', preprocess=preprocess)
    np.testing.assert_array_equal(after.train.x, before.train.x)
    assert not np.array_equal(after.validation.x, before.validation.x)
    assert not np.array_equal(after.test.x, before.test.x)


# The real data sets


@needs_tfds('mnist')
def test_mnist_is_mnist(decoded_once):
    mnist = data.load('mnist')
    assert [s.x.shape for s in mnist[:3]] == [
        (n, 28, 28, 1) for n in (54000, 6000, 10000)
    ]
    counts = np.bincount(mnist.train.y) + np.bincount(mnist.validation.y)
    assert counts.sum() == 60000
    assert (counts[1], counts[5]) == (6742, 5421)
    assert list(np.bincount(mnist.test.y)[[1, 5]]) == [1135, 892]
    assert (mnist.train.x.min(), mnist.train.x.max()) == (0, 1)
    pixels = np.concatenate([s.x for s in mnist[:2]])
    assert pixels.mean(dtype=np.float64) == pytest.approx(0.1307, abs=1e-4)
    assert pixels.std(dtype=np.float64) == pytest.approx(0.3081, abs=1e-4)


@needs_tfds('mnist')
@pytest.mark.parametrize('preprocess', ['zscore', 'zca'])
def test_the_many_constant_pixels_of_mnist_stay_bounded(preprocess, decoded_once):
    mnist = data.load('mnist', preprocess=preprocess)
    assert np.abs(mnist.train.x).max() < 54000**0.5  # no value of n can exceed this
    assert np.abs(mnist.test.x).max() < 1000


@needs_tfds('cifar10')
def test_cifar10_is_cifar10(decoded_once):
    cifar10 = data.load('cifar10', validation_percent=0)
    assert cifar10.train.x.shape == (50000, 32, 32, 3)
    assert cifar10.test.x.shape == (10000, 32, 32, 3)
    assert list(np.bincount(cifar10.train.y)) == [5000] * 10
    assert list(np.bincount(cifar10.test.y)) == [1000] * 10
    mean = cifar10.train.x.mean((0, 1, 2), dtype=np.float64)
    np.testing.assert_allclose(mean, (0.4914, 0.4822, 0.4465), atol=5e-3)
