"""How the values of every layer spread over training: a row of small plots per block, a column per kind.

Each plot is a fan: shades hold all values, 98, 90 and 50 in a hundred of them, and the line is the median.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bnlab.report.numbers.tables import typeset
from bnlab.report.pictures.drawing import WIDTH, Picture, drawing, short, step_axis, value_axis
from bnlab.science.histogram import KINDS, LayerHistogram, block

PAGE = 9
"""Blocks on a page."""
TALL = 0.84
SHARES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
FAN = {"all values": "#e6eef6", "98 %": "#c5d9ea", "90 %": "#9dbfdd", "50 %": "#6f9fca"}
MEDIAN, QUIET = "#16324f", "#777777"
_BOTH, _SUM = "biases, shifts", "residual sum"
_COLUMNS = (*KINDS[:3], _BOTH, *KINDS[3:5], _SUM, *KINDS[5:])

Cells: TypeAlias = Mapping[tuple[str, str], Sequence[LayerHistogram]]


@dataclass(frozen=True)
class _Page:
    """The lines and columns of one figure, and the rows of each of its plots."""

    title: str
    lines: Sequence[str]
    columns: Sequence[str]
    cells: Cells

    @property
    def size(self) -> tuple[float, float]:
        """Inches across and down."""
        return WIDTH, 0.85 + TALL * len(self.lines)


def pictures(label: str, rows: Sequence[LayerHistogram]) -> list[Picture]:
    """Draw a trial's histograms for a report; nothing where there are none.

    Args:
        label: the trial's name.
        rows: of any steps; of moving statistics the slowest decay is drawn.
    """
    caption = (
        f"{label}: how the values of each layer spread over training. Activations: what the block gives, "
        "with phase true, on images that were trained on."
    )
    if decay := _slowest(rows):
        caption += f" Moving statistics: at decay {decay:g}."
    alt = f"Small plots of quantiles against the step for {label}: a row per block, a column per kind."
    drawn = []
    for page in _pages(label, rows):
        with drawing(page.size) as (figure, svg):
            _draw(figure, page)
        drawn.append(Picture(svg.getvalue(), caption, alt))
    return drawn


def pngs(label: str, rows: Sequence[LayerHistogram]) -> dict[str, bytes]:
    """Draw a trial's histograms as files: `histograms.png`, or `histograms-1.png` and so on -> content."""
    pages, drawn = _pages(label, rows), {}
    for number, page in enumerate(pages, start=1):
        with drawing(page.size) as (figure, _):
            _draw(figure, page)
            png = io.BytesIO()
            figure.savefig(png, format="png", dpi=200, metadata={"Software": None})
            figure.set_layout_engine("none")  # found already
        drawn[f"histograms-{number}.png" if len(pages) > 1 else "histograms.png"] = png.getvalue()
    return drawn


def _pages(label: str, rows: Sequence[LayerHistogram]) -> list[_Page]:
    homes = _homes(rows)
    cells = _cells(rows, homes)
    columns = [name for name in _COLUMNS if any(name == column for _, column in cells)]
    lines = list(dict.fromkeys(line for line, _ in homes.values()))
    count = -(-len(lines) // PAGE)
    parts = [part.tolist() for part in np.array_split(np.array(lines, object), max(count, 1)) if len(part)]
    titles = [f"{label} ({number} of {count})" if count > 1 else label for number in range(1, count + 1)]
    return [_Page(title, part, columns, cells) for title, part in zip(titles, parts, strict=True)]


def _homes(rows: Sequence[LayerHistogram]) -> dict[str, tuple[str, str]]:
    """Find each block's line, and its column of activations, in the order of the network.

    A residual sum holds nothing of its own: it joins the line of the block before it, named after it.
    """
    homes: dict[str, tuple[str, str]] = {}
    holding = {block(row.layer) for row in rows if row.kind != "activations"}
    last = ""
    for name in dict.fromkeys(block(row.layer) for row in rows if row.kind == "activations"):
        joins = name not in holding and last.startswith(f"{name}_")
        homes[name] = (last, _SUM) if joins else (name, "activations")
        last = name
    return homes


def _cells(rows: Sequence[LayerHistogram], homes: Mapping[str, tuple[str, str]]) -> Cells:
    """Sort rows into plots by line and column; biases and shifts share a column where no block has both."""
    holding = {kind: {block(row.layer) for row in rows if row.kind == kind} for kind in ("biases", "shifts")}
    shared = holding if all(holding.values()) and not set.intersection(*holding.values()) else ()
    slowest = _slowest(rows)
    cells: dict[tuple[str, str], list[LayerHistogram]] = {}
    for row in sorted(rows, key=lambda row: row.step):
        line, activations = homes[block(row.layer)]
        column = activations if row.kind == "activations" else _BOTH if row.kind in shared else row.kind
        if row.decay in (None, slowest):
            cells.setdefault((line, column), []).append(row)
    return cells


def _slowest(rows: Sequence[LayerHistogram]) -> float | None:
    return max((row.decay for row in rows if row.decay is not None), default=None)


def _draw(figure: Figure, page: _Page) -> None:
    grid = figure.subplots(len(page.lines), len(page.columns), squeeze=False)
    for line, name in zip(grid, page.lines, strict=True):
        for axes, column in zip(line, page.columns, strict=True):
            _plot(axes, page.cells.get((name, column), ()))
        _beside(line[0], name)
    for stack, column in zip(grid.T, page.columns, strict=True):
        _above(stack[0], column)
        for axes, below in pairwise(stack):
            axes.tick_params(labelbottom=not below.axison)
    _frame(figure, page.title)


def _plot(axes: Axes, rows: Sequence[LayerHistogram]) -> None:
    if not rows:
        axes.set_axis_off()
        return
    steps = np.array([row.step for row in rows], float)
    spread = np.array([row.histogram.quantiles(SHARES) for row in rows])
    step_axis(axes, rows[-1].step)
    value_axis(axes, pd.Series(spread.ravel()))
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: typeset(f"{value:g}"))
    axes.set_title(_count(rows), loc="right", fontsize=5.5, color=QUIET, pad=1.5)
    if len(steps) == 1:  # a stretch instead of a point
        steps, spread = steps * [0.85, 1.15], np.repeat(spread, 2, axis=0)
    for at, colour in enumerate(FAN.values()):
        axes.fill_between(steps, spread[:, at], spread[:, -1 - at], color=colour, linewidth=0)
    axes.plot(steps, spread[:, len(FAN)], color=MEDIAN, linewidth=0.9)


def _count(rows: Sequence[LayerHistogram]) -> str:
    broken = max(row.histogram.not_finite for row in rows)
    return f"n = {rows[-1].histogram.n:,}" + (f", {broken:,} not finite" if broken else "")


def _beside(axes: Axes, name: str) -> None:
    text = short(name.replace("_", " "), 18)
    where: dict[str, Any] = {"ha": "right", "va": "center", "rotation": 90, "fontsize": 6.5}
    axes.annotate(text, (0, 0.5), (-31, 0), "axes fraction", "offset points", **where)


def _above(axes: Axes, column: str) -> None:
    text = column.replace(" ", "\n")
    axes.annotate(text, (0.5, 1), (0, 10), "axes fraction", "offset points", weight="bold", ha="center")


def _frame(figure: Figure, title: str) -> None:
    shades = [Patch(color=colour, label=name) for name, colour in FAN.items()]
    handles = [*shades, Line2D([], [], color=MEDIAN, linewidth=0.9, label="median")]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles), fontsize=6.5)
    figure.suptitle(title, x=0.01, ha="left", fontsize=8, weight="bold")
    figure.supxlabel("optimizer step (log scale)", fontsize=7)
