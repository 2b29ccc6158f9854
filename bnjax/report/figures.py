"""The pictures of a report: each takes a `Comparison` and says what it shows."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from bnjax.records import Record
from bnjax.report import drawing
from bnjax.report.curves import curve, layer_means
from bnjax.report.wording import (
    arm_name,
    names,
    pair_name,
    place,
    show,
    signed,
    tuned_names,
)
from bnjax.stats import (
    Comparison,
    Contrast,
    at_own_best,
    mean_of,
    verdict,
)

MOST_PANELS = 12
MOST_ROWS = 40
BAND = '95 % t-interval over seeds'
ACCURACY = 'final test accuracy (fraction)'
DIFFERENCE = 'difference of final test accuracy (fraction)'
STRETCHED = 'The accuracy axis is stretched towards 1, where it ends.'
PROBES = {
    'gradient_norm': 'gradient norm',
    'activation_mean': 'mean of activations',
    'activation_std': 'standard deviation of activations',
    'zero_fraction': 'fraction of zero activations',
}


class Picture(NamedTuple):
    """A figure, its file name without suffix, its title, caption and alt text."""

    name: str
    title: str
    figure: Figure
    caption: str
    alt: str


def pictures(comparison: Comparison) -> list[Picture]:
    """The figures that the records allow, the main one first."""
    drawn: list[Picture | None] = []
    if comparison.field is None:
        drawn = [training_curves(comparison)]
    else:
        if mean_of(comparison.records).n:
            drawn = [own_best(comparison), final_accuracy(comparison)]
            drawn += [differences(comparison)] if comparison.tuned else []
        drawn += [learning_curves(comparison)]
    drawn += [by_layer(comparison, probe) for probe in PROBES]
    return [picture for picture in drawn if picture is not None]


def own_best(comparison: Comparison) -> Picture | None:
    """Every pair of arms, each at its own best setting, with numbers."""
    every = at_own_best(comparison)
    contrasts = every[:MOST_ROWS]
    if not contrasts:
        return None
    groups = list(dict.fromkeys(c.group for c in contrasts))
    figure = Figure((drawing.WIDTH, 1.2 + 0.3 * len(contrasts)), layout='constrained')
    axes = figure.subplots()
    offsets = drawing.dodge(len(comparison.pairs), 0.8)
    for contrast in contrasts:
        index = 1 + comparison.pairs.index((contrast.arm, contrast.against))
        y = groups.index(contrast.group) + offsets[index - 1]
        drawing.across(axes, contrast.difference, y, index)
        axes.annotate(
            _judged(contrast),
            (1.02, y),
            xycoords=('axes fraction', 'data'),
            va='center',
        )
    drawing.rows(axes, [place(comparison, group) for group in groups])
    axes.set_xlabel(DIFFERENCE + drawing.zero_lines([axes]))
    _pair_legend(figure, comparison)
    return Picture(
        'differences_at_best',
        f'Differences{_each(comparison)}',
        figure,
        f'Mean paired difference of final test accuracy with its {BAND}: one that '
        f'holds 0 does not tell which arm is higher.{_subset(every, MOST_ROWS)}',
        'Dot plot. ' + '; '.join(_spoken(comparison, c) for c in contrasts) + '.',
    )


def differences(comparison: Comparison) -> Picture:
    """Every pair of arms at equal settings, a panel for each group."""
    skip = len(comparison.group_fields)
    groups = comparison.groups[:MOST_PANELS]
    points = list(dict.fromkeys(s[skip:] for s in comparison.settings))
    height = 0.7 + 0.16 * len(points) * len(comparison.pairs)
    figure, panels = drawing.panels(len(groups), height, columns=2)
    offsets = drawing.dodge(len(comparison.pairs), 0.7)
    for axes, group in zip(panels, groups, strict=True):
        for row, point in enumerate(points):
            for index, pair in enumerate(comparison.pairs, 1):
                difference = comparison.difference((*group, *point), *pair)
                drawing.across(axes, difference, row + offsets[index - 1], index)
        labels = [place(comparison, (*group, *point), skip) for point in points]
        drawing.rows(axes, labels)
        axes.set_title(drawing.plain(place(comparison, group)))
    scale = drawing.zero_lines(panels)
    figure.supxlabel(DIFFERENCE + scale, fontsize=9)
    _pair_legend(figure, comparison)
    return Picture(
        'differences',
        'Differences at equal settings',
        figure,
        f'Mean paired difference of final test accuracy with its {BAND}, not adjusted '
        f'for their number.{_subset(comparison.groups)}',
        'Dot plots of the differences listed in the table of paired differences.',
    )


def final_accuracy(comparison: Comparison) -> Picture:
    """Final test accuracy of every arm at every setting."""
    draw = _accuracy_lines if comparison.tuned else _accuracy_dots
    return draw(comparison)


def _accuracy_lines(comparison: Comparison) -> Picture:
    """Accuracy over the float field of most values; a panel for each of the rest."""
    columns = list(zip(*comparison.settings, strict=True))
    skip = len(comparison.group_fields)
    at = max(range(skip, len(columns)), key=lambda i: len(set(columns[i])))
    field = comparison.fields[at]
    rests = list(dict.fromkeys((*s[:at], *s[at + 1 :]) for s in comparison.settings))
    values = sorted(set(columns[at]))
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
            for centre, cell in zip(x, cells, strict=True):
                drawing.seeds(axes, [centre] * len(cell), _accuracies(cell), index)
        axes.set_xticks(middle, [show(value) for value in values])
        axes.set_xlabel(names(comparison)[field] + (' (log scale)' if log else ''))
        fields = (*comparison.fields[:at], *comparison.fields[at + 1 :])
        axes.set_title(drawing.plain(place(comparison, rest, fields=fields)))
    drawing.stretch_accuracy(panels[0])
    drawing.label_left(panels, ACCURACY)
    _legend(figure, comparison)
    return Picture(
        'final_accuracy',
        f'Final test accuracy by {names(comparison)[field]}',
        figure,
        f'Mean and {BAND}; small dots are single seeds. {STRETCHED}{_subset(rests)}',
        'Line plots of the accuracies listed in the table of all settings.',
    )


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
    drawing.rows(axes, arms if alone else [place(comparison, s) for s in settings])
    axes.set_xlabel(ACCURACY)
    if not alone:
        _legend(figure, comparison, lines=False)
    return Picture(
        'final_accuracy',
        'Final test accuracy',
        figure,
        f'Mean and {BAND}; small dots are single seeds.'
        f'{_subset(comparison.settings, MOST_ROWS)}',
        'Dot plot of the accuracies listed in the table of all settings.',
    )


def learning_curves(comparison: Comparison) -> Picture:
    """Test accuracy by epoch: every setting, or each arm's best where they are many."""
    every = len(comparison.settings) <= MOST_PANELS or not comparison.tuned
    keys = comparison.settings if every else comparison.groups
    per_group = len(comparison.settings) / len(comparison.groups)
    columns = int(per_group) if every and per_group in range(3, 7) else 4
    shown = keys[:MOST_PANELS]
    figure, panels = drawing.panels(len(shown), 2.1, columns=columns)
    for axes, key in zip(panels, shown, strict=True):
        for index, arm in enumerate(comparison.arms):
            cell = (comparison.cell if every else comparison.best_cell)(key, arm)
            drawing.band(axes, *curve(cell, 'test_accuracy'), index)
        axes.set_title(drawing.plain(place(comparison, key).replace(', ', '\n')))
        drawing.epochs(axes)
    drawing.stretch_accuracy(panels[0])
    drawing.label_left(panels, 'test accuracy (fraction)')
    _legend(figure, comparison, markers=False)
    return Picture(
        'learning_curves',
        'Test accuracy during training' + ('' if every else _each(comparison)),
        figure,
        f'Mean and {BAND} (band); a diverged trial stays at its last finite value. '
        f'{STRETCHED}{_subset(keys)}',
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
        f'{STRETCHED}',
        'Curves of train, validation and test accuracy and loss by epoch.',
    )


def by_layer(comparison: Comparison, probe: str) -> Picture | None:
    """A probe by layer, averaged over sampled steps and seeds; None if not recorded.

    Gradient norms are averaged geometrically and drawn on a log scale.
    """
    if not any(f'probe/{probe}' in record.curves for record in comparison.records):
        return None
    log = probe == 'gradient_norm'
    shown = comparison.groups[:MOST_PANELS]
    figure, panels = drawing.panels(len(shown), 2.5)
    for axes, group in zip(panels, shown, strict=True):
        lines = [
            layer_means(comparison.best_cell(group, arm), probe, log)
            for arm in comparison.arms
        ]
        layers = max((list(line) for line in lines), key=len)
        offsets = drawing.dodge(len(lines), 0.2)
        for index, line in enumerate(lines):
            x = offsets[index] + [layers.index(layer) for layer in line]
            drawing.upright(axes, x, list(line.values()), index)
        labels = [drawing.plain(name).replace('_', '\n') for name in layers]
        axes.set_xticks(range(len(layers)), labels)
        crowded = len(layers) * min(len(shown), 4) > 18
        axes.tick_params(axis='x', rotation=90 if crowded else 0)
        axes.set_title(drawing.plain(place(comparison, group)))
        if log:
            axes.set_yscale('log')
    drawing.label_left(panels, PROBES[probe])
    if comparison.field is not None:
        _legend(figure, comparison)
    return Picture(
        probe,
        f'{PROBES[probe].capitalize()} by layer{_each(comparison)}',
        figure,
        f'{"Geometric mean" if log else "Mean"} over the sampled steps and seeds, and '
        f'{BAND}.{_subset(comparison.groups)}',
        f'Lines of {PROBES[probe]} by layer in depth order, one for each arm.',
    )


def _accuracies(cell: Sequence[Record]) -> list[float]:
    return [record.metrics['test_accuracy'] for record in cell]


def _legend(figure: Figure, comparison: Comparison, **kind: bool) -> None:
    labels = [arm_name(comparison, arm) for arm in comparison.arms]
    drawing.legend(figure, labels, **kind)


def _pair_legend(figure: Figure, comparison: Comparison) -> None:
    """An arm's difference to the baseline has the colour of the arm."""
    labels = [pair_name(comparison, *pair) for pair in comparison.pairs]
    drawing.legend(figure, labels, first=1, lines=False)


def _each(comparison: Comparison) -> str:
    tuned = tuned_names(comparison)
    return f', each arm at its own best {tuned}' if tuned else ''


def _subset(keys: Sequence[Any], most: int = MOST_PANELS) -> str:
    total = len(keys)
    return f' Only the first {most} of {total} are drawn.' if total > most else ''


def _spoken(comparison: Comparison, contrast: Contrast) -> str:
    where = place(comparison, contrast.group)
    pair = pair_name(comparison, contrast.arm, contrast.against)
    said = f'{pair} {_judged(contrast)}'
    return f'{where}: {said}' if where else said


def _judged(contrast: Contrast) -> str:
    """A difference and its verdict, which one seed does not allow."""
    number = signed(contrast.difference)
    return (
        f'{number} {verdict(contrast.difference)}'
        if contrast.difference.n > 1
        else number
    )
