"""Does the place of batch norm matter on MNIST, for a three-layer MLP?

Shows: 3 x 100 units as in Ioffe & Szegedy 2015, section 4.1, with batch norm before
the activation, after it, or nowhere; sigmoid and relu; four learning rates; five
seeds, the same in every arm.
Takes: about 4 minutes on two CPU cores. Needs MNIST as TFDS prepares it.
Expect: 97 to 98 % in each arm at its own best learning rate, and less than a point
between the arms; without batch norm far less at 0.01 with sigmoid and at 0.3 with relu.
Command: python train.py --config=configs/placement_mnist.py
"""

import itertools

from bnjax import config


def get_config():
    fields = config.defaults()
    fields.data.name = 'mnist'
    fields.model.features = (100,) * 3
    fields.batch_size = 60
    fields.epochs = 5
    fields.probes.names = ('gradient_norm', 'activation_std', 'zero_fraction')
    fields.probes.every = 200
    return fields


def sweep(add):
    arms = itertools.product(
        ('sigmoid', 'relu'),
        ('none', 'before', 'after'),
        (0.01, 0.03, 0.1, 0.3),
        range(5),
    )
    for activation, placement, learning_rate, seed in arms:
        add(
            **{
                'model.activation': activation,
                'model.placement': placement,
                'optimizer.learning_rate': learning_rate,
                'seed': seed,
            }
        )
