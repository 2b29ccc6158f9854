"""Does the place of batch norm matter for a convolutional network on CIFAR-10?

Shows: six 3 x 3 convolutions of 32, 64 and 128 channels with batch norm before relu,
after it, or nowhere; two learning rates; three seeds, the same in every arm.
Takes: hours on two CPU cores; --config=configs/placement_cifar10.py:short, which
trains for 100 steps, a quarter of an hour. Needs CIFAR-10 as TFDS prepares it.
Expect: after 100 steps about 45 % with batch norm and 28 % without, whose runs are
lost at a learning rate of 0.1.
Command: python train.py --config=configs/placement_cifar10.py
"""

import itertools

from bnjax import config


def get_config(arg=None):
    fields = config.defaults()
    fields.data.name = 'cifar10'
    fields.data.preprocess = 'zscore'
    fields.model.name = 'cnn'
    fields.model.features = (32, 64, 128)
    fields.batch_size = 128
    fields.epochs = 10
    fields.probes.names = ('gradient_norm', 'activation_std', 'zero_fraction')
    fields.probes.every = 50
    if arg == 'short':
        fields.steps = 100
    return fields


def sweep(add):
    arms = itertools.product(('none', 'before', 'after'), (0.01, 0.1), range(3))
    for placement, learning_rate, seed in arms:
        add(
            **{
                'model.placement': placement,
                'optimizer.learning_rate': learning_rate,
                'seed': seed,
            }
        )
