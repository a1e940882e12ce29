"""The last lines of a sweep: the gaps, worst first, what failed, and where to look further."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from bnlab.records import Failure, label
from bnlab.report import tables

_SHOWN = 12
# Heading -> least width: on a narrow terminal names give way, numbers do not.
_COLUMNS = {
    "task": 4,
    "norm": 4,
    "batch": 5,
    "decay": 5,
    "RMSE\ntrue": 6,
    "RMSE\nfalse": 6,
    "gap ± s.e. ": 18,
    "acc.\ntrue": 6,
    "acc.\nfalse": 6,
}


def show_gaps(console: Console, readings: pd.DataFrame) -> None:
    """Print the gaps of a sweep on the whole test set, worst first."""
    if readings.empty or not len(gaps := tables.gaps(readings)):
        return
    shown = f"{min(_SHOWN, len(gaps))} of {len(gaps)}"
    title = f"gap = phase false - phase true on the test set, worst first ({shown})"
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title=title, title_justify="left"
    )
    for name, width in _COLUMNS.items():
        table.add_column(name, justify="left" if width == 4 else "right", min_width=width)
    for row in gaps.head(_SHOWN).itertuples():
        table.add_row(*_cells(row))
    console.print(table, "* beyond two standard errors", highlight=False)


def _cells(row: Any) -> list[str]:  # noqa: ANN401
    number, mark = tables.number, "*" if row.rmse_beyond else " "
    gap = f"{number(row.rmse_gap, signed=True)} ± {number(row.rmse_gap_se)}{mark}"
    cell = [row.task, row.norm, str(row.batch_size), tables.decay_name(row.decay)]
    return [*cell, number(row.rmse_true), number(row.rmse_false), gap, *map(number, _accuracies(row))]


def _accuracies(row: Any) -> tuple[float, float]:  # noqa: ANN401
    return row.accuracy_true, row.accuracy_false


def show_failures(console: Console, failures: Sequence[Failure]) -> None:
    """Print every trial that failed, with its reason."""
    for f in failures:
        console.print(f"failed: {label(f)}: {f.reason}", style="red", highlight=False, markup=False)


def dashboard(uri: str) -> str:
    """Say how to open the dashboard on a tracking store."""
    if uri.startswith(("http:", "https:")):
        return f"open {uri}"
    return f"mlflow ui --backend-store-uri {shlex.quote(uri)} --port 5000"
