"""The last lines of a sweep: the gaps, worst first, what failed, and where to look further."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from bnlab.naming import label
from bnlab.records import Failure, Sweep
from bnlab.report.numbers import arrival, best, causes, faults, remedies, replicas, tables
from bnlab.report.numbers.clues import NO_CLUES, Fault, plain, tidied
from bnlab.report.numbers.decays import thinned
from bnlab.report.numbers.drills import restores, sound
from bnlab.report.numbers.rows import final_name, tidy
from bnlab.report.words import best_decay, symptoms
from bnlab.report.words import causes as cause_words
from bnlab.report.words import faults as fault_words
from bnlab.report.words import remedies as remedy_words
from bnlab.report.words import replicas as replica_words
from bnlab.report.words.arrived import share_text

_SHOWN, _SHARES = 12, 3
# Heading -> least width: on a narrow terminal names give way, numbers do not.
_COLUMNS = {
    "task": 4,
    "norm": 4,
    "batch": 5,
    "decay": 5,
    "RMSE\ntrue": 6,
    "RMSE\nfalse": 6,
    "gap ± s.e. ": 18,
}
_ACCURACIES = {"acc.\ntrue": 6, "acc.\nfalse": 6}
_LITTLE = "o phase true does not beat a constant predictor by 30 %: the gap does not count"
_REGRESSORS = "RMSE over outputs; a regressor has no accuracy"


def show_gaps(console: Console, readings: pd.DataFrame) -> None:
    """Print the gaps of a sweep when training was over, worst first; of many decays the best ones."""
    if readings.empty or not len(gaps := tables.gaps(readings)):
        return
    if best.swept(gaps) and len(found := best.best(gaps)):
        _show_best(console, gaps, found)
    else:
        _show_worst(console, thinned(gaps))


def _show_worst(console: Console, gaps: pd.DataFrame) -> None:
    blind = gaps["accuracy_gap"].isna()
    table = _table(_COLUMNS if blind.all() else _COLUMNS | _ACCURACIES)
    for row in gaps.head(_SHOWN).itertuples():
        table.add_row(*_cells(row)[: len(table.columns)])
    shown = f"worst first ({min(_SHOWN, len(gaps))} of {len(gaps)})"
    title = f"gap = phase false - phase true on {final_name(gaps)}, {shown}"
    console.print(title, table, "* beyond two standard errors", highlight=False)
    notes = {_LITTLE: not gaps["learned"].all(), _REGRESSORS: blind.any()}
    for note in (note for note, needed in notes.items() if needed):
        console.print(note, highlight=False)


def _show_best(console: Console, gaps: pd.DataFrame, found: pd.DataFrame) -> None:
    console.print(f"best decay by RMSE with phase false on {final_name(gaps)}", highlight=False)
    for row in found.itertuples():
        console.print(f"{row.task} {row.norm} b{row.batch_size}: {_best(row)}", highlight=False)


def _best(row: Any) -> str:  # noqa: ANN401
    known = pd.notna(row.fastest)
    near = f" ({best_decay.near(row.fastest, row.slowest)} within one s.e.)" if known else ""
    gap = f"{tables.number(row.gap, signed=True)} ± {tables.number(row.gap_se)}"
    decay, rmse = tables.decay_name(row.decay), tables.number(row.value)
    return f"decay {decay}{near}, RMSE {rmse}, gap {gap}"


def show_answers(
    console: Console, sweep: Sweep, readings: pd.DataFrame, clues: pd.DataFrame = NO_CLUES
) -> None:
    """Print whether averages have arrived, what drills and faults cost, and what explains and closes gaps."""
    if readings.empty:
        return
    every = tidy(readings)
    readings = restores(every, sweep.faults)
    table = arrival.shares(thinned(readings), sweep.layers).sort_values(
        "share", ascending=False, kind="stable"
    )
    for row in table.head(_SHARES).itertuples():
        layers = f" in {', '.join(row.layers)}" if row.layers else ""
        held = f"{share_text(row.share)} of its start{layers}"
        place = f"{row.task} {row.norm} b{row.batch_size}, decay {tables.decay_name(row.decay)}"
        console.print(f"{place}: after {row.steps} steps the average still holds {held}", highlight=False)
    for sentence in symptoms.shown(readings).sentences:
        console.print(f"drills: {sentence}", highlight=False)
    known = tidied(clues, every)
    for sentence in replica_words.sentences(replicas.shared(sound(every, sweep.faults), known)):
        console.print(f"replicas: {sentence}", highlight=False)
    _show_faults(console, sweep.faults, every, known)
    _show_clues(console, readings, plain(known, sweep.faults))


def _show_faults(console: Console, known: Iterable[Fault], every: pd.DataFrame, clues: pd.DataFrame) -> None:
    """Print what each fault does to each task, where it does most; the largest gaps first."""
    found = faults.exhibits(known, every, clues)
    for line in fault_words.lines(found)[:_SHOWN]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _show_clues(console: Console, readings: pd.DataFrame, own: pd.DataFrame) -> None:
    """Print the largest parts of the worst gaps, and the best remedy of each task."""
    for line in cause_words.lines(causes.parts(own), causes.totals(own, readings)):
        console.print(line, highlight=False, markup=False)
    if told := remedy_words.told(remedies.remedies(own, readings)):
        console.print(f"remedies: {'; '.join(told)}", highlight=False, markup=False)


def _table(columns: Mapping[str, int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name, width in columns.items():
        table.add_column(name, justify="left" if width == 4 else "right", min_width=width, overflow="fold")
    return table


def _cells(row: Any) -> list[str]:  # noqa: ANN401
    number, mark = tables.number, "*" if row.rmse_beyond else " " if row.learned else "o"
    gap = f"{number(row.rmse_gap, signed=True)} ± {number(row.rmse_gap_se)}{mark}"
    cell = [row.task, row.norm, str(row.batch_size), tables.decay_name(row.decay)]
    accuracies = number(row.accuracy_true), number(row.accuracy_false)
    return [*cell, number(row.rmse_true), number(row.rmse_false), gap, *accuracies]


def show_failures(console: Console, failures: Sequence[Failure]) -> None:
    """Print every trial that failed, with its reason."""
    for f in failures:
        console.print(
            f"failed: {label(f, f.variant)}: {f.reason}", style="red", highlight=False, markup=False
        )


def show_notes(console: Console, notes: Sequence[str]) -> None:
    """Print what a reader of the numbers should know."""
    for note in notes:
        console.print(f"note: {note}", style="yellow", highlight=False, markup=False)


def show_undelivered(console: Console, store: Path, reasons: Mapping[Path, str]) -> None:
    """Print what is not in the tracking store yet, and how it gets there."""
    for path, reason in reasons.items():
        console.print(f"undelivered: {path}: {reason}", style="red", highlight=False, markup=False)
    if reasons:
        again = shlex.join(["python", "-m", "bnlab.sync", "--store", str(store)])
        console.print(f"all is on disk; to deliver it: {again}", highlight=False, markup=False)


def dashboard(uri: str) -> str:
    """Say how to open the dashboard on a tracking store."""
    if uri.startswith(("http:", "https:")):
        return f"open {uri}"
    return f"mlflow ui --backend-store-uri {shlex.quote(uri)} --port 5000"
