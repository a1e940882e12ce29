"""The tables of parts: what each cause and each layer has of a gap, and how far statistics lie off."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bnlab.report.numbers import layers
from bnlab.report.numbers.causes import CELL, named, telling
from bnlab.report.numbers.clues import percent
from bnlab.report.numbers.replicas import OTHERS
from bnlab.report.numbers.rows import natural
from bnlab.report.numbers.tables import ROUNDING, decay_name, number, power, typeset
from bnlab.report.sheets import groups, point, sheet, signed, value
from bnlab.report.words.causes import MEANINGS
from bnlab.report.words.layers import called


def causes(parts: pd.DataFrame, totals: pd.DataFrame, metric: str) -> dict[str, Any]:
    """The gap of each cell and its parts, bold where they tell; idle causes have no column."""
    table = totals[totals["metric"] == metric].sort_values(CELL, key=natural, ignore_index=True)
    own = parts[parts["metric"] == metric]
    columns = point(table)
    bold: dict[str, pd.Series] = {}
    amounts = {"gap": table} | {cause: own[own["cause"] == cause] for cause in named(own)}
    for name, rows in amounts.items():
        if name in ("deployment", "shift") and not (rows["value"].abs() > ROUNDING).any():
            continue
        found = table[CELL].join(rows.set_index(CELL)[["value", "se", "beyond"]], on=CELL)
        columns[name], bold[name] = _measured(found), telling(found)
    if table["norm"].nunique() < 2:
        del columns["norm"]
    return _bold(sheet(columns, ["task", "norm"], groups(table)), bold)


def _measured(table: pd.DataFrame) -> pd.Series:
    pairs = zip(table["value"], table["se"], strict=True)
    return pd.Series([measured(*pair) for pair in pairs], index=table.index, dtype=object)


def measured(amount: float, error: float) -> str:
    """A signed number of a table with its standard error, where that is known."""
    return typeset(number(amount, signed=True) + ("" if np.isnan(error) else f" ± {number(error)}"))


def _bold(table: dict[str, Any], bold: dict[str, pd.Series]) -> dict[str, Any]:
    """Mark the cells of a table, by row and column, that stand out."""
    columns = [np.flatnonzero(bold[name]).tolist() if name in bold else [] for name in table["head"]]
    return table | {"bold": [[row, at] for at, rows in enumerate(columns) for row in rows]}


def meanings(parts: pd.DataFrame) -> list[list[str]]:
    """What each cause of a table is; an unknown one is only named."""
    return [[cause, MEANINGS.get(cause, cause)] for cause in named(parts)]


def by_layer(table: pd.DataFrame) -> dict[str, Any]:
    """Each layer's part, share and distances, under the name of its trial and decay."""
    columns = {
        "layer": table["layer"],
        f"part of {layers.whole(table['target'])}": _pairs(table["layer_part"], table["layer_se"]),
        "share": _shares(table),
        "alone": _pairs(table["alone_part"], table["alone_se"]),
        "left": _pairs(table["left_part"], table["left_se"]),
        "mean shift": table["mean_shift"].map(value),
        "log variance": table["log_variance"].map(value),
        "KL": table["kl"].map(value),
        "worst KL": table["worst_kl"].map(value),
        "in channel": table["worst_channel"].map(lambda at: typeset(number(at, decimals=0))),
    }
    columns = {name: column for name, column in columns.items() if name == "layer" or (column != "–").any()}
    runs = table[layers.RUN].astype(str).agg("\n".join, axis=1) if len(table) else table["layer"]
    shown = sheet(columns, ["layer"], runs)
    starts = [0, *shown["breaks"]] if len(table) else []
    return shown | {"titles": {str(at): called(table, table.loc[at]) for at in starts}}


def rounded(table: pd.DataFrame) -> dict[str, Any]:
    """How far each layer's population statistics lie from those of the same weights in float32."""
    amounts = {
        "mean shift": "mean_shift",
        "log variance": "log_variance",
        "KL": "kl",
        "worst KL": "worst_kl",
    }
    columns = {
        "task": table["task"],
        "norm": table["norm"],
        "batch size": table["batch_size"].astype(str),
        "layer": table["layer"],
        **{head: table[name].map(_size) for head, name in amounts.items()},
    }
    if table["norm"].nunique() < 2:
        del columns["norm"]
    return sheet(columns, ["task", "norm", "layer"], table["task"] + table["norm"])


def replicas(table: pd.DataFrame) -> dict[str, Any]:
    """How each way to share a batch does, under each kind of statistics that a checkpoint may keep."""
    ways = table["synchronized"].map({True: "synchronized", False: "apart"})
    columns = {
        "task": table["alike"],
        "norm": table["norm"],
        "replicas x images": table["replicas"].astype(str) + " x " + table["each"].astype(str),
        "": ways.mask(table["replicas"] == 1, ""),
        "decay": table["decay"].map(decay_name),
        "RMSE true": table["rmse_true"].map(value),
        "false, first": table["rmse_false"].map(value),
        **{how: table[how].map(value) for how in OTHERS},
        "gap": table["rmse_gap"].map(signed),
        "± se": table["rmse_gap_se"].map(value),
        "apart": table["replicas_apart"].map(_size),
    }
    if table["norm"].nunique() < 2:
        del columns["norm"]
    return sheet(columns, ["task", "norm", ""], table["alike"] + table["norm"] + ways)


def _size(amount: float) -> str:
    return "–" if np.isnan(amount) else typeset(power(amount))


def _pairs(amounts: pd.Series, errors: pd.Series) -> pd.Series:
    return _measured(pd.DataFrame({"value": amounts, "se": errors}))


def _shares(table: pd.DataFrame) -> pd.Series:
    texts = [
        typeset(percent(share) if np.isnan(share) else f"{percent(share)} ± {percent(error)}")
        for share, error in zip(table["share"], table["share_se"], strict=True)
    ]
    return pd.Series(texts, index=table.index, dtype=object)
