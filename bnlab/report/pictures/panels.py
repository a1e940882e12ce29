"""Where each small plot stands: rows of panels, cut into pages, with one legend over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from itertools import chain, zip_longest
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bnlab.report.numbers.rows import natural
from bnlab.report.pictures.drawing import WIDTH, drawing, wrapped

COLUMNS = 4
ROWS_FIRST, ROWS = 3, 5
"""Rows of panels beside the words of the first page, and on a page of their own."""


@dataclass(frozen=True)
class Panel:
    """The place of one small plot: what was trained, and with which batch size."""

    task: str
    norm: str
    batch_size: int

    @property
    def name(self) -> str:
        """What was trained; batch normalization goes without saying."""
        return self.task if self.norm == "batch" else f"{self.task}, {self.norm}"

    def row(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of a table that share this panel's y axis."""
        return table[(table["task"] == self.task) & (table["norm"] == self.norm)]

    def of(self, table: pd.DataFrame) -> pd.DataFrame:
        """The panel's own rows of a table."""
        return self.row(table)[lambda rows: rows["batch_size"] == self.batch_size]


@contextmanager
def tiles(count: int, columns: int, tall: float) -> Iterator[tuple[Figure, list[Axes], StringIO]]:
    """Open a figure of so many plots, `columns` abreast at most, `tall` inches each; the rest is empty."""
    abreast = min(columns, count)
    lines = -(-count // abreast)
    with drawing((max(4.6, WIDTH * abreast / columns), 0.7 + tall * lines)) as (figure, svg):
        places = list(figure.subplots(lines, abreast, squeeze=False).flat)
        for axes in places[count:]:
            axes.set_axis_off()
        yield figure, places[:count], svg


def panels(table: pd.DataFrame) -> list[list[Panel]]:
    """A row for each task and norm; short rows stand side by side once they are many."""
    rows = []
    ordered = table.sort_values(["task", "norm"], key=natural)
    for (task, norm), own in ordered.groupby(["task", "norm"], sort=False):
        sizes = sorted(int(size) for size in own["batch_size"].unique())
        chunks = [sizes[first : first + COLUMNS] for first in range(0, len(sizes), COLUMNS)]
        rows += [[Panel(task, norm, size) for size in chunk] for chunk in chunks]
    longest = max((len(row) for row in rows), default=1)
    abreast = COLUMNS // longest if len(rows) > ROWS_FIRST else 1
    return [[*chain(*rows[at : at + abreast])] for at in range(0, len(rows), abreast)]


def paged(rows: list[list[Panel]], first: int) -> list[list[list[Panel]]]:
    """Pages of rows, of which the first holds so many."""
    rest = [rows[at : at + ROWS] for at in range(first, len(rows), ROWS)]
    return [page for page in (rows[:first], *rest) if page]


def grid(rows: list[list[Panel]], draw: Callable[[Axes, Panel], None], xlabel: str, tall: float) -> str:
    """The SVG of one page of panels; `tall` is the height of a row, in inches, while rows are few."""
    columns = max(len(row) for row in rows)
    single = columns > 1 and all(_starts(row, at) for row in rows for at in range(len(row)))
    height = (tall if len(rows) <= 2 else 1.4) + 0.1 * single
    with drawing((max(4.2, WIDTH * columns / COLUMNS), 0.62 + len(rows) * height)) as (figure, svg):
        places = figure.subplots(len(rows), columns, squeeze=False)
        for line, row, below in zip_longest(places, rows, rows[1:], fillvalue=()):
            for column, (axes, panel) in enumerate(zip_longest(line, row)):
                if panel is None:
                    axes.set_axis_off()
                    continue
                draw(axes, panel)
                _name(axes, panel, single, first=_starts(row, column))
                axes.tick_params(labelbottom=column >= len(below))
        figure.supxlabel(xlabel, fontsize=7)
        legend(figure, places.flat)
    return svg.getvalue()


def _starts(row: Sequence[Panel], at: int) -> bool:
    """Tell whether a panel is the first of its task and norm in a row: the others share its y axis."""
    return at == 0 or row[at - 1].name != row[at].name


def _name(axes: Axes, panel: Panel, single: bool, first: bool) -> None:
    size = f"batch size {panel.batch_size}"
    if single:  # the name stands above: beside it there is another panel
        axes.set_title(f"{wrapped(panel.name, 28, 2)}\n{size}", fontsize=6)
    else:
        axes.set_title(size)
    if first:
        axes.set_ylabel("RMSE" if single else f"{wrapped(panel.name, 22, 3)}\nRMSE")
    axes.tick_params(labelleft=first)


def legend(figure: Figure, panels: Iterable[Axes]) -> None:
    """One legend above all panels, each label once, in as many columns as fit."""
    entries: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    longest = max((len(label) for label in entries), default=1)
    columns = max(1, int(figure.get_figwidth() / (0.36 + 0.05 * longest)))
    if entries:
        figure.legend(entries.values(), entries.keys(), loc="outside upper left", ncols=columns)
