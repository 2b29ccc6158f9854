"""A chunk that is kept between epochs goes on as if nothing had happened."""

import jax
import pytest
from test_program import compiled, numbers_of, same

from bnjax import checkpoint, program
from bnjax.checkpoint import Checkpoint
from bnjax.records import DamagedError

TRIALS = [{'seed': 1}, {'seed': 2, 'optimizer.learning_rate': 0.05}]
BY_ID = {name: numbers_of(trial) for name, trial in zip('ab', TRIALS, strict=True)}


@pytest.fixture(scope='module')
def chunk():
    fields = {'optimizer.name': 'adam', 'probes.names': ('gradient_norm',)}
    return compiled(width=2, epochs=4, **fields)


def snapshots(chunk, begun=None):
    for snapshot in program.run_chunk(chunk, [*BY_ID.values()], begun):
        yield jax.device_get(snapshot)


def kept(chunk, path, after):
    """Writes the chunk as it is after some epochs."""
    for _, snapshot in zip(range(after + 1), snapshots(chunk), strict=False):
        checkpoint.write(path, Checkpoint(BY_ID, 1.5, snapshot))
    return path


@pytest.mark.parametrize('after', [0, 1, 3, 4])
def test_a_chunk_goes_on_bit_for_bit(chunk, tmp_path, after):
    *_, whole = snapshots(chunk)
    found = checkpoint.read(kept(chunk, tmp_path / 'x', after), chunk.shapes)
    assert found.trials == BY_ID and found.seconds == 1.5
    *_, last = snapshots(chunk, found.snapshot)
    assert len(last.logs) == 5 and same(last.logs, whole.logs)
    assert same(last.state, whole.state)


def test_nothing_is_read_where_nothing_was_kept(chunk, tmp_path):
    assert checkpoint.read(tmp_path / 'x', chunk.shapes) is None


@pytest.mark.parametrize(
    'damage',
    [
        lambda content: b'',
        lambda content: content[:20],
        lambda content: content[:-1],
        lambda content: content[:99] + bytes([content[99] ^ 1]) + content[100:],
    ],
)
def test_a_damaged_file_is_told_apart(chunk, tmp_path, damage):
    path = kept(chunk, tmp_path / 'x', 1)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedError, match='x is damaged .* begin anew'):
        checkpoint.read(path, chunk.shapes)


def test_the_file_of_another_program_is_told_apart(chunk, tmp_path):
    path = kept(chunk, tmp_path / 'x', 1)
    other = compiled(width=2, epochs=4, **{'model.placement': 'none'})
    with pytest.raises(DamagedError):
        checkpoint.read(path, other.shapes)
