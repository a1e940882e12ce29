"""What closes a gap: the share that each remedy takes away, what it leaves, and what it costs."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bnlab.report.numbers.rows import FINALS, base, natural
from bnlab.report.numbers.tables import POINT, beyond, cells

TRANSDUCTIVE = frozenset({"test_statistics"})
"""Remedies that look at the very images that are evaluated."""
SCORES = ("rmse", "accuracy")


def remedies(clues: pd.DataFrame, readings: pd.DataFrame) -> pd.DataFrame:
    """One row per cell and remedy, over the seeds; those that look at the evaluated images stand last.

    Args:
        clues: tidy ones of models without a fault.
        readings: tidy; they know the gap that is to be closed.

    Returns:
        Columns of `POINT`, `remedy`, `transductive`; `closed` = 1 - left / gap, over the seeds whose gap is
        above two standard errors and rounding, `closed_sd`; `rmse`, `accuracy` under it, with `_sd`;
        `seconds`; `gap`, `seeds`.

    """
    rows = closed(clues, _gaps(readings))
    grouped = rows.groupby([*POINT, "remedy"], sort=False)
    means = {name: grouped[name].mean() for name in ("closed", *SCORES, "seconds", "gap")}
    spreads = {f"{name}_sd": grouped[name].std() for name in ("closed", *SCORES)}
    table = pd.DataFrame(means | spreads | {"seeds": grouped["seed"].nunique()}).reset_index()
    table = table.assign(transductive=table["remedy"].isin(TRANSDUCTIVE))
    return table.sort_values([*POINT, "transductive"], key=natural, kind="stable", ignore_index=True)


def closed(clues: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """One row per seed, cell and remedy: the share closed, NaN where there is no gap to close.

    A remedy that has no decay belongs to every decay of its trial.

    Args:
        clues: tidy ones of one way to come to inference.
        known: `trial`, `decay`, `gap` and `gap_se`, what is to be closed.
    """
    rows = clues[(clues["kind"] == "remedy") & (clues["split"].isin(FINALS) | (clues["metric"] == "seconds"))]
    decays = known.groupby("trial")["decay"].agg(list)
    own = [
        decays.get(trial, [np.nan]) if np.isnan(decay) else [decay]
        for trial, decay in zip(rows["trial"], rows["decay"], strict=True)
    ]
    rows = rows.assign(decay=pd.Series(own, index=rows.index, dtype=object)).explode("decay")
    rows = rows.astype({"decay": float}).rename(columns={"name": "remedy"})
    keys = [*POINT, "seed", "trial", "remedy"]
    table = rows[keys].drop_duplicates()
    for metric in (*SCORES, "rmse_gap", "seconds"):
        one = rows[rows["metric"] == metric].drop_duplicates(keys)[[*keys, "value"]]
        table = table.merge(one.rename(columns={"value": metric}), on=keys, how="left")
    table = table.merge(known, on=["trial", "decay"], how="left")
    share = 1 - table["rmse_gap"] / table["gap"]
    # Where phase false wins there is nothing to close.
    counts = beyond(table["gap"], table["gap_se"]) & (table["gap"] > 0)
    return table.assign(closed=share.where(counts))


def _gaps(readings: pd.DataFrame) -> pd.DataFrame:
    rows = cells(readings)
    rows = rows[~rows["phase"]]
    return rows[["trial", "decay"]].assign(gap=rows["rmse_gap"], gap_se=rows["rmse_gap_se"])


def best(table: pd.DataFrame) -> pd.DataFrame:
    """One row per task: the remedy that leaves least of the gaps that count, by their mean size.

    A remedy that looks at the evaluated images is none that a person could use, so it is never the best.

    Returns:
        Columns of `remedies`, of the largest gap of the task.

    """
    rows = table[~table["transductive"] & table["closed"].notna()]
    left = ((1 - rows["closed"]) * rows["gap"]).abs()
    rows = rows.assign(task=rows["task"].map(base), size=rows["gap"].abs(), left=left)
    rows["left"] = rows.groupby(["task", "remedy"])["left"].transform("mean")
    first = rows.sort_values(["left", "size"], ascending=[True, False], kind="stable").drop_duplicates("task")
    return first.drop(columns=["size", "left"]).sort_values("task", ignore_index=True)


def worst_decays(table: pd.DataFrame) -> pd.DataFrame:
    """Of a table of remedies the rows at the decay with the largest gap of each task, norm and batch size."""
    run = ["task", "norm", "batch_size"]
    counted = table[table["closed"].notna()].assign(size=table["gap"].abs())
    worst = counted.sort_values("size", ascending=False, kind="stable").drop_duplicates(run)
    return counted.drop(columns="size").merge(worst[[*run, "decay"]], on=[*run, "decay"])
