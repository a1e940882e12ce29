"""Where a trial's files lie, and how they are written: whole or not at all.

<store>/trials/<identity>/trial.json          the trial's settings and what it ran on
                          checkpoints/*.npz   weights, optimizer, random state, tape, by step
                          parts/*.npz         the same between two checkpoints, while training is interrupted
                          readings.csv        what was measured
                          clues.csv           why there are gaps, and what closes them
                          histograms*         how every layer's values are spread, when asked for
                          status.json         how far it is, or why it failed
                          *.damaged           set aside: what was torn or changed after it was written
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from bnlab.files import DamagedError, FileError, read_json, replacing, sealed, set_aside, unsealed, write_json
from bnlab.records import Clue, Reading, Trial
from bnlab.science.histogram import LayerHistogram
from bnlab.tables import (
    clues_table,
    histograms_table,
    parse_clues,
    parse_histograms,
    parse_readings,
    readings_table,
)

# What `replacing` writes: a name, a process, a time.
_ASIDE = re.compile(r"\..+\.\d+\.\d+")


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
        return _steps(self.path / "checkpoints")

    def part(self, step: int) -> Path:
        """Name the file of what is done of a stretch between two checkpoints."""
        return self.path / "parts" / f"{step:08d}.npz"

    def parts(self) -> list[int]:
        """List the steps at which a stretch was interrupted, in order."""
        return _steps(self.path / "parts")

    def alone(self) -> FileLock:
        """Make the lock that keeps other jobs, of this sweep or another, from working on the trial."""
        return FileLock(self.path / "lock")

    def clear(self) -> None:
        """Forget everything about the trial; its lock stays, for somebody may hold it."""
        for path in self.path.glob("*"):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.suffix != ".lock" and path.name != "lock":
                path.unlink()

    def tidy(self) -> None:
        """Remove what killed writers left unfinished; only while nobody else works on the trial."""
        for path in self.path.rglob(".*"):
            if _ASIDE.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def damaged(self) -> list[str]:
        """List the files that were set aside."""
        return sorted(str(path.relative_to(self.path)) for path in self.path.rglob("*.damaged*"))

    def write_trial(self, trial: Trial, environment: Mapping[str, str], sweep: str = "") -> None:
        """Record the settings, what they run on and for which sweep; what goes on keeps its beginning."""
        new = {"began_ms": time.time_ns() // 1_000_000, "environments": []}
        begun: dict[str, Any] = self._record() if self.checkpoints() else new
        others = [own for own in begun["environments"] if own != environment]
        now = {"trial": asdict(trial), "sweep": sweep, "environments": [*others, dict(environment)]}
        write_json(self.path / "trial.json", begun | now)

    def add_environment(self, environment: Mapping[str, str]) -> None:
        """Record that work on the trial goes on elsewhere, if that is so."""
        record = self._record()
        if environment not in record["environments"]:
            record["environments"].append(dict(environment))
            write_json(self.path / "trial.json", record)

    def trial(self) -> Trial:
        """Read the settings back.

        Raises:
            OSError, ValueError, KeyError, TypeError: they are gone or damaged.
        """
        raw = self._record()["trial"]
        pairs = {key: tuple((n, v) for n, v in raw.get(key, ())) for key in ("options", "details")}
        return Trial(**{**raw, "widths": tuple(raw["widths"]), **pairs})

    def mend_trial(self, trial: Trial) -> None:
        """Write the settings of a trial that was trained once more, where they are gone or damaged."""
        path = self.path / "trial.json"
        with suppress(OSError, ValueError, KeyError, TypeError):
            if self.trial() == trial and self.environments() and self.began_ms() > 0:
                return
        with self.alone():
            if path.exists():
                set_aside(path)
            began = min(self.checkpoint(step).stat().st_mtime_ns for step in self.checkpoints())
            record = {"trial": asdict(trial), "sweep": "", "environments": [{}]}
            write_json(path, {**record, "began_ms": began // 1_000_000})

    def environments(self) -> list[dict[str, str]]:
        """Read everything that the trial ran on, in order."""
        return self._record()["environments"]

    def began_ms(self) -> int:
        """Read when its training began, ms since 1970."""
        return self._record()["began_ms"]

    def trained_by(self) -> str:
        """Read which sweep trained it last; none: nobody."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            return self._record()["sweep"]
        return ""

    def status(self) -> Status:
        """Read how far the trial is; a trial nobody began is waiting."""
        try:
            return Status(**read_json(self.path / "status.json"))
        except (OSError, ValueError, TypeError):  # torn: it is written anew in a moment
            return Status()

    def status_stamp(self) -> tuple[int, int] | None:
        """Tell one version of the status from the next without reading it; None: there is none."""
        try:
            found = (self.path / "status.json").stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino

    def write_status(self, status: Status) -> None:
        """Say how far the trial is; anybody may at any time, also while somebody tidies."""
        for last in (False, True):
            try:
                return write_json(self.path / "status.json", asdict(status), sync=False)
            except FileError as error:
                if last or not isinstance(error.__cause__, FileNotFoundError):
                    raise

    def readings(self) -> list[Reading]:
        """Read everything measured so far; a damaged table counts for nothing, and is measured again."""
        return parse_readings(_sound(self.path / "readings.csv"))

    def write_readings(self, readings: Iterable[Reading]) -> None:
        """Replace the table of readings."""
        _write_table(self.path / "readings.csv", readings_table(readings))

    def clues(self) -> list[Clue]:
        """Read everything that explains gaps so far; a damaged table counts for nothing."""
        return parse_clues(_sound(self.path / "clues.csv"))

    def write_clues(self, clues: Iterable[Clue]) -> None:
        """Replace the table of clues."""
        _write_table(self.path / "clues.csv", clues_table(clues))

    def histograms(self) -> list[LayerHistogram]:
        """Read the histograms made so far."""
        return parse_histograms(_sound(self.path / "histograms.csv"))

    def write_histograms(self, rows: Iterable[LayerHistogram], figures: Mapping[str, bytes]) -> None:
        """Replace the table of histograms and its figures, by name; the table last: it says all is there."""
        for old in self.path.glob("histograms*.png"):
            old.unlink()
        for name, content in figures.items():
            with replacing(self.path / name) as file:
                file.write(content)
        _write_table(self.path / "histograms.csv", histograms_table(rows))

    def histogram_files(self) -> dict[str, bytes]:
        """Read the table of histograms and its figures, by name; nothing where there is no sound table."""
        if not (table := _sound(self.path / "histograms.csv")):
            return {}
        figures = {path.name: path.read_bytes() for path in sorted(self.path.glob("histograms*.png"))}
        return {"histograms.csv": table.encode(), **figures}

    def _record(self) -> dict[str, Any]:
        return read_json(self.path / "trial.json")


def trial_folder(store: Path, identity: str) -> Folder:
    """Find a trial's folder in the store; it need not exist."""
    return Folder(store / "trials" / identity)


def _steps(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob("*.npz") if path.stem.isdecimal())


def _sound(path: Path) -> str:
    """Read a table; one that is not there, or not as it was written, is empty."""
    with suppress(FileNotFoundError, DamagedError, UnicodeDecodeError):
        return unsealed(path.read_text())
    return ""


def _write_table(path: Path, table: str) -> None:
    if path.exists() and not _sound(path):
        set_aside(path)
    with replacing(path, "w") as file:
        file.write(sealed(table))
