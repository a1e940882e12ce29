"""What another decay, phase, trial, worker and step cost, as tables."""

from __future__ import annotations

from itertools import pairwise

import pandas as pd

from experiments.throughput.rounds import Spread, ratio, spread
from experiments.throughput.tables import markdown


def tables(rows: pd.DataFrame) -> str:
    """Write the tables."""
    return "\n\n".join([_decays(rows), _seconds(rows), _workers(rows), _lengths(rows)])


def slopes(rows: pd.DataFrame, over: str) -> Spread:
    """Measure what one more costs: the slope between neighbouring counts, in each round.

    Args:
        rows: with `round`, `seconds` and the counts in a column of this name.
        over: that name.
    """
    found = []
    for _, own in rows.groupby("round"):
        points = list(own.sort_values(over)[[over, "seconds"]].itertuples(index=False, name=None))
        found += [(later - sooner) / (more - fewer) for (fewer, sooner), (more, later) in pairwise(points)]
    return spread(found)


def per_trial(rows: pd.DataFrame, workers: int) -> float:
    """Measure what one more trial takes: between the shortest and the longest sweep."""
    own = rows[rows["workers"] == workers].sort_values("trials")
    if len(own) < 2:
        return float("nan")
    first, last = own.iloc[0], own.iloc[-1]
    return float((last["seconds"] - first["seconds"]) / (last["trials"] - first["trials"]))


def _decays(rows: pd.DataFrame) -> str:
    lines = []
    for (task, size), own in rows[rows["train_s"].notna()].groupby(["task", "batch_size"], sort=False):
        train = float(own["train_s"].iloc[0])
        own = own[own["decays"] > 0]
        shares = [_share(own, kind, train) for kind in ("replay", "curve", "curve and test set")]
        lines.append([task, int(size), f"{train:.1f}", *shares])
    columns = ["task", "batch", "training, s", "replay", "curve", "curve and whole test set"]
    return "One more decay, % of the trial's training time (median slope, lowest to highest):\n\n" + markdown(
        columns, lines
    )


def _share(rows: pd.DataFrame, kind: str, train: float) -> str:
    own = rows[rows["kind"] == kind]
    return str(Spread(*(100 * value / train for value in slopes(own, "decays"))))


def _seconds(rows: pd.DataFrame) -> str:
    own = rows[rows["kind"].isin(["replay", "curve", "curve and test set"])]
    table = own.pivot_table(
        index=["task", "batch_size", "kind"], columns="decays", values="seconds", aggfunc="median", sort=False
    )
    table = table[sorted(table.columns)]
    lines = [
        [task, int(size), kind, *("-" if pd.isna(value) else f"{value:.3f}" for value in line)]
        for (task, size, kind), line in zip(table.index, table.to_numpy(), strict=True)
    ]
    columns = ["task", "batch", "", *(f"{count:.0f}" for count in table.columns)]
    return "Seconds at a number of decays (0: phase true alone, 1: both phases at one decay):\n\n" + markdown(
        columns, lines
    )


def _workers(rows: pd.DataFrame) -> str:
    lines: list[list[object]] = []
    for size, own in rows[rows["kind"] == "training"].groupby("batch_size"):
        own = own.assign(pace=own["steps"] / own["seconds"])
        paces = {workers: dict(part.set_index("round")["pace"]) for workers, part in own.groupby("workers")}
        lines.append([f"training steps at batch {size:.0f}", ratio(paces[2], paces[1])])
    sweeps = rows[rows["kind"] == "sweep"]
    one, two = (per_trial(sweeps, workers) for workers in (1, 2))
    lines.append([f"one more trial of a sweep, at batch 2: {one:.1f} s, {two:.1f} s", f"{one / two:.2f}"])
    whole = [
        f"{row.trials:.0f} trials, {row.workers:.0f} worker(s): {row.seconds:.1f} s"
        for row in sweeps.itertuples()
    ]
    return f"Two workers, times one:\n\n{markdown(['', 'times'], lines)}\n\nWhole sweeps: {'; '.join(whole)}."


def _lengths(rows: pd.DataFrame) -> str:
    own = rows[rows["kind"] == "length"].assign(round=0)
    lines = [[f"{row.steps:,.0f}", f"{row.seconds:.1f}"] for row in own.itertuples()]
    per = Spread(*(1000 * value for value in slopes(own, "steps")))
    return (
        f"One trial by its steps, at batch 2; 1,000 more take {per} s:\n\n{markdown(['steps', 's'], lines)}"
    )
