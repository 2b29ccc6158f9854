"""The verdict on each claim of a study, on made records with an effect planted.

Nothing is trained. The effects are those that the rules of the register speak of, in
their words; the studies' own constants and functions are not used.
"""

import planted_accuracies
import planted_gradients
import planted_inputs
import planted_networks
import planted_probes
import planted_tricks
import pytest
from planted import prepared, verdicts

from bnjax import data
from bnjax.claims import trained
from bnjax.claims.register import CLAIMS
from bnjax.verdict import CONFIRMED, REFUTED, UNDECIDED

MODULES = (
    *(planted_accuracies, planted_tricks, planted_probes),
    *(planted_networks, planted_gradients, planted_inputs),
)
EFFECTS = {claim: cases for m in MODULES for claim, cases in m.EFFECTS.items()}
CASES = {
    f'{CLAIMS[claim].study}-{claim}-{rest[0]}-{index}': (claim, *rest)
    for claim, cases in EFFECTS.items()
    for index, rest in enumerate(cases)
}


@pytest.fixture(scope='module', autouse=True)
def made_data():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, 'load', planted_networks.images)
        noisy = prepared('covariate_shift')[0].source.module
        patch.setattr(noisy, 'network', planted_networks.compiled)
        trained_on = prepared('after_training')[0].source.module
        patch.setattr(trained_on, 'folded', lambda *_: 0.0)  # of no verdict, and slow
        trained._images.cache_clear()
        yield
    trained._images.cache_clear()


@pytest.mark.parametrize('case', CASES)
def test_a_planted_effect_decides(case):
    claim, verdict, *outcomes = CASES[case]
    found = verdicts(CLAIMS[claim].study, *outcomes)[claim]
    assert found.verdict == verdict
    if verdict != UNDECIDED:
        _, low, high, _ = found.interval
        assert any(low > bound or high < bound for bound in found.bounds)


def test_each_claim_of_a_study_is_confirmed_refuted_and_undecided():
    studied = {c.id for c in CLAIMS.values() if c.study and not c.same}
    assert set(EFFECTS) == studied
    for cases in EFFECTS.values():
        assert {case[0] for case in cases} == {CONFIRMED, REFUTED, UNDECIDED}
