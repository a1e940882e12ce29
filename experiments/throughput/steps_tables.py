"""Training steps per second, as tables: ratios, first calls, and whether XLA is on where it pays."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from experiments.throughput.rounds import Spread, ratio, spread
from experiments.throughput.steps import OURS
from experiments.throughput.tables import markdown

_OURS = "bnlab"


def tables(rows: pd.DataFrame) -> str:
    """Write the three tables."""
    rows = rows.assign(pace=rows["steps"] / rows["seconds"])
    parts = (_race(rows), _first_calls(rows), _xla(rows))
    return "\n\n".join(part for part in parts if part)


def races(rows: pd.DataFrame) -> Iterator[tuple[str, int, pd.DataFrame]]:
    """Split rows by task and batch size, in their order."""
    for (task, size), own in rows.groupby(["task", "batch_size"], sort=False):
        yield str(task), int(size), own


def paces(race: pd.DataFrame) -> dict[str, dict[int, float]]:
    """List each contender's steps per second: contender -> round -> pace; `bnlab` is the table's choice."""
    found = {
        str(name): dict(zip(own["round"], own["pace"], strict=True))
        for name, own in race.groupby("contender", sort=False)
    }
    ours = found.get(OURS[bool(race["table_xla"].iloc[0])])
    others = {name: pace for name, pace in found.items() if name not in OURS.values()}
    return others if ours is None else {_OURS: ours, **others}


def default_run(race: pd.DataFrame, name: str) -> float:
    """Estimate the seconds of a default run: the first call and its remaining steps."""
    own = race[race["contender"] == name]
    pace = float(own["pace"].median())
    return float(own["first_s"].iloc[0]) + (int(own["default_steps"].iloc[0]) - 1) / pace


def _race(rows: pd.DataFrame) -> str:
    lines, names = [], dict.fromkeys(name for name in rows["contender"] if name not in OURS.values())
    for task, size, race in races(rows):
        pace = paces(race)
        if _OURS not in pace:
            continue
        against = {name: ratio(pace[_OURS], pace[name]) for name in names if name in pace}
        own = f"{spread(list(pace[_OURS].values())).median:,.0f}"
        lines.append([task, size, own, *(_cell(against.get(name)) for name in names), _best(against)])
    title = (
        "Steps per second, and how many times those of each peer (median of the rounds, lowest to highest):"
    )
    table = markdown(["task", "batch", "bnlab, steps/s", *names, "best peer"], lines)
    return f"{title}\n\n{table}" if lines else ""


def _cell(value: Spread | None) -> str:
    return "-" if value is None else str(value)


def _best(against: dict[str, Spread]) -> str:
    """Name the peer that ours beats by least; in bold where it wins."""
    if not against:
        return "-"
    name, least = min(against.items(), key=lambda pair: pair[1].median)
    return f"{name}: {least.median:.2f}" if least.median >= 1 else f"**{name} wins: {least.median:.2f}**"


def _first_calls(rows: pd.DataFrame) -> str:
    names = list(dict.fromkeys(rows["contender"]))
    lines = []
    for task, size, race in races(rows):
        here = set(race["contender"])
        lines.append([task, size, *(_first(race, name) if name in here else "-" for name in names)])
    title = "Seconds until the first step is done; seconds of a default run (first step and all others):"
    return f"{title}\n\n{markdown(['task', 'batch', *names], lines)}"


def _first(race: pd.DataFrame, name: str) -> str:
    own = race[race["contender"] == name].iloc[0]
    chosen = "" if pd.isna(own["chosen"]) or own["chosen"] in ("", 1) else f" ({own['chosen']:.0f} at once)"
    return f"{own['first_s']:.1f}; {default_run(race, name):.1f}{chosen}"


def _xla(rows: pd.DataFrame) -> str:
    lines = []
    for task, size, race in races(rows):
        if not set(OURS.values()) <= set(race["contender"]):
            continue
        pace = {
            xla: dict(race[race["contender"] == name].set_index("round")["pace"])
            for xla, name in OURS.items()
        }
        runs = {xla: default_run(race, name) for xla, name in OURS.items()}
        wins, table = runs[True] < runs[False], bool(race["table_xla"].iloc[0])
        verdict = "right" if wins == table else "**wrong**"
        seconds = f"{runs[True]:.1f}, {runs[False]:.1f}"
        faster = ratio(pace[True], pace[False])
        lines.append([task, size, faster, seconds, _on(wins), _on(table), verdict])
    columns = [
        "task",
        "batch",
        "steps/s, XLA / without",
        "default run, s: XLA, without",
        "faster",
        "table",
        "",
    ]
    return f"XLA or not:\n\n{markdown(columns, lines)}" if lines else ""


def _on(xla: bool) -> str:
    return "XLA" if xla else "without"
