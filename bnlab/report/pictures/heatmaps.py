"""Where the gap lives: signed numbers on grids of batch size and decay, in colours that share one scale."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LinearSegmentedColormap

from bnlab.report.numbers.rows import base, final_name, natural, normalization, variant
from bnlab.report.numbers.tables import POINT, ROUNDING, decay_name, number, typeset
from bnlab.report.pictures.drawing import WIDTH, Picture, drawing, short, wrapped

NAMES = {
    "rmse": ("RMSE", "gap of RMSE (units of the output)", "worse"),
    "accuracy": ("accuracy", "gap of accuracy (share of images)", "better"),
}
"""What a metric is called, its unit, and what a plus means for phase false."""
PAGE = 8.4
"""Inches that the maps of one page may take."""
LETTERS = 16
"""Of a title, to the inch."""
PALE = LinearSegmentedColormap.from_list("gap", ["#6f9fca", "#cfe0ee", "#fbfaf7", "#f5d2b8", "#de8a57"])
"""Pale enough at both ends for black numbers, also in grey."""


def heatmaps(gaps: pd.DataFrame, metric: str) -> list[Picture]:
    """Maps of one metric, on pages; nothing when no gap of this metric is known."""
    known = gaps[f"{metric}_gap"][np.isfinite(gaps[f"{metric}_gap"])].abs()
    if known.empty:
        return []
    gaps = gaps[gaps.groupby(["task", "norm"])[f"{metric}_gap"].transform("count") > 0]
    name, _, verdict = NAMES[metric]
    counted = "" if gaps["learned"].all() else ", where the gap counts"
    caption = (
        f"Gap of {name} on {final_name(gaps)}, phase false minus phase true. Plus: phase false is {verdict}. "
        f"Orange: phase false is worse; blue: better. Bold: beyond two standard errors{counted}. "
        "All share one scale."
    )
    alt = f"Grids of the signed gap of {name}, batch size by decay; the table of cells has the readings."
    rows, scale = _rows(gaps), max(known.max(), ROUNDING)
    fit = max(1, int(PAGE / max(_tall(row) for row in rows)))
    pages = [rows[at : at + fit] for at in range(0, len(rows), fit)]
    return [Picture(_grid(page, metric, scale), caption, alt) for page in pages]


def _rows(gaps: pd.DataFrame) -> list[list[pd.DataFrame]]:
    """The maps, two side by side where they are narrow."""
    blocks = _maps(gaps)
    beside = gaps["decay"].nunique() <= 6 and max(blocks[0]["line"].str.len()) < 8
    columns = 2 if beside else 1
    return [blocks[at : at + columns] for at in range(0, len(blocks), columns)]


def _maps(gaps: pd.DataFrame) -> list[pd.DataFrame]:
    """A map for each task and norm, a line for each batch size; one for each task if that is one line."""
    gaps = gaps.sort_values(POINT, key=natural)
    sizes = gaps.groupby(["task", "norm"])["batch_size"].nunique()
    tasks = gaps["task"].map(base)
    if len(sizes) > tasks.nunique() and sizes.max() == 1:
        return [_together(own) for _, own in gaps.groupby(tasks)]
    named = gaps.assign(
        title=gaps["task"] + ", " + gaps["norm"].map(normalization), line=gaps["batch_size"].astype(str)
    )
    return [own for _, own in named.groupby(["task", "norm"], sort=False)]


def _together(own: pd.DataFrame) -> pd.DataFrame:
    """Each line bears what differs between trials, the title what they share."""
    parts = {
        "task": own["task"].map(variant),
        "norm": own["norm"].map(normalization),
        "batch_size": "batch size " + own["batch_size"].astype(str),
    }
    shared = [text.iloc[0] for text in parts.values() if len(set(text)) == 1]
    differing = [text for text in parts.values() if len(set(text)) > 1] or [parts["norm"]]
    title = ", ".join(filter(None, [base(own["task"].iloc[0]), *shared]))
    line = pd.concat(differing, axis=1).agg(lambda texts: ", ".join(filter(None, texts)), axis=1)
    return own.assign(title=title, line=line.map(lambda text: short(text or "plain", 60)))[::-1]


def _tall(row: list[pd.DataFrame]) -> float:
    return 0.62 + min(0.26 * max(block["line"].nunique() for block in row), PAGE - 1)


def _grid(rows: list[list[pd.DataFrame]], metric: str, scale: float) -> str:
    blocks = [block for row in rows for block in row]
    columns, wide = len(rows[0]), max(block["decay"].nunique() for block in blocks)
    names = 0.05 * max(max(block["line"].str.len()) for block in blocks)
    size = (
        min(WIDTH, max(3.4, columns * (max(1.6, 0.62 * wide) + 0.5 + names))),
        0.55 + sum(_tall(row) for row in rows),
    )
    room = max(24, int(LETTERS * (size[0] / columns - 0.5 - names)))
    with drawing(size) as (figure, svg):
        heights = [_tall(row) for row in rows]
        cells = figure.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
        for axes, block in zip_longest(cells.flat, blocks):
            if block is None:
                axes.set_axis_off()
                continue
            mesh = _draw(axes, block, metric, scale)
            axes.set_title(wrapped(block["title"].iloc[0], room, 3))
        bar = figure.colorbar(mesh, ax=cells, location="bottom", aspect=45, shrink=0.6, pad=0.1 / len(rows))
        bar.set_label(NAMES[metric][1])
        bar.outline.set_visible(False)
        bar.ax.xaxis.set_major_formatter(lambda value, _: typeset(f"{value:+g}") if value else "0")
        bar.ax.locator_params(nbins=5 if size[0] > 5 else 2)
    return svg.getvalue()


def _draw(axes: Axes, block: pd.DataFrame, metric: str, scale: float) -> QuadMesh:
    table = _square(block, f"{metric}_gap")
    colours = PALE.reversed() if metric == "accuracy" else PALE  # orange is worse in both
    paint: dict[str, Any] = {"cmap": colours, "edgecolor": "white", "linewidth": 0.8}
    mesh = axes.pcolormesh(np.ma.masked_invalid(table.to_numpy()), vmin=-scale, vmax=scale, **paint)
    _write(axes, table.to_numpy(), _square(block, f"{metric}_beyond").eq(True).to_numpy(), scale)
    axes.set_xticks(np.arange(table.shape[1]) + 0.5, [decay_name(decay) for decay in table.columns])
    axes.set_yticks(np.arange(table.shape[0]) + 0.5, table.index)
    numbers = block["line"].str.isdecimal().all()
    axes.set(xlabel="decay", ylabel="batch size" if numbers else "")
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return mesh


def _square(block: pd.DataFrame, values: str) -> pd.DataFrame:
    table = block.set_index(["line", "decay"])[values].unstack()  # noqa: PD010 - nothing to aggregate
    return table.loc[list(dict.fromkeys(block["line"]))]


def _write(axes: Axes, gaps: np.ndarray, bold: np.ndarray, scale: float) -> None:
    decimals = 3 if scale < 10 else 1
    for (row, column), gap in np.ndenumerate(gaps):
        text = typeset(number(gap, decimals, signed=True))
        weight = "bold" if bold[row, column] else "normal"
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=6.5, weight=weight)
