"""Error against batch size, phase false: each normalizer's numbers, for tasks that swept both."""

from __future__ import annotations

import pandas as pd

from bnlab.report.numbers.tables import cells

LEAST_SIZES, LEAST_NORMS = 3, 2
RUN = ["task", "norm", "batch_size"]


def sizes(readings: pd.DataFrame) -> pd.DataFrame:
    """One row per task, norm and batch size: the final error with phase false, at the decay of the least.

    Only tasks with enough batch sizes and norms are here.

    Returns:
        Columns of `RUN`, `decay`, `split`, `percent` (the error is that of classes, in %; else RMSE),
        `error`, `sd` (NaN for one seed) and `seeds`.

    """
    table = cells(readings)
    table = table[~table["phase"] & _swept(table)]
    percent = table.groupby("task")["accuracy"].transform("count") > 0
    error = (100 * (1 - table["accuracy"])).where(percent, table["rmse"])
    grouped = table.assign(error=error, percent=percent).groupby([*RUN, "decay", "split", "percent"])
    points = grouped["error"].agg(error="mean", sd="std", seeds="count").reset_index()
    best = points.sort_values("error", kind="stable").drop_duplicates(RUN)
    return best.sort_values(RUN, ignore_index=True)


def _swept(table: pd.DataFrame) -> pd.Series:
    by_task = table.groupby("task")
    enough = by_task["batch_size"].transform("nunique") >= LEAST_SIZES
    return enough & (by_task["norm"].transform("nunique") >= LEAST_NORMS)


def batch_and_group(sizes: pd.DataFrame) -> pd.DataFrame:
    """Batch and group normalization side by side, where both were trained with the same batch size.

    Returns:
        Columns `task`, `batch_size`, and each of `RUN`'s others for `_batch` and `_group`.

    """
    batch, group = (sizes[sizes["norm"] == norm] for norm in ("batch", "group"))
    return batch.merge(group, on=["task", "batch_size"], suffixes=("_batch", "_group"))
