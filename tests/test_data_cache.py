"""The cache of decoded arrays: damage, two processes, disks that are full."""

import contextlib
import subprocess
import sys

import numpy as np
import pytest

from bnjax.data import cache

ARRAYS = {'x': np.arange(40, dtype=np.uint8).reshape(2, 20), 'n': np.int64(7)}


def make():
    return ARRAYS


def assert_arrays(arrays):
    assert set(arrays) == set(ARRAYS)
    for key, value in ARRAYS.items():
        np.testing.assert_array_equal(arrays[key], value)


def test_a_flipped_byte_is_seen_said_and_mended(tmp_path, capfd):
    path = tmp_path / 'arrays.npz'
    cache.cached(path, ARRAYS, make)
    intact = path.read_bytes()
    said = 0
    for position in range(len(intact)):
        damaged = bytearray(intact)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        assert_arrays(cache.cached(path, ARRAYS, make))
        err = capfd.readouterr().err
        if err:  # else it was in a date or the like, which changes nothing
            said += 1
            assert err.count('\n') == 1
            assert err.startswith(f'bnjax: {path} is damaged, decoding again (')
            assert len(path.read_bytes()) == len(intact)
            assert_arrays(cache.cached(path, ARRAYS, None))
    assert said > len(intact) / 2


def test_a_flipped_pixel_never_passes(tmp_path, capfd):
    path = tmp_path / 'arrays.npz'
    cache.cached(path, ARRAYS, make)
    content = path.read_bytes()
    damaged = content.replace(ARRAYS['x'].tobytes(), ARRAYS['x'].tobytes()[::-1])
    assert damaged != content
    path.write_bytes(damaged)
    assert_arrays(cache.cached(path, ARRAYS, make))
    assert 'is damaged' in capfd.readouterr().err


@pytest.mark.parametrize('length', [0, 10, 200])
def test_a_short_file_is_mended(tmp_path, length, capfd):
    path = tmp_path / 'arrays.npz'
    cache.cached(path, ARRAYS, make)
    path.write_bytes(path.read_bytes()[:length])
    assert_arrays(cache.cached(path, ARRAYS, make))
    assert 'is damaged' in capfd.readouterr().err
    assert_arrays(cache.cached(path, ARRAYS, None))


def test_of_two_processes_one_decodes_and_one_waits(tmp_path):
    program = (
        'import sys, time, pathlib\n'
        'from bnjax.data import cache\n'
        'ARRAYS = dict(x=1)\n'
        'def make():\n'
        "    print('made')\n"
        '    time.sleep(2)\n'
        '    return ARRAYS\n'
        "print('ready', flush=True)\n"
        'sys.stdin.readline()\n'
        'cache.cached(pathlib.Path(sys.argv[1]), ARRAYS, make)\n'
    )
    command = [sys.executable, '-c', program, str(tmp_path / 'arrays.npz')]
    with contextlib.ExitStack() as stack:
        both = [
            stack.enter_context(
                subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
            for _ in range(2)
        ]
        for process in both:
            assert process.stdout.readline() == 'ready\n'
        for process in both:
            process.stdin.write('\n')
            process.stdin.flush()
        outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(outputs) == ['', 'made\n']
    assert {p.name for p in tmp_path.iterdir()} == {'arrays.npz', 'arrays.lock'}


def test_a_full_disk_is_no_error_and_leaves_nothing(tmp_path, monkeypatch, capfd):
    def savez(file, **arrays):
        file.write(b'half')
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(np, 'savez', savez)
    assert_arrays(cache.cached(tmp_path / 'arrays.npz', ARRAYS, make))
    err = capfd.readouterr().err
    assert err.startswith('bnjax: cannot keep decoded data: ')
    assert err.count('\n') == 1
    assert {p.name for p in tmp_path.iterdir()} == {'arrays.lock'}


def test_what_a_killed_process_left_is_overwritten(tmp_path):
    (tmp_path / 'arrays.tmp').write_bytes(b'half of it')
    cache.cached(tmp_path / 'arrays.npz', ARRAYS, make)
    assert_arrays(cache.cached(tmp_path / 'arrays.npz', ARRAYS, None))
    assert not (tmp_path / 'arrays.tmp').exists()


def test_a_relative_cache_home_is_ignored(monkeypatch, tmp_path):
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.setenv('XDG_CACHE_HOME', 'here')
    assert cache.directory() == tmp_path / 'home' / '.cache' / 'bnjax'
