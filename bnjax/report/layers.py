"""The pictures of what was measured inside the networks, layer by layer."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes

from bnjax.comparison import Comparison
from bnjax.probes import in_depth_order
from bnjax.report import drawing
from bnjax.report.curves import layer_means
from bnjax.report.picture import (
    BAND,
    MOST_PANELS,
    Picture,
    arm_legend,
    each_at_best,
    subset,
)
from bnjax.report.wording import arm_name, group_place, place, show, tuned_names
from bnjax.stats import Interval

PREFIX = 'probe/'
FIRST = (
    'seeds at the first step, before any update: neither the optimizer nor how far the '
    'loss has fallen has a part in it'
)
AT_FIRST = ('gradient_norm', 'gradient_spectral_norm')
# Sizes that differ by orders of magnitude between layers or arms.
MAGNITUDES = (
    *('_norm', '_change', '_drift', '_shift', '_gap', '_min'),
    *('gradient_along_step', 'smoothness_along_step'),
)
ALONG = '_along_step', 'overshoot'  # measured at shares of a step, in place of layers
OF_ACTIVATIONS = ('activation_', 'zero_', 'dead_', 'middle_')
TAKEN = (
    ' Activations are taken after the nonlinearity, and before a batch norm placed '
    'after it.'
)
Chosen = Mapping[tuple[Any, Any], tuple[Any, ...]]  # (group, arm) to a setting


class View(NamedTuple):
    """How a probe is drawn.

    `first` is whether at the first sampled step, else as the mean over all of them;
    `log` is whether on a logarithmic scale, with geometric means.
    """

    label: str
    first: bool
    log: bool


def view(probe: str) -> View:
    """How a probe is drawn, by its name.

    Gradients fall with the loss and depend on the learning rate, so that arms at
    different ones can be compared before the first update only.
    """
    return View(
        label=probe.replace('_', ' '),
        first=probe in AT_FIRST,
        log=probe.endswith(MAGNITUDES) and probe != 'norm_shift',
    )


def probe_pictures(comparison: Comparison) -> list[Picture]:
    """A picture of every probe that was recorded."""
    return [by_layer(comparison, name) for name in recorded(comparison)]


def recorded(comparison: Comparison) -> list[str]:
    """The names of the probes of a sweep."""
    names = dict.fromkeys(
        name.removeprefix(PREFIX)
        for record in comparison.records
        for name in record.curves
        if name.startswith(PREFIX)
    )
    return list(names)


def by_layer(comparison: Comparison, probe: str) -> Picture:
    """A probe by layer, a panel for each group and a line for each arm."""
    label, first, log = view(probe)
    chosen = _chosen(comparison, probe)
    shown = comparison.groups[:MOST_PANELS]
    figure, panels = drawing.panels(len(shown), 2.5)
    for axes, group in zip(panels, shown, strict=True):
        cells = [
            comparison.cell(chosen[group, arm], arm) if (group, arm) in chosen else ()
            for arm in comparison.arms
        ]
        _lines(axes, [layer_means(cell, probe, first=first, log=log) for cell in cells])
        crowded = len(axes.get_xticks()) * min(len(shown), 4) > 18
        axes.tick_params(axis='x', rotation=90 if crowded else 0)
        axes.set_title(drawing.plain(group_place(comparison, group)))
        if log:
            axes.set_yscale('log')
    along = 'share of the step' if probe.endswith(ALONG) else 'layer'
    drawing.label_left(panels, label)
    if comparison.field is not None:
        arm_legend(figure, comparison)
    when = ' at the first step' if first else each_at_best(comparison)
    return Picture(
        probe,
        f'{label.capitalize()} by {along}{when}',
        figure,
        f'{_averaged(probe)}{_where(comparison, chosen)}{subset(comparison.groups)}',
        f'Lines of {label} by {along} in ascending order, one for each arm.',
    )


def _chosen(comparison: Comparison, probe: str) -> Chosen:
    """The setting whose trials are drawn, for each arm in each group that has one."""
    found = {
        (group, arm): _most_recorded(comparison, group, arm, probe)
        if view(probe).first
        else comparison.best(group, arm)
        for group in comparison.groups[:MOST_PANELS]
        for arm in comparison.arms
    }
    return {key: setting for key, setting in found.items() if setting is not None}


def _most_recorded(comparison: Comparison, group: Any, arm: Any, probe: str) -> Any:
    """The setting of a group with the most trials that have a probe.

    One alone, for at the first step a seed gives the same at every learning rate.
    """
    counts = {
        setting: sum(PREFIX + probe in r.curves for r in comparison.cell(setting, arm))
        for setting in comparison.settings_of(group)
    }
    return max(counts, key=counts.__getitem__)


def _lines(axes: Axes, lines: Sequence[Mapping[str, Interval]]) -> None:
    """A line of each arm's values over the layers in depth order."""
    # Of all networks, for an arm may have layers that another has not.
    layers = in_depth_order({layer: None for line in lines for layer in line})
    offsets = drawing.dodge(len(lines), 0.2)
    for index, line in enumerate(lines):
        x = offsets[index] + [layers.index(layer) for layer in line]
        drawing.upright(axes, x, list(line.values()), index)
    labels = [drawing.plain(name).replace('_', '\n') for name in layers]
    axes.set_xticks(range(len(layers)), labels)


def _averaged(probe: str) -> str:
    """What a mark is a mean of, and what was measured."""
    _, first, log = view(probe)
    mean = 'Geometric mean' if log else 'Mean'
    over = FIRST if first else 'the sampled steps and seeds'
    taken = TAKEN if probe.startswith(OF_ACTIVATIONS) else ''
    return f'{mean} over {over}; vertical lines are the {BAND}.{taken}'


def _where(comparison: Comparison, chosen: Chosen) -> str:
    """The chosen values of the tuned fields; empty where none is tuned."""
    points = {key: comparison.point_of(setting) for key, setting in chosen.items()}
    if not comparison.tuned or not points:
        return ''
    if len(set(points.values())) == 1:
        (point,) = set(points.values())
        return f' All at {place(comparison, comparison.tuned_fields, point)}.'
    said = []
    for group in dict.fromkeys(group for group, _ in points):
        of_arms = ', '.join(
            f'{arm_name(comparison, arm)} {" and ".join(map(show, point))}'
            for (other, arm), point in points.items()
            if other == group
        )
        where = group_place(comparison, group)
        said.append(f'{where}: {of_arms}' if where else of_arms)
    return f' Drawn at {tuned_names(comparison)}: {"; ".join(said)}.'
