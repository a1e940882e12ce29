"""What closes it, drawn: the share that each remedy closes and the score under it, over the batch size."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bnlab.report.numbers.remedies import worst_decays
from bnlab.report.pictures.drawing import Picture, value_axis, wrapped
from bnlab.report.pictures.figures import DASHES, MARKERS
from bnlab.report.pictures.panels import legend, tiles

COLUMNS, ROWS, MANY = 2, 3, 6
"""Plots abreast, rows of them, and so many plots that more have half the width."""
FLOOR, ROOF = -0.5, 1.25
"""Shares beyond these stand at the edge."""
SPREAD = 0.5
"""The lines of one batch size stand so far apart, in steps from one size to the next."""


def remedies(table: pd.DataFrame) -> list[Picture]:
    """One line for each remedy, at the decay with the largest gap of each batch size that counts.

    Args:
        table: as from `numbers.remedies.remedies`.
    """
    rows = worst_decays(table)
    if rows.empty:
        return []
    names = list(dict.fromkeys(rows.sort_values("transductive", kind="stable")["remedy"]))
    caption = (
        "Share of the RMSE gap that each remedy closes (1: all of it; 0: none; below 0: it makes it worse), "
        "and accuracy under it (RMSE where there is none), each at the decay with the largest gap that "
        "counts. Shares below −0.5 or above 1.25 stand at the edge. Bars: one standard deviation over the "
        "seeds. Open: it looks at the evaluated images."
    )
    alt = "Small plots of share closed and score over batch size, two for each task, a line for each remedy."
    plots = [
        (own, name) for _, own in rows.groupby(["task", "norm"], sort=False) for name in ("closed", "score")
    ]
    columns = COLUMNS if len(plots) <= MANY else 2 * COLUMNS
    pages = [plots[at : at + ROWS * columns] for at in range(0, len(plots), ROWS * columns)]
    return [Picture(_page(page, names, columns), caption, alt) for page in pages]


def _page(plots: list[tuple[pd.DataFrame, str]], names: list[str], columns: int) -> str:
    with tiles(len(plots), columns, tall=1.9) as (figure, places, svg):
        for axes, (own, name) in zip(places, plots, strict=True):
            (_draw_shares if name == "closed" else _draw_scores)(axes, own, names)
            _name(axes, own.iloc[0], narrow=columns > COLUMNS)
        figure.supxlabel("batch size", fontsize=7)
        legend(figure, places)
    return svg.getvalue()


def _draw_shares(axes: Axes, own: pd.DataFrame, names: list[str]) -> None:
    for level in (0, 1):
        axes.axhline(level, color="#666666", linewidth=0.7)
    _lines(axes, own.assign(shown=own["closed"].clip(FLOOR, ROOF)), "shown", "closed_sd", names)
    axes.set(ylim=(FLOOR - 0.06, ROOF + 0.06), ylabel="share of the gap closed")


def _draw_scores(axes: Axes, own: pd.DataFrame, names: list[str]) -> None:
    score = "accuracy" if own["accuracy"].notna().any() else "rmse"
    _lines(axes, own, score, f"{score}_sd", names)
    spread = own[f"{score}_sd"].fillna(0)
    value_axis(axes, pd.concat([own[score] - spread, own[score] + spread]))
    axes.set_ylabel("accuracy" if score == "accuracy" else "RMSE")


def _lines(axes: Axes, own: pd.DataFrame, value: str, spread: str, names: list[str]) -> None:
    sizes = np.sort(own["batch_size"].unique())
    for at, name in enumerate(names):
        rows = own[own["remedy"] == name].sort_values("batch_size")
        shift = SPREAD * (at / max(len(names) - 1, 1) - 0.5)
        x = np.searchsorted(sizes, rows["batch_size"].to_numpy()) + shift
        look = _look(at, len(names)) | {"markerfacecolor": "white" if rows["transductive"].any() else None}
        axes.errorbar(x, rows[value], yerr=rows[spread].fillna(0), label=name, **look)
    axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    axes.set_xlim(-0.5, len(sizes) - 0.5)


def _name(axes: Axes, row: pd.Series, narrow: bool) -> None:
    norm = "" if row["norm"] == "batch" else f", {row['norm']}"
    axes.set_title(wrapped(f"{row['task']}{norm}", 20 if narrow else 34, 2), fontsize=6.5 if narrow else 7.5)


def _look(at: int, count: int) -> dict[str, Any]:
    colour = matplotlib.colormaps["inferno"](0.08 + 0.72 * at / max(count - 1, 1))
    dash, marker = DASHES[-1 - at % len(DASHES)], MARKERS[at % len(MARKERS)]
    line = {"linestyle": dash, "linewidth": 0.7, "capsize": 1.5, "elinewidth": 0.6}
    return {"color": colour, "marker": marker} | line
