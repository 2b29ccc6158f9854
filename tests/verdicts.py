"""A register of a few claims, and what might have come out for them."""

from bnjax.claims.register import Claim

RULE = 'a3' * 32
FASTER = Claim(
    'S20',
    ('000', '003'),
    'Batch norm converges in fewer epochs.',
    ('收敛速度', '迭代次数减少'),
    rule='Log of steps. Confirmed: L > log 1.25 = 0.22. Refuted: U < 0.22.',
    study='placement',
)
CLAIMS = [
    Claim(
        'S3',
        ('000',),
        'Batch norm goes before the activation, else it has no effect.',
        ('放在|激活函数前',),
        rule='Confirmed if before - after > 0 points in 6 of 7 cells, refuted if < 0.',
        check='axes.order_matters',
        expected='confirmed',
        study='placement',
    ),
    Claim(
        'S7',
        ('000',),
        'Gradients vanish with sigmoid.',
        ('梯度加速弥散',),
        rule='Factor per layer. Confirmed: L > 2. Refuted: U < 1.5.',
        study='vanishing',
    ),
    Claim(
        'S8',
        ('000',),
        'y = gamma (x - mu) / sqrt(sigma^2 + eps) + beta.',
        ('$y=\\gamma\\hat{x}+\\beta$',),
        rule='Within 1e-12 of two lines of NumPy.',
        check='formulas.four_steps',
        expected='confirmed',
    ),
    FASTER,
    Claim(
        'S33',
        ('002',),
        'Batch norm mainly speeds training up.',
        ('加快网络的收敛速度',),
        rule=FASTER.rule,
        study='placement',
        same='S20',
    ),
    Claim(
        'S43',
        ('002',),
        'A trained batch norm folds into the convolution before it.',
        ('融合',),
        rule='Logits within 1e-5.',
        check='folding.into_the_convolution',
        expected='confirmed',
    ),
    Claim('S22', ('000',), 'Any start will do.', ('初始化',), study='initial_scale'),
    Claim('S31', ('001',), 'It helps RNNs.', ('RNN',), rule='r', study='recurrent'),
    Claim('S60', ('004',), 'MSRA beat people.', ('超越了人类',), reason='a citation'),
    Claim(
        'S81',
        ('004',),
        'With batch norm sigmoid is still worse than relu.',
        ('sigmoid还是不如ReLU',),
        rule='Test accuracy, points. Confirmed: L > .3. Refuted: U < .3.',
        study='placement',
    ),
    Claim(
        'E3',
        ('003', '000'),
        'gamma^2 = sigma^2 suffices for the identity.',
        ('$\\gamma^2=\\sigma^2$',),
        rule='Refuted if gamma = -sigma reflects.',
        check='formulas.four_steps',
        expected='refuted',
    ),
    Claim('M14', ('000',), 'BN cuts “vertically”.', (), reason='not operational'),
]
REGISTER = {claim.id: claim for claim in CLAIMS}


def studied(verdict, effect, interval, bounds, **others):
    begun = {'rule': RULE, 'commit': 'c0ffee' * 6 + 'abcd', 'date': '2026-11-20'}
    entry = {'verdict': verdict, 'alone': verdict, 'effect': effect}
    entry |= {'interval': interval}
    entry |= {'bounds': bounds, 'study': 'placement', 'rule': RULE, 'begun': begun}
    return entry | {'again': None} | others


def again(verdict, *interval):
    return {'verdict': verdict, 'interval': list(interval), 'seeds': 100}


def account(question, **others):
    """What is kept of a study that had nothing particular."""
    return {
        'description': question,
        'trials': 48,
        'steps': 2_400_000,
        'seconds': 4000.0,
        'device': 'AMD EPYC, 2 cores',
        'versions': 'jax 0.10.2',
        'commit': None,
        'command': 'python -m bnjax.claims run it',
        'lost': 0,
        'figures': [],
        'tables': [],
        'reduced': '',
    } | others


KEPT = {
    'claims': {
        'S20': studied(
            'confirmed',
            'log of steps to 95 % without / with batch norm, each at its best rate',
            [0.81, 0.62, 1.0, 10],
            [0.22],
            again=again('confirmed', 0.75, 0.5, 1.0, 10),
        ),
        'S3': studied(
            'refuted',
            'test accuracy before - after the activation, least of 7 cells (points)',
            [-0.42, -0.71, -0.13, 10],
            (0.0,),
            again=again('undecided', -0.2, -0.5, 0.1, 10),
        ),
        'S81': studied(
            'undecided',
            'test accuracy of relu - sigmoid (points)',
            [0.31, 0.05, 0.57, 10],
            [0.3],
        ),
        'S7': studied(
            'confirmed',
            'factor per layer',
            [4.2, 4.1, 4.3, 5],
            [1.5, 2],
            begun={'rule': 'b4' * 32, 'commit': None, 'date': '2026-11-19T08:00:00'},
        ),
        'S22': studied('undecided', 'accuracy', None, [], begun=None),
    },
    'exact': {
        'S3': {'verdict': 'confirmed', 'effect': '6 orders differ', 'check': 'a.b'},
        'S8': {'verdict': 'confirmed', 'effect': 'error 3e-16', 'check': 'a.b'},
        'E3': {'verdict': 'refuted', 'effect': 'reflects: x -> 2|mu| - x'},
    },
    'studies': {
        'published_mnist': account(
            'Which accuracies does it reach?', reduced='25 000 of 50 000 steps'
        ),
        'vanishing': account('Where do gradients vanish?'),
        'initial_scale': account('Does the start matter?'),
        'placement': account(
            """Does the place of batch norm matter?

    Shows: 3 arms x 4 activations x 7 learning rates, tuned by validation; ten seeds
    - 504 trials - at the best.
    Settles: S3 S20.
    Takes: 13 minutes on two cores.
    Command: python train.py --config=configs/claims/placement.py

    The *largest* rate is the last of batch_size <= 200 that does not diverge.
    """,
            trials=744,
            steps=1_000_000,
            seconds=812.0,
            versions='Python 3.11.7, jax 0.10.2',
            commit='0956d42' * 5 + '0956d',
            command='python -m bnjax.claims run placement',
            lost=3,
            figures=['placement.png'],
            tables=[
                {
                    'title': 'Best learning rates',
                    'caption': 'By mean validation accuracy.',
                    'head': ['activation', 'none', 'before'],
                    'rows': [['relu|relu6', 0.03, 0.3], ['sigmoid', None, 3]],
                }
            ],
        ),
    },
}
