"""One job: settings -> trial -> checkpoints -> readings, on disk. What Hydra's launchers run.

A job never raises for what goes wrong in a trial: the failure is recorded in the trial's folder, and the
jobs beside it go on.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import Timeout

from bnlab import machine, stop
from bnlab.checkpoint import joined, set_damaged_aside
from bnlab.data import Source, in_sequences, locate
from bnlab.errors import named
from bnlab.files import FileError, explained
from bnlab.naming import label
from bnlab.plan import Wanted, identity, is_trained, kept_steps, plan, topic, unexplained, unmeasured, wanted
from bnlab.records import Clue, Reading, Trial
from bnlab.science.histogram import LayerHistogram
from bnlab.settings import Data, Settings, SettingsError, parse
from bnlab.store import Folder, Status, trial_folder

if TYPE_CHECKING:
    from omegaconf import DictConfig

Row = TypeVar("Row", Reading, Clue)
_STATUS_SECONDS, _POLL_SECONDS = 0.3, 0.1


class MeasuringFailed(Exception):
    """The process that was to measure ended with an error; the message is its last line."""


@dataclass(frozen=True)
class Job:
    """A job's settings with what follows from them on this machine."""

    settings: Settings
    source: Source
    trial: Trial
    wanted: Wanted

    @cached_property
    def folder(self) -> Folder:
        """The trial's files."""
        return trial_folder(self.settings.folder, identity(self.trial))

    @property
    def to_measure(self) -> tuple[float | None, ...]:
        """Decays not measured yet; None stands for phase true."""
        return unmeasured(self.folder.readings(), self.wanted)

    @property
    def trained(self) -> bool:
        """Whether the trial has every checkpoint that the job wants."""
        return is_trained(self.folder, self.wanted.steps, self.trial.frozen_from)

    @property
    def complete(self) -> bool:
        """Whether there is nothing left to do."""
        found = self.trained and not self.to_measure
        return found and not self.to_explain and not self.lacks_histograms

    @property
    def to_explain(self) -> frozenset[tuple]:
        """What of the gaps is not explained yet."""
        return unexplained(self.folder.clues(), self.wanted) if self.explains else frozenset()

    @property
    def explains(self) -> bool:
        """Whether gaps are to be explained."""
        return any(self.wanted.clues())

    @property
    def lacks_histograms(self) -> bool:
        """Whether histograms are wanted of a step, or at a decay, that there are none of."""
        if not self.settings.measure.histograms:
            return False
        rows = self.folder.histograms()
        known = {(row.step, row.decay) for row in rows}
        # Without a row at any decay there are no moving statistics: then there is nothing to count.
        decays = {None, self.slowest} if any(decay is not None for _, decay in known) else {None}
        return not set(product(self.wanted.steps, decays)) <= known

    @property
    def slowest(self) -> float:
        """The slowest decay asked for: that of the moving statistics in histograms."""
        return max(self.settings.decay)


def prepare(settings: Settings, parent: bool = False, device: str | None = None) -> Job:
    """Find out what a job needs: its data, its trial, what it wants to know.

    Args:
        settings: the job's.
        parent: fetch the data set where it is missing, and verify it; once, before any job starts.
        device: `cpu` or `gpu` of the machine that trains; None: this one.
    """
    source = in_sequences(_source(settings.task.data, settings.data, parent), settings.task.frames)
    own = device or machine.resolve(settings.device.name)
    if device is None or own == "cpu":  # nobody here knows how many GPUs another machine has
        machine.check_replicas(own, settings.device.replicas)
    trial = plan(settings, source, own)
    return Job(settings, source, trial, wanted(settings, source, trial))


def run(config: DictConfig) -> None:
    """Do a job; a failure ends up in the trial's folder."""
    from omegaconf import OmegaConf

    if hidden := stop.hidden():
        raise SettingsError(
            f"{hidden} is not there on {socket.gethostname()}; give store=FOLDER on a file system that all "
            "hosts share"
        )
    stop.listen()
    if stop.asked():
        return
    job = prepare(parse(OmegaConf.to_container(config, resolve=True)))
    folder = job.folder
    folder.path.mkdir(parents=True, exist_ok=True)
    # Two jobs may want one trial: the first trains it, the others wait and measure.
    with stop.working(), suppress(stop.Stopped, Timeout), folder.alone().acquire(cancel_check=stop.asked):
        if folder.status().state == "failed":
            return  # in this sweep: its beginning forgets what failed before
        try:
            _do(job)
        except stop.Stopped:
            raise
        except Exception as error:
            # Where not even this can be written, the parent finds the same and says so.
            with suppress(FileError, OSError):
                folder.write_status(Status("failed", steps=job.trial.steps, reason=_reason(error)))
                (folder.path / "error.txt").write_text(traceback.format_exc())


@lru_cache
def _source(name: str, data: Data, parent: bool) -> Source:
    root = Path(data.root).expanduser() if data.root else None
    fetch = parent and data.download
    return locate(name, root, data.source, download=fetch, timeout=data.timeout, verify=parent)


def _do(job: Job) -> None:
    folder, steps = job.folder, job.trial.steps
    if not job.complete:
        _work(job)
    (folder.path / "error.txt").unlink(missing_ok=True)
    folder.write_status(Status("done", steps, steps))


def _work(job: Job) -> None:
    folder, steps = job.folder, job.trial.steps
    folder.write_status(Status("training", 0, steps))
    folder.tidy()
    set_damaged_aside(folder)
    if not (job.trained and joined(folder)):
        _train(job)
    folder.write_status(Status("measuring", steps, steps))
    (_measure_elsewhere if job.settings.measure.new_process else _measure)(job)


def _train(job: Job) -> None:
    machine.configure(job.trial.device, job.trial.threads)
    from bnlab.data import load
    from bnlab.train import train

    folder, trial = job.folder, job.trial
    folder.write_trial(trial, machine.environment(), stop.sweep())
    steps = kept_steps(job.wanted.steps, trial.frozen_from)
    train(trial, load(job.source), folder, steps, _Progress(folder, trial.steps))


def _measure(job: Job) -> None:
    """Read what is wanted from the trial's checkpoints, and keep it beside what was there."""
    machine.configure(job.trial.device, job.trial.threads)
    from bnlab.data import load
    from bnlab.measure import explain, histograms, measure

    folder, trial, images, known = job.folder, job.trial, load(job.source), dict[Any, Any]()
    if job.to_measure:
        folder.add_environment(machine.environment())
        new = _unless_stopped(measure(trial, images, folder, job.wanted, job.to_measure, known))
        # What was read before keeps its time, by which a tracking store knows that it has it.
        merged = {reading.key: reading for reading in [*new, *folder.readings()]}
        folder.write_readings(sorted(merged.values(), key=lambda reading: reading.time_ms))
    if missing := job.to_explain:
        found = _unless_stopped(explain(trial, images, folder, job.wanted, missing, known))
        # An interrupt costs what is under way, and no more.
        for _, together in groupby(found, key=topic):
            kept = {clue.key: clue for clue in [*together, *folder.clues()]}
            folder.write_clues(sorted(kept.values(), key=lambda clue: clue.time_ms))
    if job.lacks_histograms:
        _keep(folder, histograms(trial, images, folder, job.wanted, job.slowest))


def _measure_elsewhere(job: Job) -> None:
    """Measure in a process that shares nothing with this one but the files."""
    with tempfile.TemporaryFile("w+") as asked, tempfile.TemporaryFile("w+") as said:
        asked.write(job.settings.model_dump_json())
        asked.seek(0)
        process = subprocess.Popen([sys.executable, "-m", "bnlab.job"], stdin=asked, stderr=said)
        while process.poll() is None:
            time.sleep(_POLL_SECONDS)
            if stop.asked():
                process.kill()  # it only reads, and writes a table whole or not at all
        if stop.asked():
            raise stop.Stopped
        if process.returncode:
            said.seek(0)
            last = said.read().strip().rpartition("\n")[2]
            raise MeasuringFailed(
                last or f"the process that was to measure ended with status {process.returncode}"
            )


def _unless_stopped(rows: Iterable[Row]) -> Iterator[Row]:
    for row in rows:
        if stop.asked():
            raise stop.Stopped
        yield row


def _keep(folder: Folder, new: Iterable[LayerHistogram]) -> None:
    """Put histograms beside those that are there, and draw them all."""
    from bnlab.report.pictures.histograms import pngs

    rows = list({row.key: row for row in [*folder.histograms(), *new]}.values())
    folder.write_histograms(rows, pngs(label(folder.trial()), rows))


class _Progress:
    """Says in the trial's folder how far it is, a few times a second at most."""

    def __init__(self, folder: Folder, steps: int) -> None:
        self._folder, self._steps, self._last = folder, steps, 0.0

    def __call__(self, step: int, loss: float) -> bool:
        if time.monotonic() - self._last >= _STATUS_SECONDS:
            self._last = time.monotonic()
            self._folder.write_status(Status("training", step, self._steps, loss))
        return stop.asked()


def _reason(error: Exception) -> str:
    return explained(error) if isinstance(error, OSError) else named(error)


if __name__ == "__main__":  # as `_measure_elsewhere` calls it
    _measure(prepare(Settings.model_validate_json(sys.stdin.read())))
