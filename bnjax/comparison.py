"""The records of a sweep as arms, compared in pairs of the same seed."""

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from bnjax.records import Record
from bnjax.stats import Interval, holm, interval, p_value, verdict


def mean_of(records: Iterable[Record], metric: str = 'test_accuracy') -> Interval:
    """The interval of a metric over the trials (one per seed) of a cell.

    A diverged trial counts by its last finite value; a failed one is missing.
    """
    return interval([record.metrics[metric] for record in records])


def paired(
    arm: Iterable[Record], baseline: Iterable[Record], metric: str = 'test_accuracy'
) -> Interval:
    """The interval of `arm - baseline` over the seeds that both have."""
    ours = {record.config['seed']: record.metrics[metric] for record in arm}
    theirs = {record.config['seed']: record.metrics[metric] for record in baseline}
    return interval([ours[seed] - theirs[seed] for seed in ours if seed in theirs])


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A sweep seen as arms that are compared at settings of the other fields.

    A setting is a tuple of values, one for each of `fields`. The last `tuned` of
    them are the float fields: an arm may choose its best among their values. The
    values before them are the setting's group.
    """

    field: str | None  # the compared field; None where nothing but the seed varies
    arms: tuple[Any, ...]  # its values, the baseline first
    fields: tuple[str, ...]
    tuned: int
    settings: tuple[tuple[Any, ...], ...]
    cells: Mapping[tuple[tuple[Any, ...], Any], tuple[Record, ...]]
    criterion: str  # the metric that chooses among settings, never of the test set

    @property
    def baseline(self) -> Any:
        return self.arms[0]

    @property
    def pairs(self) -> tuple[tuple[Any, Any], ...]:
        """What is compared, (arm, against): each arm against the baseline.

        Of three arms the third is compared with the second too.
        """
        pairs = [(arm, self.baseline) for arm in self.arms[1:]]
        if len(self.arms) == 3:
            pairs.append((self.arms[2], self.arms[1]))
        return tuple(pairs)

    @property
    def records(self) -> tuple[Record, ...]:
        return tuple(record for cell in self.cells.values() for record in cell)

    @property
    def group_fields(self) -> tuple[str, ...]:
        return self.fields[: len(self.fields) - self.tuned]

    @property
    def tuned_fields(self) -> tuple[str, ...]:
        return self.fields[len(self.fields) - self.tuned :]

    @property
    def groups(self) -> tuple[tuple[Any, ...], ...]:
        return tuple(self._by_group)

    def group_of(self, setting: tuple[Any, ...]) -> tuple[Any, ...]:
        return setting[: len(self.group_fields)]

    def settings_of(self, group: tuple[Any, ...]) -> tuple[tuple[Any, ...], ...]:
        return tuple(self._by_group[group])

    @functools.cached_property
    def _by_group(self) -> dict[tuple[Any, ...], list[tuple[Any, ...]]]:
        found: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
        for setting in self.settings:
            found.setdefault(self.group_of(setting), []).append(setting)
        return found

    def point_of(self, setting: tuple[Any, ...]) -> tuple[Any, ...]:
        """Its values of the tuned fields."""
        return setting[len(self.group_fields) :]

    def cell(self, setting: tuple[Any, ...], arm: Any) -> tuple[Record, ...]:
        """The trials of an arm at a setting, one per seed; empty where there is none"""
        return self.cells.get((setting, arm), ())

    def difference(self, setting: tuple[Any, ...], arm: Any, against: Any) -> Interval:
        """An arm minus another at the same setting, paired by seed."""
        return paired(self.cell(setting, arm), self.cell(setting, against))

    def best(self, group: tuple[Any, ...], arm: Any) -> tuple[Any, ...] | None:
        """The setting of a group at which an arm's mean criterion is best.

        Only the settings with the fewest diverged or failed trials can be it, for a
        mean over the others is of what they reached before, or leaves them out. None
        where no trial of the arm has a finite criterion. The first of equals.
        """
        sign = -1 if self.criterion.endswith('loss') else 1
        ranks = {}
        for setting in self.settings_of(group):
            cell = self.cell(setting, arm)
            score = sign * mean_of(cell, self.criterion).mean
            if math.isfinite(score):
                lost = sum(record.status != 'done' for record in cell)
                ranks[setting] = (-lost, score)
        return max(ranks, key=ranks.__getitem__, default=None)

    def best_cell(self, group: tuple[Any, ...], arm: Any) -> tuple[Record, ...]:
        """The trials of an arm at its best setting of a group; empty without one."""
        best = self.best(group, arm)
        return () if best is None else self.cell(best, arm)


class Contrast(NamedTuple):
    """An arm minus another, at equal settings or each at its own best of a group.

    `p` is the p-value of the difference, adjusted by Holm's method over all contrasts
    that were made with it; nan where fewer than two seeds have both arms.
    """

    where: tuple[Any, ...]  # the setting or the group
    arm: Any
    against: Any
    difference: Interval
    p: float

    @property
    def verdict(self) -> str:
        return verdict(self.difference, self.p)


def compare(records: Sequence[Record], swept: Sequence[str]) -> Comparison:
    """Arranges the records of a sweep as a `Comparison`.

    The compared field is 'model.placement' where it is swept, else the first of
    `swept`; the baseline is 'none' for a placement, else the first value seen. A
    field of which the records have one value only is not taken as swept.

    Raises:
      ValueError: there are no records, or two of one seed at one setting.
    """
    if not records:
        raise ValueError('records: empty, expected at least one; run a trial first')
    swept = [name for name in swept if len({r.config[name] for r in records}) > 1]
    field = 'model.placement' if 'model.placement' in swept else next(iter(swept), None)
    others = [name for name in swept if name != field]
    floats = [name for name in others if _is_float(records, name)]
    fields = tuple(name for name in others if name not in floats) + tuple(floats)
    cells = _cells(records, field, fields)
    known = any(math.isfinite(r.metrics['validation_accuracy']) for r in records)
    return Comparison(
        field=field,
        arms=_arms(field, [arm for _, arm in cells]),
        fields=fields,
        tuned=len(floats),
        settings=_ordered([setting for setting, _ in cells]),
        cells=cells,
        criterion='validation_accuracy' if known else 'train_loss',
    )


def at_own_best(comparison: Comparison) -> list[Contrast]:
    """Every pair of arms in every group, each arm at its own best setting.

    A group in which one of the two has no best setting is left out.
    """
    found = []
    for group in comparison.groups:
        best = {arm: comparison.best_cell(group, arm) for arm in comparison.arms}
        found += [
            (group, arm, against, paired(best[arm], best[against]))
            for arm, against in comparison.pairs
            if best[arm] and best[against]
        ]
    return _family(found)


def at_equal_settings(comparison: Comparison) -> list[Contrast]:
    """Every pair of arms at every setting: the settings in order, in each the pairs."""
    return _family(
        [
            (setting, *pair, comparison.difference(setting, *pair))
            for setting in comparison.settings
            for pair in comparison.pairs
        ]
    )


def _family(
    found: Sequence[tuple[tuple[Any, ...], Any, Any, Interval]],
) -> list[Contrast]:
    adjusted = holm([p_value(difference) for *_, difference in found]).tolist()
    return [Contrast(*parts, p) for parts, p in zip(found, adjusted, strict=True)]


def _cells(
    records: Sequence[Record], field: str | None, fields: Sequence[str]
) -> dict[tuple[tuple[Any, ...], Any], tuple[Record, ...]]:
    cells: dict[Any, dict[int, Record]] = {}
    for record in records:
        setting = tuple(record.config[name] for name in fields)
        arm = None if field is None else record.config[field]
        cell, seed = cells.setdefault((setting, arm), {}), record.config['seed']
        if seed in cell:
            raise ValueError(
                f'records: trials {cell[seed].trial} and {record.trial} have one '
                f'setting and seed ({seed}), expected a trial per seed; give the field '
                'in which they differ as swept'
            )
        cell[seed] = record
    return {key: tuple(cell.values()) for key, cell in cells.items()}


def _is_float(records: Sequence[Record], field: str) -> bool:
    return all(isinstance(record.config[field], float) for record in records)


def _arms(field: str | None, seen: Sequence[Any]) -> tuple[Any, ...]:
    arms = list(dict.fromkeys(seen))
    if field == 'model.placement' and 'none' in arms:
        arms.sort(key=lambda arm: arm != 'none')
    return tuple(arms)


def _ordered(settings: Sequence[tuple[Any, ...]]) -> tuple[tuple[Any, ...], ...]:
    """Each setting once: numbers ascending, other values in the order first seen."""
    columns = [list(dict.fromkeys(column)) for column in zip(*settings, strict=True)]
    for column in columns:
        if all(isinstance(v, int | float) for v in column):
            column.sort()
    ranks = [{value: i for i, value in enumerate(column)} for column in columns]
    unique = dict.fromkeys(settings)
    return tuple(
        sorted(unique, key=lambda s: [r[v] for r, v in zip(ranks, s, strict=True)])
    )
