"""Maps, maps by step, and the table of trials with its curves."""

import dataclasses
import json
import math
import re

import numpy as np
import pytest
from sweeps import PLACEMENT, RATE, SWEPT, grid, lost, measured, sweep

from bnjax.comparison import compare
from bnjax.report import figures, maps, steps, trials
from bnjax.report.curves import layer_steps

DECAY = 'optimizer.weight_decay'


def two_fields(**more):
    return sweep(**more, **{RATE: (0.1, 0.01), DECAY: (0.0, 1e-4, 1e-3)})


def arrays(picture):
    """The values of each map of a picture, in its order."""
    return [axes.images[0].get_array() for axes in picture.figure.axes[:-1]]


def test_a_map_shows_the_mean_over_seeds_where_its_two_fields_meet():
    records = two_fields(**{PLACEMENT: ('before', 'none')})
    del records[:4]  # before, 0.1, 0.0
    drawn = maps.accuracy_map(compare(records, [PLACEMENT, RATE, DECAY]))
    none, before = arrays(drawn)
    assert none.shape == (3, 2)
    assert before.mask.tolist() == [[False, True]] + 2 * [[False, False]]
    cell = [r for r in records if r.config[RATE] == 0.01 and r.config[DECAY] == 1e-3]
    cell = [r.metrics['test_accuracy'] for r in cell if r.config[PLACEMENT] == 'none']
    assert none[2, 0] == pytest.approx(np.mean(cell))
    assert [a.get_title() for a in drawn.figure.axes[:-1]] == [
        'no BN',
        'BN before the activation',
    ]


def test_numbers_that_are_the_arms_are_an_axis_like_any_other():
    drawn = maps.accuracy_map(compare(two_fields(), [RATE, DECAY]))
    (only,) = arrays(drawn)
    assert sorted(only.shape) == [2, 3]
    assert drawn.title == 'Final test accuracy by weight_decay and learning_rate'


def test_one_number_makes_no_map_of_accuracies():
    records = sweep(**{PLACEMENT: ('none', 'before'), RATE: (0.1, 1.0)})
    assert maps.accuracy_map(compare(records, [PLACEMENT, RATE])) is None


def test_divergence_is_mapped_where_it_happens_and_only_then():
    records = sweep(**{PLACEMENT: ('none', 'before'), RATE: (0.1, 1.0)})
    comparison = compare(records, [PLACEMENT, RATE])
    assert maps.divergence_map(comparison) is None
    worst = [r for r in records if r.config[RATE] == 1.0][:3]
    worst = {id(r) for r in worst if r.config[PLACEMENT] == 'none'}
    records = [lost(r, 'diverged') if id(r) in worst else r for r in records]
    drawn = maps.divergence_map(compare(records, [PLACEMENT, RATE]))
    (shares,) = arrays(drawn)
    assert shares.tolist() == [[0, 0.75], [0, 0]]
    rows = [label.get_text() for label in drawn.figure.axes[0].get_yticklabels()]
    assert rows == ['none', 'before']


def test_a_probe_by_step_is_averaged_over_seeds_as_its_scale_asks():
    cell = [
        measured(r, [[v], [4.0]]) for r, v in zip(sweep(2), (1.0, 4.0), strict=True)
    ]
    for log, mean in [(True, 2.0), (False, 2.5)]:
        at, layers, values = layer_steps(cell, 'gradient_norm', log=log)
        assert (at.tolist(), layers) == ([0, 20], ['hidden_0'])
        np.testing.assert_allclose(values, [[mean, 4.0]])
    picture = steps.by_step(compare(cell, []), 'gradient_norm')
    np.testing.assert_allclose(arrays(picture)[0], [[2.0, 4.0]])


def test_one_sampled_step_makes_no_map_by_step():
    cell = [measured(r, [[1.0]]) for r in sweep(2)]
    assert steps.by_step(compare(cell, []), 'gradient_norm') is None


def embedded(records, swept=()):
    html = trials.section(compare(records, list(swept)))
    return html, json.loads(re.search('application/json">(.*?)</script>', html)[1])


def long(record, length):
    curves = {k: np.linspace(0, 1, length) for k in record.curves}
    return dataclasses.replace(record, curves=curves | {'epoch': np.arange(length)})


def test_curves_are_thinned_to_200_points_with_both_ends():
    html, data = embedded([long(r, 1001) for r in sweep(2)])
    (epochs,) = data['epochs']
    assert len(epochs) == 200 and (epochs[0], epochs[-1]) == (0, 1000)
    assert [len(curve) for curve in data['trials'][0][1:]] == [200] * 6
    assert 'Curves are thinned to 200 points.' in html


def test_many_trials_have_fewer_points_and_then_those_of_the_lowest_seeds(monkeypatch):
    monkeypatch.setattr(trials, 'MOST_NUMBERS', 6 * 25 * 3)
    html, data = embedded([long(r, 50) for r in grid(('relu',), seeds=4)], SWEPT)
    assert [len(epochs) for epochs in data['epochs']] == [25]
    having = [bool(curves) for curves in data['trials']]
    assert sum(having) == 3 and len(having) == 24
    assert 'only 3 trials, those of the lowest seeds, have curves here.' in html


def test_the_table_of_trials_says_how_each_ended():
    records = sweep(3)
    records[0] = dataclasses.replace(lost(records[0], 'diverged'), bad_step=12)
    records[1] = dataclasses.replace(lost(records[1], 'failed'), error='no <memory>')
    html, data = embedded(records)
    assert '<td>diverged<small>at step 12</small></td>' in html
    assert '<td>failed<small>no &lt;memory&gt;</small></td>' in html
    assert [bool(curves) for curves in data['trials']] == [False, False, True]


def test_embedded_json_ends_no_script_and_keeps_its_meaning():
    text = '</script><!--&\u2028'
    said = trials.safe_json({'a': text})
    assert not set('<>&\u2028') & set(said) and json.loads(said) == {'a': text}
    with pytest.raises(ValueError):
        trials.safe_json(math.nan)


def test_of_many_arms_the_figures_show_some_and_say_so():
    comparison = compare(sweep(2, **{RATE: tuple(np.geomspace(0.001, 1, 60))}), [RATE])
    drawn = {picture.name: picture for picture in figures.pictures(comparison)}
    for name in ('final_accuracy', 'learning_curves'):
        assert 'Of 60 arms the first 12 are drawn.' in drawn[name].caption
    best = drawn['differences_at_best']
    assert 'Only the first 40 of 59 are drawn.' in best.caption
    assert all(picture.figure.get_figheight() < 20 for picture in drawn.values())
