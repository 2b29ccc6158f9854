"""The pictures of a report: each takes a `Comparison` and says what it shows."""

import dataclasses
import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from bnjax.comparison import Comparison, Contrast, at_own_best, mean_of
from bnjax.records import Record
from bnjax.report import drawing
from bnjax.report.curves import curve
from bnjax.report.layers import probe_pictures
from bnjax.report.maps import accuracy_map, divergence_map
from bnjax.report.picture import (
    BAND,
    MOST_PANELS,
    MOST_ROWS,
    Picture,
    arm_legend,
    each_at_best,
    pair_legend,
    subset,
)
from bnjax.report.steps import step_pictures
from bnjax.report.wording import (
    TRAIN,
    arm_name,
    group_place,
    judged,
    names,
    pair_name,
    place,
    show,
)

DPI = 200  # two pixels of the file for each of the page
MOST_ARMS = 12
ACCURACY = 'final test accuracy (fraction)'
DIFFERENCE = 'difference of final test accuracy (fraction)'
STRETCHED = 'The accuracy axis is stretched towards 1, where it ends.'


def drawn(comparison: Comparison) -> list[tuple[Picture, bytes]]:
    """The pictures of a report with their PNG files."""
    with matplotlib.rc_context(drawing.STYLE):
        return [(picture, _png(picture)) for picture in pictures(comparison)]


def _png(picture: Picture) -> bytes:
    buffer = io.BytesIO()
    picture.figure.savefig(buffer, dpi=DPI, format='png')
    return buffer.getvalue()


def pictures(comparison: Comparison) -> list[Picture]:
    """The figures that the records allow, the main one first."""
    few, said = _few(comparison)
    first: list[Picture | None] = []
    maps: list[Picture | None] = [divergence_map(comparison)]
    if comparison.field is None:
        by_arm = [training_curves(comparison)]
    elif mean_of(comparison.records).n:
        first = [own_best(comparison)]
        maps = [accuracy_map(comparison), *maps]
        by_arm = [final_accuracy(few)]
        by_arm += [differences(few)] if comparison.tuned else []
        by_arm += [learning_curves(few)]
    else:
        by_arm = [learning_curves(few)]
    by_arm += probe_pictures(few) + step_pictures(few)
    by_arm = [p._replace(caption=p.caption + said) for p in by_arm]
    every = [*first, *by_arm[:1], *maps, *by_arm[1:]]
    return [picture for picture in every if picture is not None]


def _few(comparison: Comparison) -> tuple[Comparison, str]:
    """As many of its arms as a figure can tell apart, and what that leaves out."""
    arms, total = comparison.arms[:MOST_ARMS], len(comparison.arms)
    cells = {key: cell for key, cell in comparison.cells.items() if key[1] in arms}
    said = f' Of {total} arms the first {MOST_ARMS} are drawn.'
    few = dataclasses.replace(comparison, arms=arms, cells=cells)
    return few, said if total > MOST_ARMS else ''


def own_best(comparison: Comparison) -> Picture | None:
    """Every pair of arms, each at its own best setting, with numbers."""
    every = at_own_best(comparison)
    pairs = comparison.pairs[:MOST_ROWS]
    contrasts = [c for c in every if (c.arm, c.against) in pairs][:MOST_ROWS]
    if not contrasts:
        return None
    groups = list(dict.fromkeys(c.where for c in contrasts))
    figure = Figure((drawing.WIDTH, 1.2 + 0.3 * len(contrasts)), layout='constrained')
    axes = figure.subplots()
    offsets = drawing.dodge(len(pairs), 0.8)
    for contrast in contrasts:
        at = pairs.index((contrast.arm, contrast.against))
        y = groups.index(contrast.where) + offsets[at]
        drawing.across(axes, contrast.difference, y, 1 + at)
        axes.annotate(
            judged(contrast),
            (1.02, y),
            xycoords=('axes fraction', 'data'),
            va='center',
        )
    drawing.rows(axes, [group_place(comparison, group) for group in groups])
    axes.set_xlabel(DIFFERENCE + drawing.zero_lines([axes]))
    pair_legend(figure, comparison)
    return Picture(
        'differences_at_best',
        f'Differences{each_at_best(comparison)}',
        figure,
        f'Mean paired difference of final test accuracy with its {BAND}, and the '
        'p-value of a paired t-test, Holm-adjusted over all of them.'
        f'{subset(every, MOST_ROWS)}',
        'Dot plot. ' + '; '.join(_spoken(comparison, c) for c in contrasts) + '.',
    )


def differences(comparison: Comparison) -> Picture:
    """Every pair of arms at equal settings, a panel for each group."""
    groups = comparison.groups[:MOST_PANELS]
    every = list(dict.fromkeys(map(comparison.point_of, comparison.settings)))
    points = every[:MOST_ROWS]
    height = 0.7 + 0.16 * len(points) * len(comparison.pairs)
    figure, panels = drawing.panels(len(groups), height, columns=2)
    offsets = drawing.dodge(len(comparison.pairs), 0.7)
    for axes, group in zip(panels, groups, strict=True):
        for row, point in enumerate(points):
            for index, pair in enumerate(comparison.pairs, 1):
                difference = comparison.difference((*group, *point), *pair)
                drawing.across(axes, difference, row + offsets[index - 1], index)
        fields = comparison.tuned_fields
        drawing.rows(axes, [place(comparison, fields, point) for point in points])
        axes.set_title(drawing.plain(group_place(comparison, group)))
    scale = drawing.zero_lines(panels)
    figure.supxlabel(DIFFERENCE + scale, fontsize=9)
    pair_legend(figure, comparison)
    return Picture(
        'differences',
        'Differences at equal settings',
        figure,
        f'Mean paired difference of final test accuracy with its {BAND}.'
        f'{subset(comparison.groups)}{subset(every, MOST_ROWS)}',
        'Dot plots of the differences listed in the table of paired differences.',
    )


def final_accuracy(comparison: Comparison) -> Picture:
    """Final test accuracy of every arm at every setting."""
    draw = _accuracy_lines if comparison.tuned else _accuracy_dots
    return draw(comparison)


def _accuracy_lines(comparison: Comparison) -> Picture:
    """Accuracy over the float field of most values; a panel for each of the rest."""
    at = _longest_axis(comparison)
    field = comparison.fields[at]
    fields = (*comparison.fields[:at], *comparison.fields[at + 1 :])
    rests = list(dict.fromkeys((*s[:at], *s[at + 1 :]) for s in comparison.settings))
    values = sorted({setting[at] for setting in comparison.settings})
    middle, log = drawing.positions(values)
    gap = min(np.diff(middle), default=1)
    offsets = drawing.dodge(len(comparison.arms), 0.24 * gap)
    shown = rests[:MOST_PANELS]
    figure, panels = drawing.panels(len(shown), 2.7, columns=3)
    for axes, rest in zip(panels, shown, strict=True):
        for index, arm in enumerate(comparison.arms):
            x = middle + offsets[index]
            settings = [(*rest[:at], value, *rest[at:]) for value in values]
            cells = [comparison.cell(setting, arm) for setting in settings]
            drawing.upright(axes, x, [mean_of(cell) for cell in cells], index)
            centres = np.repeat(x, [len(cell) for cell in cells])
            alone = [value for cell in cells for value in _accuracies(cell)]
            drawing.seeds(axes, centres, alone, index)
        labels = [show(value) for value in values]
        every = -(-len(values) // 8)
        axes.set_xticks(middle[::every], labels[::every])
        axes.set_xlabel(names(comparison)[field] + (' (log scale)' if log else ''))
        axes.set_title(drawing.plain(place(comparison, fields, rest)))
    drawing.stretch_accuracy(panels[0])
    drawing.label_left(panels, ACCURACY)
    arm_legend(figure, comparison)
    return Picture(
        'final_accuracy',
        f'Final test accuracy by {names(comparison)[field]}',
        figure,
        f'Mean and {BAND}; small dots are single seeds. {STRETCHED}{subset(rests)}',
        'Line plots of the accuracies listed in the table of all settings.',
    )


def _longest_axis(comparison: Comparison) -> int:
    """Where among its fields the tuned one of most values stands."""
    columns = [set(column) for column in zip(*comparison.settings, strict=True)]
    tuned = range(len(comparison.group_fields), len(comparison.fields))
    return max(tuned, key=lambda at: len(columns[at]))


def _accuracy_dots(comparison: Comparison) -> Picture:
    """Accuracy of every arm: a row for each setting, or each arm if only they vary."""
    settings = comparison.settings[:MOST_ROWS]
    alone = not comparison.fields
    rows = len(comparison.arms) if alone else len(settings)
    height = 0.3 * rows if alone else 0.18 * rows * len(comparison.arms)
    figure = Figure((drawing.WIDTH, 1.2 + height), layout='constrained')
    axes = figure.subplots()
    offsets = drawing.dodge(len(comparison.arms), 0.7)
    for row, setting in enumerate(settings):
        for index, arm in enumerate(comparison.arms):
            y = index if alone else row + offsets[index]
            cell = comparison.cell(setting, arm)
            drawing.across(axes, mean_of(cell), y, index)
            drawing.seeds(axes, _accuracies(cell), [y] * len(cell), index)
    arms = [arm_name(comparison, arm) for arm in comparison.arms]
    places = [place(comparison, comparison.fields, setting) for setting in settings]
    drawing.rows(axes, arms if alone else places)
    axes.set_xlabel(ACCURACY)
    if not alone:
        arm_legend(figure, comparison, lines=False)
    return Picture(
        'final_accuracy',
        'Final test accuracy',
        figure,
        f'Mean and {BAND}; small dots are single seeds.'
        f'{subset(comparison.settings, MOST_ROWS)}',
        'Dot plot of the accuracies listed in the table of all settings.',
    )


def learning_curves(comparison: Comparison) -> Picture:
    """Test accuracy by epoch: every setting, or each arm's best where they are many."""
    every = len(comparison.settings) <= MOST_PANELS or not comparison.tuned
    keys = comparison.settings if every else comparison.groups
    per_group = len(comparison.settings) / len(comparison.groups)
    columns = int(per_group) if every and per_group in range(3, 7) else 4
    fields = comparison.fields if every else comparison.group_fields
    shown = keys[:MOST_PANELS]
    figure, panels = drawing.panels(len(shown), 2.1, columns=columns)
    for axes, key in zip(panels, shown, strict=True):
        for index, arm in enumerate(comparison.arms):
            cell = (comparison.cell if every else comparison.best_cell)(key, arm)
            drawing.band(axes, *curve(cell, 'test_accuracy'), index)
        axes.set_title(
            drawing.plain(place(comparison, fields, key).replace(', ', '\n'))
        )
        drawing.epochs(axes)
    drawing.stretch_accuracy(panels[0])
    drawing.label_left(panels, 'test accuracy (fraction)')
    arm_legend(figure, comparison, markers=False)
    return Picture(
        'learning_curves',
        'Test accuracy during training' + ('' if every else each_at_best(comparison)),
        figure,
        f'Mean and {BAND} (band); a diverged trial stays at its last finite value. '
        f'{STRETCHED}{subset(keys)}',
        'Curves of test accuracy by epoch, a line for each arm.',
    )


def training_curves(comparison: Comparison) -> Picture:
    """Accuracy and loss of every split by epoch, where only the seed varies."""
    figure, panels = drawing.panels(2, 3.0, share=False)
    labels = {'accuracy': 'accuracy (fraction)', 'loss': 'loss (nats)'}
    splits = ['train', 'validation', 'test']
    for axes, (metric, label) in zip(panels, labels.items(), strict=True):
        for index, split in enumerate(splits):
            epochs, values = curve(comparison.records, f'{split}_{metric}')
            drawing.band(axes, epochs, values, index)
        drawing.epochs(axes)
        axes.set_ylabel(label)
    drawing.stretch_accuracy(panels[0])
    drawing.legend(figure, splits, markers=False)
    return Picture(
        'learning_curves',
        'Accuracy and loss during training',
        figure,
        f'Mean and {BAND} (band); a diverged trial stays at its last finite value. '
        f'{TRAIN} {STRETCHED}',
        'Curves of train, validation and test accuracy and loss by epoch.',
    )


def _accuracies(cell: Sequence[Record]) -> list[float]:
    return [record.metrics['test_accuracy'] for record in cell]


def _spoken(comparison: Comparison, contrast: Contrast) -> str:
    where = group_place(comparison, contrast.where)
    pair = pair_name(comparison, contrast.arm, contrast.against)
    said = f'{pair} {judged(contrast)}'
    return f'{where}: {said}' if where else said
