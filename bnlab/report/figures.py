"""The phases side by side, in small plots: against decay when training is over, and over training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bnlab.report.drawing import (
    WIDTH,
    Picture,
    decay_axis,
    decay_places,
    drawing,
    short,
    spread_note,
    step_axis,
    value_axis,
)
from bnlab.report.tables import CONTROLS, decay_name

COLUMNS = 4
ROWS_FIRST, ROWS = 3, 5
"""Rows of panels beside the words of the first page, and on a page of their own."""
CURVES = 5
"""As many decays as a reader can tell apart in one panel."""
TRUE, FALSE, CONTROL = "#16324f", "#c8502a", "#8a8a8a"
WORSE: dict[str, Any] = {"facecolor": "#f6d5c4"}
BETTER: dict[str, Any] = {"facecolor": "#d3e2f0", "edgecolor": "#7fa3c7", "hatch": "/////"}
SHADES = ("#e0a030", "#d5662c", "#a83a4a", "#6d2a63", "#2f1840")
DASHES = ((0, (1, 1)), (0, (3, 1)), (0, (5, 1, 1, 1)), (0, (8, 1.5)), "-")
MARKERS = ("o", "s", "^", "D", "v")


@dataclass(frozen=True)
class Panel:
    """The place of one small plot: what was trained, and with which batch size."""

    task: str
    norm: str
    batch_size: int

    def row(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of a table that share this panel's y axis."""
        return table[(table["task"] == self.task) & (table["norm"] == self.norm)]

    def of(self, table: pd.DataFrame) -> pd.DataFrame:
        """The panel's own rows of a table."""
        return self.row(table)[lambda rows: rows["batch_size"] == self.batch_size]


def overview(levels: pd.DataFrame) -> list[Picture]:
    """Both regimes at a glance: final RMSE of each phase against decay, a panel for each batch size."""
    caption = "RMSE on the whole test set after training, against the decay of the moving average."
    if levels["phase"].nunique() == 2:
        caption += " Between the phases: orange where phase false is worse, hatched blue where it is better."
    alt = "Small plots of final RMSE against decay, one for each task and batch size, a line for each phase."
    main = _subjects(levels)
    decays = np.sort(levels["decay"].dropna().unique())

    def draw(axes: Axes, panel: Panel) -> None:
        decay_axis(axes, decays)
        value_axis(axes, levels.loc[levels["task"] == panel.task, "rmse"])
        _draw_phases(axes, panel.of(levels))
        _draw_controls(axes, panel, levels)

    drawn = [
        _grid(page, draw, "decay of the moving average", 2.0)
        for page in _paged(_panels(levels if main.empty else main), ROWS_FIRST)
    ]
    return [Picture(svg, caption + spread_note(levels), alt) for svg in drawn]


def curves(table: pd.DataFrame, split: str) -> list[Picture]:
    """How the gap opens or closes over training, on one probe: RMSE against the step."""
    rows = _subjects(table[table["split"] == split])
    images = {"test_probe": "test", "train_probe": "training"}[split]
    decays = np.sort(rows["decay"].dropna().unique())
    shown = _spread_out(decays, CURVES)
    caption = f"RMSE on a fixed probe of {images} images against the optimizer step."
    if len(shown) < len(decays):
        caption += f" Drawn: {len(shown)} of the {len(decays)} decays."
    alt = f"Small plots of RMSE on {images} images against the step, a line for each decay and phase."

    def draw(axes: Axes, panel: Panel) -> None:
        step_axis(axes, rows["step"].max())
        value_axis(axes, panel.row(rows)["rmse"])
        _draw_curves(axes, panel.of(rows), shown)

    drawn = [_grid(page, draw, "optimizer step (log scale)", 1.72) for page in _paged(_panels(rows), ROWS)]
    return [Picture(svg, caption + spread_note(rows), alt) for svg in drawn]


def _subjects(table: pd.DataFrame) -> pd.DataFrame:
    return table[~table["norm"].isin(CONTROLS)]


def _panels(table: pd.DataFrame) -> list[list[Panel]]:
    rows = []
    for (task, norm), own in table.groupby(["task", "norm"]):
        sizes = sorted(int(size) for size in own["batch_size"].unique())
        chunks = [sizes[first : first + COLUMNS] for first in range(0, len(sizes), COLUMNS)]
        rows += [[Panel(task, norm, size) for size in chunk] for chunk in chunks]
    return rows


def _paged(rows: list[list[Panel]], first: int) -> list[list[list[Panel]]]:
    rest = [rows[at : at + ROWS] for at in range(first, len(rows), ROWS)]
    return [page for page in (rows[:first], *rest) if page]


def _spread_out(decays: np.ndarray, most: int) -> np.ndarray:
    """At most so many decays, from the fastest to the slowest, evenly on the axis of decays."""
    if len(decays) <= most:
        return decays
    places = decay_places(decays)
    wanted = np.linspace(places[0], places[-1], most)
    return decays[np.unique(np.abs(places - wanted[:, None]).argmin(axis=1))]


def _grid(rows: list[list[Panel]], draw: Callable[[Axes, Panel], None], xlabel: str, tall: float) -> str:
    columns = max(len(row) for row in rows)
    size = (max(4.2, WIDTH * columns / COLUMNS), 0.62 + len(rows) * (tall if len(rows) <= 2 else 1.4))
    with drawing(size) as (figure, svg):
        grid = figure.subplots(len(rows), columns, squeeze=False)
        for line, row, below in zip_longest(grid, rows, rows[1:], fillvalue=()):
            for column, (axes, panel) in enumerate(zip_longest(line, row)):
                if panel is None:
                    axes.set_axis_off()
                    continue
                draw(axes, panel)
                _label(axes, panel, leftmost=column == 0, lowest=column >= len(below))
        figure.supxlabel(xlabel, fontsize=7)
        _legend(figure, grid.flat)
    return svg.getvalue()


def _label(axes: Axes, panel: Panel, leftmost: bool, lowest: bool) -> None:
    axes.set_title(f"batch size {panel.batch_size}")
    if leftmost:
        name = panel.task if panel.norm == "batch" else f"{panel.task}, {panel.norm}"
        axes.set_ylabel(f"{short(name, 24)}\nRMSE")
    axes.tick_params(labelleft=leftmost, labelbottom=lowest)


def _legend(figure: Figure, panels: Iterable[Axes]) -> None:
    entries: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    longest = max((len(label) for label in entries), default=1)
    columns = max(1, int(figure.get_figwidth() / (0.36 + 0.05 * longest)))
    figure.legend(entries.values(), entries.keys(), loc="outside upper left", ncols=columns)


def _draw_phases(axes: Axes, rows: pd.DataFrame) -> None:
    true, false = rows[rows["phase"]], rows[~rows["phase"]]
    x, y = decay_places(false["decay"].to_numpy()), false["rmse"].to_numpy()
    if len(true):
        level, sd = true["rmse"].iloc[0], true["sd"].iloc[0]
        axes.axhline(level, color=TRUE, linewidth=1.5, label="phase true (batch statistics)")
        if sd > 0:
            axes.axhspan(level - sd, level + sd, color=TRUE, alpha=0.13, linewidth=0)
        shade: dict[str, Any] = {"interpolate": True, "linewidth": 0, "zorder": 1}
        axes.fill_between(x, y, level, where=y >= level, **WORSE, **shade)
        axes.fill_between(x, y, level, where=y <= level, **BETTER, **shade)
    if len(false):
        style: dict[str, Any] = {
            "marker": "o" if len(x) <= 12 else "",
            "linestyle": (0, (4, 1.2)),
            "color": FALSE,
        }
        axes.plot(x, y, label="phase false (moving statistics)", **style)
        axes.errorbar(x, y, yerr=false["sd"], color=FALSE, fmt="none", capsize=1.5, elinewidth=0.8)


def _draw_controls(axes: Axes, panel: Panel, levels: pd.DataFrame) -> None:
    own = levels[(levels["task"] == panel.task) & (levels["batch_size"] == panel.batch_size)]
    others = own[own["norm"].isin(CONTROLS - {panel.norm})]
    for at, (norm, rows) in enumerate(others.groupby("norm")):
        style: dict[str, Any] = {"color": CONTROL, "linewidth": 0.9, "linestyle": (0, (1, 1 + at))}
        axes.axhline(rows["rmse"].iloc[0], label=f"{norm} normalization", **style)


def _draw_curves(axes: Axes, rows: pd.DataFrame, shown: np.ndarray) -> None:
    _draw_line(
        axes, rows[rows["phase"]], {"color": TRUE, "linewidth": 2.0, "marker": ".", "label": "phase true"}
    )
    first = len(SHADES) - len(shown)  # the darkest shade is always the slowest average
    for at, decay in enumerate(shown, start=first):
        look = {"color": SHADES[at], "linestyle": DASHES[at], "marker": MARKERS[at]}
        style = {"linewidth": 0.9, "markersize": 2.6, "label": f"false, decay {decay_name(decay)}"}
        _draw_line(axes, rows[rows["decay"] == decay], look | style)


def _draw_line(axes: Axes, rows: pd.DataFrame, style: dict[str, Any]) -> None:
    if rows.empty:
        return
    axes.plot(rows["step"], rows["rmse"], **style)
    if rows["sd"].notna().any():
        low, high = rows["rmse"] - rows["sd"], rows["rmse"] + rows["sd"]
        axes.fill_between(rows["step"], low, high, color=style["color"], alpha=0.15, linewidth=0)
