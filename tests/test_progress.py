"""What is said while a sweep runs: on a terminal, elsewhere, and with --quiet."""

import re
from types import SimpleNamespace

import pytest

from bnjax import progress
from bnjax.sweep import Progress

HALF = Progress(2, 1, 0.5, 0.25, 'relu before (0.2 GB)', (240, 1000))
DAMAGED = HALF._replace(message='work/trials/[a].json is damaged; ' + 120 * 'long ')


@pytest.fixture
def said(monkeypatch, capsys):
    """What a minute of telling comes to, with control sequences taken away."""
    monkeypatch.setenv('COLUMNS', '120')
    clock = iter(range(0, 10**6, 30))
    time = SimpleNamespace(monotonic=lambda: next(clock))
    monkeypatch.setattr(progress, 'time', time)

    def tell(*told, quiet=False):
        with progress.shown(4, quiet) as tell:
            for each in told:
                tell(each)
        out, err = capsys.readouterr()
        assert out == ''
        return re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', err)

    return tell


def test_a_line_has_trials_steps_diverged_and_the_time_left(said):
    """Half of a quarter of the work in 30 s: the other half takes 60."""
    expected = '2/4 trials, step 240/1000, 1 diverged, about 60 s left'
    assert said(HALF) == f'relu before (0.2 GB): {expected}\n'


def test_a_line_says_nothing_that_is_not_known(said):
    assert said(Progress(0, 0, 0.0, 0.0, 'mlp')) == 'mlp: 0/4 trials\n'
    assert said(Progress(4, 0, 1.0, 1.0, 'mlp')) == 'mlp: 4/4 trials\n'


def test_the_same_trials_are_told_of_once_a_minute(said):
    """Told every 30 seconds."""
    steps = [HALF._replace(steps=(n, 1000)) for n in (1, 2, 3, 4, 5)]
    assert re.findall(r'step (\d)', said(*steps)) == ['1', '3', '5']
    others = [HALF._replace(trials=n) for n in (1, 2, 3)]
    assert re.findall(r'(\d)/4', said(*others)) == ['1', '2', '3']


@pytest.mark.parametrize('passed', [(99, '99 s'), (150, '2 min'), (9000, '2.5 h')])
def test_times_are_in_the_unit_that_people_use(passed):
    assert progress._duration(passed[0]) == passed[1]


@pytest.mark.parametrize('terminal', [True, False])
@pytest.mark.parametrize('quiet', [True, False])
def test_a_message_is_shown_whole_in_a_line_and_once(
    said, monkeypatch, terminal, quiet
):
    if terminal:
        monkeypatch.setenv('FORCE_COLOR', '1')
    text = said(HALF, DAMAGED, HALF, quiet=quiet)
    assert text.count(DAMAGED.message) == 1
    assert ('2/4 trials' in text) == (not quiet)
    if quiet:
        assert text == f'{DAMAGED.message}\n'


def test_a_terminal_has_a_bar(said, monkeypatch):
    monkeypatch.setenv('FORCE_COLOR', '1')
    text = said(HALF)
    for part in ('relu before (0.2 GB)', '━', '2/4 trials', 'step 240/1000'):
        assert part in text
    assert '1 diverged, about' in text


def test_quiet_says_nothing(said, monkeypatch):
    assert said(HALF, quiet=True) == ''
    monkeypatch.setenv('FORCE_COLOR', '1')
    assert said(HALF, quiet=True) == ''
