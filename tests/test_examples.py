"""The examples of the documentation run and do what they say."""

import pathlib
import runpy

EXAMPLES = pathlib.Path(__file__).parents[1] / 'docs' / 'examples'


def test_a_flax_network_with_our_batch_norm_learns_the_digits():
    example = runpy.run_path(str(EXAMPLES / 'swap_batchnorm.py'))
    assert example['main'](epochs=5) > 0.94
