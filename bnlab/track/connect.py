"""Reach a tracking store and make its experiment, once, before anything trains."""

from __future__ import annotations

import logging
import os
import re
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlparse

# Before the import: MLflow otherwise looks up a host at start-up and retries a dead server for minutes.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

import requests
from filelock import FileLock
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from bnlab.errors import first_line

_REACH_SECONDS = 5.0
# Cheap, and it needs the database behind a server.
_QUESTION = "/api/2.0/mlflow/experiments/search?max_results=1"
_LONGEST = 240
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql", "databricks", "uc")


class TrackingError(Exception):
    """The tracking store cannot be used; the message is one line."""


def told(error: Exception) -> str:
    r"""Cut an error of MLflow's down to one line; a database's own word comes before all that surrounds it.

    >>> told(ValueError("(raised by something)\n(sqlite3.OperationalError) disk is full\n[SQL: ...]"))
    'sqlite3.OperationalError: disk is full'
    """
    database = re.search(r"^\((\w+\.\w*Error)\) (.+)$", str(error), re.MULTILINE)
    line = f"{database[1]}: {database[2]}" if database else first_line(error)
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."


class Store(NamedTuple):
    """An MLflow experiment, ready to take runs and to give them back."""

    client: MlflowClient
    experiment: str


def connect(uri: str, experiment: str, create: bool = True) -> Store:
    """Open a tracking store; make it, and the experiment, where they are missing.

    Args:
        uri: MLflow tracking address; artifacts of a fresh `sqlite:` store lie beside its file.
        experiment: the experiment's name.
        create: False to refuse what is missing instead of making it.

    Raises:
        TrackingError: the address cannot be reached or used, or holds no such experiment.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    # Its tracebacks: whatever goes wrong is told in one line.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    path = _database(uri)
    try:
        _reach(uri)
        if path and not create and not path.exists():
            raise FileNotFoundError("there is no such database")
        # Processes that make a fresh SQLite store at the same moment break it: one at a time.
        with _lock(path):
            if path and create and not path.exists():
                _make(path)
            client = MlflowClient(uri)
            return Store(client, _experiment(client, experiment, path, create))
    except Exception as error:
        raise TrackingError(f"track.uri {uri} cannot be used: {told(error)}") from error


def _experiment(client: MlflowClient, name: str, path: Path | None, create: bool) -> str:
    place = (path.parent / "artifacts").as_uri() if path else None
    found = client.get_experiment_by_name(name)
    if found is None and create:
        # The dashboard has two faces; this one shows training runs and their charts.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        try:
            return client.create_experiment(name, place, tags)
        except MlflowException:  # somebody else made it just now, or it cannot be made
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found is None:
        raise LookupError(f"it has no experiment named {name!r}; set track.experiment or --experiment")
    _check_place(found.artifact_location, place)
    return found.experiment_id


def _check_place(location: str, place: str | None) -> None:
    """Refuse a copied or moved database: it would read and write artifacts where it was."""
    if place and location != place and location.startswith("file:") and location.endswith("/artifacts"):
        raise ValueError(
            f"it was copied or moved, and keeps its artifacts in {location}; rename it, and the command of "
            "a sweep sends everything again from its trials"
        )


def _database(uri: str) -> Path | None:
    """Name the file behind a SQLite address."""
    return Path(uri.removeprefix("sqlite:///")).absolute() if uri.startswith("sqlite:") else None


def _make(path: Path) -> None:
    """Make a database aside and rename it: killed half-way, MLflow leaves one that is never usable again."""
    for left in path.parent.glob(f".{path.name}.new*"):
        left.unlink()
    # A name of its own each time, for MLflow remembers the databases that it made.
    aside = path.with_name(f".{path.name}.new{time.monotonic_ns()}")
    MlflowClient(f"sqlite:///{aside}").search_experiments(max_results=1)
    aside.replace(path)


def _lock(path: Path | None) -> Any:  # noqa: ANN401
    if path is None:
        return nullcontext()
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(f".{path.name}.lock"), timeout=120)


def _reach(uri: str) -> None:
    """Refuse a server that does not answer, in seconds instead of MLflow's minutes."""
    address = urlparse(uri)
    if address.scheme in ("http", "https"):
        # Any answer will do; a server that accepts and stays silent is as bad as none.
        try:
            requests.get(f"{uri.rstrip('/')}{_QUESTION}", timeout=_REACH_SECONDS)
        except requests.Timeout:
            raise ConnectionError(f"it did not answer within {_REACH_SECONDS:g} seconds") from None
        except requests.ConnectionError as error:
            refused = "connection refused" if "refused" in str(error) else "no connection"
            raise ConnectionError(f"it does not answer ({refused})") from None
    elif uri == "sqlite:///" or address.scheme.partition("+")[0] not in _DATABASES:
        raise ValueError(
            "it must be sqlite:///FILE, http(s)://HOST:PORT or another address of a database or server"
        )
