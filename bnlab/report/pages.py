"""The tables of single questions: which decay is best, did the average arrive, what do drills change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bnlab.report.numbers.best import RUN, at_decay, best
from bnlab.report.numbers.decays import few, measured
from bnlab.report.numbers.drills import MEANINGS
from bnlab.report.numbers.rows import CONTROLS, natural
from bnlab.report.numbers.sizes import batch_and_group
from bnlab.report.numbers.tables import ROUNDING, decay_name, number, typeset
from bnlab.report.sheets import groups, point, sheet, signed, value
from bnlab.report.words.arrived import share_text
from bnlab.report.words.best_decay import DEFAULTS, near


def best_decays(gaps: pd.DataFrame) -> dict[str, Any]:
    """The best decay of each trial, the range that does as well, its gap, and the gaps at usual decays."""
    table = best(gaps)
    columns = {
        "task": table["task"],
        "norm": table["norm"],
        "batch size": table["batch_size"].astype(str),
        "steps": table["steps"].map("{:,}".format),
        "best decay": table["decay"].map(decay_name),
        "within 1 se": _range(table),
        "RMSE": table["value"].map(value),
        "gap": table["gap"].map(signed),
        "± se": table["gap_se"].map(value),
    }
    usual = [decay for decay in DEFAULTS if (gaps["decay"] == decay).any()]
    for decay in usual:
        columns[f"gap at {decay_name(decay)}"] = at_decay(gaps, table, decay, "rmse_gap").map(signed)
    if gaps["accuracy_false"].notna().any():
        columns["accuracy"] = at_decay(gaps, table, table["decay"], "accuracy_false").map(value)
        columns["best accuracy"] = _accuracies(gaps, table)
    if table["norm"].nunique() < 2:
        del columns["norm"]
    return sheet(columns, ["task", "norm", "within 1 se", "best accuracy"], table["task"] + table["norm"])


def _range(table: pd.DataFrame) -> pd.Series:
    ends = zip(table["fastest"], table["slowest"], strict=True)
    return pd.Series([near(*pair) for pair in ends], index=table.index, dtype=object)


def _accuracies(gaps: pd.DataFrame, table: pd.DataFrame) -> pd.Series:
    """The best accuracy of each line, and at which decay."""
    own = best(gaps, "accuracy").set_index(RUN)
    found = table[RUN].join(own[["value", "decay"]], on=RUN)
    texts = [
        f"{number(most)} at {decay_name(at)}" for most, at in zip(found["value"], found["decay"], strict=True)
    ]
    return pd.Series(texts, index=table.index, dtype=object).where(found["value"].notna(), "–")


def shares(table: pd.DataFrame) -> dict[str, Any]:
    """The share of the start, a line for each trial and kind of layer, a column for each decay."""
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
    columns |= {decay_name(decay): lines[decay].map(_share) for decay in few(measured(table))}
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
