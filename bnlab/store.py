"""Where a trial's files lie, and how they are written: whole or not at all.

<store>/trials/<identity>/trial.json          the trial's settings and what it ran on
                          checkpoints/*.npz   weights, optimizer, random state, tape, by step
                          readings.csv        what was measured
                          histograms*         how every layer's values are spread, when asked for
                          status.json         how far it is, or why it failed
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any

from bnlab.records import Reading, Trial
from bnlab.science.histogram import Histogram, LayerHistogram


@dataclass(frozen=True)
class Status:
    """How far a trial is: what the progress display and the closing table read.

    Attributes:
        state: `waiting`, `training`, `measuring`, `done` or `failed`.
        step, steps: optimizer steps done and wanted.
        loss: of the latest step.
        reason: one line, when failed.
    """

    state: str = "waiting"
    step: int = 0
    steps: int = 0
    loss: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Folder:
    """The files of one trial."""

    path: Path

    @property
    def identity(self) -> str:
        """The trial's content hash, which names the folder."""
        return self.path.name

    def checkpoint(self, step: int) -> Path:
        """Name the checkpoint of a step."""
        return self.path / "checkpoints" / f"{step:08d}.npz"

    def checkpoints(self) -> list[int]:
        """List the steps that have a checkpoint, in order."""
        return sorted(int(path.stem) for path in (self.path / "checkpoints").glob("*.npz"))

    def clear(self) -> None:
        """Forget everything about the trial."""
        shutil.rmtree(self.path, ignore_errors=True)

    def write_trial(self, trial: Trial, environment: dict[str, str]) -> None:
        """Record the settings and what they run on."""
        record = {"trial": asdict(trial), "environment": environment, "began_ms": time.time_ns() // 1_000_000}
        write_json(self.path / "trial.json", record)

    def trial(self) -> Trial:
        """Read the settings back."""
        raw = read_json(self.path / "trial.json")["trial"]
        pairs = {key: tuple((n, v) for n, v in raw.get(key, ())) for key in ("options", "details")}
        return Trial(**{**raw, "widths": tuple(raw["widths"]), **pairs})

    def environment(self) -> dict[str, str]:
        """Read what the trial ran on."""
        return read_json(self.path / "trial.json")["environment"]

    def began_ms(self) -> int:
        """Read when its training began, ms since 1970."""
        return read_json(self.path / "trial.json")["began_ms"]

    def status(self) -> Status:
        """Read how far the trial is; a trial nobody began is waiting."""
        try:
            return Status(**read_json(self.path / "status.json"))
        except (FileNotFoundError, json.JSONDecodeError):
            return Status()

    def write_status(self, status: Status) -> None:
        """Say how far the trial is."""
        write_json(self.path / "status.json", asdict(status), sync=False)

    def readings(self) -> list[Reading]:
        """Read everything measured so far."""
        with suppress(FileNotFoundError):
            return parse_readings((self.path / "readings.csv").read_text())
        return []

    def write_readings(self, readings: Iterable[Reading]) -> None:
        """Replace the table of readings."""
        with replacing(self.path / "readings.csv", "w") as file:
            file.write(readings_table(readings))

    def histograms(self) -> list[LayerHistogram]:
        """Read the histograms made so far."""
        with suppress(FileNotFoundError):
            return parse_histograms((self.path / "histograms.csv").read_text())
        return []

    def write_histograms(self, rows: Iterable[LayerHistogram], figures: Mapping[str, bytes]) -> None:
        """Replace the table of histograms and its figures, by name; the table last: it says all is there."""
        for old in self.path.glob("histograms*.png"):
            old.unlink()
        for name, content in figures.items():
            with replacing(self.path / name) as file:
                file.write(content)
        with replacing(self.path / "histograms.csv", "w") as file:
            file.write(histograms_table(rows))

    def histogram_files(self) -> dict[str, bytes]:
        """Read the table of histograms and its figures as they lie there, by name."""
        return {path.name: path.read_bytes() for path in sorted(self.path.glob("histograms*"))}


def readings_table(readings: Iterable[Reading]) -> str:
    """Write readings as CSV; every number survives to the last bit."""
    text = io.StringIO()
    table = csv.DictWriter(text, [field.name for field in fields(Reading)], lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(reading) for reading in readings)
    return text.getvalue()


def parse_readings(table: str) -> list[Reading]:
    """Read readings back from CSV."""
    return [_reading(row) for row in csv.DictReader(io.StringIO(table))]


def histograms_table(rows: Iterable[LayerHistogram]) -> str:
    """Write histograms as CSV, the counts of one as `3;0;1`; every number survives to the last bit."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*_ROW, *_HISTOGRAM])
    for row in rows:
        own = row.histogram
        values = asdict(own) | {"counts": ";".join(map(str, own.counts))}
        table.writerow([getattr(row, name) for name in _ROW] + [values[name] for name in _HISTOGRAM])
    return text.getvalue()


def parse_histograms(table: str) -> list[LayerHistogram]:
    """Read histograms back from CSV."""
    return [_histogram(row) for row in csv.DictReader(io.StringIO(table))]


def trial_folder(store: Path, identity: str) -> Folder:
    """Find a trial's folder in the store; it need not exist."""
    return Folder(store / "trials" / identity)


@contextmanager
def replacing(path: Path, mode: str = "wb", sync: bool = True) -> Iterator[IO[Any]]:
    """Open a file that takes `path`'s place when the block ends without an error.

    A reader, or a run after a power cut, sees the old file or the new one, never a part.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    try:
        with aside.open(mode) as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, value: Any, sync: bool = True) -> None:  # noqa: ANN401
    """Write a JSON file, whole or not at all."""
    with replacing(path, "w", sync) as file:
        json.dump(value, file, indent=1)


def read_json(path: Path) -> Any:  # noqa: ANN401
    """Read a JSON file."""
    return json.loads(path.read_text())


def _reading(row: dict[str, str]) -> Reading:
    kinds = Reading.__annotations__.items()
    # A column that an older table lacks has its default.
    return Reading(**{name: _CONVERT[kind](row[name]) for name, kind in kinds if name in row})


def _histogram(row: dict[str, str]) -> LayerHistogram:
    values = {name: _CONVERT[kind](row[name]) for name, kind in Histogram.__annotations__.items()}
    decay = _CONVERT["float | None"](row["decay"])
    return LayerHistogram(int(row["step"]), row["layer"], row["kind"], Histogram(**values), decay)


_ROW = ("step", "layer", "kind", "decay")
_HISTOGRAM = tuple(field.name for field in fields(Histogram))
_CONVERT: dict[str, Callable[[str], Any]] = {
    "int": int,
    "str": str,
    "float": float,
    "bool": lambda text: text == "True",
    "float | None": lambda text: float(text) if text else None,
    "tuple[int, ...]": lambda text: tuple(map(int, text.split(";"))),
}
