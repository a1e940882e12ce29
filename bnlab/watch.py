"""Watch a sweep from beside it: show how far its trials are, and send those that are done.

Jobs, wherever a launcher runs them, only write to the store. One watcher in the parent reads it, so a
tracking server has one writer, and a trial is in the dashboard seconds after it is done.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from filelock import FileLock
from rich.console import Console

from bnlab import track
from bnlab.checkpoint import losses
from bnlab.job import Job
from bnlab.launch import seconds
from bnlab.progress import Progress
from bnlab.records import Failure, first_line, label, variants
from bnlab.store import Status

_LOOK_SECONDS = 0.5


class Watch:
    """A thread beside a sweep; use it as a context around the launch.

    Args:
        jobs: all of the sweep's.
        store: where finished trials go.
        console: where progress goes.
    """

    def __init__(self, jobs: Sequence[Job], store: track.Store, console: Console) -> None:
        """Group jobs by trial; forget earlier failures of theirs."""
        self._store = store
        self.jobs: Mapping[str, list[Job]] = defaultdict(list)
        for job in jobs:
            self.jobs[job.folder.identity].append(job)
        self._variants = variants({job.folder.identity: job.trial for job in jobs})
        self._sent: set[str] = set()
        self._complete: set[str] = set()
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
            if _complete(jobs):
                self._complete.add(identity)
            else:
                jobs[0].folder.write_status(Status(steps=jobs[0].trial.steps))
        self._progress.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look a last time and stop."""
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

    def failures(self) -> tuple[Failure, ...]:
        """List the trials that did not finish, and why."""
        failed = [jobs for jobs in self.jobs.values() if not _complete(jobs)]
        return tuple(_failure(jobs, self._variants[jobs[0].folder.identity]) for jobs in failed)

    def send(self) -> str:
        """Send whatever is not there yet; return why that failed, or nothing."""
        try:
            for identity in self.jobs:
                self._send(identity)
            for failure in self.failures():
                track.log_failure(self._store, failure, {})
        except Exception as error:  # a tracking store may fail in any way
            return f"not everything could be sent: {type(error).__name__}: {first_line(error)}"
        return ""

    def _follow(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            statuses = self._statuses()
            self._progress.show(statuses)
            for identity in statuses:
                if statuses[identity].state == "done" and identity not in self._sent:
                    self._try_to_send(identity)

    def _try_to_send(self, identity: str) -> None:
        self._sent.add(identity)
        try:
            self._send(identity)
        except Exception:
            # Not lost: everything unsent is sent again after the jobs, and errors count there.
            self._sent.discard(identity)
            self._stop.wait(5.0)

    def _statuses(self) -> dict[str, Status]:
        return {identity: self._status(identity, jobs[0]) for identity, jobs in self.jobs.items()}

    def _status(self, identity: str, job: Job) -> Status:
        """Where nothing is asked that is not there, what another question left behind does not count."""
        done = Status("done", job.trial.steps, job.trial.steps)
        return done if identity in self._complete else job.folder.status()

    def _send(self, identity: str) -> None:
        jobs = self.jobs[identity]
        if _complete(jobs):
            # Another sweep may send the same trial now; the second to come finds it sent.
            with FileLock(jobs[0].folder.path / "send.lock"):
                track.log_trial(self._store, finished(jobs))


def finished(jobs: Sequence[Job]) -> track.Finished:
    """Gather what is sent of a finished trial: every cell that one of its jobs asked for."""
    first, folder = jobs[0], jobs[0].folder
    cells = {cell for job in jobs for cell in _cells(job)}
    tags = folder.environment() | {
        "data.source": first.source.description,
        "data.stand_in": str(first.source.stand_in).lower(),
        "threads": str(first.trial.threads),
        "checkpoint": str(folder.checkpoint(first.trial.steps)),
    }
    return track.Finished(
        trial=first.trial,
        identity=folder.identity,
        tags=tags,
        began_ms=folder.began_ms(),
        losses=partial(losses, folder),
        readings=folder.readings(),
        cells=sorted(cells),
        way=first.wanted.way,
        artifacts=folder.histogram_files(),
    )


def _cells(job: Job) -> Iterator[track.Cell]:
    asked = job.settings
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
