"""One job: settings -> trial -> checkpoints -> readings, on disk. What Hydra's launchers run.

A job never raises for what goes wrong in a trial: the failure is recorded in the trial's folder, and the
jobs beside it go on.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from bnlab import machine
from bnlab.data import Source, in_sequences, locate
from bnlab.plan import Wanted, identity, is_trained, plan, unmeasured, wanted
from bnlab.records import Reading, Trial, first_line
from bnlab.settings import Data, Settings, parse
from bnlab.store import Folder, Status, trial_folder

if TYPE_CHECKING:
    from omegaconf import DictConfig

_STATUS_SECONDS = 0.3


@dataclass(frozen=True)
class Job:
    """A job's settings with what follows from them on this machine."""

    settings: Settings
    source: Source
    trial: Trial
    wanted: Wanted

    @property
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
        return is_trained(self.folder, self.wanted.steps)


def prepare(settings: Settings, parent: bool = False) -> Job:
    """Find out what a job needs: its data, its trial, what it wants to know.

    Args:
        settings: the job's.
        parent: fetch the data set where it is missing, and verify it; once, before any job starts.
    """
    source = in_sequences(_source(settings.task.data, settings.data, parent), settings.task.frames)
    trial = plan(settings, source, machine.resolve(settings.device.name))
    return Job(settings, source, trial, wanted(settings, source, trial))


def run(config: DictConfig) -> None:
    """Do a job; a failure ends up in the trial's folder."""
    from omegaconf import OmegaConf

    job = prepare(parse(OmegaConf.to_container(config, resolve=True)))
    folder = job.folder
    folder.path.mkdir(parents=True, exist_ok=True)
    # Two jobs may want one trial: the first trains it, the others wait and measure.
    with FileLock(folder.path / "lock"):
        try:
            _do(job)
        except Exception as error:
            (folder.path / "error.txt").write_text(traceback.format_exc())
            folder.write_status(Status("failed", steps=job.trial.steps, reason=_reason(error)))


@lru_cache
def _source(name: str, data: Data, parent: bool) -> Source:
    root = Path(data.root).expanduser() if data.root else None
    fetch = parent and data.download
    return locate(name, root, data.source, download=fetch, timeout=data.timeout, verify=parent)


def _do(job: Job) -> None:
    folder, steps = job.folder, job.trial.steps
    if not (job.trained and not job.to_measure):
        _work(job)
    folder.write_status(Status("done", steps, steps))


def _work(job: Job) -> None:
    machine.configure(job.trial.device, job.trial.threads)
    from bnlab.data import load
    from bnlab.train import train

    folder, trial, images = job.folder, job.trial, load(job.source)
    folder.write_status(Status("training", 0, trial.steps))
    if not job.trained:
        folder.write_trial(trial, machine.environment())
        train(trial, images, folder, job.wanted.steps, _Progress(folder, trial.steps))
    folder.write_status(Status("measuring", trial.steps, trial.steps))
    new = _elsewhere(_measured, job) if job.settings.measure.new_process else _measured(job)
    folder.write_readings({reading.key: reading for reading in [*folder.readings(), *new]}.values())


def _measured(job: Job) -> list[Reading]:
    machine.configure(job.trial.device, job.trial.threads)
    from bnlab.data import load
    from bnlab.measure import measure

    return list(measure(job.trial, load(job.source), job.folder, job.wanted, job.to_measure))


def _elsewhere(function: Callable[[Job], list[Reading]], job: Job) -> list[Reading]:
    """Call in a process that shares nothing with this one but the files."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, job).result()


class _Progress:
    """Says in the trial's folder how far it is, a few times a second at most."""

    def __init__(self, folder: Folder, steps: int) -> None:
        self._folder, self._steps, self._last = folder, steps, 0.0

    def __call__(self, step: int, loss: float) -> None:
        if time.monotonic() - self._last >= _STATUS_SECONDS:
            self._last = time.monotonic()
            self._folder.write_status(Status("training", step, self._steps, loss))


def _reason(error: Exception) -> str:
    known = type(error).__module__.startswith("bnlab")
    return first_line(error) if known else f"{type(error).__name__}: {first_line(error)}"
