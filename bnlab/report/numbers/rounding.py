"""What half precision does to population statistics: the numbers, layer by layer."""

from __future__ import annotations

import pandas as pd

from bnlab.report.numbers.clues import one_split
from bnlab.report.numbers.rows import natural

PLACE = ["task", "norm", "batch_size"]
METRICS = ("mean_shift", "log_variance", "kl", "worst_kl")


def rounding(clues: pd.DataFrame) -> pd.DataFrame:
    """One row per task, norm, batch size and layer, in the order of the model: means over the seeds.

    Args:
        clues: tidy ones of one way to come to inference.

    Returns:
        Columns of `PLACE`, `layer` and `METRICS`: how far the statistics of the network lie from those of
        its weights in float32, as of `bnlab.science.moments.Distance`.

    """
    rows = one_split(clues[(clues["kind"] == "rounding") & clues["metric"].isin(METRICS)])
    rows = rows.rename(columns={"name": "layer"})
    table = rows.groupby([*PLACE, "layer", "metric"], sort=False)["value"].mean().unstack(sort=False)  # noqa: PD010
    table = table.reset_index().reindex(columns=[*PLACE, "layer", *METRICS])
    return table.sort_values(PLACE, key=natural, kind="stable", ignore_index=True)
