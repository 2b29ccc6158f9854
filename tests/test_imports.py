"""Who imports the functions pays for the functions."""

import json
import subprocess
import sys

import pytest


def imported_by(module):
    code = f'import sys, json, {module}; print(json.dumps(sorted(sys.modules)))'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    ('module', 'absent'),
    [
        (
            'bnjax',
            {'flax', 'optax', 'matplotlib', 'tensorflow_datasets', 'scipy.stats'},
        ),
        ('bnjax', {'bnjax.config', 'bnjax.program', 'bnjax.linen', 'ml_collections'}),
        ('bnjax', {'bnjax.interop', 'bnjax.health', 'bnjax.benchmark'}),
        ('bnjax.health', {'flax'}),
        ('bnjax.interop', {'torch'}),
        ('bnjax.linen', {'optax', 'matplotlib', 'tensorflow_datasets', 'bnjax.config'}),
        ('bnjax.program', {'matplotlib', 'tensorflow_datasets', 'bnjax.report'}),
    ],
)
def test_an_import_brings_no_more_than_it_needs(module, absent):
    assert not absent & imported_by(module)
