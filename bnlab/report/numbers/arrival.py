"""Has the average arrived? How much of its start each moving average still holds, and what that costs.

After n updates an average at decay d holds d^n of its start and 1 - d^n of what it saw. If lag parts the
phases, then RMSE(false) / RMSE(true) comes to 1 as d^n goes, whether by more steps or by a lower decay.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

import pandas as pd

from bnlab.report.numbers.rows import base, moving, natural, ordinary, variant
from bnlab.report.numbers.tables import POINT, curves, gaps

Layers: TypeAlias = Mapping[str, tuple[tuple[str, int], ...]]
"""Trial -> (name, updates per step) of each layer with moving statistics, as a sweep knows it."""
UNKNOWN: Layers = MappingProxyType({})
"""Of trials whose layers are not known, all are taken to be updated once per step."""
NOTHING = 1e-6
"""A share below this is as good as none."""
RUN = ["task", "norm", "batch_size"]
_STOPPED = r"(?:^|, )(?:fault phase_false|frozen from)(?:[ ,]|$)"


def followed(rows: pd.DataFrame) -> pd.Series:
    """Tell which rows are of trials whose averages were updated at every step.

    A trial that was trained with phase false is never updated, and one with frozen statistics only until
    they were frozen: decay^steps is not what their averages hold. Both say so in what tells trials apart.
    """
    return ~rows["task"].map(variant).str.contains(_STOPPED, regex=True).astype(bool)


def shares(readings: pd.DataFrame, layers: Layers) -> pd.DataFrame:
    """One row per task, norm, batch size, decay and kind of layer: the share of the start at the last step.

    Layers of one kind take the same number of updates per step. Only trials that are `followed` are here.

    Returns:
        Columns of `POINT`, `steps`, `updates` (per step), `layers` (names) and `share`.

    """
    rows = moving(ordinary(readings))
    rows = rows[~rows["phase"] & followed(rows)].drop_duplicates(["trial", "decay"])
    kinds = rows["trial"].map(lambda trial: _kinds(layers.get(trial, (("", 1),))))
    table = rows.assign(kind=kinds.astype(object))[[*POINT, "steps", "kind"]].explode("kind")
    table = table.assign(updates=table["kind"].str[0].astype("int64"), layers=table["kind"].str[1])
    table["share"] = table["decay"] ** (table["updates"] * table["steps"])
    seeds = table.drop(columns="kind").drop_duplicates([*POINT, "steps", "updates", "layers"])
    return seeds.sort_values([*POINT, "updates"], key=natural, ignore_index=True)


def _kinds(layers: tuple[tuple[str, int], ...]) -> list[tuple[int, tuple[str, ...]]]:
    """Layers by their updates per step; none at all are never updated.

    >>> _kinds((("a", 1), ("b", 2), ("c", 1)))
    [(1, ('a', 'c')), (2, ('b',))]
    """
    numbers = sorted({updates for _, updates in layers}) or [0]
    return [(n, tuple(name for name, updates in layers if updates == n and name)) for n in numbers]


def ratios(readings: pd.DataFrame, layers: Layers) -> pd.DataFrame:
    """One row per probe, task, norm, batch size, decay and step: both phases' ratio and the start's share.

    Returns:
        Columns of `curves`, `true` (RMSE with phase true), `ratio`, and `share`, of the slowest layer.

    """
    table = moving(curves(readings))
    keys = ["split", *RUN, "step"]
    true = table[table["phase"]].set_index(keys)["rmse"].rename("true")
    rows = (
        table[~table["phase"] & followed(table)].join(true, on=keys).join(_slowest(readings, layers), on=RUN)
    )
    share = rows["decay"] ** (rows["updates"] * rows["step"])
    return rows.assign(ratio=rows["rmse"] / rows["true"], share=share).reset_index(drop=True)


def finals(readings: pd.DataFrame, layers: Layers) -> pd.DataFrame:
    """The gaps of `counted` whose averages were updated at every step."""
    table = counted(readings, layers)
    return table[followed(table)].astype({"updates": "int64"}).reset_index(drop=True)


def counted(readings: pd.DataFrame, layers: Layers) -> pd.DataFrame:
    """The gaps that count, worst first, with `ratio`, `updates` and `share` of the slowest layer's start.

    Updates and share are NaN where the average was not updated at every step.
    """
    table = moving(gaps(readings))
    rows = table[table["learned"] & table["rmse_gap"].notna()].join(_slowest(readings, layers), on=RUN)
    share = rows["decay"] ** (rows["updates"] * rows["steps"])
    rows = rows.assign(ratio=rows["rmse_false"] / rows["rmse_true"], share=share)
    return rows.reset_index(drop=True)


def _slowest(readings: pd.DataFrame, layers: Layers) -> pd.Series:
    return shares(readings, layers).groupby(RUN)["updates"].min()


def named(shares: pd.DataFrame) -> str:
    """Say for which layers a line of the table of shares stands."""
    if shares.empty:
        return ""
    if shares.groupby([*POINT, "steps"])["updates"].nunique().max() > 1:
        return "Layers are updated a different number of times per step: each kind has a line of its own."
    own = shares.assign(task=shares["task"].map(base)).drop_duplicates(["task", "layers"])
    lists = [
        f"{task}: {_list(layers)}" for task, layers in zip(own["task"], own["layers"], strict=True) if layers
    ]
    known = f" ({'; '.join(lists)})" if lists else ""
    return f"All layers of a trial are updated equally often, so one line stands for all of them{known}."


def _list(layers: tuple[str, ...]) -> str:
    """Name a few layers, or the first and the last of many.

    >>> _list(("a", "b")), _list(("a", "b", "c", "d", "e"))
    ('a, b', '5 layers, a to e')
    """
    return ", ".join(layers) if len(layers) <= 4 else f"{len(layers)} layers, {layers[0]} to {layers[-1]}"
