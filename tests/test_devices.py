"""Trials and batches spread over four devices train as they do on one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import devices_worker as worker
import numpy as np
import pytest

MESHES = {'data': [1, 4], 'trial': [4, 1], 'both': [2, 2], 'some': [2, 1]}


@pytest.fixture(scope='module')
def four_devices():
    environment = os.environ | {
        'XLA_FLAGS': f'{os.environ["XLA_FLAGS"]} '
        '--xla_force_host_platform_device_count=4',
        'JAX_PLATFORMS': 'cpu',
        'PYTHONPATH': os.pathsep.join(filter(None, sys.path)),
    }
    command = [sys.executable, '-W', 'error', worker.__file__, '4']
    environment['PYTHONPATH'] += os.pathsep + str(Path(worker.__file__).parent)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize('case', worker.CASES)
@pytest.mark.parametrize('model', ['mlp', 'cnn'])
def test_losses_of_twenty_steps_are_those_of_one_device(four_devices, model, case):
    found = four_devices[f'{model}, {case}']
    assert found['mesh'] == MESHES[case]
    want = worker.losses(model, *worker.CASES[case])
    assert np.shape(want) == (worker.STEPS + 1, worker.CASES[case][0])
    np.testing.assert_allclose(found['losses'], want, rtol=1e-4)
