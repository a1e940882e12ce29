"""Send sweeps to MLflow: one run for each question, however often it is asked."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

from mlflow.entities import Run
from pydantic import TypeAdapter

from bnlab.records import Sweep
from bnlab.track.connect import Store
from bnlab.track.write import take_up

SWEEP = "sweep.json"
RECORD = TypeAdapter(Sweep)


def log_sweep(store: Store, sweep: Sweep) -> str:
    """Record a sweep with everything that its report needs; return the run's id.

    Asked again, and with nothing new in it, it stays as it is.
    """
    trials = ",".join(sweep.trials)
    # A tag holds 8,000 characters; the artifact always has the whole list.
    tags = {
        "bnlab.kind": "sweep",
        "bnlab.sweep": sweep.name,
        "bnlab.trials": trials[:7800],
        "bnlab.asked": _asked(sweep),
    }
    if sweep.notes:
        tags["mlflow.note.content"] = "\n\n".join(sweep.notes)[:7800]
    began, known = datetime.fromisoformat(sweep.started).timestamp(), _same_sweep(store, tags)
    run_id = take_up(store, known, sweep.name, tags, round(1000 * began))
    if known is None or known.info.status == "RUNNING" or _news(store, known, sweep):
        store.client.log_text(run_id, json.dumps(asdict(sweep), indent=1), SWEEP)
    # The latest sweep is the one that ended last, whenever it arrives.
    ended = max(round(1000 * (began + sweep.seconds)), known.info.end_time or 0 if known else 0)
    store.client.set_terminated(run_id, "FAILED" if sweep.failures else "FINISHED", ended)
    return run_id


def _asked(sweep: Sweep) -> str:
    """Hash what a sweep asks, whenever it runs and however it ends."""
    asked = asdict(replace(sweep, started="", seconds=0, trained=0, failures=(), notes=(), layers={}))
    del asked["versions"], asked["machine"]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def _same_sweep(store: Store, tags: Mapping[str, str]) -> Run | None:
    """Find the run of a sweep that asked the same."""
    runs = store.client.search_runs([store.experiment], "tags.`bnlab.kind` = 'sweep'", max_results=5000)
    names = ("bnlab.sweep", "bnlab.asked")
    alike = (run for run in runs if all(run.data.tags.get(name) == tags[name] for name in names))
    return next(alike, None)


def _news(store: Store, known: Run, sweep: Sweep) -> bool:
    """Tell whether a sweep trained something, or failed otherwise, since it was recorded."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = Path(store.client.download_artifacts(known.info.run_id, SWEEP, folder))
            before = RECORD.validate_json(path.read_text())
        except Exception:  # gone or damaged; if it is the server that is gone, sending tells
            return True
    said = (before.failures, before.notes) != (sweep.failures, sweep.notes)
    return said or (sweep.trained > 0 and before.started < sweep.started)
