"""What ``step`` and ``sweep`` train: networks, on data of a real set's shape."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

CLASSES = 10
MOMENTUM = 0.9  # of SGD, and the fraction of running statistics kept
CHECKED_STEPS = 20

Images = tuple[np.ndarray, np.ndarray]  # and labels


@dataclasses.dataclass(frozen=True)
class Workload:
    """One line of a table: batch norm before each activation, SGD with momentum.

    Attributes:
      name: of the line.
      model: of the program's networks.
      features: width of each hidden layer (mlp), pair (cnn) or stage of them (resnet).
      activation: relu or sigmoid.
      image: height, width, channels.
      batch_size: images in a step.
      steps: in an epoch.
      epochs: in a trial.
      trials: in a sweep, each with a seed and a learning rate of its own.
      learning_rate: the largest of them.
      depth: of a resnet, in layers.
    """

    name: str
    model: str
    features: tuple[int, ...]
    activation: str
    image: tuple[int, int, int]
    batch_size: int
    steps: int
    epochs: int
    trials: int
    learning_rate: float
    depth: int = 20

    def blocks(self) -> list[tuple[int, int]]:
        """Channels and stride of each block of a resnet."""
        each = (self.depth - 2) // (2 * len(self.features))
        return [
            (width, 2 if stage and not place else 1)
            for stage, width in enumerate(self.features)
            for place in range(each)
        ]

    def order(self, seed: int, images: int | None = None) -> np.ndarray:
        """Some order of the images (of an epoch, unless said how many), int32."""
        n = images or self.batch_size * self.steps
        return np.random.default_rng(seed).permutation(n).astype(np.int32)

    def learning_rates(self) -> list[float]:
        """One for each trial of a sweep, over a decade."""
        rates = np.geomspace(self.learning_rate / 10, self.learning_rate, self.trials)
        return rates.tolist()


WORKLOADS = (
    Workload(
        name='MLP 10 x 200, MNIST shape',
        model='mlp',
        features=(200,) * 10,
        activation='sigmoid',
        image=(28, 28, 1),
        batch_size=200,
        steps=20,
        epochs=2,
        trials=32,
        learning_rate=0.1,
    ),
    Workload(
        name='MLP 2 x 32, digits shape',
        model='mlp',
        features=(32, 32),
        activation='relu',
        image=(8, 8, 1),
        batch_size=64,
        steps=20,
        epochs=10,
        trials=64,
        learning_rate=0.1,
    ),
    Workload(
        name='CNN 32/64/128, CIFAR shape',
        model='cnn',
        features=(32, 64, 128),
        activation='relu',
        image=(32, 32, 3),
        batch_size=128,
        steps=5,
        epochs=2,
        trials=4,
        learning_rate=0.01,
    ),
    Workload(
        name='ResNet-20, CIFAR shape',
        model='resnet',
        features=(16, 32, 64),
        activation='relu',
        image=(32, 32, 3),
        batch_size=128,
        steps=5,
        epochs=2,
        trials=4,
        learning_rate=0.01,
    ),
)


def parsed(fields: Mapping[str, Any]) -> Workload:
    """The workload of ``dataclasses.asdict``, after JSON made lists of its tuples."""
    lists = {name: tuple(fields[name]) for name in ('features', 'image')}
    return Workload(**{**fields, **lists})


def arrays(workload: Workload, images: int, seed: int) -> Images:
    """Images ``(images, height, width, channels)`` float32 and labels int32."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((images, *workload.image), np.float32)
    return x, rng.integers(0, CLASSES, images, np.int32)


def training_images(workload: Workload) -> Images:
    """An epoch of images and labels."""
    return arrays(workload, workload.steps * workload.batch_size, seed=0)


def held_out_images(workload: Workload) -> Images:
    """A fifth as many, in whole batches."""
    batches = -(-workload.steps // 5)
    return arrays(workload, batches * workload.batch_size, seed=1)


def checked_images(workload: Workload) -> Images:
    """Too few for two batches: an epoch of them is a step, with a loss of its own."""
    return arrays(workload, 2 * workload.batch_size - 1, seed=2)


def checked_orders(workload: Workload) -> list[np.ndarray]:
    """For each checked step an order of those; the first of them are its batch."""
    images = 2 * workload.batch_size - 1
    return [workload.order(i, images) for i in range(CHECKED_STEPS)]
