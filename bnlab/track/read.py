"""Read sweeps and their readings back from MLflow: all that a report knows.

A server may be shared, so what it holds is checked before anything is made of it.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from mlflow.entities import Run
from pydantic import TypeAdapter, ValidationError

from bnlab.records import Reading, Sweep, first_line, made_so
from bnlab.science.histogram import KINDS, Histogram, LayerHistogram
from bnlab.store import parse_histograms, parse_readings
from bnlab.track.connect import Store, TrackingError
from bnlab.track.write import HISTOGRAMS, READINGS, SWEEP

Record = TypeVar("Record", Sweep, Reading, LayerHistogram, Histogram)

_PAGE = 1000
_MOST_BYTES = 64 * 2**20
_MANY = 2**53
_SWEEP = TypeAdapter(Sweep)


def read_sweep(store: Store, wanted: str | None = None) -> tuple[Sweep, pd.DataFrame]:
    """Read a sweep and the readings of all its finished trials.

    Args:
        store: where to look.
        wanted: a sweep's name (its latest run is taken) or run id; None takes the latest sweep of all.

    Returns:
        The sweep, and one row per reading, with its trial's columns `trial task norm batch_size seed
        source stand_in steps` in front; no rows when no trial finished. The task's name says also what
        else tells trials apart.

    Raises:
        TrackingError: there is no such sweep, or what is stored of it is damaged.
    """
    run = _sweep_run(store, wanted)
    with _checked(SWEEP, run):
        sweep = _sound(_SWEEP.validate_json(_text(store, run, SWEEP)))
    tables = [_table(store, run, sweep) for run in _trial_runs(store, sweep.trials)]
    return sweep, pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def read_histograms(store: Store, sweep: Sweep) -> dict[str, list[LayerHistogram]]:
    """Read the histograms of a sweep's finished trials: trial -> rows, for those that have some.

    Raises:
        TrackingError: what is stored is damaged.
    """
    runs = {run.data.tags["bnlab.trial"]: run for run in _trial_runs(store, sweep.trials)}
    return {
        trial: rows for trial in sweep.trials if trial in runs and (rows := _histograms(store, runs[trial]))
    }


def _histograms(store: Store, run: Run) -> list[LayerHistogram]:
    with _checked(HISTOGRAMS, run):
        there = any(file.path == HISTOGRAMS for file in store.client.list_artifacts(run.info.run_id))
        return [_counted(row) for row in parse_histograms(_text(store, run, HISTOGRAMS))] if there else []


@contextmanager
def _checked(what: str, run: Run) -> Iterator[None]:
    """Turn whatever damage raises into one line that names what is damaged."""
    try:
        yield
    except Exception as error:  # the file may hold anything, and a server may answer anything
        raise TrackingError(f"{what} of run {run.info.run_id} is damaged: {_why(error)[:200]}") from error


def _why(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False)[0]
        return f"{'.'.join(map(str, first['loc']))} {first['msg']}".strip()
    return f"no {error}" if isinstance(error, KeyError) else first_line(error)


def _sound(sweep: Sweep) -> Sweep:
    """Check of a sweep what types do not tell."""
    rules = {
        "started": datetime.fromisoformat(sweep.started).year > 1,
        "seconds": 0 <= sweep.seconds < math.inf,
        "trained": 0 <= sweep.trained <= len(sweep.trials),
        "decays": all(0 <= decay < 1 for decay in sweep.decays),
        "measured": set(sweep.trials) <= sweep.measured.keys(),
        "layers": all(1 <= calls < _MANY for own in sweep.layers.values() for _, calls in own),
    }
    return _holding(sweep, rules)


def _possible(reading: Reading) -> Reading:
    """Check that a reading can have been made: counts of a run's size, phase false at a decay."""
    counts = ("step", "samples_seen", "eval_batch_size", "images")
    rules = {name: 1 <= getattr(reading, name) < _MANY for name in counts}
    rules["decay"] = reading.phase if reading.decay is None else 0 <= reading.decay < 1
    return _holding(reading, rules)


def _counted(row: LayerHistogram) -> LayerHistogram:
    """Check that a histogram can have been counted."""
    own = row.histogram
    _holding(row, {"step": 1 <= row.step < _MANY, "kind": row.kind in KINDS})
    counts = all(0 <= count < _MANY for count in (*own.counts, own.not_finite))
    _holding(own, {"counts": counts, "low": not own.n or -math.inf < own.low <= own.high < math.inf})
    return row


def _holding(record: Record, rules: Mapping[str, bool]) -> Record:
    """Give a record back whose values keep their rules.

    Raises:
        ValueError: one of them does not.
    """
    if broken := [name for name, holds in rules.items() if not holds]:
        raise ValueError(f"{broken[0]} cannot be {str(getattr(record, broken[0]))[:80]}")
    return record


def _asked(reading: Reading, sweep: Sweep, way: tuple[int, int, int]) -> bool:
    """Keep what this sweep asked for; a shared trial may hold readings that others wanted."""
    split = reading.split in ("train_probe", "test_probe", sweep.final)
    asked = reading.phase in sweep.phases and reading.decay in (None, *sweep.decays)
    return made_so(reading, way) and split and asked and reading.drill in ("", *sweep.drills)


def _sweep_run(store: Store, wanted: str | None) -> Run:
    runs = store.client.search_runs([store.experiment], "tags.`bnlab.kind` = 'sweep'", max_results=5000)
    found = [run for run in runs if wanted in (None, run.data.tags.get("bnlab.sweep"), run.info.run_id)]
    if not found:
        names = sorted({run.data.tags.get("bnlab.sweep", run.info.run_id) for run in runs})
        raise TrackingError(
            f"no sweep {wanted or ''} is stored there; stored are: {', '.join(names)[:300] or 'none'}"
        )
    return max(found, key=lambda run: run.info.end_time or 0)


def _trial_runs(store: Store, trials: tuple[str, ...]) -> Iterable[Run]:
    """Find the finished runs of trials; MLflow cannot ask for one of many tags, so all are looked through."""
    wanted, token = set(trials), None
    while True:
        page = store.client.search_runs(
            [store.experiment],
            "tags.`bnlab.kind` = 'trial' and attributes.status = 'FINISHED'",
            max_results=_PAGE,
            page_token=token,
        )
        for run in page:
            if (trial := run.data.tags.get("bnlab.trial")) in wanted:
                wanted.remove(trial)  # one run each, the latest
                yield run
        if not (token := page.token):
            return


def _table(store: Store, run: Run, sweep: Sweep) -> pd.DataFrame:
    with _checked(READINGS, run):
        readings = [_possible(reading) for reading in parse_readings(_text(store, run, READINGS))]
    with _checked("the trial", run):
        own = _trial(run, sweep)
    way = sweep.measured[own["trial"]]
    table = pd.DataFrame([asdict(reading) for reading in readings if _asked(reading, sweep, way)])
    return pd.concat([pd.DataFrame(own, index=table.index), table], axis=1)


def _trial(run: Run, sweep: Sweep) -> dict[str, Any]:
    """Say which trial a run is of, in the columns of its readings."""
    params, tags = run.data.params, run.data.tags
    trial, numbers = (
        tags["bnlab.trial"],
        {name: int(params[name]) for name in ("batch_size", "seed", "steps")},
    )
    if not all(0 <= number < _MANY for number in numbers.values()):
        raise ValueError(f"a trial cannot be: {numbers}")
    return {
        "trial": trial,
        "task": ", ".join(filter(None, [params["task"], sweep.variants.get(trial)])),
        "norm": params["norm"],
        "batch_size": numbers["batch_size"],
        "seed": numbers["seed"],
        "source": tags["data.source"],
        "stand_in": tags["data.stand_in"] == "true",
        "steps": numbers["steps"],
    }


def _text(store: Store, run: Run, name: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(store.client.download_artifacts(run.info.run_id, name, folder))
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it must have {_MOST_BYTES} bytes at most, got {path.stat().st_size}")
        return path.read_text("utf-8")
