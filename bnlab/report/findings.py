"""The tables of a diagnosis: every cell a string, for a terminal and for a PDF."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from bnlab.report.numbers.clues import percent
from bnlab.report.numbers.diagnosis import (
    METRICS,
    NOTHING,
    SPLITS,
    Found,
    amount,
    by_size,
    causes_of,
    ordered,
    place,
    shortened,
    splits,
    worse,
    written,
)
from bnlab.report.words.diagnosis import NAMES, REGARD

Row = Mapping[str, Any]
Table = dict[str, Any]
LOST = "NaN"
SETTINGS = ("channels", "momentum", "epsilon", "calls")


def table(columns: Mapping[str, Sequence[str]], left: Iterable[str], breaks: Sequence[int] = ()) -> Table:
    """A table as strings, without the columns of numbers in which nothing stands."""
    known = {name: cells for name, cells in columns.items() if name in left or set(cells) - {"", NOTHING}}
    return {
        "head": list(known),
        "align": ["left" if name in left else "right" for name in known],
        "rows": [list(row) for row in zip(*known.values(), strict=True)],
        "breaks": list(breaks),
    }


def gaps(rows: Sequence[Row]) -> Table:
    """Each metric with batch and with moving statistics, and how sure the difference is."""
    rows = ordered(rows)
    write = [written([amount(row["moving"]), amount(row["batch"])]) for row in rows]
    pairs = list(zip(rows, write, strict=True))
    columns = {
        "split": [row["split"] for row in rows],
        "metric": [NAMES.get(row["metric"], row["metric"]) for row in rows],
        "batch": [own(amount(row["batch"])).replace(NOTHING, LOST) for row, own in pairs],
        "moving": [own(amount(row["moving"])).replace(NOTHING, LOST) for row, own in pairs],
        "gap": [own(amount(row["gap"]), signed=True) for row, own in pairs],
        "± s.e.": [own(amount(row["standard_error"])) for row, own in pairs],
        "samples": [f"{row['samples']:,}" for row in rows],
        "> 2 s.e.": [REGARD[worse(row)] for row in rows],
    }
    return table(columns, ["split", "metric", "> 2 s.e."], _changes([row["split"] for row in rows]))


def parts(found: Found) -> Table:
    """Each cause's part of the RMSE gap on each split, the largest first, and the whole gap."""
    causes = causes_of(found) if any(math.isfinite(amount(part["value"])) for part in found["parts"]) else {}
    columns = {}
    for split in splits(found["parts"]):
        rows = [own.get(split) for own in causes.values()]
        cells = [*_pairs(rows, "value")]
        whole = [gap for gap in found["gaps"] if (gap["split"], gap["metric"]) == (split, "rmse")]
        columns[f"{split} ± s.e."] = [*cells, *_pairs(whole or [None], "gap", rows)]
    names = [*causes, "the whole gap"] if causes else []
    return table({"cause": names} | columns, ["cause"], [len(causes)] if causes else [])


def layers(rows: Sequence[Row], without: Collection[str] = ()) -> Table:
    """Each layer's part of the gap on the training data and how far its statistics lie off.

    Args:
        rows: layers.
        without: names of columns to leave out.
    """
    columns = {
        "layer": [row["name"] for row in rows],
        "channels": [str(row["channels"]) for row in rows],
        "momentum": [f"{amount(row['momentum']):.6g}" for row in rows],
        "epsilon": [f"{amount(row['epsilon']):.3g}" for row in rows],
        "calls": [str(row["calls"]) for row in rows],
        "part ± s.e.": _pairs(rows, "part"),
        "outputs differ": _column(rows, "output"),
        "mean shift": _column(rows, "mean_shift"),
        "log variance": _column(rows, "log_variance"),
        "KL": _column(rows, "kl"),
        "": ["frozen" if row["frozen"] else "" for row in rows],
    }
    idle = {*without, *(() if {row["calls"] for row in rows} - {1} else ("calls",))}
    return table({name: cells for name, cells in columns.items() if name not in idle}, ["layer"])


def worst_layers(found: Found, most: int, letters: int) -> tuple[list[Row], list[Row]]:
    """Part the layers into the largest, at most so many and with names so long, and the rest."""
    rows = by_size(found)
    kept = most if len(rows) > most + 1 else len(rows)  # a line that sums up one layer saves nothing
    names = shortened([row["name"] for row in rows], letters)
    shown: list[Row] = [{**row, "name": name} for row, name in zip(rows[:kept], names[:kept], strict=True)]
    return shown, rows[kept:]


def remedies(found: Found, once: bool = False) -> Table:
    """What each remedy leaves, best first.

    Args:
        found: the diagnosis.
        once: a line for each remedy only, of the test data if it can be.
    """
    rows = _main(found["remedies"]) if once else list(found["remedies"])
    several = len({row["split"] for row in rows}) > 1
    metrics = sorted({name for row in rows for name in row["metrics"]}, key=lambda name: place(METRICS, name))
    columns = {"remedy": [row["name"] for row in rows]}
    columns |= {"split": [row["split"] for row in rows]} if several else {}
    for name in metrics:
        values = [amount(row["metrics"].get(name)) for row in rows]
        columns[NAMES.get(name, name)] = [written(values)(value) for value in values]
    columns |= {
        "gap left": _column(rows, "gap", signed=True),
        "closes": [NOTHING if row["closed"] is None else percent(amount(row["closed"])) for row in rows],
    }
    if not all(row["writable"] for row in rows):
        columns["fits a file"] = ["yes" if row["writable"] else "no" for row in rows]
    columns["seconds"] = [f"{amount(row['seconds']):.2g}" for row in rows]
    return table(columns, ["remedy", "split"])


def _main(rows: Sequence[Row]) -> list[Row]:
    """Keep one line of each remedy, that on the test data where there is one."""
    best: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: place(SPLITS, row["split"])):
        best.setdefault(row["name"], row)
    return [row for row in rows if row is best[row["name"]]]


def mended(before: Sequence[Row], after: Sequence[Row]) -> Table:
    """The metrics with moving statistics before and after, beside those with batch statistics."""
    later = {(row["split"], row["metric"]): row for row in after}
    rows = [(row, later[key]) for row in ordered(before) if (key := (row["split"], row["metric"])) in later]
    write = [written([amount(own[name]) for own in pair for name in ("moving", "batch")]) for pair in rows]
    pairs = list(zip(rows, write, strict=True))
    columns = {
        "split": [row["split"] for row, _ in rows],
        "metric": [NAMES.get(row["metric"], row["metric"]) for row, _ in rows],
        "batch": [own(amount(last["batch"])) for (_, last), own in pairs],
        "moving, before": [own(amount(first["moving"])) for (first, _), own in pairs],
        "after": [own(amount(last["moving"])) for (_, last), own in pairs],
        "gap, before": [own(amount(first["gap"]), signed=True) for (first, _), own in pairs],
        "after ": [own(amount(last["gap"]), signed=True) for (_, last), own in pairs],
        "± s.e.": [own(amount(last["standard_error"])) for (_, last), own in pairs],
    }
    return table(columns, ["split", "metric"], _changes(columns["split"]))


def _changes(names: Sequence[str]) -> list[int]:
    return [at for at in range(1, len(names)) if names[at] != names[at - 1]]


def _column(rows: Sequence[Row], name: str, signed: bool = False) -> list[str]:
    values = [amount(row[name]) for row in rows]
    write = written(values)
    return [write(value, signed) for value in values]


def _pairs(rows: Sequence[Row | None], name: str, like: Sequence[Row | None] = ()) -> list[str]:
    """Numbers with their standard errors, with the digits of others that they stand under."""
    values = [amount(row[name]) if row else math.nan for row in rows]
    errors = [amount(row["standard_error"]) if row else math.nan for row in rows]
    write = written([amount(row["value"]) for row in like if row] if like else values)
    return [
        write(value, signed=True) + ("" if math.isnan(value + error) else f" ± {write(error)}")
        for value, error in zip(values, errors, strict=True)
    ]
