"""Data sets as arrays in memory: read once, split, preprocessed."""

from typing import NamedTuple

import numpy as np

from bnjax import config
from bnjax.data import preprocessing, sources
from bnjax.errors import UserError


class Split(NamedTuple):
    """Images ``x`` (n, height, width, channels) float32, labels ``y`` (n,) int32."""

    x: np.ndarray
    y: np.ndarray


class Dataset(NamedTuple):
    """Three disjoint splits, preprocessed alike; labels lie in [0, classes)."""

    train: Split
    validation: Split
    test: Split
    classes: int


def load(
    name: str,
    *,
    preprocess: str = 'unit',
    validation_percent: int = 10,
    images: int = 0,
    data_dir: str | None = None,
) -> Dataset:
    """Load a data set; each image falls into the same split every time.

    Args:
      name: ``digits``, which ships with scikit-learn, or ``mnist``, ``fashion_mnist``,
        ``cifar10``, ``cifar100`` as TensorFlow Datasets (TFDS) prepared them on this
        machine. Neither TensorFlow nor the network is used.
      preprocess: ``raw`` leaves pixels as they are stored, from 0 to 255, or 16 for
        digits; ``unit`` scales them to [0, 1]. The others do that first and are
        fitted on the training split alone: ``center`` subtracts the mean of each
        feature; ``zscore`` also divides by its standard deviation (a constant feature
        by 1); ``pca`` projects on the principal axes, the largest variance first, each
        divided by ``sqrt(variance + 1e-5)`` (an axis without variance by 1); ``zca``
        rotates that back to pixels. The image shape is kept.
      validation_percent: share of the training images that becomes the validation
        split; 0 makes that of length 0.
      images: of the others, as many become the training split, mixed as they come and
        fewer of them a part of more; 0: all.
      data_dir: the directory of TFDS; by default ``$TFDS_DATA_DIR``, else
        ``~/tensorflow_datasets``.

    Raises:
      UserError: an argument has no such value, or the data is absent or damaged.
    """
    config.check('data.name', name)
    config.check('data.preprocess', preprocess)
    config.check('data.validation_percent', validation_percent)
    config.check('data.images', images)
    raw = sources.digits() if name == 'digits' else sources.prepared(name, data_dir)
    n = len(raw.x_train)
    validated = n * validation_percent // 100
    if validated + images > n:
        raise UserError(
            f'data.images={images} must be at most {n - validated}, the number of '
            f'training images of {name} that are not set aside'
        )
    held_out = sources.hold_out(n, validated)
    used = ~held_out
    if images:
        used &= sources.hold_out(n, validated + images)
    x_train, x_validation = raw.x_train[used], raw.x_train[held_out]
    transform = preprocessing.fit(preprocess, x_train, raw.white)
    return Dataset(
        Split(preprocessing.apply(transform, x_train), raw.y_train[used]),
        Split(preprocessing.apply(transform, x_validation), raw.y_train[held_out]),
        Split(preprocessing.apply(transform, raw.x_test), raw.y_test),
        raw.classes,
    )
