"""What the README says of the code is what the code says."""

import pathlib
import re

import bnjax
from bnjax.cli import field_table

README = (pathlib.Path(__file__).parents[1] / 'README.md').read_text()


def test_the_field_table_is_that_of_the_declarations():
    assert field_table() in README


def test_every_public_name_is_named():
    section = README.partition('## Names that stay')[2].partition('##')[0]
    for name in bnjax.__all__:
        assert re.search(rf'\b{name}`', section), name


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
