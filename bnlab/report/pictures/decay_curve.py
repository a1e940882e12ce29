"""The error as a continuous curve over the decay: a row for each task and norm, a line for each size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from bnlab.report.numbers import best
from bnlab.report.numbers.decays import few, measured, places
from bnlab.report.numbers.rows import final_name, moving, natural
from bnlab.report.pictures.drawing import Picture, decay_axis, stretched_axis, wrapped
from bnlab.report.pictures.figures import SHADES
from bnlab.report.pictures.panels import legend, tiles

COLUMNS, ROWS = 2, 3
NAMES = {"rmse": "RMSE", "accuracy": "accuracy"}
_COLOURS = LinearSegmentedColormap.from_list("sizes", SHADES)
_GREY = "#555555"
_DOT: dict[str, Any] = {"markersize": 5.5, "markeredgecolor": "white", "markeredgewidth": 0.9}


@dataclass(frozen=True)
class Plot:
    """One small plot: the rows of a task and norm, one metric, and where it is best."""

    rows: pd.DataFrame
    metric: str
    found: pd.DataFrame


def decay_curve(gaps: pd.DataFrame) -> list[Picture]:
    """RMSE and accuracy with phase false against the decay; nothing for a few decays.

    Args:
        gaps: as from `tables.gaps`, with all decays.
    """
    if not best.swept(gaps):
        return []
    rows = moving(gaps).sort_values(["task", "norm", "batch_size", "decay"], key=natural)
    plots, decays = _plots(rows), measured(rows)
    caption = (
        f"RMSE and accuracy on {final_name(rows)} with phase false, at {len(decays)} decays of the same "
        "weights. The vertical axes are stretched near the best values. Dashed: phase true of the same "
        "trial. Dot: the best decay; thick: the decays around it within one standard error of it, that of "
        "its gap to phase true. The best is chosen on the very images drawn: it describes them and predicts "
        "nothing."
    )
    alt = (
        "Small plots of RMSE and accuracy against decay, one for each task and metric, a line for each size."
    )
    most = COLUMNS * ROWS
    pages = [plots[at : at + most] for at in range(0, len(plots), most)]
    return [Picture(_page(page, decays, _looks(rows)), caption + _seeds(rows), alt) for page in pages]


def _seeds(rows: pd.DataFrame) -> str:
    fewest, most = rows["seeds"].min(), rows["seeds"].max()
    count = f"{most}" if fewest == most else f"{fewest} to {most}"
    return f" Means over n = {count} seeds." if most > 1 else ""


def _plots(rows: pd.DataFrame) -> list[Plot]:
    """RMSE and accuracy of each task and norm; a regressor has no accuracy."""
    found = {metric: best.best(rows, metric) for metric in NAMES}
    return [
        Plot(own, metric, _of(found[metric], own))
        for _, own in rows.groupby(["task", "norm"], sort=False)
        for metric in NAMES
        if np.isfinite(own[f"{metric}_false"]).any()
    ]


def _of(found: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    return found[(found["task"] == own["task"].iloc[0]) & (found["norm"] == own["norm"].iloc[0])]


def _looks(rows: pd.DataFrame) -> dict[int, Any]:
    """A colour for each batch size, the darkest for the largest."""
    sizes = np.sort(rows["batch_size"].unique())
    return dict(zip(sizes.tolist(), _COLOURS(np.linspace(0, 1, len(sizes))), strict=True))


def _page(plots: list[Plot], decays: np.ndarray, looks: Mapping[int, Any]) -> str:
    with tiles(len(plots), COLUMNS, tall=2.05) as (figure, axes_of, svg):
        for axes, plot in zip(axes_of, plots, strict=True):
            draw(axes, plot, looks)
            decay_axis(axes, few(decays), abreast=COLUMNS)
        figure.supxlabel("decay of the moving average (log scale of 1 − decay)", fontsize=7)
        _explain(axes_of[0])
        legend(figure, axes_of)
    return svg.getvalue()


def draw(axes: Axes, plot: Plot, looks: Mapping[int, Any]) -> None:
    """One plot, its batch sizes in the order of their looks."""
    values = pd.concat([plot.rows[f"{plot.metric}_{phase}"] for phase in ("true", "false")])
    stretched_axis(axes, values, highest=plot.metric == "accuracy")
    for size, own in plot.rows.groupby("batch_size"):
        style: dict[str, Any] = {"color": looks[int(size)]}
        x, y = places(own["decay"].to_numpy()), own[f"{plot.metric}_false"].to_numpy()
        axes.plot(x, y, linewidth=0.9, label=f"batch size {size}", **style)
        axes.axhline(own[f"{plot.metric}_true"].mean(), linewidth=0.6, linestyle=(0, (4, 2)), **style)
        for row in plot.found[plot.found["batch_size"] == size].itertuples():
            near = own["decay"].between(row.fastest, row.slowest).to_numpy()
            axes.plot(x[near], y[near], linewidth=2.6, solid_capstyle="round", **style)
            axes.plot(places(np.array([row.decay])), row.value, "o", **_DOT, **style)
    norm = "" if plot.rows["norm"].iloc[0] == "batch" else f", {plot.rows['norm'].iloc[0]}"
    axes.set_title(wrapped(f"{plot.rows['task'].iloc[0]}{norm}", 50, 2))
    axes.set_ylabel(NAMES[plot.metric])


def _explain(axes: Axes) -> None:
    """Entries of the legend that stand for every colour."""
    axes.plot([], [], color=_GREY, linewidth=0.6, linestyle=(0, (4, 2)), label="phase true")
    axes.plot([], [], "o-", color=_GREY, linewidth=2.6, label="best, within one s.e.", **_DOT)
