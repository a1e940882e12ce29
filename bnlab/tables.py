"""Readings, clues and histograms as CSV: every number survives to the last bit."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from typing import Any, TypeVar

from bnlab.records import Clue, Reading
from bnlab.science.histogram import Histogram, LayerHistogram

Record = TypeVar("Record", Reading, Clue)


def readings_table(readings: Iterable[Reading]) -> str:
    """Write readings as CSV; every number survives to the last bit."""
    return _written(Reading, readings)


def parse_readings(table: str) -> list[Reading]:
    """Read readings back from CSV."""
    return _parsed(Reading, table)


def clues_table(clues: Iterable[Clue]) -> str:
    """Write clues as CSV; every number survives to the last bit."""
    return _written(Clue, clues)


def parse_clues(table: str) -> list[Clue]:
    """Read clues back from CSV."""
    return _parsed(Clue, table)


def histograms_table(rows: Iterable[LayerHistogram]) -> str:
    """Write histograms as CSV, the counts of one as `3;0;1`; every number survives to the last bit."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*_ROW, *_HISTOGRAM])
    for row in rows:
        own = row.histogram
        values = asdict(own) | {"counts": ";".join(map(str, own.counts))}
        table.writerow([getattr(row, name) for name in _ROW] + [values[name] for name in _HISTOGRAM])
    return text.getvalue()


def parse_histograms(table: str) -> list[LayerHistogram]:
    """Read histograms back from CSV."""
    return [_histogram(row) for row in csv.DictReader(io.StringIO(table))]


def _written(record: type, rows: Iterable[Any]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, [field.name for field in fields(record)], lineterminator="\n")
    table.writeheader()
    table.writerows(map(vars, rows))
    return text.getvalue()


def _parsed(record: type[Record], table: str) -> list[Record]:
    rows = csv.reader(io.StringIO(table))
    places = {name: at for at, name in enumerate(next(rows, []))}
    # A column that an older table lacks has its default.
    kinds = [(n, places[n], _CONVERT[kind]) for n, kind in record.__annotations__.items() if n in places]
    return [record(**{name: convert(row[at]) for name, at, convert in kinds}) for row in rows if row]


def _histogram(row: dict[str, str]) -> LayerHistogram:
    values = {name: _CONVERT[kind](row[name]) for name, kind in Histogram.__annotations__.items()}
    decay = _CONVERT["float | None"](row["decay"])
    return LayerHistogram(int(row["step"]), row["layer"], row["kind"], Histogram(**values), decay)


_ROW = ("step", "layer", "kind", "decay")
_HISTOGRAM = tuple(field.name for field in fields(Histogram))
_CONVERT: dict[str, Callable[[str], Any]] = {
    "int": int,
    "str": str,
    "float": float,
    "bool": {"True": True, "False": False}.__getitem__,
    "float | None": lambda text: float(text) if text else None,
    "tuple[int, ...]": lambda text: tuple(map(int, text.split(";"))),
}
