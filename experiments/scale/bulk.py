"""A tracking store filled fast: what the real code sends, written straight into MLflow's own tables.

Sending 10,000 trials takes an hour or more, nearly all of it MLflow's; what is measured afterwards is how the
stored rows are found, read and drawn, so these may come by a shorter way. The rows are those that MLflow
itself would have written.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from mlflow.entities import Metric, Param

from bnlab import track
from bnlab.track import Store

_RUN = "INSERT INTO runs VALUES (?,?,'UNKNOWN','','','unknown','RUNNING',?,NULL,'','active',?,?,NULL)"


class BulkClient:
    """The part of MLflow's client that sending a new trial calls, on an open database."""

    def __init__(self, database: sqlite3.Connection, artifacts: Path, experiment: str) -> None:
        self._rows, self._artifacts, self._experiment = database, artifacts, experiment

    def search_runs(self, *_: object, **__: object) -> list:
        """Find nothing: every trial is new."""
        return []

    def create_run(self, _: str, began_ms: int, tags: Mapping[str, str], name: str) -> SimpleNamespace:
        """Begin a run."""
        run = uuid.uuid4().hex
        place = self._artifacts / run / "artifacts"
        place.mkdir(parents=True)
        self._rows.execute(_RUN, (run, name, began_ms, place.as_uri(), int(self._experiment)))
        for key, value in {**tags, "mlflow.runName": name}.items():
            self.set_tag(run, key, value)
        return SimpleNamespace(info=SimpleNamespace(run_id=run))

    def log_batch(self, run: str, metrics: Sequence[Metric] = (), params: Iterable[Param] = ()) -> None:
        """Write points and params; of each metric the last point stands apart."""
        points = [(m.key, m.value, m.timestamp, run, m.step, 0) for m in metrics]
        last = {m.key: (m.key, m.value, m.timestamp, m.step, 0, run) for m in metrics}
        self._rows.executemany("INSERT INTO metrics VALUES (?,?,?,?,?,?)", points)
        self._rows.executemany("INSERT INTO latest_metrics VALUES (?,?,?,?,?,?)", last.values())
        own = [(param.key, param.value, run) for param in params]
        self._rows.executemany("INSERT INTO params VALUES (?,?,?)", own)

    def log_text(self, run: str, text: str, name: str) -> None:
        """Write an artifact."""
        (self._artifacts / run / "artifacts" / name).write_text(text)

    def log_artifacts(self, _: str, folder: str) -> None:
        """Take no further files; synthetic trials have none."""
        if any(Path(folder).iterdir()):
            raise ValueError(f"no further artifacts can be taken, got {folder}")

    def set_terminated(self, run: str, status: str, end_ms: int) -> None:
        """Finish a run."""
        self._rows.execute(
            "UPDATE runs SET status = ?, end_time = ? WHERE run_uuid = ?", (status, end_ms, run)
        )

    def set_tag(self, run: str, key: str, value: str) -> None:
        """Write a tag."""
        self._rows.execute("INSERT INTO tags VALUES (?,?,?)", (key, value, run))


def fill(store: Store, path: Path, trials: Iterable[track.Finished]) -> None:
    """Send new trials into a fresh SQLite store; all of them appear at the end.

    Args:
        store: of `path`.
        path: the database.
        trials: as they are sent.
    """
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA synchronous = OFF")
        client = cast(Any, BulkClient(database, path.parent / "artifacts", store.experiment))
        for finished in trials:
            track.log_trial(Store(client, store.experiment), finished)
