"""Send what is measured beside somebody's own training to MLflow: one run per call of `fit`."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Metric, Param

from bnlab.track.connect import connect


class Fits:
    """Runs of trainings, one after the other; the run of one begins with its first measurement.

    Args:
        uri: MLflow tracking address.
        experiment: the experiment's name; it is made where it is missing.

    Raises:
        TrackingError: the address cannot be used.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        self._store = connect(uri, experiment)
        self._run: str | None = None
        self._began_ms = 0

    def begin(self) -> None:
        """A training begins; the run of one that was broken off is closed."""
        self.end("KILLED")
        self._began_ms = _now()

    def log(self, step: int, values: Mapping[str, float], name: str, params: Mapping[str, Any]) -> None:
        """Send one measurement: `bn_gap` is shown as `bn/gap`; what is not finite is left out.

        Args:
            step: of training.
            values: of the measurement.
            name, params: of the run, if it begins now.
        """
        if self._run is None:
            self._run = self._create(name, params)
        now = _now()
        points = [(key.replace("_", "/", 1), own) for key, own in values.items() if math.isfinite(own)]
        self._store.client.log_batch(self._run, [Metric(key, own, now, step) for key, own in points])

    def end(self, status: str = "FINISHED") -> None:
        """A training is over."""
        if self._run is not None:
            self._store.client.set_terminated(self._run, status)
            self._run = None

    def _create(self, name: str, params: Mapping[str, Any]) -> str:
        tags, client = {"bnlab.kind": "fit"}, self._store.client
        run = client.create_run(self._store.experiment, self._began_ms, tags, name).info.run_id
        client.log_batch(run, params=[Param(key, str(value)[:6000]) for key, value in params.items()])
        return run


def _now() -> int:
    return int(time.time() * 1000)
