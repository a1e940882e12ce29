"""Watch a sweep from beside it: show how far its trials are, and say what became of them.

Jobs, wherever a launcher runs them, only write to the store; the parent reads it.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

from rich.console import Console

from bnlab.delivery import Asked
from bnlab.job import Job
from bnlab.launch import seconds
from bnlab.naming import label, variants
from bnlab.progress import Progress
from bnlab.records import Cell, Failure
from bnlab.store import Folder, Status

_LOOK_SECONDS = 0.5


class Watch:
    """A thread beside a sweep; use it as a context around the launch.

    Args:
        jobs: all of the sweep's.
        console: where progress goes.
    """

    def __init__(self, jobs: Sequence[Job], console: Console) -> None:
        """Group jobs by trial; forget earlier failures of theirs."""
        self.jobs: Mapping[str, list[Job]] = defaultdict(list)
        for job in jobs:
            self.jobs[job.folder.identity].append(job)
        self._variants = variants({job.folder.identity: job.trial for job in jobs})
        self._complete: set[str] = set()
        self._read: dict[str, tuple[object, Status]] = {}
        self._stop = threading.Event()
        trials = {
            identity: label(jobs[0].trial, self._variants[identity]) for identity, jobs in self.jobs.items()
        }
        work = {identity: seconds(jobs[0]) for identity, jobs in self.jobs.items()}
        self._progress = Progress(trials, work, console)
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Watch:
        """Begin to watch."""
        for identity, jobs in self.jobs.items():
            if jobs[0].folder.checkpoints():
                jobs[0].folder.mend_trial(jobs[0].trial)
            if _complete(jobs):
                self._complete.add(identity)
            else:
                jobs[0].folder.write_status(Status(steps=jobs[0].trial.steps))
        self._progress.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look a last time and stop."""
        self.close()

    def close(self) -> None:
        """Stop watching; the display is closed then, and the terminal as it was."""
        self._stop.set()
        self._thread.join()
        self._progress.show(self._statuses())
        self._progress.__exit__()

    def complete(self) -> bool:
        """Whether every trial has all that is asked of it, so that no job has anything to do."""
        return all(map(_complete, self.jobs.values()))

    def tell(self, text: str) -> None:
        """Print a line among those of the progress."""
        self._progress.tell(text)

    def finished(self) -> Iterator[tuple[Folder, Asked]]:
        """List the trials that have all that is asked of them, with what is to be sent of each."""
        for jobs in self.jobs.values():
            if _complete(jobs):
                yield jobs[0].folder, _asked(jobs)

    def done(self, besides: Collection[str]) -> Iterator[tuple[Folder, Asked]]:
        """List as `finished`, but look only into trials that say they are done, and none of `besides`."""
        for identity, jobs in self.jobs.items():
            open_ = identity not in besides and self._status(identity, jobs[0]).state == "done"
            if open_ and _complete(jobs):
                yield jobs[0].folder, _asked(jobs)

    def failures(self) -> tuple[Failure, ...]:
        """List the trials that did not finish, and why."""
        failed = [jobs for jobs in self.jobs.values() if not _complete(jobs)]
        return tuple(_failure(jobs, self._variants[jobs[0].folder.identity]) for jobs in failed)

    def _follow(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            self._progress.show(self._statuses())

    def _statuses(self) -> dict[str, Status]:
        return {identity: self._status(identity, jobs[0]) for identity, jobs in self.jobs.items()}

    def _status(self, identity: str, job: Job) -> Status:
        """Where nothing is asked that is not there, what another question left behind does not count."""
        if identity in self._complete:
            return Status("done", job.trial.steps, job.trial.steps)
        stamp, known = job.folder.status_stamp(), self._read.get(identity)
        if known is None or known[0] != stamp:  # of thousands of trials few are under way
            self._read[identity] = known = stamp, job.folder.status()
        return known[1]


def _asked(jobs: Sequence[Job]) -> Asked:
    """Gather what is sent of a trial: every cell that one of its jobs asked for and that is to be shown."""
    source = jobs[0].source
    tags = {"data.source": source.description, "data.stand_in": str(source.stand_in).lower()}
    cells = sorted({cell for job in jobs for cell in _cells(job)})
    return Asked(tuple(cells), jobs[0].wanted.way, tags, jobs[0].wanted.samples)


def _cells(job: Job) -> Iterator[Cell]:
    asked = job.settings
    if not asked.track.cells:
        return
    yield from ((phase, decay, "") for phase in asked.phase for decay in asked.decay)
    if False in asked.phase:
        yield from ((False, decay, drill) for decay in asked.decay for drill in job.wanted.drills)


def _complete(jobs: Sequence[Job]) -> bool:
    return all(job.complete for job in jobs)


def _failure(jobs: Sequence[Job], variant: str) -> Failure:
    trial, folder = jobs[0].trial, jobs[0].folder
    status = folder.status()
    silent = "it did not begin" if status.state == "waiting" else f"its process ended while {status.state}"
    reason = status.reason or f"{silent}; the same command tries it again"
    return Failure(folder.identity, trial.task, trial.norm, trial.batch_size, trial.seed, reason, variant)
