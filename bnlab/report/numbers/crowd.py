"""Many settings on paper: of more than have room those with the largest gaps are shown; words tell of all."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from bnlab.records import Sweep
from bnlab.report.numbers.rows import tidy
from bnlab.report.numbers.tables import gaps

MOST = 120
"""As many trials, seeds aside, have a panel each."""
PLACE = ["task", "norm", "batch_size"]


def kept(readings: pd.DataFrame) -> pd.DataFrame:
    """The stored rows that a report can use: the ends of all trials, and the curves of those that are shown.

    Of few trials these are all rows, and so they are the very same table.
    """
    if readings.empty:
        return readings
    last = readings["step"] == readings.groupby("trial")["step"].transform("max")
    ends = tidy(readings[last])
    some = of(ends, shown(ends))
    if len(some) == len(ends):
        return readings
    return readings[last | readings["trial"].isin(some["trial"].unique())]


def shown(rows: pd.DataFrame) -> list[str]:
    """The tasks, told apart by what differs between trials, that have room: where not all do, the worst gaps.

    Args:
        rows: tidy.
    """
    places = rows.drop_duplicates(PLACE)["task"].value_counts(sort=False)
    if places.sum() <= MOST:
        return list(places.index)
    table = gaps(rows)  # worst first
    order = list(dict.fromkeys([*table["task"], *places.index]))
    fits = places.loc[order].cumsum() <= MOST
    return list(fits.index[fits]) or order[:1]


def of(rows: pd.DataFrame, tasks: list[str]) -> pd.DataFrame:
    """The rows of some tasks, whole: other norms and sizes stand beside the largest gaps."""
    mine = rows["task"].isin(tasks)
    return rows if mine.all() else rows[mine].reset_index(drop=True)


def about(sweep: Sweep, rows: pd.DataFrame, tasks: list[str]) -> Sweep:
    """The sweep without the trials that were read and are not among the tasks."""
    hidden = set(rows.loc[~rows["task"].isin(tasks), "trial"])
    return replace(sweep, trials=tuple(trial for trial in sweep.trials if trial not in hidden))


def among(clues: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The clues of the trials of some rows."""
    return clues if clues.empty else clues[clues["trial"].isin(rows["trial"].unique())]


def note(rows: pd.DataFrame, tasks: list[str]) -> str:
    """Say how many tasks are shown where not all are; nothing to say of few."""
    every = rows["task"].nunique()
    if len(tasks) == every:
        return ""
    return (
        f"{len(tasks)} of {every} settings are shown here, those with the largest gaps; the sentences on the "
        "first page speak of all, and python -m bnlab.report --csv FILE writes all cells."
    )
