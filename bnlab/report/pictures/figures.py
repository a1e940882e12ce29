"""The phases side by side, in small plots: against decay when training is over, and over training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bnlab.report.numbers.decays import few, measured, places, spread_out
from bnlab.report.numbers.rows import CONTROLS, base, final_name, moving, normalization
from bnlab.report.numbers.tables import decay_name
from bnlab.report.pictures.drawing import Picture, decay_axis, spread_note, step_axis, value_axis
from bnlab.report.pictures.panels import ROWS, ROWS_FIRST, Panel, grid, paged, panels

CURVES = 5
"""As many decays as a reader can tell apart in one panel."""
TRUE, FALSE, CONTROL = "#16324f", "#c8502a", "#8a8a8a"
WORSE: dict[str, Any] = {"facecolor": "#f6d5c4"}
BETTER: dict[str, Any] = {"facecolor": "#d3e2f0", "edgecolor": "#7fa3c7", "hatch": "/////"}
SHADES = ("#e0a030", "#d5662c", "#a83a4a", "#6d2a63", "#2f1840")
DASHES = ((0, (1, 1)), (0, (3, 1)), (0, (5, 1, 1, 1)), (0, (8, 1.5)), "-")
MARKERS = ("o", "s", "^", "D", "v")


def overview(levels: pd.DataFrame) -> list[Picture]:
    """Both regimes at a glance: final RMSE of each phase against decay, a panel for each batch size."""
    caption = f"RMSE on {final_name(levels)} after training, against the decay of the moving average."
    if levels["phase"].nunique() == 2:
        caption += " Between the phases: orange where phase false is worse, hatched blue where it is better."
    if levels["constant_rmse"].notna().any():
        caption += " Thin grey line: the best constant predictor, where it is near."
    alt = "Small plots of final RMSE against decay, one for each task and batch size, a line for each phase."
    main = moving(levels)
    ticks = few(measured(levels))

    def draw(axes: Axes, panel: Panel) -> None:
        decay_axis(axes, ticks)
        own = levels[levels["task"].map(base) == base(panel.task)]
        near = own["constant_rmse"] < 2 * own["rmse"].max()
        value_axis(axes, pd.concat([own["rmse"], own.loc[near, "constant_rmse"]]))
        _draw_phases(axes, panel.of(levels))
        _draw_controls(axes, panel, levels)
        _draw_constant(axes, panel.of(levels)["constant_rmse"].mean())

    drawn = [
        grid(page, draw, "decay of the moving average", 2.0)
        for page in paged(panels(levels if main.empty else main), ROWS_FIRST)
    ]
    return [Picture(svg, caption + spread_note(levels), alt) for svg in drawn]


def curves(table: pd.DataFrame, split: str) -> list[Picture]:
    """How the gap opens or closes over training, on one probe: RMSE against the step.

    What was read at one step only is no curve and is not drawn.
    """
    every = moving(table[table["split"] == split])
    rows = _followed(every)
    images = {"test_probe": "test", "train_probe": "training"}[split]
    decays, shown = measured(every), spread_out(measured(rows), CURVES)
    caption = f"RMSE on a fixed probe of {images} images against the optimizer step."
    if len(shown) < len(decays):
        caption += f" Drawn: {len(shown)} of the {len(decays)} decays."
    alt = f"Small plots of RMSE on {images} images against the step, a line for each decay and phase."

    def draw(axes: Axes, panel: Panel) -> None:
        step_axis(axes, rows["step"].max())
        value_axis(axes, panel.row(rows)["rmse"])
        _draw_curves(axes, panel.of(rows), shown)

    drawn = [grid(page, draw, "optimizer step (log scale)", 1.72) for page in paged(panels(rows), ROWS)]
    return [Picture(svg, caption + spread_note(rows), alt) for svg in drawn]


def _followed(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of lines with two steps or more."""
    line = rows.groupby(["task", "norm", "batch_size", "phase", "decay"], dropna=False)
    return rows[line["step"].transform("nunique") > 1]


def _draw_phases(axes: Axes, rows: pd.DataFrame) -> None:
    true, false = rows[rows["phase"]], rows[~rows["phase"]]
    x, y = places(false["decay"].to_numpy()), false["rmse"].to_numpy()
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
        axes.axhline(rows["rmse"].iloc[0], label=normalization(str(norm)), **style)


def _draw_constant(axes: Axes, level: float) -> None:
    low, high = axes.get_ylim()
    if low < level < high:
        axes.axhline(level, color="#b5b5b5", linewidth=0.6, label="constant predictor")


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
