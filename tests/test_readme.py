"""What the README says of the code is what the code says."""

import dataclasses
import pathlib
import re

import numpy as np

import bnjax
from bnjax.cli import field_table

README = (pathlib.Path(__file__).parents[1] / 'README.md').read_text()


def test_the_field_table_is_that_of_the_declarations():
    assert field_table() in README


def test_every_public_name_is_named():
    section = README.partition('## Names that stay')[2].partition('##')[0]
    for name in bnjax.__all__:
        assert re.search(rf'\b{name}`', section), name


def test_the_layout_names_every_module_and_no_other():
    section = README.partition('## The code')[2].partition('##')[0]
    named = {
        name.removesuffix('/')
        for line in re.findall(r'^bnjax/(.*)$', section, re.MULTILINE)
        for name in line.partition('  ')[0].split()
    }
    package = pathlib.Path(bnjax.__file__).parent
    modules = [f for f in package.iterdir() if f.suffix == '.py' or f.is_dir()]
    assert named == {f.name for f in modules if f.name[0] not in '._'}


def test_the_functional_lines_of_the_first_screen_run():
    import jax.numpy as jnp

    lines = re.search(r'```python\n(y, batch = .*?)```', README, re.DOTALL)[1]
    x, scale, bias, zeros = jnp.ones((4, 3)), jnp.ones(3), jnp.zeros(3), jnp.zeros(3)
    names = {'bnjax': bnjax, 'x': x, 'scale': scale, 'bias': bias}
    names['running'] = bnjax.Moments(mean=zeros, var=jnp.ones(3), count=zeros)
    exec(lines, names)
    assert abs(names['y']).max() < 1e-5


def test_every_config_is_listed():
    configs = pathlib.Path(__file__).parents[1] / 'configs'
    for file in configs.glob('*.py'):
        assert f'`{file.name}`' in README


def test_the_config_in_the_readme_runs(tmp_path):
    from bnjax import study

    code = re.search(r'```python\n("""Does weight.*?)```', README, re.DOTALL)
    (tmp_path / 'decay.py').write_text(code[1])
    asked = study.load(str(tmp_path / 'decay.py'), {})
    assert len(asked.trials) == 15
    assert asked.swept == ('optimizer.weight_decay',)


def test_the_refined_config_in_the_readme_runs(tmp_path):
    from sweeps import trial

    from bnjax import study
    from bnjax.records import METRICS

    parts = re.findall(r'```python\n(.*?)```', README, re.DOTALL)
    first, more = (p for p in parts if 'weight_decay' in p)
    (tmp_path / 'decay.py').write_text(first + more)
    asked = study.load(str(tmp_path / 'decay.py'), {})

    def finished(asked):
        for t in asked.trials:
            gain = 10 * t.config['optimizer.weight_decay']
            metrics = dict.fromkeys(METRICS, 0.5 + gain)
            yield dataclasses.replace(trial(t.config), trial=t.id, metrics=metrics)

    further = study.refined(asked, list(finished(asked)))
    assert len(further.trials) == len(asked.trials) + 20
    [verdict] = study.verdicts(further, list(finished(further)))
    assert verdict.interval.n == 10


def test_the_code_of_the_page_on_batch_norm_runs():
    page = pathlib.Path(__file__).parents[1] / 'docs' / 'batch_norm.md'
    names: dict[str, object] = {}
    for code in re.findall(r'```python\n(.*?)```', page.read_text(), re.DOTALL):
        exec(code, names)
    check_renormalisation(names['batch_renorm'])


def check_renormalisation(batch_renorm):
    """Where nothing is clipped it normalises by the running statistics."""
    x = np.random.default_rng(0).normal(size=(64, 3)).astype('f4')
    running = bnjax.Moments(*np.float32([[0.1] * 3, [0.9] * 3, [1] * 3]))
    y, _ = batch_renorm(x, running, 2.0 * np.ones(3), np.ones(3))
    expected = 2 * (x - 0.1) / np.sqrt(0.9 + 1e-5) + 1
    np.testing.assert_allclose(y, expected, 1e-4, 1e-4)
    y, _ = batch_renorm(x + 100, running, np.ones(3), np.zeros(3), r_max=1, d_max=5)
    np.testing.assert_allclose(y.mean(0), 5, 1e-4)
