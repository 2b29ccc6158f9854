"""What is measured of a layer: shapes, dtypes, with ReLU or not, which passes."""

import dataclasses
import itertools
import math

import numpy as np

SHAPES = ((128, 32, 32, 64), (512, 8, 8, 256), (4096, 1024), (256, 512))
DTYPES = ('float32', 'bfloat16')
UNROLL = 2  # steps in a turn of JAX's loop


@dataclasses.dataclass(frozen=True)
class Case:
    """One line of the table.

    Attributes:
      shape: of the input, features last.
      dtype: of the input and the result; parameters and statistics are float32.
      relu: whether a ReLU follows.
      backward: whether the gradients are taken, too.
    """

    shape: tuple[int, ...]
    dtype: str
    relu: bool
    backward: bool

    @property
    def steps(self) -> int:
        """Steps that are timed as one, for clocks and calls to cost nothing."""
        turns = 20_000_000 // math.prod(self.shape)
        return UNROLL * min(max(turns, 1), 120)


def cases(shape: tuple[int, ...], dtype: str) -> list[Case]:
    """BN and BN + ReLU, forward and forward + backward."""
    both = itertools.product((False, True), repeat=2)
    return [Case(shape, dtype, relu, backward) for relu, backward in both]


def arrays(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """An input and a gradient of the result, float32, the same for every side."""
    x, dy = np.random.default_rng(0).standard_normal((2, *shape), np.float32)
    return x, dy
