"""The page in a browser: it sorts, filters, draws, and hostile words do nothing."""

import dataclasses

import browser
import numpy as np
import pytest
from matplotlib.figure import Figure
from sweeps import SWEPT, grid, lost

from bnjax.comparison import compare
from bnjax.report import page
from bnjax.report.answer import conclude
from bnjax.report.picture import Picture

HOSTILE = (
    '</script><script>hacked=1</script><img src=x onerror="hacked=1"><!--\u2028'
    "';hacked=1;//&lt;b&gt;" + 'x' * 200
)
DOT = (  # the smallest PNG file
    b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\0\0\0\0:~\x9bU\0\0\0\nIDATx'
    b'\x9cc`\0\0\0\2\0\1H\xaf\xa4q\0\0\0\0IEND\xaeB`\x82'
)
TRIALS = "document.querySelector('#trials table')"
ROWS = f'[...{TRIALS}.tBodies[0].rows]'
TOO_WIDE = '(e => e.scrollWidth - e.clientWidth)(document.documentElement)'
CURVES = f"{TRIALS}.querySelectorAll('tr.curves svg[role=img]')"


def rendered(path, records, swept, words='Why?'):
    comparison = compare(records, swept)
    picture = Picture('dot', words, Figure((9.0, 3.0)), words, words)
    text = page.render(
        comparison,
        [(picture, DOT)],
        title=words,
        description=f'{words}\n{words}',
        answer=conclude(comparison),
        notes={words: words},
    )
    path.write_text(text, encoding='utf-8')
    return path


@pytest.fixture(scope='module')
def report(tmp_path_factory):
    """A sweep with a diverged trial, a failed one, and gaps in a curve."""
    records = grid(seeds=3)
    gaps = {**records[2].curves, 'test_loss': np.array([0.5, np.nan, 0.3, 1e9])}
    records[0] = dataclasses.replace(records[0], status='diverged', bad_step=7)
    records[1] = dataclasses.replace(lost(records[1], 'failed'), error='no memory')
    records[2] = dataclasses.replace(records[2], curves=gaps)
    return rendered(tmp_path_factory.mktemp('page') / 'a.html', records, SWEPT)


@pytest.fixture(scope='module')
def chromium(tmp_path_factory):
    with browser.opened(tmp_path_factory.mktemp('profile')) as opened:
        yield opened


@pytest.fixture
def tab(chromium, report):
    """The page, just opened; what it complains of fails the test."""
    chromium.resize(1400)
    chromium.open(report)
    yield chromium
    assert chromium.errors == []
    assert all(r.startswith(('file:', 'data:image/png')) for r in chromium.requests)


def column(tab, name, table=TRIALS):
    """The texts of a column, as shown."""
    return tab.value(
        f'(() => {{ const t = {table};'
        '  const heads = [...t.tHead.rows[0].cells].map(c => c.textContent);'
        f'  const at = heads.indexOf("{name}");'
        '  return [...t.tBodies[0].rows].filter(r => !r.hidden && r.cells[at])'
        '    .map(r => r.cells[at].firstChild.textContent) })()'
    )


def click(tab, head, table=TRIALS):
    tab.value(
        f"[...{table}.querySelectorAll('th button')]"
        f".find(b => b.textContent === '{head}').click()"
    )


def sort_of(tab, head):
    return tab.value(
        f"[...{TRIALS}.querySelectorAll('th')]"
        f".find(h => h.textContent === '{head}').getAttribute('aria-sort')"
    )


def test_a_click_sorts_numbers_as_numbers_and_the_missing_stand_last(tab):
    before = column(tab, 'train loss')
    click(tab, 'train loss')
    rising = column(tab, 'train loss')
    assert sort_of(tab, 'train loss') == 'ascending'
    assert rising[-1] == 'nan' and sorted(rising) == sorted(before) != before
    assert [*map(float, rising[:-1])] == sorted(map(float, rising[:-1]))
    click(tab, 'train loss')
    assert sort_of(tab, 'train loss') == 'descending'
    falling = column(tab, 'train loss')
    assert falling == [*rising[-2::-1], 'nan']
    click(tab, 'activation')
    assert sort_of(tab, 'train loss') is None
    assert column(tab, 'activation') == ['relu'] * 18 + ['sigmoid'] * 18


def test_means_sort_as_numbers_whatever_their_interval(tab):
    table = "document.querySelectorAll('table')[1]"
    head = 'train loss'
    click(tab, head, table)
    values = [float(text.split()[0]) for text in column(tab, head, table)]
    assert values == sorted(values) and len(set(values)) > 1


def test_a_head_is_reached_and_pressed_by_the_keyboard(tab):
    tab.value("document.querySelector('#trials input').focus()")
    tab.press('Tab', 2)  # past the box that scrolls
    assert tab.value('document.activeElement.textContent') == 'activation'
    tab.press('Enter')
    assert sort_of(tab, 'activation') == 'ascending'


def test_the_filter_keeps_the_rows_that_have_every_word(tab):
    tab.value("document.querySelector('#trials input').focus()")
    tab.type('Sigmoid  before')
    assert set(column(tab, 'activation')) == {'sigmoid'}
    assert set(column(tab, 'placement')) == {'before'}
    said = "document.querySelector('#trials output').value"
    assert tab.value(said) == '6 of 36 rows'
    tab.type(' nothing')
    assert column(tab, 'seed') == [] and tab.value(said) == '0 of 36 rows'
    tables = tab.value("document.querySelectorAll('table').length")
    assert tab.value("document.querySelectorAll('input').length") == tables


def test_curves_are_drawn_on_demand_and_stay_with_their_row(tab):
    assert tab.value(f'{CURVES}.length') == 0
    tab.value(f'{ROWS}[5].cells[3].click()')
    assert tab.value(f'{CURVES}.length') == 2
    said = tab.value(f"[...{CURVES}].map(s => s.getAttribute('aria-label'))")
    seed = column(tab, 'seed')[5]
    assert said[0].startswith('accuracy (fraction) by epoch, at the end: train 0.')
    assert 'validation' in said[1] and said[1].startswith('loss (nats) by epoch')
    title = tab.value(f"{TRIALS}.querySelector('.charts p').textContent")
    assert title.endswith(f'seed {seed}') and title.startswith('activation ')
    click(tab, 'test accuracy')
    opener = f"{ROWS}.find(r => r.querySelector('[aria-expanded=true]'))"
    assert tab.value(f"{opener}.nextElementSibling.matches('.curves')")
    tab.value(f"{opener}.querySelector('button').focus()")
    tab.press('Enter')
    assert tab.value(f'{CURVES}.length') == 0


def test_a_line_has_a_point_for_each_epoch_and_a_gap_where_nothing_is_known(tab):
    tab.value(f"{ROWS}.forEach(r => r.matches('.opens') && r.click())")
    lines = tab.value(
        f"[...{TRIALS}.querySelectorAll('svg[role=img] .line.test')]"
        ".map(p => p.getAttribute('d'))"
    )
    assert len(lines) == 2 * 35  # the failed trial has no curves
    assert not any('NaN' in line or 'undefined' in line for line in lines)
    gaps = [line for line in lines if line.count('M') == 2]
    assert len(gaps) == 1 and gaps[0].count('L') == 1
    assert all(line.count('L') == 3 for line in lines if line not in gaps)
    failed = tab.value(
        f"{ROWS}.filter(r => r.cells[0] && !r.matches('.opens, .curves')).length"
    )
    assert failed == 1


@pytest.mark.parametrize('width', [360, 800, 1400])
def test_the_page_is_no_wider_than_the_screen(tab, width):
    tab.value(f'{ROWS}[5].click()')
    tab.resize(width)
    assert tab.value('innerWidth') == width
    assert tab.value(TOO_WIDE) == 0


def test_without_its_script_the_page_shows_all_but_the_curves(tab, report):
    tab.send('Emulation.setScriptExecutionDisabled', value=True)
    tab.open(report)
    tab.send('Emulation.setScriptExecutionDisabled', value=False)
    assert tab.value(f'{ROWS}.length') == 36
    assert tab.value("document.querySelectorAll('button, input').length") == 0
    shown = tab.value("document.querySelector('#trials').innerText")
    assert 'scripts are off' in shown and 'A click on a trial' not in shown


def test_hostile_words_are_shown_and_do_nothing(tab, tmp_path):
    records = grid(activations=(HOSTILE, 'relu'), seeds=2)
    failed = lost(records[0], 'failed')
    records[0] = dataclasses.replace(failed, error=HOSTILE, trial=HOSTILE)
    records[1] = dataclasses.replace(records[1], trial=HOSTILE)
    tab.resize(360)
    tab.open(rendered(tmp_path / 'hostile.html', records, SWEPT, words=HOSTILE))
    tab.value(f"{ROWS}.forEach(r => r.matches('.opens') && r.click())")
    tab.value("document.querySelectorAll('th button').forEach(b => b.click())")
    assert tab.value('typeof hacked') == 'undefined'
    assert tab.value("document.querySelectorAll('img[src=x], b').length") == 0
    assert HOSTILE in tab.value("document.querySelector('h1').textContent")
    assert HOSTILE in tab.value(f"{TRIALS}.querySelector('.charts p').textContent")
    assert tab.value('innerWidth') == 360
    assert tab.value(TOO_WIDE) == 0


def test_a_page_of_200_long_trials_is_small_and_opens_fast(tab, tmp_path):
    epochs = np.arange(201)
    noise = np.random.default_rng(0).random(201)
    records = [
        dataclasses.replace(
            r, curves=dict.fromkeys(r.curves, noise) | {'epoch': epochs}
        )
        for r in grid(seeds=17)
    ]
    assert len(records) > 200
    path = rendered(tmp_path / 'long.html', records, SWEPT)
    assert path.stat().st_size < 2.5e6  # figures take as much again
    tab.open(path)
    took = 'performance.timing.loadEventEnd - performance.timing.navigationStart'
    assert 0 < tab.value(took) < 2000  # ms
    tab.value(f'{ROWS}[7].click()')
    line = f"{CURVES}[0].querySelector('.test').getAttribute('d')"
    assert tab.value(line).count('L') == 199  # of at most 200 points


def test_a_script_that_is_not_the_page_s_own_is_refused(chromium, report, tmp_path):
    text = report.read_text(encoding='utf-8')
    broken = tmp_path / 'broken.html'
    broken.write_text(text.replace('</main>', '</main><script>hacked=1</script>'))
    chromium.open(broken)
    assert chromium.value('typeof hacked') == 'undefined'
    assert 'Content Security Policy' in str(chromium.errors)
