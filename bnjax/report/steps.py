"""The pictures of what was measured inside the networks, by layer and step."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize

from bnjax.comparison import Comparison
from bnjax.probes import in_depth_order
from bnjax.report import drawing
from bnjax.report.curves import layer_steps
from bnjax.report.layers import recorded, view
from bnjax.report.picture import MOST_PANELS, Picture, each_at_best, subset
from bnjax.report.wording import arm_name, group_place

# What changes while a network learns, and where in its depth is the question.
CHANGING = (
    *('gradient_norm', 'zero_fraction', 'covariate_shift'),
    *('activation_mean_drift', 'activation_std_drift'),
)
Panel = tuple[str, np.ndarray, list[str], np.ndarray]  # title, steps, layers, values


def step_pictures(comparison: Comparison) -> list[Picture]:
    """A map of each probe whose change over the steps is of interest."""
    names = [name for name in recorded(comparison) if name in CHANGING]
    pictures = [by_step(comparison, name) for name in names]
    return [picture for picture in pictures if picture is not None]


def by_step(comparison: Comparison, probe: str) -> Picture | None:
    """A probe by layer and step, a panel for each arm; None with less than 2 steps."""
    label, _, log = view(probe)
    every = _panels(comparison, probe)
    shown = every[:MOST_PANELS]
    values = np.concatenate([panel[3].ravel() for panel in shown] or [np.zeros(0)])
    known = values[np.isfinite(values)]
    if max((len(panel[1]) for panel in shown), default=0) < 2 or not known.size:
        return None
    layers = in_depth_order({layer: None for panel in shown for layer in panel[2]})
    norm = _norm(known, log)
    height = 1.0 + 0.16 * max(len(layers), 4)
    columns = min(max(len(comparison.arms), 2), 4)
    figure, axes = drawing.panels(len(shown), height, columns=columns)
    for each, panel in zip(axes, shown, strict=True):
        image = _map(each, panel, layers, norm)
    drawing.label_left(axes, 'layer')
    bar = figure.colorbar(image, ax=axes, aspect=30, pad=0.02)
    bar.set_label(label + (' (log scale)' if log else ''))
    mean = 'Geometric mean' if log else 'Mean'
    return Picture(
        f'{probe}_by_step',
        f'{label.capitalize()} by layer and step{each_at_best(comparison)}',
        figure,
        'Shows when during training, and where in the network, an arm differs from '
        f'the others. {mean} over seeds at each sampled step; grey is not known.'
        f'{subset(every)}',
        f'Heat maps of {label}, layers in depth order by training step, a panel for '
        'each arm.',
    )


def _panels(comparison: Comparison, probe: str) -> list[Panel]:
    """For each arm in each group the values of its best trials that have the probe."""
    found = []
    for group in comparison.groups:
        for arm in comparison.arms:
            cell = comparison.best_cell(group, arm)
            steps, layers, values = layer_steps(cell, probe, log=view(probe).log)
            if len(steps):
                where = group_place(comparison, group)
                title = [where] if where else []
                title += [arm_name(comparison, arm)] if comparison.field else []
                found.append(('\n'.join(title), steps, layers, values))
    return found


def _norm(known: np.ndarray, log: bool) -> Normalize:
    low, high = float(known.min()), float(known.max())
    if log and 0 < low < high:
        return LogNorm(low, high)
    return Normalize(low, high if high > low else low + 1)


def _map(axes: Axes, panel: Panel, layers: Sequence[str], norm: Normalize) -> Any:
    """Layers from the bottom up; those that this network has not are grey."""
    title, steps, own, values = panel
    rows = np.full((len(layers), len(steps)), np.nan)
    rows[[layers.index(layer) for layer in own]] = values
    cmap = matplotlib.colormaps['cividis'].with_extremes(bad='#d0d0d0')
    image = axes.imshow(
        rows, cmap, norm, aspect='auto', origin='lower', interpolation='nearest'
    )
    axes.grid(False)
    every = -(-len(layers) // 24)
    labels = [drawing.plain(layer) for layer in layers[::every]]
    axes.set_yticks(range(0, len(layers), every), labels, fontsize=7)
    at = range(0, len(steps), max(1, -(-len(steps) // 5)))
    axes.set_xticks(list(at), [str(int(steps[i])) for i in at])
    axes.set_xlabel('training step')
    axes.set_title(drawing.plain(title))
    return image
