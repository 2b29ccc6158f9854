"""The page of claims says what was asked, what was done and what came out."""

import copy
import re

import pytest
from verdicts import CLAIMS, KEPT, REGISTER

from bnjax.claims import figures, page
from bnjax.claims.page import markdown
from bnjax.claims.settled import collect
from bnjax.errors import UserError
from bnjax.stats import Interval

PANEL = figures.Panel('S1', 'it', figures.Measured('undecided', Interval(1, 0, 2, 3)))


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    docs = tmp_path_factory.mktemp('docs')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, 'CLAIMS', REGISTER)
        images = docs / 'images/claims'
        images.mkdir(parents=True)
        (images / 'placement.png').write_bytes(figures.forest([PANEL]))
        page.write(docs, KEPT)
    return docs


@pytest.fixture(scope='module')
def text(written):
    return (written / 'claims.md').read_text()


def lines_of(text, claim):
    return next(line for line in text.splitlines() if f'<a id="{claim}">' in line)


def section(text, heading):
    level = heading.partition(' ')[0]
    rest = text.partition(f'\n{heading}\n')[2]
    return re.split(rf'(?m)^#{{1,{len(level)}}} ', rest)[0]


def test_every_claim_has_one_line_with_its_words_and_its_verdict(text):
    for claim in CLAIMS:
        assert text.count(f'<a id="{claim.id.lower()}"></a>') == 1
    line = lines_of(text, 's20')
    said = 'epochs. (also 003)<br>“收敛速度”<br>“迭代次数减少” | **confirmed** |'
    assert said in line
    assert line.endswith('rate:<br>0.81 [0.62, 1.00] | 10 | [placement](#placement) |')
    assert '**not run** | a citation' in lines_of(text, 's60')
    assert '**not run** | the check folding.into' in lines_of(text, 's43')


def test_a_claim_stands_with_the_document_that_says_it_first(text):
    first = section(text, '## Document 000')
    assert re.findall(r'<a id="(\w+)">', first) == [
        's3',
        's7',
        's8',
        's20',
        's22',
        'm14',
    ]
    assert re.findall(r'<a id="(\w+)">', section(text, '## Document 003')) == []
    errors = section(text, '## Errors of the documents')
    assert re.findall(r'<a id="(\w+)">', errors) == ['e3']
    assert '(003, 000)' in errors


def test_a_duplicate_refers_to_the_line_it_repeats(text):
    assert lines_of(text, 's33').endswith('| **confirmed** |  |  | as [S20](#s20) |')
    assert '[S20](#s20) (and [S33](#s33))' in section(text, '### placement')


def test_the_verdicts_are_counted(text):
    assert '| **all** | 4 | 2 | 2 | 4 | 12 |' in text
    assert '| [document 000](#document-000) | 3 | 1 | 1 | 1 | 6 |' in text
    said = ' '.join(text.split())
    assert 'make 11 statements' in said and '1 of them ask the same' in said


def test_a_section_says_what_was_asked_done_and_found(text):
    said = ' '.join(section(text, '### placement').split())
    for part in (
        '**Asked.** Does the place of batch norm matter?',
        '- **Setup:** 3 arms x 4 activations',
        'Batch norm converges in fewer epochs.',
        '**confirmed**: log of steps to 95 % without / with batch norm, each at its '
        'best rate: 0.81 [0.62, 1.00], n = 10; bound 0.22',
        'Rule: Log of steps. Confirmed: L > log 1.25 = 0.22. Refuted: U < 0.22.',
        'With other seeds, from 100 on: **confirmed**, 0.75 [0.50, 1.00], n = 10',
        'Rules as when the run began: code `a3a3a3a3a3a3` (commit `c0ffeec0ffee`, '
        '2026-11-20)',
        '**Best learning rates.** By mean validation accuracy.',
        '744 trials, 1 000 000 training steps in all, 13 min 32 s on AMD EPYC, 2 cores',
        'commit `0956d420956d`',
        '`python -m bnjax.claims run placement`',
        '; 3 of the trials diverged or failed',
        'Run at full size.',
    ):
        assert part in said
    assert 'train.py' not in said and 'Settles' not in said


def test_rules_that_changed_after_the_run_began_are_named(text):
    said = {
        name: ' '.join(section(text, f'### {name}').split())
        for name in ('vanishing', 'initial_scale')
    }
    assert (
        '**Rules changed after the run began**: their code was `b4b4b4b4b4b4` (commit '
        'unknown, 2026-11-19) then and is `a3a3a3a3a3a3` now'
    ) in said['vanishing']
    assert 'when the run began was not recorded' in said['initial_scale']
    assert (
        '1 of the 3 studies that gave verdicts applied the rules recorded when their '
        'runs began; in 1 the rules changed after that; of 1 none were recorded.'
    ) in ' '.join(text.split())


def test_an_exact_part_stands_beside_the_verdict_of_the_study(text):
    assert '<br>exact part: confirmed | 10 |' in lines_of(text, 's3')
    assert (
        'Its exact part, [`axes.order_matters`](#axes.order_matters): confirmed, 6 '
        'orders differ'
    ) in ' '.join(text.split())
    rule = section(text, '## Exact checks').replace('\n  ', ' ')
    assert '[`axes.order_matters`](../bnjax/claims/exact/axes.py), [S3](#s3)' in rule


def test_what_was_not_run_has_its_reason(text):
    said = ' '.join(section(text, '## What was not run, and why').split())
    assert '[S31](#s31): It helps RNNs. *The study recurrent has not been run*' in said
    assert '[M14](#m14)' in said and '*Not operational*' in said
    assert '[published_mnist](#published_mnist): 25 000 of 50 000 steps' in said
    assert 'Not run at full size: 25 000' in section(text, '### published_mnist')


def test_other_seeds_are_counted_and_what_moved_is_named(text):
    said = ' '.join(text.split())
    assert (
        'Of 2 verdicts of studies that were repeated with other seeds 1 came out the '
        'same, and none went from confirmed to refuted or back, which makes it '
        'undecided. Not the same: [S3](#s3) from refuted to undecided.'
    ) in said
    flipped = copy.deepcopy(KEPT)
    flipped['claims']['S20']['again'] |= {'verdict': 'refuted'}
    said = ' '.join(page.render(collect(REGISTER, flipped)).split())
    assert 'and 1 went from confirmed to refuted or back' in said


def test_a_page_without_any_result_says_that_nothing_was_run():
    nothing = {'claims': {}, 'exact': {}, 'studies': {}}
    text = page.render(collect(REGISTER, nothing))
    assert '| **all** | 0 | 0 | 0 | 12 | 12 |' in text
    assert 'other seeds 0' not in text


def test_all_links_and_pictures_lead_somewhere(written, text):
    targets = set(re.findall(r'<a id="([^"]+)">', text))
    for heading in re.findall(r'(?m)^#+ (.*)$', text):
        targets.add(re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-'))
    assert not set(re.findall(r'\]\(#([^)]+)\)', text)) - targets
    pictures = re.findall(r'(?m)^!\[.+\]\((.+)\)$', text)
    names = ['placement_intervals.png', 'placement.png', 'vanishing_intervals.png']
    assert pictures == [f'images/claims/{name}' for name in names]
    assert (written / pictures[0]).is_file()


def test_every_row_of_a_table_has_as_many_cells_as_its_head(text):
    cells = [
        len(re.findall(r'(?<!\\)\|', line)) if line.startswith('|') else 0
        for line in text.splitlines()
    ]
    for before, here in zip(cells, cells[1:], strict=False):
        assert before == here or 0 in (before, here)


def test_no_line_of_prose_is_long_and_none_opens_a_list_by_chance(text):
    for line in text.splitlines():
        if not line.startswith(('|', '![')) and '](' not in line:
            assert len(line) <= markdown.WIDTH
    assert '- 504 trials' in ' '.join(text.split())
    assert not re.search(r'(?m)^\s*- 504', text)


def test_a_picture_that_a_study_names_and_is_not_there_is_an_error(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, 'CLAIMS', REGISTER)
        with pytest.raises(
            UserError, match=r'placement.png: the study placement names'
        ):
            page.write(tmp_path, KEPT)
    assert not (tmp_path / 'claims.md').exists()
