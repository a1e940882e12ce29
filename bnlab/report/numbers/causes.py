"""Where a gap comes from: its parts over the seeds, cell by cell, and the way that they lead down.

The parts of a metric add up to its gap by construction, whatever they mean.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from bnlab.report.numbers.clues import over_seeds
from bnlab.report.numbers.rows import FINALS, moving, natural
from bnlab.report.numbers.tables import POINT, VISIBLE
from bnlab.science.decomposition import CAUSES

CELL = [*POINT, "metric"]
PROBE = ("train_probe",)
"""Where shift is 0 by definition."""


def parts(clues: pd.DataFrame, splits: Iterable[str] = FINALS) -> pd.DataFrame:
    """One row per cell, metric and cause, in the order of the chain.

    Args:
        clues: tidy ones of one way to come to inference.
        splits: the images that count.

    Returns:
        Columns of `CELL`, `cause`, and those of `clues.over_seeds`.

    """
    rows = over_seeds(_of(clues, splits).rename(columns={"name": "cause"}), [*CELL, "cause"])
    return rows.sort_values([*CELL, "cause"], key=_order, ignore_index=True)


def totals(clues: pd.DataFrame, readings: pd.DataFrame, splits: Iterable[str] = FINALS) -> pd.DataFrame:
    """One row per cell and metric: the gap that the parts add up to.

    Args:
        clues: as for `parts`.
        readings: tidy; they know the paired standard error of one seed's whole gap.
        splits: as for `parts`.

    Returns:
        Columns of `CELL` and those of `clues.over_seeds`.

    """
    own = [*CELL, "trial", "split", "seed"]
    rows = _of(clues, splits).groupby(own, sort=False)["value"].agg(_sum).reset_index()
    rows = rows.merge(_errors(readings), on=["trial", "split", "decay", "metric"], how="left")
    return over_seeds(rows, CELL).sort_values(CELL, key=natural, ignore_index=True)


def _of(clues: pd.DataFrame, splits: Iterable[str]) -> pd.DataFrame:
    return moving(clues[(clues["kind"] == "cause") & clues["split"].isin(list(splits))])


def _sum(values: pd.Series) -> float:
    """A sum that is no number where a part is none."""
    return float(values.sum(skipna=False))


def _errors(readings: pd.DataFrame) -> pd.DataFrame:
    """The standard error of each metric's gap when training was over, a row for each."""
    last = readings["step"] == readings.groupby("trial")["step"].transform("max")
    rows = readings[last & ~readings["phase"] & (readings["drill"] == "")]
    metrics = {f"{metric}_gap_se": metric for metric in ("rmse", "accuracy", "loss")}
    own = rows[["trial", "split", "decay", *metrics]].rename(columns=metrics)
    return own.melt(["trial", "split", "decay"], var_name="metric", value_name="standard_error")


def _order(column: pd.Series) -> pd.Series:
    return column.map(place) if column.name == "cause" else natural(column)


def place(cause: str) -> int:
    """Where a cause stands in the chain; one that it does not know stands last.

    >>> place("lag") < place("batch") < place("moonlight")
    True
    """
    return CAUSES.index(cause) if cause in CAUSES else len(CAUSES)


def named(table: pd.DataFrame) -> list[str]:
    """The causes that a table of parts has, in the order of the chain."""
    return sorted(table["cause"].unique(), key=lambda cause: (place(cause), cause))


def largest(table: pd.DataFrame, cell: pd.Series, most: int) -> pd.DataFrame:
    """The largest parts of a cell, signs aside.

    Args:
        table: as from `parts`.
        cell: a row of `totals`.
        most: as many as these.
    """
    own = table[(table[CELL] == cell[CELL]).all(axis=1)]
    return own.loc[own["value"].abs().sort_values(ascending=False, kind="stable").index[:most]]


def telling(rows: pd.DataFrame) -> pd.Series:
    """Tell which amounts are beyond two standard errors and large enough to be shown as more than 0."""
    return (rows["beyond"] == True) & (rows["value"].abs() >= VISIBLE)  # noqa: E712 - may be missing


def worst(totals: pd.DataFrame, metric: str = "rmse") -> pd.DataFrame:
    """The gaps of one metric, largest first, signs aside; what is no number stands last."""
    own = totals[totals["metric"] == metric]
    return own.loc[own["value"].abs().sort_values(ascending=False, kind="stable").index]


def falls(table: pd.DataFrame, gaps: pd.DataFrame) -> pd.DataFrame:
    """One row per cell and cause: the RMSE before and after it is taken away, from phase false to phase true.

    Args:
        table: as from `parts`.
        gaps: as from `tables.gaps`; they know where phase true is.

    Returns:
        Columns of `table` for RMSE, `before`, `after`, and `true`: what the chain ends at.

    """
    rows = table[table["metric"] == "rmse"].merge(gaps[[*POINT, "rmse_true"]], on=POINT)
    rows = rows.rename(columns={"rmse_true": "true"})
    cells = rows.groupby(POINT, sort=False)["value"]
    before = rows["true"] + cells.transform(_sum) - cells.cumsum() + rows["value"]
    rows = rows.assign(before=before, after=before - rows["value"])
    whole = rows.groupby(POINT)["before"].transform("count") == rows.groupby(POINT)["cause"].transform("size")
    return rows[whole].reset_index(drop=True)
