"""Trials on several devices: what sharing a batch costs, and which of their moving statistics to keep."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bnlab.naming import SHARED, of_replicas
from bnlab.report.numbers.rows import CONTROLS, final, natural, ordinary, tidy
from bnlab.report.numbers.tables import POINT, gaps
from bnlab.science.replicas import KEPT

OTHERS = {how: of_replicas(how) for how in KEPT if how != "first"}
"""What a checkpoint may keep instead of the first replica's statistics, and how its readings are named."""


def shared(readings: pd.DataFrame, clues: pd.DataFrame) -> pd.DataFrame:
    """One row per task, norm, batch size, decay and way to share a batch, the most replicas last.

    Tasks with trials on several devices only; those on one device stand beside them. Normalizations without
    moving statistics share nothing, and have no rows.

    Args:
        readings: stored rows.
        clues: tidy ones.

    Returns:
        Columns of `gaps`, and `alike` (the task without its replicas), `replicas`, `each` (images per
        replica), `synchronized`; RMSE with phase false under each of `OTHERS`, its change from the first
        replica's and the standard error over the seeds (NaN for one seed): `mean`, `mean_change`,
        `mean_se`, ...; `lost` and `lost_se`: the same of RMSE with phase false, apart less synchronized; and
        the signs `replicas_apart` and `cancelled`. What was not measured is NaN.

    """
    table = _parted(gaps(readings))
    table = table[~table["norm"].isin(CONTROLS)]
    table = table[table["alike"].isin(table.loc[table["replicas"] > 1, "alike"])]
    table = table.join(_otherwise(readings), on=POINT).join(_lost(readings), on=POINT)
    table = table.join(_signs(clues), on=POINT)
    order = ["alike", "norm", "batch_size", "synchronized", "replicas", "decay"]
    return table.sort_values(order, key=natural, ignore_index=True)


def _parted(table: pd.DataFrame) -> pd.DataFrame:
    """Read from a task's name how its trials share a batch."""
    found = table["task"].str.extract(SHARED)
    replicas = found["replicas"].astype(float).fillna(1).astype(int)
    return table.assign(
        alike=table["task"].str.replace(SHARED, "", regex=True),
        replicas=replicas,
        each=found["each"].astype(float).fillna(table["batch_size"]).astype(int),
        synchronized=found["together"].notna(),
    )


def _otherwise(readings: pd.DataFrame) -> pd.DataFrame:
    """RMSE under other statistics than the first replica's, and how it changes; means over the seeds."""
    rows = final(tidy(readings))
    rows = rows[~rows["phase"]]
    first = rows[rows["drill"] == ""].set_index(["trial", "decay"])["rmse"].rename("first")
    found = [
        _changed(rows[rows["drill"] == name].join(first, on=["trial", "decay"]), how)
        for how, name in OTHERS.items()
    ]
    return pd.concat(found, axis=1)


def _changed(rows: pd.DataFrame, how: str) -> pd.DataFrame:
    grouped = rows.assign(change=rows["rmse"] - rows["first"]).groupby(POINT)
    error = grouped["change"].std() / np.sqrt(grouped["change"].count())
    return pd.DataFrame(
        {how: grouped["rmse"].mean(), f"{how}_change": grouped["change"].mean(), f"{how}_se": error}
    )


def _lost(readings: pd.DataFrame) -> pd.DataFrame:
    """What replicas apart lose to synchronized ones with phase false, seed by seed."""
    rows = _parted(final(ordinary(readings)))
    rows = rows[~rows["phase"]]
    keys = ["alike", "norm", "batch_size", "replicas", "decay", "seed"]
    together = rows[rows["synchronized"]].set_index(keys)["rmse"].rename("together")
    apart = rows[~rows["synchronized"] & (rows["replicas"] > 1)].join(together, on=keys)
    grouped = apart.assign(lost=apart["rmse"] - apart["together"]).groupby(POINT)["lost"]
    return pd.DataFrame({"lost": grouped.mean(), "lost_se": grouped.std() / np.sqrt(grouped.count())})


def _signs(clues: pd.DataFrame) -> pd.DataFrame:
    names = ["replicas_apart", "cancelled"]
    rows = clues[(clues["kind"] == "sign") & clues["name"].isin(names)]
    table = rows.groupby([*POINT, "name"])["value"].mean().unstack()  # noqa: PD010 - nothing to aggregate
    return table.reindex(columns=names)
