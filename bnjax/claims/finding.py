"""What an exact check brings back, and how it says that the library is broken."""

from typing import NamedTuple


class Finding(NamedTuple):
    """The outcome of an exact check.

    Attributes:
      holds: whether the claim, as it is stated, holds; None where it is undecided.
      effect: what was measured, a short phrase with its numbers.
    """

    holds: bool | None
    effect: str


class BrokenError(RuntimeError):
    """Something is not as it must be whether the claim holds or not."""


def require(condition: bool, text: str) -> None:
    """Stops a check at what must be true whatever the claim says.

    Args:
      condition: what must be true; a comparison with nan is not.
      text: the requirement and what was found, one line.

    Raises:
      BrokenError: ``condition`` is false.
    """
    if not condition:
        raise BrokenError(text)
