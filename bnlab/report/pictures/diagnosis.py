"""A diagnosis drawn: the way down from moving to batch statistics, and the layers below each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from bnlab.report.numbers.diagnosis import Found, amount, by_size, falls, shortened
from bnlab.report.pictures.causes import fall
from bnlab.report.pictures.drawing import WIDTH, Picture, drawing
from bnlab.report.pictures.figures import FALSE
from bnlab.report.pictures.panels import tiles
from bnlab.report.printing import legible
from bnlab.report.words.phrases import listed

MOST, _NAME = 60, 44
"""As many layers make a page; as many characters of a name are shown."""
PANELS = {
    "part": "part of the RMSE gap",
    "mean_shift": "mean shift (std. dev.)",
    "log_variance": "log ratio of variances",
    "kl": "KL per channel",
}


def waterfall(found: Found) -> list[Picture]:
    """The way of each split's RMSE from moving down to batch statistics, cause by cause."""
    table = falls(found)
    if table.empty:
        return []
    caption = (
        "RMSE from moving statistics (left, orange) to batch statistics (right, blue): each bar is what a "
        "cause takes away, downwards where it makes moving statistics worse. The scale does not begin at 0."
    )
    names = list(dict.fromkeys(table["split"]))
    alt = f"Bars lead from the RMSE with moving to that with batch statistics, on {listed(names)} data."
    with tiles(len(names), 2, tall=2.0) as (figure, places, svg):
        for axes, split in zip(places, names, strict=True):
            fall(axes, table[table["split"] == split].reset_index(drop=True))
            axes.set_title(f"{split} data")
        figure.supylabel("RMSE", fontsize=7)
    return [Picture(svg.getvalue(), caption, alt)]


def layer_bars(found: Found) -> list[Picture]:
    """A line for each layer, in the model's order; of very many only the largest."""
    shown = {id(row) for row in by_size(found)[:MOST]}
    rows = [row for row in found["layers"] if id(row) in shown]
    panels = [name for name in PANELS if np.isfinite(_values(rows, name)).any()]
    if not panels:
        return []
    some = (
        f" Drawn: the {MOST} largest of {len(found['layers'])}." if len(rows) < len(found["layers"]) else ""
    )
    caption = (
        "Layers in the model's order. The part of the RMSE gap on the training data is shown with one "
        f"standard error; beside it, how far moving statistics lie from the population's.{some}"
    )
    alt = f"Bars for {len(rows)} layers: {', '.join(PANELS[name] for name in panels)}."
    return [Picture(_bars(rows, panels), caption, alt)]


def _bars(rows: Sequence[Mapping[str, Any]], panels: Sequence[str]) -> str:
    size = 6 if len(rows) <= 30 else 5
    with drawing((WIDTH, 0.7 + (0.15 if size == 6 else 0.125) * len(rows))) as (figure, svg):
        places = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for axes, name in zip(places, panels, strict=True):
            _panel(axes, rows, name)
        names = shortened([legible(row["name"]) for row in rows], _NAME)
        places[0].set_yticks(range(len(rows)), names, fontsize=size)
        places[0].set_ylim(len(rows) - 0.4, -0.6)
    return svg.getvalue()


def _panel(axes: Axes, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    values, errors = _values(rows, name), _values(rows, "standard_error")
    axes.barh(range(len(rows)), values, 0.7, facecolor=FALSE, edgecolor="#333333", linewidth=0.3)
    if name == "part":
        known = np.isfinite(values) & (errors >= 0)
        at = np.flatnonzero(known)
        axes.errorbar(values[at], at, xerr=errors[at], fmt="none", color="black", capsize=1.2, elinewidth=0.6)
    axes.axvline(0, color="#333333", linewidth=0.5)
    axes.grid(visible=False, axis="y")
    axes.locator_params(axis="x", nbins=4)
    axes.set_title(PANELS[name])


def _values(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    values = np.array([amount(row[name]) for row in rows], dtype=float)
    return np.where(np.isfinite(values), values, np.nan)
