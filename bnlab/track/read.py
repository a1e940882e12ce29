"""Read sweeps and their readings back from MLflow: all that a report knows.

A server may be shared, so what it holds is checked before anything is made of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
from mlflow.entities import Run
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from bnlab.records import Clue, Reading, Sweep, made_so
from bnlab.science.histogram import LayerHistogram
from bnlab.tables import parse_clues, parse_histograms, parse_readings
from bnlab.track.check import checked, count, counted, possible, sound, stated
from bnlab.track.connect import Store, TrackingError
from bnlab.track.sweeps import RECORD, SWEEP
from bnlab.track.write import CLUES, HISTOGRAMS, READINGS, Finished

Columns: TypeAlias = dict[str, list[Any]]

_PAGE = 1000
# Trials that become a table at once: one for each would cost more than its rows do, lists of all more memory.
_TOGETHER = 100
_MOST_BYTES = 64 * 2**20


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
    with checked(SWEEP, run):
        sweep = sound(RECORD.validate_json(_text(store, run, SWEEP)))
    return sweep, read_rows(store, sweep)


def read_rows(store: Store, sweep: Sweep) -> pd.DataFrame:
    """Read the readings of all finished trials of a sweep, as `read_sweep` returns them."""
    return _joined(_table(store, run, sweep) for run in _trial_runs(store, sweep.trials))


def read_histograms(store: Store, sweep: Sweep) -> dict[str, list[LayerHistogram]]:
    """Read the histograms of a sweep's finished trials: trial -> rows, for those that have some.

    Raises:
        TrackingError: what is stored is damaged.
    """
    runs = {run.data.tags["bnlab.trial"]: run for run in _trial_runs(store, sweep.trials)}
    return {
        trial: rows for trial in sweep.trials if trial in runs and (rows := _histograms(store, runs[trial]))
    }


def read_clues(store: Store, sweep: Sweep) -> pd.DataFrame:
    """Read what explains the gaps of a sweep, one row per clue, with its trial's columns in front.

    Raises:
        TrackingError: what is stored is damaged.
    """
    runs = _trial_runs(store, sweep.trials) if sweep.samples else ()
    return _joined(_clue_table(store, run, sweep) for run in runs)


def _clue_table(store: Store, run: Run, sweep: Sweep) -> Columns:
    with checked(CLUES, run):
        there = any(file.path == CLUES for file in store.client.list_artifacts(run.info.run_id))
        clues = [stated(clue) for clue in parse_clues(_text(store, run, CLUES))] if there else []
    with checked("the trial", run):
        return _clues(run.data.tags["bnlab.trial"], run.data.params, run.data.tags, clues, sweep)


def _clues(
    identity: str, params: Mapping[str, Any], tags: Mapping[str, str], clues: Iterable[Clue], sweep: Sweep
) -> Columns:
    """Keep the clues that a sweep asked for, and put the columns of their trial in front."""
    way = sweep.measured[identity]
    asked = [
        vars(clue)
        for clue in clues
        if made_so(clue, way) and clue.samples == sweep.samples
        if clue.decay in (None, *sweep.decays) and clue.drill in ("", *sweep.drills)
        if _wanted(clue, sweep)
    ]
    return _after_trial(identity, params, tags, asked, sweep)


def _wanted(clue: Clue, sweep: Sweep) -> bool:
    """Keep the kinds that this sweep asked for; a shared trial may hold clues that others wanted."""
    kind, _, target = clue.kind.partition(" ")
    if kind == "remedy":
        return clue.name in sweep.remedies
    asked = sweep.explained if kind in ("cause", "rounding", "sign") else bool(sweep.attribution)
    return asked and target in ("", sweep.attribution)


def _histograms(store: Store, run: Run) -> list[LayerHistogram]:
    with checked(HISTOGRAMS, run):
        there = any(file.path == HISTOGRAMS for file in store.client.list_artifacts(run.info.run_id))
        return [counted(row) for row in parse_histograms(_text(store, run, HISTOGRAMS))] if there else []


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


def clues_of(sweep: Sweep, finished: Iterable[Finished]) -> pd.DataFrame:
    """Make the rows that `read_clues` would give, of trials that are not in the tracking store yet."""
    wanted = set(sweep.trials)
    return _joined(
        _clues(own.identity, own.trial.settings, own.tags, own.clues, sweep)
        for own in finished
        if own.identity in wanted
    )


def _joined(trials: Iterable[Columns]) -> pd.DataFrame:
    """Put the rows of trials below one another; those without rows have no columns to agree on."""
    filled = (columns for columns in trials if columns["trial"])
    tables = []
    while some := list(islice(filled, _TOGETHER)):
        tables.append(pd.DataFrame({n: [v for own in some for v in own[n]] for n in some[0]}))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def table_of(sweep: Sweep, finished: Iterable[Finished]) -> pd.DataFrame:
    """Make the rows that `read_sweep` would give, of trials that are not in the tracking store yet."""
    wanted = set(sweep.trials)
    return _joined(
        _rows(own.identity, own.trial.settings, own.tags, own.readings, sweep)
        for own in finished
        if own.identity in wanted
    )


def _table(store: Store, run: Run, sweep: Sweep) -> Columns:
    with checked(READINGS, run):
        readings = [possible(reading) for reading in parse_readings(_text(store, run, READINGS))]
    with checked("the trial", run):
        identity = run.data.tags["bnlab.trial"]
        return _rows(identity, run.data.params, run.data.tags, readings, sweep)


def _rows(
    identity: str,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    readings: Iterable[Reading],
    sweep: Sweep,
) -> Columns:
    """Put the columns of their trial in front of readings."""
    way = sweep.measured[identity]
    asked = [vars(reading) for reading in readings if _asked(reading, sweep, way)]
    return _after_trial(identity, params, tags, asked, sweep)


def _after_trial(
    identity: str,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    rows: list[dict[str, Any]],
    sweep: Sweep,
) -> Columns:
    own = {
        "trial": identity,
        "task": ", ".join(filter(None, [params["task"], sweep.variants.get(identity)])),
        "norm": params["norm"],
        "batch_size": count(params["batch_size"]),
        "seed": count(params["seed"]),
        "source": tags["data.source"],
        "stand_in": tags["data.stand_in"] == "true",
        "steps": count(params["steps"]),
    }
    columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
    return {name: [value] * len(rows) for name, value in own.items()} | columns


def _text(store: Store, run: Run, name: str) -> str:
    # Asked for by its run, MLflow would read that from the database twice more, with all that it holds.
    place = get_artifact_repository(run.info.artifact_uri, tracking_uri=store.client.tracking_uri)
    if isinstance(place, LocalArtifactRepository):
        return _small(Path(place.get_local_path(name)))
    with tempfile.TemporaryDirectory() as folder:
        return _small(Path(place.download_artifacts(name, folder)))


def _small(path: Path) -> str:
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"it must have {_MOST_BYTES} bytes at most, got {path.stat().st_size}")
    return path.read_text("utf-8")
