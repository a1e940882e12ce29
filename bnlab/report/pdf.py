"""The report as a PDF: words, pictures and tables travel to Typst as data, never as markup."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from bnlab.files import replacing
from bnlab.records import Failure, Sweep
from bnlab.report import explained, pages, sheets
from bnlab.report.numbers import arrival, best, crowd, decays, drills, tables
from bnlab.report.numbers.clues import NO_CLUES, tidied
from bnlab.report.numbers.rows import base, called, final_name, tidy
from bnlab.report.numbers.sizes import sizes
from bnlab.report.numbers.tables import duration, typeset
from bnlab.report.pictures import figures
from bnlab.report.pictures.collapse import collapse
from bnlab.report.pictures.decay_curve import decay_curve
from bnlab.report.pictures.drawing import Picture
from bnlab.report.pictures.heatmaps import heatmaps
from bnlab.report.pictures.histograms import pictures
from bnlab.report.pictures.scaling import scaling
from bnlab.report.printing import compiled, legible, printable, shown
from bnlab.report.words import best_decay, symptoms
from bnlab.report.words.arrived import arrived
from bnlab.report.words.finding import finding
from bnlab.science.histogram import LayerHistogram

Histograms: TypeAlias = Mapping[str, Sequence[LayerHistogram]]
NONE: Histograms = {}
TEMPLATE = Path(__file__).with_name("template.typ")


def write(
    sweep: Sweep,
    readings: pd.DataFrame,
    path: Path,
    histograms: Histograms = NONE,
    clues: pd.DataFrame = NO_CLUES,
) -> Path:
    """The report of one sweep, whole or not there at all; the same rows give the same bytes.

    Args:
        sweep: the frame around the readings.
        readings: stored rows; with none, the report says why.
        path: where the PDF goes; its folder is made.
        histograms: trial -> its histograms, for an appendix.
        clues: stored ones, for the pages that explain the gaps.

    Returns:
        The path.

    """
    content = compiled(TEMPLATE, document(sweep, readings, histograms, clues), _moment(sweep.started))
    with replacing(path) as file:
        file.write(content)
    return path


def document(
    sweep: Sweep, readings: pd.DataFrame, histograms: Histograms = NONE, clues: pd.DataFrame = NO_CLUES
) -> dict[str, Any]:
    """All that the report shows: strings for the words and tables, SVG for the pictures.

    Where each decay would have a line or a column, a few stand for many; of many settings those with the
    largest gaps have tables and pictures.
    """
    every = _legible(tidy(crowd.kept(readings)))
    sweep = replace(
        sweep, faults=tuple((fault, trial, legible(drill)) for fault, trial, drill in sweep.faults)
    )
    rows = drills.restores(every, sweep.faults)
    tasks = crowd.shown(rows)
    told = _words(sweep, rows) | {"crowded": crowd.note(rows, tasks)}
    sweep, every, rows = crowd.about(sweep, every, tasks), crowd.of(every, tasks), crowd.of(rows, tasks)
    table, few = _legible(tidied(crowd.among(clues, rows), every)), decays.thinned(rows)
    thin = replace(sweep, decays=tuple(decays.shown(sweep.decays).tolist()))
    told |= _numbers(thin, few) | _questions(sweep, few) | _curve(rows)
    told |= explained.told(sweep, every, table)
    drawn = _pictures(sweep, rows, histograms) | shown(explained.drawn(sweep, every, table))
    return printable(told) | drawn


def _words(sweep: Sweep, rows: pd.DataFrame) -> dict[str, Any]:
    found = finding(rows, sweep.layers)
    time = ("wall-clock time", duration(sweep.seconds))
    return {
        "title": sweep.name or "bnlab",
        "date": f"{_moment(sweep.started):%Y-%m-%d %H:%M} UTC",
        "extent": _extent(sweep, rows),
        "sources": _sources(rows),
        "stand_in": found.stand_in,
        "finding": [typeset(sentence) for sentence in found.sentences if sentence != found.stand_in],
        "failures": [_failure(failure) for failure in sweep.failures],
        "notes": list(sweep.notes),
        "command": sweep.command,
        "machine": _pairs([*sweep.machine.items(), time]),
        "versions": _pairs(sweep.versions.items()),
        "settings": _pairs(sweep.settings.items()),
    }


def _numbers(sweep: Sweep, rows: pd.DataFrame) -> dict[str, Any]:
    table = tables.cells(rows, sweep.decays)
    seeds = table["seed"].nunique()
    return {
        "final": final_name(table),
        "kinds": _kinds(table),
        "tasks": sheets.tasks(table),
        "cells": sheets.cells(table),
        "means": sheets.means(tables.gaps(rows)) if seeds > 1 else None,
        "trials": sheets.trials(sweep, rows),
    }


def _questions(sweep: Sweep, rows: pd.DataFrame) -> dict[str, Any]:
    """What the pages of single questions say beside their pictures."""
    shares, drilled = arrival.shares(rows, sweep.layers), drills.drilled(rows)
    return {
        "arrival": [typeset(sentence) for sentence in arrived(rows, sweep.layers).sentences],
        "shares": pages.shares(shares),
        "layers": arrival.named(shares),
        "drills": [typeset(sentence) for sentence in symptoms.shown(rows).sentences],
        "drilled": pages.drills(drilled),
        "meanings": pages.meanings(drilled),
    }


def _curve(rows: pd.DataFrame) -> dict[str, Any]:
    """What is said of every decay, also where there are many, and which of them other pages show."""
    gaps = tables.gaps(rows)
    gaps = gaps if best.swept(gaps) else gaps.iloc[:0]
    return {
        "thinned": decays.note(rows),
        "best": [typeset(sentence) for sentence in best_decay.sentences(gaps)],
        "bests": pages.best_decays(gaps),
        "sizes": pages.side_by_side(sizes(rows)),
    }


def _appendix(rows: pd.DataFrame, histograms: Histograms) -> Iterator[Picture]:
    trials = rows.drop_duplicates("trial").set_index("trial")
    for trial, counted in histograms.items():
        if trial not in trials.index:
            continue
        own = trials.loc[trial]
        named = [replace(row, layer=legible(row.layer)) for row in counted]
        yield from pictures(f"{own['task']} {own['norm']} b{own['batch_size']} s{own['seed']}", named)


def _kinds(table: pd.DataFrame) -> str:
    """What a reader must know where a metric is missing."""
    blind = table["accuracy"].isna()
    if not blind.any():
        return ""
    if blind.all():
        return "These are regressors: RMSE and loss are over outputs, and there is no accuracy."
    return "A dash: a regressor has no accuracy; its RMSE and loss are over outputs."


def _pictures(sweep: Sweep, rows: pd.DataFrame, histograms: Histograms) -> dict[str, Any]:
    curves, gaps = tables.curves(rows), tables.gaps(rows)
    few = decays.thinned(gaps)
    drawn = {
        "overview": figures.overview(tables.levels(rows, sweep.decays)),
        "decay_curve": decay_curve(gaps),
        "curves": [*figures.curves(curves, "test_probe"), *figures.curves(curves, "train_probe")],
        "collapse": collapse(arrival.ratios(rows, sweep.layers)),
        "scaling": scaling(sizes(rows)),
        "heatmaps": [*heatmaps(few, "rmse"), *heatmaps(few, "accuracy")],
        "histograms": list(_appendix(rows, histograms)),
    }
    return shown(drawn)


def _pairs(items: Iterable[tuple[str, str]]) -> list[list[str]]:
    return [[str(key), str(value)] for key, value in items]


def _extent(sweep: Sweep, rows: pd.DataFrame) -> str:
    table = tables.cells(rows, sweep.decays)
    finished, asked = table["trial"].nunique(), _plural(len(sweep.trials), "trial")
    return f"{finished} of {asked} finished, {sweep.trained} trained now; {_plural(len(table), 'cell')}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _sources(rows: pd.DataFrame) -> list[list[str]]:
    return _pairs(rows.assign(task=rows["task"].map(base)).groupby(["task", "source"]).groups)


def _failure(failure: Failure) -> dict[str, str]:
    task = called(failure.task, failure.variant)
    what = f"{task}, {failure.norm}, batch size {failure.batch_size}, seed {failure.seed}"
    return {"trial": failure.trial, "what": what, "reason": failure.reason}


def _moment(started: str) -> datetime:
    moment = datetime.fromisoformat(started).replace(microsecond=0)  # a PDF counts in seconds
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _legible(rows: pd.DataFrame) -> pd.DataFrame:
    names = [name for name in ("task", "norm", "source", "drill", "name") if name in rows]
    return rows.assign(**{name: rows[name].map(legible) for name in names})
