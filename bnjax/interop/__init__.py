"""One batch norm's values to and from torch, Flax Linen and Flax NNX.

All meet in the pair ``fields, variables``: the keyword arguments of a
`bnjax.linen.BatchNorm`, and the dictionary that its ``apply`` takes. Values pass
unchanged, float32 statistics to the bit, so a converted layer evaluates the same. For
a layer inside a network, pass and store its part of the dictionary.
"""

from bnjax.interop.flax import from_nnx, to_flax, to_nnx
from bnjax.interop.torch import from_torch, to_torch

__all__ = ['from_nnx', 'from_torch', 'to_flax', 'to_nnx', 'to_torch']
