"""Data sets prepared by TFDS, here tiny ones: reading, refusing, keeping."""

import io
import json
import subprocess
import sys
import time

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from bnjax import data
from bnjax.data import sources
from bnjax.errors import UserError

SHARDS = {'train': (30, 20), 'test': (10,)}
FEATURES = 'tensorflow_datasets.core.features'


@pytest.fixture(autouse=True)
def empty_machine(tmp_path, monkeypatch):
    """No cache, and nothing prepared, wherever the machine may have it."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.delenv('TFDS_DATA_DIR', raising=False)


@pytest.fixture
def root(tmp_path):
    return tmp_path / 'tfds'


def prepare(root, version='3.0.1', seed=0):
    """Writes a data set in TFDS's format; returns its images and labels by split."""
    directory = root / 'mnist' / version
    directory.mkdir(parents=True)
    (directory / 'dataset_info.json').write_text(json.dumps(dataset_info(version)))
    (directory / 'features.json').write_text(json.dumps(features()))
    rng = np.random.default_rng(seed)
    written = {}
    for split, lengths in SHARDS.items():
        x = rng.integers(0, 256, (sum(lengths), 4, 4, 1), dtype=np.uint8)
        y = rng.integers(0, 10, sum(lengths))
        for i, part in enumerate(np.split(np.arange(len(x)), np.cumsum(lengths)[:-1])):
            path = record_file(directory, split, i)
            writer = ArrayRecordWriter(str(path), 'group_size:1,uncompressed')
            for image, label in zip(x[part], y[part], strict=True):
                writer.write(example(image, label))
            writer.close()
        written[split] = (x, y)
    return written


def record_file(directory, split, shard):
    of = len(SHARDS[split])
    return directory / f'mnist-{split}.array_record-{shard:05}-of-{of:05}'


def example(image, label):
    png = io.BytesIO()
    Image.fromarray(image[..., 0]).save(png, 'png')
    message = tf_example_pb2.Example()
    message.features.feature['image'].bytes_list.value.append(png.getvalue())
    message.features.feature['label'].int64_list.value.append(int(label))
    return message.SerializeToString()


def dataset_info(version):
    template = '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}'
    splits = [
        {
            'name': name,
            'shardLengths': [str(n) for n in lengths],
            'filepathTemplate': template,
        }
        for name, lengths in SHARDS.items()
    ]
    return {
        'name': 'mnist',
        'version': version,
        'fileFormat': 'array_record',
        'splits': splits,
    }


def features():
    image = {'dtype': 'uint8', 'shape': {'dimensions': ['4', '4', '1']}}
    return {
        'pythonClassName': f'{FEATURES}.features_dict.FeaturesDict',
        'featuresDict': {
            'features': {
                'image': {
                    'pythonClassName': f'{FEATURES}.image_feature.Image',
                    'image': image,
                },
                'label': {
                    'pythonClassName': f'{FEATURES}.class_label_feature.ClassLabel',
                    'classLabel': {'numClasses': '10'},
                },
            }
        },
    }


def load(root, **arguments):
    return data.load('mnist', validation_percent=0, data_dir=str(root), **arguments)


def assert_is(dataset, written):
    for name, (x, y) in written.items():
        split = getattr(dataset, name)
        np.testing.assert_array_equal(split.x, x.astype(np.float32) / 255)
        np.testing.assert_array_equal(split.y, y)


def refused(root):
    with pytest.raises(UserError) as caught:
        load(root)
    message = str(caught.value)
    assert '\n' not in message
    assert message.startswith("data.name='mnist': ")
    assert message.endswith(
        f"tfds.builder('mnist', data_dir='{root}', file_format='array_record')"
        '.download_and_prepare()"'
    )
    return message


# Reading


def test_images_are_read_in_order_from_all_shards(root, capfd):
    written = prepare(root)
    dataset = load(root)
    assert_is(dataset, written)
    assert dataset.classes == 10
    assert capfd.readouterr() == ('', 'bnjax: decoding mnist: 60 images, once\n')


def test_a_terminal_gets_a_progress_bar(root, monkeypatch, capfd):
    monkeypatch.setenv('FORCE_COLOR', '1')
    prepare(root)
    load(root)
    out, err = capfd.readouterr()
    assert out == ''
    assert 'decoding mnist' in err
    assert '100%' in err


def test_the_newest_readable_version_is_taken(root):
    prepare(root, '3.0.9', seed=1)
    newest = prepare(root, '3.0.10', seed=2)
    tfrecord = root / 'mnist' / '3.1.0'
    tfrecord.mkdir()
    (tfrecord / 'dataset_info.json').write_text('{}')
    (tfrecord / 'mnist-train.tfrecord-00000-of-00001').touch()
    assert_is(load(root), newest)


def test_the_argument_precedes_the_variable_precedes_the_home(tmp_path, monkeypatch):
    at_home = prepare(tmp_path / 'home' / 'tensorflow_datasets', seed=1)
    assert_is(load(''), at_home)
    by_variable = prepare(tmp_path / 'variable', seed=2)
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'variable'))
    assert_is(load(''), by_variable)
    by_argument = prepare(tmp_path / 'argument', seed=3)
    assert_is(load(tmp_path / 'argument'), by_argument)


# Refusing


def test_an_absent_data_set_is_one_line_at_once(tmp_path):
    program = (
        'import sys\n'
        'from bnjax import data\n'
        'try:\n'
        "    data.load('cifar10')\n"
        'except ValueError as error:\n'
        '    print(error)\n'
        "print('tensorflow_datasets' in sys.modules)\n"
    )
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True, check=True
    )
    assert time.monotonic() - start < 5
    message, imported = done.stdout.splitlines()
    assert "data.name='cifar10': not prepared in" in message
    assert str(tmp_path / 'home' / 'tensorflow_datasets') in message
    assert imported == 'False'
    assert done.stderr == ''


def test_a_wrong_data_dir_is_named(tmp_path):
    assert f'not prepared in {tmp_path / "nowhere"};' in refused(tmp_path / 'nowhere')


def test_a_format_only_tensorflow_reads_must_be_moved_away(root):
    prepare(root)
    for path in (root / 'mnist' / '3.0.1').glob('*.array_record*'):
        path.rename(str(path).replace('array_record', 'tfrecord'))
    assert f'{root / "mnist"} has no array_record files; move it' in refused(root)


def test_a_truncated_record_file_is_named(root):
    prepare(root)
    path = record_file(root / 'mnist' / '3.0.1', 'train', 1)
    with path.open('r+b') as file:
        file.truncate(100)
    assert f'cannot read {path} (' in refused(root)


def test_a_missing_record_file_is_named(root):
    prepare(root)
    path = record_file(root / 'mnist' / '3.0.1', 'train', 0)
    path.unlink()
    assert f'cannot read {path} (' in refused(root)


@pytest.mark.parametrize('name', ['dataset_info.json', 'features.json'])
def test_unreadable_metadata_name_their_directory(root, name):
    prepare(root)
    (root / 'mnist' / '3.0.1' / name).write_text('{')
    assert f'cannot read {root / "mnist" / "3.0.1"} (' in refused(root)


# Keeping what was decoded


def test_the_second_load_decodes_nothing(root, monkeypatch, capfd):
    written = prepare(root)
    first = load(root)
    capfd.readouterr()
    monkeypatch.setattr(sources, '_decode', None)
    second = load(root)
    assert_is(second, written)
    assert second.classes == first.classes
    assert type(second.classes) is int
    assert capfd.readouterr() == ('', '')


def test_sources_alike_but_for_their_contents_do_not_mix(tmp_path):
    written = [prepare(tmp_path / str(seed), seed=seed) for seed in range(2)]
    sizes = [
        {p.name: p.stat().st_size for p in (tmp_path / seed).rglob('*.*')}
        for seed in '01'
    ]
    assert sizes[0] == sizes[1]
    for _ in range(2):
        assert_is(load(tmp_path / '0'), written[0])
        assert_is(load(tmp_path / '1'), written[1])


def test_a_cache_that_cannot_be_written_is_no_error(root, tmp_path, capfd):
    written = prepare(root)
    (tmp_path / 'cache').write_text('a file where the directory should be')
    assert_is(load(root), written)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith('bnjax: cannot keep decoded data: ')
    assert lines[1] == 'bnjax: decoding mnist: 60 images, once'
