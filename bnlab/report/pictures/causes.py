"""Where a gap comes from, drawn: the way down from phase false to phase true, and the parts side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bnlab.report.numbers.causes import CELL, named, worst
from bnlab.report.numbers.decays import thinned
from bnlab.report.numbers.tables import POINT, decay_name
from bnlab.report.pictures.drawing import Picture, value_axis, wrapped
from bnlab.report.pictures.figures import FALSE, TRUE
from bnlab.report.pictures.panels import legend, tiles

COLUMNS, MOST = 4, 12
"""As many small panels abreast, and in all."""
BARS, PAGE = 10, 4
"""A plot with more bars takes the whole width; as many such plots make a page."""
LOOKS: dict[str, dict[str, Any]] = {
    "deployment": {"facecolor": "#f4f4f4", "hatch": "xxxxx"},
    "lag": {"facecolor": "#d5662c"},
    "noise": {"facecolor": "#f1c36b", "hatch": "/////"},
    "bias": {"facecolor": "#6d2a63"},
    "shift": {"facecolor": "#a9c6e0", "hatch": "....."},
    "batch": {"facecolor": "#3c6c9c", "hatch": "\\\\\\\\\\"},
}
"""The look of each cause, in both figures: it can be told by its hatches alone."""
OTHER: dict[str, Any] = {"facecolor": "#dddddd", "hatch": "+++++"}
_EDGE: dict[str, Any] = {"edgecolor": "#333333", "linewidth": 0.4}
_WHOLE: dict[str, Any] = {"color": "white", "markeredgecolor": "black", "markersize": 3.6}
_ABOVE: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": 6.5, "color": "#555555"}


def waterfalls(falls: pd.DataFrame, totals: pd.DataFrame) -> list[Picture]:
    """The largest gaps, one small plot each: RMSE from phase false down to phase true, cause by cause.

    Args:
        falls: as from `numbers.causes.falls`.
        totals: as from `numbers.causes.totals`.
    """
    cells = worst(totals).dropna(subset="value").merge(falls[POINT].drop_duplicates(), on=POINT)
    shown = [falls[(falls[POINT] == cell[POINT]).all(axis=1)] for _, cell in cells.head(MOST).iterrows()]
    if not shown:
        return []
    count = "" if len(shown) == len(cells) else f" Drawn: the {len(shown)} largest of {len(cells)} gaps."
    caption = (
        "RMSE from phase false (left, orange) to phase true (right, blue): each bar is what a cause takes "
        f"away, downwards where it makes phase false worse.{count} Each plot has its own scale, not from 0."
    )
    alt = "Small plots, one for each of the largest gaps: bars lead from phase false to phase true by cause."
    with tiles(len(shown), COLUMNS, tall=1.5) as (figure, places, svg):
        for axes, own in zip(places, shown, strict=True):
            fall(axes, own)
            _name(axes, own.iloc[0])
        figure.supylabel("RMSE", fontsize=7)
    return [Picture(svg.getvalue(), caption, alt)]


def fall(axes: Axes, own: pd.DataFrame) -> None:
    """Draw one way down: columns cause, `before` and `after` it is taken away, and `true`, the end."""
    first, last = own.iloc[0], own.iloc[-1]
    bars = len(own)
    axes.plot([-0.75, 0.45], [first["before"]] * 2, color=FALSE, linewidth=1.8)
    axes.plot([bars - 0.45, bars + 0.75], [last["true"]] * 2, color=TRUE, linewidth=1.8)
    for at, row in enumerate(own.itertuples()):
        look = LOOKS.get(row.cause, OTHER)
        axes.bar(at, row.before - row.after, 0.8, bottom=row.after, **look, **_EDGE)
        axes.plot([at + 0.4, at + 0.6], [row.after] * 2, color="#333333", linewidth=0.4)
    value_axis(axes, pd.concat([own["before"], own["after"]]))
    axes.set(xlim=(-0.8, bars - 0.2))
    axes.set_xticks(range(bars), list(own["cause"]), rotation=40, ha="right", rotation_mode="anchor")
    axes.grid(visible=False, axis="x")


def _name(axes: Axes, first: pd.Series) -> None:
    norm = "" if first["norm"] == "batch" else f", {first['norm']}"
    title = wrapped(f"{first['task']}{norm}", 26, 2)
    axes.set_title(f"{title}\nb{first['batch_size']}, decay {decay_name(first['decay'])}", fontsize=6.5)


def stacks(parts: pd.DataFrame, totals: pd.DataFrame) -> list[Picture]:
    """The parts of every gap of RMSE, stacked up and down: a plot for each task and norm.

    Args:
        parts: as from `numbers.causes.parts`.
        totals: as from `numbers.causes.totals`.
    """
    rows = thinned(parts[parts["metric"] == "rmse"])
    if rows.empty:
        return []
    caption = (
        "The parts of each RMSE gap over batch size and decay, means over the seeds: those that make phase "
        "false worse stand above 0, the others below. Diamond: the whole gap."
    )
    alt = (
        "Stacked bars of the parts of each gap, one plot for each task, a bar for each batch size and decay."
    )
    plots = [own for _, own in rows.groupby(["task", "norm"], sort=False)]
    columns = 1 if max(len(_bars(own)) for own in plots) > BARS else 2
    pages = [plots[at : at + PAGE * columns] for at in range(0, len(plots), PAGE * columns)]
    return [Picture(_stacked(page, totals, named(rows), columns), caption, alt) for page in pages]


def _stacked(page: list[pd.DataFrame], totals: pd.DataFrame, causes: list[str], columns: int) -> str:
    with tiles(len(page), columns, tall=1.6) as (figure, places, svg):
        for axes, own in zip(places, page, strict=True):
            _stack(axes, own, totals, causes)
        figure.supxlabel("decay, within each batch size (b)", fontsize=7)
        figure.supylabel("part of the RMSE gap", fontsize=7)
        legend(figure, places)
    return svg.getvalue()


def _bars(own: pd.DataFrame) -> list[tuple[int, float]]:
    """Batch size and decay of each bar, in order."""
    return sorted(
        {(int(size), float(decay)) for size, decay in zip(own["batch_size"], own["decay"], strict=True)}
    )


def _stack(axes: Axes, own: pd.DataFrame, totals: pd.DataFrame, causes: list[str]) -> None:
    bars = _bars(own)
    sizes = sorted({size for size, _ in bars})
    x = np.array([at + 0.7 * sizes.index(size) for at, (size, _) in enumerate(bars)])
    _pile(axes, x, {cause: _values(own[own["cause"] == cause], bars) for cause in causes})
    whole = totals.merge(own[CELL].drop_duplicates(), on=CELL)
    axes.plot(x, _values(whole, bars), "D", label="whole gap", **_WHOLE)
    axes.axhline(0, color="#333333", linewidth=0.6)
    axes.set_xticks(x, [decay_name(decay) for _, decay in bars], fontsize=6 if len(bars) < 20 else 5)
    axes.grid(visible=False, axis="x")
    for size in sizes:
        middle = x[[known == size for known, _ in bars]].mean()
        axes.annotate(f"b{size}", (middle, 1), xycoords=("data", "axes fraction"), **_ABOVE)
    norm = "" if own["norm"].iloc[0] == "batch" else f", {own['norm'].iloc[0]}"
    axes.set_title(wrapped(f"{own['task'].iloc[0]}{norm}", 60, 2))
    axes.margins(y=0.14)


def _pile(axes: Axes, x: np.ndarray, heights: dict[str, np.ndarray]) -> None:
    """Stack bars, those above 0 upwards and those below downwards."""
    top, bottom = np.zeros(len(x)), np.zeros(len(x))
    for cause, height in heights.items():
        start = np.where(height >= 0, top, bottom)
        axes.bar(x, height, 0.8, bottom=start, label=cause, **LOOKS.get(cause, OTHER), **_EDGE)
        top, bottom = top + height.clip(min=0), bottom + height.clip(max=0)


def _values(rows: pd.DataFrame, bars: list[tuple[int, float]]) -> np.ndarray:
    known = {(row.batch_size, row.decay): row.value for row in rows.itertuples()}
    return np.nan_to_num(np.array([known.get(bar, 0.0) for bar in bars], dtype=float))
