"""One network and no sweep: a plain training run to start from.

Shows: how a config that has no sweep trains one network, here on the 8 x 8 digits.
Takes: under half a minute on two CPU cores, without a network connection.
Expect: about 97 % of the test images right.
Command: python train.py --config=configs/single.py --config.seed=1
"""

from bnjax import config


def get_config():
    return config.defaults()
