"""The default sweep against the usual way, as tables: extrapolated from the sample of cells."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from experiments.throughput.rounds import Spread, spread
from experiments.throughput.sweep import ARRANGEMENTS, faster
from experiments.throughput.tables import markdown

# Decays of the default sweep: the sample has one of them.
DECAYS = 4
# Ways to evaluate -> the column that has their seconds.
EVALUATIONS = {"as usually written": "written", "compiled by hand": "evaluate"}


class Usual(NamedTuple):
    """The usual way's sample in one arrangement, and how its evaluation is counted.

    Attributes:
        cells: one row per task, norm, batch size and phase.
        start: `seconds` and `cpu_s` until the processes were ready.
        processes: that share the cells, evenly.
        evaluation: `evaluate` or `written`.
    """

    cells: pd.DataFrame
    start: pd.Series
    processes: int
    evaluation: str

    @property
    def wall(self) -> Spread:
        """Extrapolate to every cell of every decay: start + 4 decays x the sampled cells / processes.

        The bounds take all cells of a task, batch size and phase to last as long as the shortest, or longest.
        """
        seconds = self._seconds("s")
        groups = seconds.groupby([self.cells[name] for name in ("task", "batch_size", "phase")])
        sums = seconds.sum(), groups.transform("min").sum(), groups.transform("max").sum()
        return Spread(*(float(self.start["seconds"] + DECAYS * each / self.processes) for each in sums))

    @property
    def cpu(self) -> float:
        """Extrapolate CPU seconds."""
        return float(self.start["cpu_s"] + DECAYS * self._seconds("cpu_s").sum())

    @property
    def once(self) -> float:
        """Put together what `fit` once per trial takes: one fit, evaluated in both phases at one decay."""
        cells = self.cells
        fitted = (cells["build_s"] + cells["fit_s"]).sum() / 2  # either phase fitted each trial
        return float(self.start["seconds"] + (fitted + cells[f"{self.evaluation}_s"].sum()) / self.processes)

    def _seconds(self, unit: str) -> pd.Series:
        cells = self.cells
        return cells[f"build_{unit}"] + cells[f"fit_{unit}"] + cells[f"{self.evaluation}_{unit}"]


def tables(rows: pd.DataFrame) -> str:
    """Write the result, the sample and the two arrangements."""
    cells = rows[rows["kind"] == "cell"]
    best = faster(common(cells))
    return "\n\n".join([_result(rows, best), _sample(cells, best), _arrangements(cells), _same(cells)])


def common(cells: pd.DataFrame) -> pd.DataFrame:
    """Keep the cells that every arrangement did."""
    names = ["task", "norm", "batch_size", "phase"]
    return cells[cells.groupby(names)["arrangement"].transform("nunique") == cells["arrangement"].nunique()]


def usual(rows: pd.DataFrame, arrangement: str, evaluation: str) -> Usual:
    """Take one arrangement's sample."""
    own = rows[rows["arrangement"] == arrangement]
    cells, start = own[own["kind"] == "cell"], own[own["kind"] == "start"].iloc[0]
    return Usual(cells, start, ARRANGEMENTS[arrangement].processes, evaluation)


def _result(rows: pd.DataFrame, best: str) -> str:
    ours = rows[rows["kind"] == "ours"]
    wall, cpu = (float(ours[pick].median()) for pick in ("seconds", "cpu_s"))
    lines: list[list[object]] = [
        [f"bnlab, {len(ours)} run(s)", _whole(spread(list(ours["seconds"]))), f"{cpu:.0f}", 1, 1]
    ]
    for name, evaluation in EVALUATIONS.items():
        theirs = usual(rows, best, evaluation)
        times = Spread(*(value / wall for value in theirs.wall))
        line = [f"a Keras model per cell, evaluation {name}", _whole(theirs.wall), f"{theirs.cpu:.0f}"]
        lines.append([*line, times, f"{theirs.cpu / cpu:.1f}"])
    for name, evaluation in EVALUATIONS.items():
        once = usual(rows, best, evaluation).once
        line = [f"`fit` once per trial, one decay, evaluation {name}", f"{once:.0f}", "-"]
        lines.append([*line, f"{once / wall:.2f}", "-"])
    sampled = len(usual(rows, best, "evaluate").cells)
    parent, worker = (ours[name].max() for name in ("parent_mib", "worker_mib"))
    table = markdown(["", "wall, s", "CPU, s", "times ours, wall", "times ours, CPU"], lines)
    notes = f"{sampled} of {DECAYS * sampled} cells were measured."
    return f"{table}\n\n{notes} Peak memory of ours: parent {parent:.0f} MiB, worker {worker:.0f} MiB."


def _whole(value: Spread) -> str:
    return f"{value.median:.0f} ({value.low:.0f} to {value.high:.0f})"


def _sample(cells: pd.DataFrame, best: str) -> str:
    lines = []
    groups = cells[cells["arrangement"] == best].groupby(["task", "batch_size", "phase"], sort=False)
    for (task, size, phase), own in groups:
        how = f"{own['steps_per_execution'].iloc[0]:.0f} at once{', jit' if own['jit'].iloc[0] else ''}"
        parts = (spread(list(own[f"{part}_s"])) for part in ("fit", "evaluate", "written"))
        lines.append([task, int(size), str(phase).lower(), how, len(own), *parts])
    columns = ["task", "batch", "phase", "fit", "cells", "fit, s", "evaluation compiled, s", "as written, s"]
    return f"The sample, arrangement `{best}`:\n\n{markdown(columns, lines)}"


def _arrangements(cells: pd.DataFrame) -> str:
    lines = []
    for name, own in common(cells).groupby("arrangement"):
        processes = ARRANGEMENTS[str(name)].processes
        shared, cpu = own["seconds"].sum() / processes, own["cpu_s"].sum()
        lines.append([name, processes, len(own), f"{shared:.0f}", f"{cpu:.0f}"])
    columns = ["arrangement", "processes", "cells", "wall of these, s", "CPU, s"]
    return f"The same cells in each arrangement, evaluation compiled:\n\n{markdown(columns, lines)}"


def _same(cells: pd.DataFrame) -> str:
    apart = (cells["rmse"] - cells["our_rmse"]).abs()
    return (
        f"RMSE on the test set, usual way and ours: {apart.median():.4f} apart in the median, "
        f"{apart.max():.4f} at most (the same images in the same order, other rounding)."
    )
