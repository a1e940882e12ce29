"""The report as a PDF: words, pictures and tables travel to Typst as data, never as markup."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import typst
from matplotlib.ft2font import FT2Font

from bnlab.records import Failure, Sweep
from bnlab.report import figures, tables
from bnlab.report.finding import finding
from bnlab.report.heatmaps import heatmaps
from bnlab.report.tables import decay_name, duration, number, typeset

TEMPLATE = Path(__file__).with_name("template.typ")
MARK, FOUND = "•", "> 2 se"
TRIAL = {
    "task": "task",
    "norm": "norm",
    "batch size": "batch_size",
    "seed": "seed",
    "steps": "steps",
    "samples": "samples_seen",
    "eval. batch": "eval_batch_size",
}
"""The columns of the table of trials, and the fact of a reading or failure that each shows."""


def write(sweep: Sweep, readings: pd.DataFrame, path: Path) -> Path:
    """The report of one sweep, whole or not there at all; the same rows give the same bytes.

    Args:
        sweep: the frame around the readings.
        readings: stored rows; with none, the report says why.
        path: where the PDF goes; its folder is made.

    Returns:
        The path.

    """
    content = compiled(document(sweep, readings), _moment(sweep.started))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def compiled(content: Mapping[str, Any], moment: datetime) -> bytes:
    """The PDF of a document's data, dated as told and held to PDF/UA-1."""
    return typst.compile(
        TEMPLATE.read_bytes(),
        format="pdf",
        sys_inputs={"document": json.dumps(content)},
        ignore_system_fonts=True,
        pdf_standards=["ua-1"],
        timestamp=moment,
    )


def document(sweep: Sweep, readings: pd.DataFrame) -> dict[str, Any]:
    """All that the report shows: strings for the words and tables, SVG for the pictures."""
    rows = _legible(tables.tidy(readings))
    return _printable(_words(sweep, rows) | _numbers(sweep, rows)) | _pictures(sweep, rows)


def _words(sweep: Sweep, rows: pd.DataFrame) -> dict[str, Any]:
    found = finding(rows)
    time = ("wall-clock time", duration(sweep.seconds))
    return {
        "title": sweep.name or "bnlab",
        "date": f"{_moment(sweep.started):%Y-%m-%d %H:%M} UTC",
        "extent": _extent(sweep, rows),
        "sources": _sources(rows),
        "stand_in": found.stand_in,
        "finding": [typeset(sentence) for sentence in found.sentences if sentence != found.stand_in],
        "failures": [_failure(failure) for failure in sweep.failures],
        "command": sweep.command,
        "machine": _pairs([*sweep.machine.items(), time]),
        "versions": _pairs(sweep.versions.items()),
        "settings": _pairs(sweep.settings.items()),
    }


def _numbers(sweep: Sweep, rows: pd.DataFrame) -> dict[str, Any]:
    table = tables.cells(rows, sweep.decays)
    seeds = table["seed"].nunique()
    return {
        "cells": _cells(table, seeds > 1),
        "means": _means(tables.gaps(rows)) if seeds > 1 else None,
        "trials": _trials(sweep, rows),
    }


def _pictures(sweep: Sweep, rows: pd.DataFrame) -> dict[str, Any]:
    curves, gaps = tables.curves(rows), tables.gaps(rows)
    drawn = {
        "overview": figures.overview(tables.levels(rows, sweep.decays)),
        "curves": [*figures.curves(curves, "test_probe"), *figures.curves(curves, "train_probe")],
        "heatmaps": [*heatmaps(gaps, "rmse"), *heatmaps(gaps, "accuracy")],
    }
    return {place: [asdict(picture) for picture in pictures] for place, pictures in drawn.items()}


def _cells(table: pd.DataFrame, several: bool) -> dict[str, Any]:
    found = tables.beyond(table["rmse_gap"], table["rmse_gap_se"])
    columns = {
        "task": table["task"],
        "norm": table["norm"],
        "batch size": table["batch_size"].astype(str),
        "decay": table["decay"].map(decay_name),
        "seed": table["seed"].astype(str),
        "phase": table["phase"].map({True: "true", False: "false"}),
        "RMSE": table["rmse"].map(_value),
        "accuracy": table["accuracy"].map(_value),
        "loss": table["loss"].map(_value),
        "RMSE gap": table["rmse_gap"].map(_signed).mask(table["phase"], ""),
        "± se": table["rmse_gap_se"].map(_value).mask(table["phase"], ""),
        FOUND: found.map({True: MARK, False: ""}),
    }
    idle = [] if several else ["seed"]
    idle += ["RMSE gap", "± se", FOUND] if table["phase"].all() else []
    columns = {name: column for name, column in columns.items() if name not in idle}
    return _table(columns, ["task", "norm", "phase"], table["batch_size"])


def _means(gaps: pd.DataFrame) -> dict[str, Any]:
    table = gaps.sort_values(tables.POINT)
    columns = {
        "task": table["task"],
        "norm": table["norm"],
        "batch size": table["batch_size"].astype(str),
        "decay": table["decay"].map(decay_name),
        "seeds": table["seeds"].astype(str),
        "RMSE true": table["rmse_true"].map(_value),
        "RMSE false": table["rmse_false"].map(_value),
        "mean gap": table["rmse_gap"].map(_signed),
        "spread": table["rmse_gap_sd"].map(_value),
        "± se": table["rmse_gap_se"].map(_value),
        FOUND: table["rmse_beyond"].map({True: MARK, False: ""}),
    }
    return _table(columns, ["task", "norm"], table["batch_size"])


def _trials(sweep: Sweep, rows: pd.DataFrame) -> dict[str, Any]:
    read = rows.sort_values("step", kind="stable").drop_duplicates("trial", keep="last").set_index("trial")
    failed = {failure.trial: failure for failure in sweep.failures}
    lines = []
    for trial in dict.fromkeys([*sweep.trials, *read.index, *failed]):
        source = read.loc[trial] if trial in read.index else failed.get(trial)
        state = "failed" if trial in failed else "no readings" if source is None else "finished"
        lines.append([trial, *(str(getattr(source, fact, "–")) for fact in TRIAL.values()), state])
    lines.sort(key=lambda line: (line[1] == "–", *line[1:3], *((len(text), text) for text in line[3:5])))
    table = pd.DataFrame(lines, columns=["trial", *TRIAL, "state"], dtype=str)
    return _table(dict(table.items()), ["trial", "task", "norm", "state"], table["task"] + table["norm"])


def _table(columns: Mapping[str, pd.Series], left: Iterable[str], groups: pd.Series) -> dict[str, Any]:
    """A table as strings; `breaks` are the rows above which a light rule is drawn."""
    changed = groups.ne(groups.shift()).to_numpy()
    return {
        "head": list(columns),
        "align": ["center" if name == FOUND else "left" if name in left else "right" for name in columns],
        "rows": [list(row) for row in zip(*columns.values(), strict=True)],
        "breaks": [at for at in range(1, len(groups)) if changed[at]],
    }


def _value(value: float) -> str:
    return typeset(number(value))


def _signed(value: float) -> str:
    return typeset(number(value, signed=True))


def _pairs(items: Iterable[tuple[str, str]]) -> list[list[str]]:
    return [[str(key), str(value)] for key, value in items]


def _extent(sweep: Sweep, rows: pd.DataFrame) -> str:
    table = tables.cells(rows, sweep.decays)
    finished, asked = table["trial"].nunique(), _plural(len(sweep.trials), "trial")
    return f"{finished} of {asked} finished, {sweep.trained} trained now; {_plural(len(table), 'cell')}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _sources(rows: pd.DataFrame) -> list[list[str]]:
    return _pairs(rows.groupby(["task", "source"]).groups)


def _failure(failure: Failure) -> dict[str, str]:
    what = f"{failure.task}, {failure.norm}, batch size {failure.batch_size}, seed {failure.seed}"
    return {"trial": failure.trial, "what": what, "reason": failure.reason}


def _moment(started: str) -> datetime:
    moment = datetime.fromisoformat(started)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _legible(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(**{name: rows[name].map(_text) for name in ("task", "norm", "source")})


def _printable(content: Any) -> Any:  # noqa: ANN401
    if isinstance(content, str):
        return _text(content)
    if isinstance(content, dict):
        return {key: _printable(value) for key, value in content.items()}
    return [_printable(value) for value in content] if isinstance(content, list) else content


def _text(text: str) -> str:
    r"""Text that the report's fonts can show: any other character by its number, for PDF/UA forbids a gap.

    >>> print(_text("naïve → 実 \x00"))
    naïve → \u{5b9f} \u{0}
    """
    return "".join(_sign(" " if sign in "\n\r\t" else sign) for sign in text)


def _sign(sign: str) -> str:
    return sign if sign.isprintable() and ord(sign) in _glyphs() else f"\\u{{{ord(sign):x}}}"


@cache
def _glyphs() -> frozenset[int]:
    """The characters of DejaVu Sans Mono, which Typst and matplotlib both bring along."""
    return frozenset(FT2Font(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSansMono.ttf")).get_charmap())
