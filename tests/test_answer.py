"""What the report says of differences, seeds and epochs, and what it must not say."""

import math

import numpy as np
import pytest

from bnjax.comparison import compare
from bnjax.records import METRICS, Record
from bnjax.report.answer import conclude
from bnjax.report.targets import Arrival, epochs_to_target, steps_to, target_of
from bnjax.report.wording import probability

NAN = math.nan
ACTIVATION, PLACEMENT = 'model.activation', 'model.placement'
SWEPT = [ACTIVATION, PLACEMENT]
GAINS = [0.02, 0.02, 0.02, 0.005, 0.001]  # mean 0.013, deviation 0.0094, p = 0.035


def trial(curve, *, seed=0, placement='none', activation='relu', status='done', **more):
    """A trial with one curve for all accuracies, from epoch 0 on."""
    curves = {m: np.float32(curve) for m in METRICS} | {'epoch': np.arange(len(curve))}
    metrics = {m: float(curve[-1]) for m in METRICS} | more
    config = {'seed': seed, PLACEMENT: placement, ACTIVATION: activation}
    return Record('0' * 12, status, config, metrics, 1, 1.0, curves=curves)


def gained(activations, gains=GAINS):
    return [
        trial(
            [0.5 + gain * (placement == 'before')],
            seed=seed,
            placement=placement,
            activation=activation,
        )
        for activation in activations
        for placement in ('none', 'before')
        for seed, gain in enumerate(gains)
    ]


def test_one_difference_is_claimed_by_its_own_p():
    answer = conclude(compare(gained(['relu']), SWEPT))
    assert answer.overview == [
        'BN before the activation helps: +0.013 [+0.002, +0.025], p = 0.035.'
    ]
    assert 'a claim needs p < 0.05 in a paired t-test.' in ' '.join(answer.notes)


def test_the_same_difference_among_others_is_not_claimed():
    records = gained(['relu', 'tanh'])
    answer = conclude(compare(records, SWEPT))
    assert answer.overview == [
        'BN before the activation is not seen to help with activation '
        'relu: +0.013 [+0.002, +0.025], p = 0.070; '
        'tanh: +0.013 [+0.002, +0.025], p = 0.070.'
    ]
    notes = ' '.join(answer.notes)
    assert 'a claim needs a Holm-adjusted p < 0.05 (2 paired t-tests).' in notes
    assert 'At 2 equal settings (2 tests): BN before minus none no diff' in notes


def test_where_no_difference_is_seen_the_answer_says_how_many_seeds_would_show_one():
    notes = ' '.join(conclude(compare(gained(['relu', 'tanh']), SWEPT)).notes)
    assert 'no difference was seen, one of 0.01 would take 10 seeds (80 % p' in notes
    seen = ' '.join(conclude(compare(gained(['relu']), SWEPT)).notes)
    assert 'would take' not in seen


def test_seeds_that_are_alike_do_not_say_how_many_it_would_take():
    notes = ' '.join(conclude(compare(gained(['relu'], [0.01] * 2), SWEPT)).notes)
    assert 'would take' not in notes and 'over 2 seeds' in notes


def test_one_seed_has_neither_interval_nor_p():
    answer = conclude(compare(gained(['relu', 'tanh'], [0.01]), SWEPT))
    assert 'For want of seeds there are no intervals.' in answer.notes
    assert 'p ' not in ' '.join([*answer.overview, *answer.notes[:2]])


@pytest.mark.parametrize(
    ('p', 'said'),
    [
        (0.0, 'p < 0.001'),
        (0.00099, 'p < 0.001'),
        (0.0123, 'p = 0.012'),
        (0.0496, 'p = 0.0496'),
        (0.04999, 'p = 0.04999'),
        (0.05, 'p = 0.050'),
        (0.0504, 'p = 0.050'),
        (0.099, 'p = 0.099'),
        (0.3456, 'p = 0.35'),
        (1.0, 'p = 1.00'),
    ],
)
def test_a_p_value_is_never_rounded_to_the_other_side_of_the_level(p, said):
    assert probability(p) == said
    if '=' in said:
        assert (float(said.removeprefix('p = ')) < 0.05) == (p < 0.05)


def test_steps_to_a_target_are_the_first_epoch_at_or_beyond_it():
    record = trial([0.1, 0.6, 0.9, 0.8, 0.95])
    assert steps_to(record, 'test_accuracy', 0.9) == Arrival(2.0, True)
    assert steps_to(record, 'test_accuracy', 0.91) == Arrival(4.0, True)
    assert steps_to(record, 'test_accuracy', 0.96) == Arrival(4.0, False)
    assert steps_to(record, 'test_loss', 0.1) == Arrival(0.0, True)
    assert steps_to(record, 'test_loss', 0.05) == Arrival(4.0, False)


def test_a_diverged_trial_is_censored_at_the_end_unless_it_was_there_before():
    record = trial([0.1, 0.6, NAN, NAN, NAN], status='diverged')
    assert steps_to(record, 'test_accuracy', 0.6) == Arrival(1.0, True)
    assert steps_to(record, 'test_accuracy', 0.7) == Arrival(4.0, False)
    assert steps_to(record, 'test_loss', 0.05) == Arrival(4.0, False)


def test_a_trial_without_curves_arrives_nowhere():
    failed = Record('0' * 12, 'failed', {}, dict.fromkeys(METRICS, NAN), 0, 0.0)
    assert steps_to(failed, 'test_accuracy', 0.5) is None


def test_the_target_is_that_of_the_validation_split_and_never_of_the_test_set():
    records = [
        trial([0.1, 0.999], validation_accuracy=0.5, train_accuracy=0.7),
        trial([0.1, 0.2], placement='before', validation_accuracy=0.86, seed=1),
    ]
    assert target_of(compare(records, SWEPT)) == ('validation_accuracy', 0.77)
    unknown = {'validation_accuracy': NAN}
    records = [trial([0.1, 0.6], seed=s, train_accuracy=0.8, **unknown) for s in (0, 1)]
    assert target_of(compare(records, SWEPT)) == ('train_accuracy', 0.72)


def test_the_table_of_epochs_counts_trials_that_never_arrive():
    rising, late, flat = [0.1, 0.5, 1.0, 1.0], [0.1, 0.1, 0.1, 1.0], [0.1] * 4
    lost = [0.1, 0.2, NAN, NAN]
    cells = {'none': [late, flat, flat, lost], 'before': [rising, rising, late, flat]}
    records = [
        trial(
            curve,
            seed=seed,
            placement=placement,
            validation_accuracy=1.0 if placement == 'before' else 0.1,
        )
        for placement, curves in cells.items()
        for seed, curve in enumerate(curves)
    ]
    table = epochs_to_target(compare(records, SWEPT))
    assert table.title == 'Epochs to 0.9 validation accuracy'
    assert table.head == ['placement', 'median', 'first', 'last', 'reached', 'trials']
    assert table.rows == [
        ['none', 'not reached by half', '3', '3', '1', '4'],
        ['before', '2', '2', '3', '3', '4'],
    ]


def test_without_curves_or_finite_values_there_is_no_table():
    empty = trial([0.5])
    empty = Record('0' * 12, 'done', empty.config, empty.metrics, 1, 1.0)
    assert epochs_to_target(compare([empty], [])) is None
    lost = trial([NAN, NAN], status='diverged')
    assert epochs_to_target(compare([lost], [])) is None


def test_where_only_the_seed_varies_the_table_has_one_row():
    records = [trial([0.1, 0.5, 1.0], seed=s) for s in range(3)]
    table = epochs_to_target(compare(records, []))
    assert table.head == ['median', 'first', 'last', 'reached', 'trials']
    assert table.rows == [['2', '2', '2', '3', '3']]
