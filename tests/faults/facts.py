"""What a folder holds after a sweep, as facts: place -> everything found there.

A place names one thing that there must be once: an array of a checkpoint, a reading, a run, a point of a
metric. What stands there twice is in its list twice. Times of day, and what follows from them, are left out.
"""

from __future__ import annotations

import csv
import hashlib
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

import numpy as np
from pypdf import PdfReader

Place: TypeAlias = tuple[str, ...]
Facts: TypeAlias = dict[Place, list[str]]

_READING = ("step", "split", "phase", "decay", "drill", "eval_batch_size", "images")
_RUNS = """
    SELECT run_uuid, status,
           (SELECT value FROM tags WHERE tags.run_uuid = runs.run_uuid AND key = 'bnlab.kind'),
           (SELECT value FROM tags WHERE tags.run_uuid = runs.run_uuid AND key = 'bnlab.trial'),
           (SELECT value FROM tags WHERE tags.run_uuid = runs.run_uuid AND key = 'bnlab.cell')
    FROM runs WHERE lifecycle_stage = 'active'
"""


def facts(folder: Path) -> Facts:
    """Gather everything that a sweep left in a folder where `python -m bnlab` ran."""
    found: Facts = defaultdict(list)
    store = folder / "runs"
    for place, value in (*_checkpoints(store), *_readings(store), *_tracked(store), *_report(folder)):
        found[place].append(value)
    return dict(found)


def strays(folder: Path) -> list[str]:
    """List hidden and temporary files beside trials and reports: a writer that was killed left them."""
    inside = [*(folder / "runs" / "trials").rglob("*"), *(folder / "reports").rglob("*")]
    odd = (path for path in inside if path.name.startswith(".") or path.suffix in (".tmp", ".part"))
    return sorted(str(path.relative_to(folder)) for path in odd if path.suffix != ".lock")


def undelivered(folder: Path) -> list[str]:
    """List what still waits in the store to be sent."""
    waiting = (folder / "runs").glob("undelivered*")
    files = (file for path in waiting for file in [path, *path.rglob("*")] if file.is_file())
    return sorted(str(path.relative_to(folder)) for path in files if path.stat().st_size)


def _checkpoints(store: Path) -> Iterator[tuple[Place, str]]:
    for path in sorted(store.glob("trials/*/checkpoints/*.npz")):
        place = ("checkpoint", path.parts[-3], path.name)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except Exception as error:  # a torn file fails in any way
            yield place, f"cannot be read: {type(error).__name__}"
            continue
        yield place, "can be read"
        for name, array in arrays.items():
            yield ("array", *place[1:], name), _digest(array)


def _digest(array: np.ndarray) -> str:
    content = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
    return f"{array.dtype} {array.shape} {content}"


def _readings(store: Path) -> Iterator[tuple[Place, str]]:
    for path in sorted(store.glob("trials/*/readings.csv")):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        for row in csv.DictReader(lines):
            key = [str(row.pop(name, "")) for name in _READING]
            row.pop("time_ms", None)
            yield ("reading", path.parent.name, *key), repr(row)


def _tracked(store: Path) -> Iterator[tuple[Place, str]]:
    path = store / "mlflow.db"
    if not path.exists():
        return
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        for run, status, *tags in database.execute(_RUNS).fetchall():
            own = tuple(tag or "" for tag in tags)
            yield ("run", *own), status
            for key, value in database.execute("SELECT key, value FROM params WHERE run_uuid = ?", [run]):
                yield ("param", *own, key), value
            points = "SELECT key, step, value, is_nan FROM metrics WHERE run_uuid = ?"
            for key, step, value, is_nan in database.execute(points, [run]):
                yield ("point", *own, key, str(step)), "nan" if is_nan else repr(value)
            for file in sorted((store / "artifacts" / run).rglob("*")):
                if file.is_file():
                    yield ("artifact", *own, file.name), _artifact(file)


def _artifact(path: Path) -> str:
    """Tell a file that holds no times by its content, any other by whether it holds something."""
    if path.suffix == ".png":
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return f"{len(path.read_text().splitlines())} lines" if path.suffix == ".csv" else "there"


def _report(folder: Path) -> Iterator[tuple[Place, str]]:
    for path in sorted((folder / "reports").glob("*.pdf")):
        yield ("report", path.name), _pages(path)


def _pages(path: Path) -> str:
    content = path.read_bytes()
    if not (content.startswith(b"%PDF-") and content.rstrip().endswith(b"%%EOF")):
        return "torn"
    try:
        return f"{len(PdfReader(path, strict=True).pages)} pages"
    except Exception as error:  # a damaged file fails in any way
        return f"cannot be read: {type(error).__name__}"
