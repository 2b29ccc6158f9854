"""How trials are run: how many side by side, by platform and network."""

from collections.abc import Mapping

# On CPU a convolution gains nothing from company and costs memory; the small
# matrices of an mlp do gain. Rows other than cpu's are guesses, not measured.
WIDTH: Mapping[str, Mapping[str, int]] = {
    'cpu': {'mlp': 16, 'cnn': 1},
    'gpu': {'mlp': 64, 'cnn': 8},
    'tpu': {'mlp': 64, 'cnn': 8},
}


def width(platform: str, model: str) -> int:
    """Trials in a chunk. Fixed, for another width changes the last bits."""
    return WIDTH.get(platform, WIDTH['gpu'])[model]
