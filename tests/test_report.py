"""The report is whole, safe and sane for every kind of sweep."""

import dataclasses
import html.parser
import io
import math
import re

import pytest
import rich.console
from matplotlib.figure import Figure
from sweeps import ACTIVATION, PLACEMENT, RATE, SWEPT, grid, lost, measured, sweep

from bnjax import report
from bnjax.report import drawing
from bnjax.report.curves import layer_means
from bnjax.report.layers import View, view
from bnjax.report.layers import _lines as draw_layers
from bnjax.report.wording import estimate, short_names, signed
from bnjax.stats import Interval, interval


def write(path, records, swept, **texts):
    texts = {'title': 'A sweep', 'description': 'Why?', 'notes': {}} | texts
    return report.write(path, records, swept=swept, **texts).read_text()


def printed(records, swept, width=100):
    file = io.StringIO()
    rich.console.Console(width=width, file=file).print(report.summary(records, swept))
    return file.getvalue()


SWEEPS = {
    'one trial': (sweep(seeds=1), []),
    'seeds only': (sweep(seeds=3), []),
    'placement only': (sweep(**{PLACEMENT: ('none', 'before')}), [PLACEMENT]),
    'one seed': (grid(seeds=1), SWEPT),
    'all diverged': ([lost(r, 'diverged') for r in grid()], SWEPT),
    'all failed': ([lost(r, 'failed') for r in grid()], SWEPT),
    'holes': ([r for i, r in enumerate(grid()) if i % 3 == 0 or i % 7 == 1], SWEPT),
    'bool': (sweep(**{'model.use_bias': (True, False)}), ['model.use_bias']),
    'tuple': (sweep(**{'model.features': ((8,), (8, 8))}), ['model.features']),
    'float': (sweep(**{RATE: (0.0, 0.1)}), [RATE]),
    'many': (grid(activations='abcdefg', seeds=2), SWEPT),
}


@pytest.mark.parametrize('name', SWEEPS)
def test_every_sweep_has_a_page_and_a_table_of_100_columns(name, tmp_path):
    records, swept = SWEEPS[name]
    page = write(tmp_path, records, swept)
    assert page.count('<img') == len(list((tmp_path / 'figures').glob('*.png'))) > 0
    assert max(map(len, printed(records, swept).splitlines())) <= 100
    assert report.headlines(records, swept)


def test_the_answer_says_where_batch_norm_helps_and_where_it_does_not():
    answer = report.headlines(grid(), SWEPT)
    assert answer[0] == (
        'BN before the activation helps with activation relu: +0.101 [+0.099, +0.103], '
        'p < 0.001; sigmoid: +0.101 [+0.099, +0.103], p < 0.001.'
    )
    assert answer[1].startswith(
        'BN after the activation is not seen to help with activation relu: '
    )
    assert answer[2].startswith(
        'BN after the activation is lower than BN before the activation with '
    )
    assert answer[3].startswith(
        'Test accuracy at the best learning_rate with activation relu: no BN 0.8'
    )
    assert '(at 0.1), BN before the activation 0.9' in answer[3]
    assert 'over 4 seeds' in answer[-1] and 'BN after minus before lower' in answer[-1]


def test_an_arm_that_hurts_is_said_not_to_help():
    records = sweep(**{PLACEMENT: ('none', 'before')})
    swap = {'none': 'before', 'before': 'none'}
    hurt = [
        dataclasses.replace(
            r, config=dict(r.config) | {PLACEMENT: swap[r.config[PLACEMENT]]}
        )
        for r in records
    ]
    said = report.headlines(hurt, [PLACEMENT])[0]
    assert said.startswith('BN before the activation does not help but hurts: -0.101')


def test_the_answer_is_short_in_a_terminal():
    file = io.StringIO()
    for sentence in report.headlines(grid(seeds=8), SWEPT):
        rich.console.Console(width=100, file=file).print(sentence)
    assert len(file.getvalue().splitlines()) <= 18


def test_the_answer_counts_diverged_and_failed_trials():
    records = grid()
    records[0] = dataclasses.replace(records[0], status='diverged')
    records[1] = lost(records[1], 'failed')
    answer = ' '.join(report.headlines(records, SWEPT))
    assert '1 of 48 trials diverged (BN before the activation 1); it counts' in answer
    assert '1 of 48 trials failed (BN before the activation 1); it is' in answer
    assert 'among those with the fewest trials diverged or failed' in answer


def test_the_answer_names_what_cannot_be_compared():
    records = [
        r
        for r in grid()
        if (r.config[ACTIVATION], r.config[PLACEMENT]) != ('relu', 'none')
    ]
    answer = ' '.join(report.headlines(records, SWEPT))
    assert (
        'Missing, for want of values: BN before minus none (activation relu)' in answer
    )
    assert 'no BN missing, ' in answer


def test_the_summary_shows_mean_difference_and_verdict():
    text = printed(grid(), SWEPT)
    assert '±' in text and 'higher' in text and '[-0.' in text
    assert 'learning_rate' in text and 'optimizer.' not in text


class Tags(html.parser.HTMLParser):
    """The tags of a page, with their attributes, and whether they are balanced."""

    def __init__(self, page):
        super().__init__()
        self.seen, self.open = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in ('meta', 'img'):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_self_contained_and_described(tmp_path):
    page = write(tmp_path, grid(probes=True), SWEPT)
    tags = Tags(page)
    assert tags.open == []
    images = [attributes for tag, attributes in tags.seen if tag == 'img']
    assert len(images) == 6 and all(image['alt'] for image in images)
    assert all(i['src'].startswith('data:image/png;base64,') for i in images)
    named = {name for _, attributes in tags.seen for name in attributes}
    assert not named & {'href', 'srcset', 'data', 'action', 'style', 'onclick'}
    text = re.sub('base64,[^"]*', '', page)
    assert not re.search(r'https?:|url\(|@import|fetch|XMLHttp|WebSocket', text)


def test_every_string_is_escaped(tmp_path):
    bad = '<script>alert("$x^{")</script>'
    page = write(
        tmp_path,
        grid(activations=(bad, 'relu')),
        SWEPT,
        title=bad,
        description=f'{bad}\n{bad}',
        notes={bad: bad},
    )
    # Its own two: the curves, and what draws them.
    assert page.count('<script') == page.count('</script') == 2
    assert '&lt;script&gt;' in page


def test_the_page_tells_the_question_and_how_it_was_run(tmp_path):
    notes = {'command': 'python train.py', 'jax': '0.10.2'}
    text = 'Does it help?\n\nMore words.\n'
    page = write(tmp_path, sweep(), [], description=text, notes=notes)
    assert '<p class="question">Does it help?</p>' in page
    assert 'More words.' in page
    assert '<dt>command</dt><dd>python train.py</dd>' in page


def test_the_answer_comes_first_then_picture_tables_figures_and_trials(tmp_path):
    heads = re.findall('<h2>([^<]*)', write(tmp_path, grid(('relu',)), SWEPT))
    assert heads[:5] == [
        'Answer',
        'Differences, each arm at its own best learning_rate',
        'Paired differences at equal settings',
        'All settings',
        'Epochs to 0.82 validation accuracy',
    ]
    assert heads[5] == 'Final test accuracy by learning_rate'
    assert heads[-2:] == ['Trials', 'How it was run']


def test_the_page_shows_every_pair(tmp_path):
    page = write(tmp_path, grid(('relu',)), SWEPT)
    heads = re.findall('<th scope="col">(BN .*? minus .*?)</th>', page)
    assert heads == ['BN before minus none', 'BN after minus none'] + [
        'BN after minus before'
    ]
    assert '<small>higher, p &lt; 0.001, n = 4</small>' in page
    assert 'BN after minus before -0.1' in page  # the text of the main picture


def test_writing_again_replaces_and_leaves_nothing_else(tmp_path):
    first = write(tmp_path, sweep(seeds=1), [])
    assert write(tmp_path, sweep(seeds=2), []) != first
    assert {p.name for p in tmp_path.iterdir()} == {'figures', 'report.html'}
    assert all(p.suffix == '.png' for p in (tmp_path / 'figures').iterdir())


def test_names_lose_their_section_unless_two_would_be_one():
    names = short_names([RATE, 'model.momentum', 'optimizer.momentum', 'data.name'])
    assert list(names.values()) == [
        'learning_rate',
        'model.momentum',
        'optimizer.momentum',
        'data',
    ]


def test_an_estimate_is_short_even_for_the_loss_of_a_diverged_trial():
    assert estimate(Interval(0.5, 0.4, 0.6, 3)) == '0.500 ± 0.100'
    assert estimate(Interval(5e17, -5e17, 1.5e18, 3)) == '5.0e+17 ± 1.0e+18'
    assert estimate(Interval(0.5, math.nan, math.nan, 1)) == '0.500 (n=1)'


def test_a_difference_shows_digits_enough_for_its_verdict():
    assert signed(Interval(0.012, 0.004, 0.02, 5)) == '+0.012 [+0.004, +0.020]'
    assert signed(Interval(-0.0, -0.01, 0.01, 5)) == '+0.000 [-0.010, +0.010]'
    assert signed(Interval(0.002, 0.0002, 0.004, 5)) == '+0.0020 [+0.0002, +0.0040]'
    assert signed(Interval(0.1, math.nan, math.nan, 1)) == '+0.100 (n=1)'
    assert signed(interval([0.0, 0.0])) == '+0.000 (2 seeds alike)'
    assert signed(interval([-0.3, -0.3 + 1e-16])) == '-0.300 (2 seeds alike)'


def test_the_summary_of_one_seed_breaks_no_cell_in_80_columns():
    text = printed(grid(seeds=1), SWEPT, width=80)
    assert text.count('(n=1') == text.count('(n=1)') == 4 * 5


def test_the_method_says_once_what_the_intervals_do_not_cover(tmp_path):
    page = write(tmp_path, grid(('relu',)), SWEPT)
    assert 'over 4 seeds (initial weights and order of images, not other' in page
    assert page.count('not adjusted') == 1


@pytest.mark.parametrize(('name', 'times'), [('seeds only', 2), ('one seed', 1)])
def test_whatever_shows_train_values_says_what_they_are(name, times, tmp_path):
    page = write(tmp_path, *SWEEPS[name])
    assert page.count('Train values are means over the steps of an epoch') == times


def captions(page):
    return dict(re.findall('<h2>([^<]*)</h2>\n<figure>.*?<figcaption>(.*?)</fig', page))


def test_gradients_are_those_of_the_first_step():
    cell = [measured(r, [[1.0], [9.0]]) for r in sweep(seeds=3)]
    for first, mean in [(True, 1.0), (False, 3.0)]:
        found = layer_means(cell, 'gradient_norm', first=first, log=True)
        assert found['hidden_0'].mean == pytest.approx(mean)


def test_captions_say_at_which_step_and_setting_a_probe_was_taken(tmp_path):
    records = [measured(r, [[1.0], [2.0]]) for r in grid(activations=('relu',))]
    records = [measured(r, [[1.0]], 'activation_mean') for r in records]
    for r in records:
        if r.config[PLACEMENT] == 'none':  # which then is best at 0.01
            r.config[RATE] = {0.1: 0.01, 0.01: 0.1}[r.config[RATE]]
    said = captions(write(tmp_path, records, SWEPT))
    first = said['Gradient norm by layer at the first step']
    assert 'before any update' in first and 'at learning_rate 0.01' in first
    best = said['Activation mean by layer, each arm at its own best learning_rate']
    assert 'Mean over the sampled steps' in best and 'after the nonlinearity' in best
    assert 'Drawn at learning_rate: no BN 0.01, BN before the activation 0.1,' in best


def test_a_probe_is_drawn_by_its_name(tmp_path):
    records = [measured(r, [[1.0]], 'weight_norm') for r in sweep(seeds=2)]
    assert 'Weight norm by layer' in captions(write(tmp_path, records, []))
    assert view('weight_norm') == View('weight norm', first=False, log=True)
    assert view('zero_fraction') == View('zero fraction', first=False, log=False)


def test_no_legend_is_wider_than_its_figure():
    figure = Figure((5.0, 4.0), layout='constrained')
    figure.subplots()
    drawing.legend(figure, ['w' * 300, 'b'])
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width


def test_arms_whose_networks_have_other_layers_share_an_axis():
    one = Interval(1.0, 0.9, 1.1, 4)
    deep = dict.fromkeys(('hidden_0', 'hidden_1', 'hidden_2', 'output'), one)
    recurrent = dict.fromkeys(('hidden_0', 'hidden_0_recurrent', 'output'), one)
    axes = Figure().subplots()
    draw_layers(axes, [deep, recurrent])
    shown = [label.get_text().replace('\n', '_') for label in axes.get_xticklabels()]
    assert sorted(shown) == sorted({**deep, **recurrent})
    assert shown.index('hidden_0_recurrent') < shown.index('hidden_1')
