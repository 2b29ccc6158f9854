"""What several test files share."""

import importlib.util
import os
from pathlib import Path

import browser
import pytest

# Most of the suite's time goes into compiling, which this shortens.
os.environ['XLA_FLAGS'] = ' '.join(
    (os.environ.get('XLA_FLAGS', ''), '--xla_backend_optimization_level=1')
).strip()
# A suite that found its programs compiled would not see what compiles.
os.environ['JAX_ENABLE_COMPILATION_CACHE'] = 'false'
# torch is no dependency: these compare with it where it is.
collect_ignore_glob = [] if importlib.util.find_spec('torch') else ['*_torch.py']
# Nor is a browser.
collect_ignore_glob += [] if browser.CHROMIUM else ['test_browser.py']


def needs_tfds(name: str) -> pytest.MarkDecorator:
    """Skips a test unless TFDS prepared the data set in $TFDS_DATA_DIR."""
    root = os.environ.get('TFDS_DATA_DIR')
    there = root and any(Path(root).glob(f'{name}/*/dataset_info.json'))
    reason = f'needs {name} in the directory that TFDS_DATA_DIR names'
    return pytest.mark.skipif(not there, reason=reason)


@pytest.fixture(scope='module')
def compiled_once():
    """Saves time: what one test compiled, the next takes."""
    # Not above: JAX reads the settings there when it is imported.
    from bnjax import program

    made, compile_program = {}, program.compile_program

    def remember(static, numbers, data):
        if static not in made:
            made[static] = compile_program(static, numbers, data)
        return made[static]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, 'compile_program', remember)
        yield
