"""The tables of single questions: did the average arrive, what do drills change, what does the batch size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bnlab.report.arrived import share_text
from bnlab.report.drawing import spread_out
from bnlab.report.drills import MEANINGS
from bnlab.report.rows import CONTROLS, natural
from bnlab.report.sheets import groups, point, sheet, signed, value
from bnlab.report.sizes import batch_and_group
from bnlab.report.tables import ROUNDING, decay_name, number, typeset

DECAYS = 6
"""As many decays as have room side by side."""


def shares(table: pd.DataFrame) -> dict[str, Any]:
    """The share of the start, a line for each trial and kind of layer, a column for each decay."""
    decays = spread_out(np.sort(table["decay"].unique()), DECAYS)
    keys = ["task", "norm", "batch_size", "steps", "updates", "layers"]
    lines = table.set_index([*keys, "decay"])["share"].unstack()  # noqa: PD010 - nothing to aggregate
    lines = lines.reset_index().sort_values(keys[:3], key=natural)
    kinds = lines.groupby(keys[:4])["updates"].transform("nunique").max() > 1
    columns = {
        "task": lines["task"],
        "norm": lines["norm"],
        "batch size": lines["batch_size"].astype(str),
        "steps": lines["steps"].map("{:,}".format),
        "layers": lines["layers"].map(", ".join),
        "per step": lines["updates"].astype(str),
    }
    columns |= {decay_name(decay): lines[decay].map(_share) for decay in decays}
    if not kinds:
        del columns["layers"]
    return sheet(columns, ["task", "norm", "layers"], lines["task"] + lines["norm"])


def _share(share: float) -> str:
    return typeset("-" if np.isnan(share) else share_text(share))


def drills(table: pd.DataFrame) -> dict[str, Any]:
    """Each drill at each decay, beside the intact model with phase true; where it has something to lose."""
    table = table[~table["norm"].isin(CONTROLS) | (table["change"].abs() >= ROUNDING)]
    columns = point(table) | {
        "drill": table["drill"],
        "RMSE true": table["rmse_true"].map(value),
        "RMSE false": table["rmse_false"].map(value),
        "gap": table["rmse_gap"].map(signed),
        "± se": table["rmse_gap_se"].map(value),
        "from intact": table["change"].map(signed),
        "accuracy": table["accuracy_false"].map(value),
    }
    if table["accuracy_false"].isna().all():
        del columns["accuracy"]
    return sheet(columns, ["task", "norm", "drill"], groups(table) + table["decay"].astype(str))


def meanings(table: pd.DataFrame) -> list[list[str]]:
    """What each drill of a table does; an unknown one is only named."""
    return [[drill, MEANINGS.get(drill, drill)] for drill in dict.fromkeys(table["drill"])]


def side_by_side(sizes: pd.DataFrame) -> dict[str, Any]:
    """The errors of batch and of group normalization at each batch size."""
    table = batch_and_group(sizes)
    columns = {
        "task": table["task"],
        "batch size": table["batch_size"].astype(str),
        "decay": table["decay_batch"].map(decay_name),
        "error": table["percent_batch"].map({True: "%", False: "RMSE"}),
        "batch": _errors(table, "batch"),
        "group": _errors(table, "group"),
    }
    return sheet(columns, ["task", "error"], table["task"])


def _errors(table: pd.DataFrame, norm: str) -> pd.Series:
    own = zip(table[f"error_{norm}"], table[f"sd_{norm}"], table["percent_batch"], strict=True)
    texts = [_error(error, sd, 2 if percent else 4) for error, sd, percent in own]
    return pd.Series(texts, index=table.index, dtype=object)


def _error(error: float, sd: float, decimals: int) -> str:
    spread = "" if np.isnan(sd) else f" ± {number(sd, decimals)}"
    return typeset(number(error, decimals) + spread)
