"""Every mistake in a call is one line that names it, before anything is compiled."""

import functools
import re
from itertools import product

import flax.linen as nn
import jax
import numpy as np
import pytest
from flax import nnx

import bnjax
import bnjax.linen
import bnjax.nnx
from bnjax.ghost import ghost_batch_norm

F32 = np.float32
X = np.random.default_rng(0).normal(size=(6, 4, 3)).astype(F32)
STATS = bnjax.Moments(*np.ones((3, 3), F32))
KERNEL = np.ones((3, 3, 3, 5), F32)
NAN = float('nan')
T, V = TypeError, ValueError


def like(*shape):
    return np.ones(shape, F32)


def moments(*shape):
    return bnjax.Moments(*np.ones((3, *shape), F32))


FOLD = {'kernel': KERNEL, 'moments': STATS, 'next_padding': 0}
FOLD |= dict.fromkeys(('bias', 'scale', 'shift'))
FUNCTIONS = {
    'moments': lambda x=X, **kwargs: bnjax.moments(x, **kwargs),
    'batch_norm': lambda x=X, *args, **kwargs: bnjax.batch_norm(x, *args, **kwargs),
    'ghost_batch_norm': lambda x=X, size=2, **kwargs: ghost_batch_norm(
        x, size, **kwargs
    ),
    'normalize': lambda x=X, moments=STATS, **kwargs: bnjax.normalize(
        x, moments, **kwargs
    ),
    'update': lambda running=STATS, batch=STATS, momentum=0.9: bnjax.update(
        running, batch, momentum
    ),
    'merge': lambda a=STATS, b=STATS: bnjax.merge(a, b),
    'fold': lambda **kwargs: bnjax.fold(**FOLD | kwargs),
}
OF_X = ('moments', 'batch_norm', 'ghost_batch_norm', 'normalize')
MASKED = OF_X[:3]
AFFINE = OF_X[1:]
SYNCED = OF_X[:2]

# What goes wrong: where, the argument, its value, the error, what the line says of it.
XS = {
    'integers': (X.astype(np.int32), T, 'int32'),
    'bytes': (X.astype(np.uint8), T, 'uint8'),
    'booleans': (X > 0, T, 'bool'),
    'complex numbers': (X.astype(np.complex64), T, 'complex64'),
    'strings': (np.full((6, 3), 'a'), T, 'str|<U'),
    'objects': (X.astype(object), T, 'object'),
    'a list': (X.tolist(), T, 'list'),
    'nothing': (None, T, 'None'),
    'a scalar': (F32(1), V, 'scalar|shape \\(\\)'),
}
AXES = {
    'above the rank': (3, V, '3'),
    'below the rank': (-4, V, '-4'),
    'one of them above': ((0, 3), V, '3'),
    'twice': ((1, 1), V, '1, 1'),
    'twice, from both ends': ((2, -1), V, '2, -1'),
    'a float': (1.0, T, '1.0'),
    'a float among them': ((0, 1.0), T, '1.0'),
    'a string': ('2', T, '2'),
    'None': (None, T, 'None'),
}
EPSILONS = {
    'zero': (0.0, V, '0.0'),
    'negative': (-1e-5, V, '-1e-05'),
    'NaN': (NAN, V, 'nan'),
    'infinite': (np.inf, V, 'inf'),
    'zero to XLA': (1e-40, V, '1e-40'),
    'a boolean in NumPy': (np.bool_(True), T, 'True'),
    'zero in NumPy': (F32(0), V, '0.0'),
    'a string': ('1e-5', T, '1e-5'),
    'None': (None, T, 'None'),
    'complex': (1j, T, '1j'),
    'one for each feature': (like(3), V, '\\(3,\\)'),
}
MOMENTA = {
    'above one': (1.5, V, '1.5'),
    'negative': (-0.1, V, '-0.1'),
    'NaN': (NAN, V, 'nan'),
    'above one in NumPy': (F32(2), V, '2'),
    'a boolean': (True, T, 'True'),
    'a boolean in NumPy': (np.bool_(True), T, 'True'),
    'a string': ('0.9', T, '0.9'),
    'complex': (1j, T, '1j'),
    'one for each feature': (like(3) / 2, V, '\\(3,\\)'),
}
WHERES = {
    'too many features': (np.ones((6, 4, 5), bool), V, '\\(6, 4, 5\\)'),
    'one batch axis alone': (np.ones(6, bool), V, '\\(6,\\)'),
    'another axis before': (np.ones((2, 6, 4, 3), bool), V, '\\(2, 6, 4, 3\\)'),
    'strings': (np.full((6, 4, 3), 'yes'), T, 'str|<U'),
    'complex numbers': (like(6, 4, 3) * 1j, T, 'complex'),
    'objects': (like(6, 4, 3).astype(object), T, 'object'),
}
INTEGER_WHERE = {'integers': (np.ones((6, 4, 3), int), T, 'int')}
VECTORS = {
    'too long': (like(4), V, '\\(4,\\)'),
    'one for all': (like(1), V, '\\(1,\\)'),
    'a number': (F32(2), V, '\\(\\)'),
    'a column': (like(3, 1), V, '\\(3, 1\\)'),
}
VALUES = {
    'complex': (like(3) * 1j, T, 'complex'),
    'strings': (np.full(3, 'a'), T, 'str|<U'),
}
OF_OUTPUTS = {name: (np.resize(v, 5), *rest) for name, (v, *rest) in VALUES.items()}
STATISTICS = {
    'too long': (moments(4), V, '\\(4,\\)'),
    'one for all': (moments(1), V, '\\(1,\\)'),
    'numbers': (moments(), V, '\\(\\)'),
    'uneven': (STATS._replace(var=like(1)), V, '\\(1,\\)'),
    'of integers': (bnjax.Moments(*np.ones((3, 3), int)), T, 'int'),
    'of lists': (bnjax.Moments([0.0] * 3, [1.0] * 3, [1.0] * 3), T, 'list'),
    'not moments': (like(3), T, 'Moments'),
    'None': (None, T, 'None'),
}
SIZES = {
    'zero': (0, V, '0'),
    'negative': (-2, V, '-2'),
    'a boolean': (True, T, 'True'),
    'a float': (2.0, T, '2.0'),
    'a string': ('2', T, '2'),
}
GROUPS = {'without axis_name': (((0, 1), (2, 3)), V, 'axis_name')}
NO_NAMES = {
    'a position': (0, T, '0'),
    'twice': (('device', 'device'), V, 'device'),
}
NAMES = {'not bound': ('device', V, "'device'")} | NO_NAMES
DTYPES = {
    'complex': (np.complex64, T, 'complex64'),
    'integers': (np.int32, T, 'int32'),
}
FLAGS = {'a string': ('no', T, 'no'), 'a number': (1, T, '1')}
KERNELS = {
    'integers': (KERNEL.astype(int), T, 'int'),
    'a vector': (like(3), V, '\\(3,\\)'),
    'of other features': (like(3, 3, 4, 5), V, '4'),
    'None': (None, T, 'None'),
}
PADDINGS = {
    'of zeros': ('SAME', V, 'SAME'),
    'one': (1, V, '1'),
    'unknown': ('NONE', V, 'NONE'),
}
TABLE = [
    (OF_X, 'x', XS),
    (OF_X, 'axis', AXES),
    (MASKED, 'where', WHERES | INTEGER_WHERE),
    (AFFINE, 'scale', VECTORS | VALUES),
    (AFFINE, 'bias', VECTORS | VALUES),
    ((*AFFINE, 'fold'), 'epsilon', EPSILONS),
    (SYNCED, 'axis_index_groups', GROUPS),
    (SYNCED, 'axis_name', NAMES),
    (['ghost_batch_norm'], 'size', SIZES | {'None': (None, T, 'None')}),
    (['normalize', 'fold'], 'moments', STATISTICS),
    (['merge'], 'a', STATISTICS),
    (['merge'], 'b', STATISTICS),
    (['update'], 'running', STATISTICS),
    (['update'], 'batch', STATISTICS),
    (['update'], 'momentum', MOMENTA),
    (['fold'], 'kernel', KERNELS),
    (['fold'], 'bias', VECTORS | OF_OUTPUTS),
    (['fold'], 'scale', VECTORS | VALUES),
    (['fold'], 'shift', VECTORS | VALUES),
    (['fold'], 'next_padding', PADDINGS),
]


class Net(nn.Module):
    """With the layer at a path that its message is to name."""

    options: dict

    @nn.compact
    def __call__(self, x, mask=None, call=None):
        norm = bnjax.linen.BatchNorm(name='stem', **self.options)
        return norm(x, mask=mask, **(call or {}))


STORED = {'mean': like(3), 'var': like(3), 'count': like(3)}


def linen(running, x=X, mask=None, call=None, **options):
    options = {'use_running_average': running} | options
    affine = {'scale': like(3), 'bias': like(3)}
    used = {k: v for k, v in affine.items() if options.get(f'use_{k}', True)}
    counted = options.get('debias') or options.get('momentum', 0.9) is None
    stats = {k: v for k, v in STORED.items() if counted or k != 'count'}
    variables = {'params': {'stem': used}, 'batch_stats': {'stem': stats}}
    Net(options).apply(variables, x, mask, call, mutable=['batch_stats'])


def in_nnx(running, x=X, mask=None, call=None, num_features=3, **options):
    options = {'use_running_average': running} | options
    layer = bnjax.nnx.BatchNorm(num_features, rngs=nnx.Rngs(0), **options)
    layer(x, mask=mask, **(call or {}))


LAYERS = {
    'linen, training': (functools.partial(linen, False), 'stem'),
    'linen, evaluation': (functools.partial(linen, True), 'stem'),
    'nnx, training': (functools.partial(in_nnx, False), 'BatchNorm'),
    'nnx, evaluation': (functools.partial(in_nnx, True), 'BatchNorm'),
}
ALL, TRAINING = tuple(LAYERS), ('linen, training', 'nnx, training')
FEATURES = {
    'more': (like(6, 4, 6), V, '3.*\\(6, 4, 6\\)|\\(6, 4, 6\\).*3'),
    'fewer': (like(6, 4, 2), V, '3.*\\(6, 4, 2\\)|\\(6, 4, 2\\).*3'),
    'one': (like(6, 4, 1), V, '3.*\\(6, 4, 1\\)|\\(6, 4, 1\\).*3'),
}
NUMBERS = {
    'negative': (-1, V, '-1'),
    'a float': (3.0, T, '3.0'),
    'a string': ('3', T, '3'),
    'None': (None, T, 'None'),
}
LAYER_TABLE = [
    (ALL, 'x', XS),
    (ALL, 'x', FEATURES),
    (ALL, 'axis', AXES),
    (TRAINING, 'mask', WHERES),
    (ALL, 'epsilon', EPSILONS),
    (ALL, 'momentum', MOMENTA),
    (ALL, 'axis_index_groups', GROUPS),
    (TRAINING, 'axis_name', NAMES),
    (ALL, 'axis_name', NO_NAMES),
    (ALL, 'update_running_average', FLAGS),
    *((ALL, flag, FLAGS) for flag in ('debias', 'unbiased', 'skip_nonfinite')),
    *((ALL, flag, FLAGS) for flag in ('use_bias', 'use_scale')),
    (ALL, 'dtype', DTYPES),
    (ALL[:2], 'param_dtype', DTYPES),
    (ALL, 'use_running_average', {'nowhere': (None, V, '')}),
    (ALL, 'ghost_batch_size', SIZES),
    (ALL[2:], 'num_features', NUMBERS),
]


CURE = 'must|keep|give|pass|make|cast|needs|name|fold first|none of'
# What a message may call a part of an argument.
FIELDS = {
    ('normalize', 'moments'): 'mean|var|moments',
    ('fold', 'moments'): 'mean|var|moments',
    ('merge', 'a'): '[mM]oments|a.mean',
    ('merge', 'b'): '[mM]oments|b.mean',
}


def rows():
    for names, argument, mistakes in TABLE:
        for name, (mistake, (value, *wanted)) in product(names, mistakes.items()):
            call = functools.partial(FUNCTIONS[name], **{argument: value})
            field = FIELDS.get((name, argument), argument)
            about = f'{name}, {argument}, {mistake}'
            yield pytest.param(call, field, *wanted, '', id=about)
    for names, argument, mistakes in LAYER_TABLE:
        for name, (mistake, (value, *wanted)) in product(names, mistakes.items()):
            call, layer = LAYERS[name]
            call = functools.partial(call, **{argument: value})
            about = f'{name}, {argument}, {mistake}'
            yield pytest.param(call, argument, *wanted, layer, id=about)


@pytest.fixture(scope='module')
def nothing_compiled():
    jax.clear_caches()


@pytest.fixture
def compiled(nothing_compiled, caplog):
    """What was compiled since; not Flax's initial values, nor how JAX takes NumPy's."""

    def programs():
        messages = [record.getMessage() for record in caplog.records]
        return [m for m in messages if re.match(r'Compiling (?!jit\(stage)', m)]

    in_nnx(True)
    with jax.log_compiles():
        yield programs


@pytest.mark.parametrize('call, argument, error, value, layer', list(rows()))
def test_a_mistake_is_named(call, argument, error, value, layer, compiled):
    with pytest.raises(error) as refused:
        call()
    message = str(refused.value)
    assert not compiled()
    assert message.startswith(layer)
    for part in (argument, value, CURE):
        assert re.search(part, message), message
    assert '\n' not in message


@pytest.mark.parametrize('running', [False, True])
def test_a_mode_given_twice_is_refused_in_linen_as_in_flax(running):
    with pytest.raises(ValueError, match='stem: .*use_running_average'):
        linen(running, call={'use_running_average': running})


PARTITIONS = {
    'an index missing': ([[0, 1]], V),
    'an index twice': ([[0, 1], [1, 2, 3]], V),
    'an index too large': ([[0, 1], [2, 3, 4]], V),
    'a negative index': ([[0, 1], [2, -1]], V),
    'none': ([], V),
    'not nested': ([0, 1, 2, 3], T),
    'a number': (2, T),
}
SYNCING = {name: FUNCTIONS[name] for name in SYNCED} | {
    name: LAYERS[name][0] for name in TRAINING
}


@pytest.mark.parametrize('groups, error', PARTITIONS.values(), ids=PARTITIONS)
@pytest.mark.parametrize('call', SYNCING.values(), ids=SYNCING)
def test_groups_must_partition_the_devices(call, groups, error):
    def device(x):
        call(x, axis_name='device', axis_index_groups=groups)
        return x

    with pytest.raises(error, match='axis_index_groups'):
        jax.vmap(device, axis_name='device')(np.ones((4, 6, 3), F32))


def test_what_is_compiled_is_seen(compiled):
    bnjax.batch_norm(X[:, :1])
    assert compiled()
