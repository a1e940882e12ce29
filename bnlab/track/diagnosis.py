"""Send a doctor's diagnosis to MLflow: a run of its own, each time that one is made."""

from __future__ import annotations

import json
import math
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, RunTag

from bnlab.track.connect import Store, TrackingError, connect, told
from bnlab.track.write import as_params

DIAGNOSIS = "diagnosis.json"
# Characters of a note, which is a tag, and of any other tag.
_NOTE, _TAG = 7800, 5000
# As many params go into one request; the JSON holds all.
_PARAMS = 100


def log_diagnosis(
    found: Mapping[str, Any], uri: str, experiment: str = "bnlab doctor", files: Sequence[Path] = ()
) -> str:
    """Record a diagnosis with its JSON and other files; return the run's id.

    Args:
        found: as from `Diagnosis.as_dict`.
        uri: MLflow tracking address, such as `sqlite:///FILE`.
        experiment: the experiment's name; it is made if missing.
        files: further artifacts, such as the PDF.

    Raises:
        TrackingError: the address cannot be reached or used, or does not take the diagnosis.
    """
    store = connect(uri, experiment)
    try:
        return _log(store, found, files)
    except Exception as error:  # a server may answer anything
        raise TrackingError(f"{uri} cannot take the diagnosis: {told(error)}") from error


def _log(store: Store, found: Mapping[str, Any], files: Sequence[Path]) -> str:
    now = round(1000 * time.time())
    began = now - round(1000 * (_number(found["seconds"]) or 0.0))
    name = _sendable(found["model"].get("name") or found["model"].get("path") or "model")
    run_id = store.client.create_run(store.experiment, began, {"bnlab.kind": "diagnosis"}, name).info.run_id
    try:
        _fill(store, run_id, found, files, now)
    except Exception:
        with suppress(Exception):  # what went wrong is told, not that it cannot be marked
            store.client.set_terminated(run_id, "FAILED")
        raise
    store.client.set_terminated(run_id, "FINISHED", now)
    return run_id


def _fill(store: Store, run_id: str, found: Mapping[str, Any], files: Sequence[Path], now: int) -> None:
    metrics = [Metric(key, value, now, 0) for key, value in _metrics(found)]
    tags = [RunTag(key, _sendable(value)) for key, value in _tags(found).items()]
    store.client.log_batch(run_id, metrics, as_params(_params(found))[:_PARAMS], tags)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, DIAGNOSIS)
        path.write_text(json.dumps(found, indent=1, allow_nan=False))
        for file in (path, *files):
            store.client.log_artifact(run_id, str(file))


def _params(found: Mapping[str, Any]) -> dict[str, Any]:
    """What was examined."""
    params: dict[str, Any] = {"layers": len(found["layers"])}
    for group in ("model", "data"):
        params |= {_key(f"{group}.{name}"): _sendable(value) for name, value in found[group].items()}
    return params


def _tags(found: Mapping[str, Any]) -> dict[str, str]:
    first = {"bnlab.cause": found["causes"][0]["name"]} if found["causes"] else {}
    versions = {f"version.{_key(name)}": str(value) for name, value in found["versions"].items()}
    note = {"mlflow.note.content": _note(found)[:_NOTE]}
    tags = {"bnlab.verdict": found["verdict"], "bnlab.schema": found["schema"], **first, **versions}
    return {key: value[:_TAG] for key, value in tags.items()} | note


def _note(found: Mapping[str, Any]) -> str:
    """Write the summary as Markdown, in which no name of a user is markup."""
    said = "\n\n".join(_plain(sentence) for sentence in found["summary"])
    causes = [
        f"- {100 * (_number(cause['confidence']) or 0.0):.0f} %: {_plain(cause['title'])}"
        for cause in found["causes"]
    ]
    advice = f"**What to do:** {_plain(found['advice'])}" if found["advice"] else ""
    notes = "\n\n".join(f"> {_plain(note)}" for note in found["notes"])
    head = f"**{found['verdict'].upper()}**"
    return "\n\n".join(part for part in (head, said, "\n".join(causes), advice, notes) if part)


def _sendable(value: object) -> str:
    """Write a value as text that every database takes: half a character is none."""
    return str(value).encode("utf-8", "replace").decode()


def _plain(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", " ".join(text.split()))


def _metrics(found: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Name the numbers so that the dashboard groups them; what is no number is left out, doubles too."""
    kept: dict[str, float] = {}
    for key, value in _named(found):
        if (number := _number(value)) is not None:
            kept.setdefault(_key(key), number)
    yield from kept.items()


def _named(found: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from _gaps(found["gaps"])
    for part in found["parts"]:
        yield f"part/{part['split']}_{part['cause']}", part["value"]
    for cause in found["causes"]:
        yield f"cause/{cause['name']}", cause["confidence"]
    if found["causes"]:
        yield "cause/none_known", found["unexplained"]
    yield from _remedies(found["remedies"])
    for split, share in found["disagreement"].items():
        yield f"disagreement/{split}", share
    if found["mended"]:
        yield from _gaps(found["mended"]["after"], "mended_")
    yield "status", found["status"]
    yield "seconds", found["seconds"]


def _gaps(gaps: Sequence[Mapping[str, Any]], before: str = "") -> Iterator[tuple[str, Any]]:
    for gap in gaps:
        split, metric = gap["split"], gap["metric"]
        yield f"{before}gap/{split}_{metric}", gap["gap"]
        yield f"{before}gap/{split}_{metric}_se", gap["standard_error"]
        yield f"{before}{metric}/{split}_moving", gap["moving"]
        yield f"{before}{metric}/{split}_batch", gap["batch"]


def _remedies(remedies: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Name what remedies reach on the test data plainly, on others with the split."""
    for remedy in remedies:
        name = remedy["name"] if remedy["split"] == "test" else f"{remedy['name']}_{remedy['split']}"
        yield f"remedy/{name}_closed", remedy["closed"]
        yield f"remedy/{name}_gap", remedy["gap"]
        for metric, value in remedy["metrics"].items():
            yield f"remedy/{name}_{metric}", value


def _number(value: float | str | None) -> float | None:
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else None


def _key(name: str) -> str:
    """Keep of a name what MLflow allows in a key, and no more than it allows.

    >>> _key("remedy/population n=64_closed")
    'remedy/population n_64_closed'
    """
    return re.sub(r"[^A-Za-z0-9_\-. /]", "_", name)[:250]
