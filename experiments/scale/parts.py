"""What is measured: each part of the tracking and reporting half, at a number of trials."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from bnlab import launch, outcome, sweep
from bnlab.compose import compose
from bnlab.delivery import Asked, finished
from bnlab.job import Job
from bnlab.records import Sweep
from bnlab.watch import Watch
from experiments.scale import synthetic

MARGINAL = 50
"""As many trials are sent by MLflow's own client to see what one costs."""
FILTERS = {
    "filter by params": "params.task = 'mnist' and params.batch_size = '128' and params.norm = 'batch'",
    "filter by tag": "tags.`bnlab.kind` = 'trial'",
}


@dataclass
class Clock:
    """Times steps: wall and CPU seconds, and the most memory that this process has had by their end."""

    trials: int
    rows: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def step(self, part: str, what: str, count: int = 1) -> Iterator[None]:
        """Time a block; `count` repetitions make one."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        seconds, own = time.perf_counter() - wall, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self.note(part, what, seconds=seconds / count, cpu_seconds=own / count, peak_mib=peak)

    def note(self, part: str, what: str, **values: float) -> None:
        """Keep a row."""
        self.rows.append({"part": part, "what": what, "trials": self.trials, **values})


def lay(folder: Path, trials: int, clues: bool, clock: Clock) -> None:
    """Make the trials' folders, and a tracking database with all of them: without and with cells."""
    jobs = synthetic.jobs(trials, folder, clues)
    with clock.step("lay", "a trial's folder", trials):
        for job in jobs:
            synthetic.lay(job)
    for cells in (False, True):
        if cells and trials > 1000:  # 20 million points
            continue
        _fill(folder, jobs, cells, clock)


def database(folder: Path, cells: bool) -> Path:
    """Name the tracking database of a store."""
    return folder / ("cells" if cells else "plain") / "mlflow.db"


def _fill(folder: Path, jobs: list[Job], cells: bool, clock: Clock) -> None:
    from bnlab import track
    from experiments.scale.bulk import fill

    path = database(folder, cells)
    store = outcome.connect(f"sqlite:///{path}", "bnlab")
    with clock.step("lay", f"a trial's rows, {_named(cells)}", len(jobs)):
        fill(store, path, (finished(job.folder, _asked(job, cells)) for job in jobs))
    track.log_sweep(store, record(jobs))
    clock.note("track", f"database, {_named(cells)}", mib=path.stat().st_size / 2**20)


def _asked(job: Job, cells: bool) -> Asked:
    shown = tuple((phase, decay, "") for phase in job.settings.phase for decay in job.settings.decay)
    tags = {"data.source": job.source.description, "data.stand_in": "true"}
    return Asked(shown if cells else (), job.wanted.way, tags, job.wanted.samples)


def _named(cells: bool) -> str:
    return "with cells" if cells else "without cells"


def record(jobs: list[Job]) -> Sweep:
    """The record of a sweep of these jobs, which says that it is made up."""
    made = outcome.record(jobs, (), synthetic.NAME, datetime(2026, 1, 1, tzinfo=UTC))
    return replace(made, seconds=1.0, notes=(synthetic.TOLD, *made.notes))


def schedule(folder: Path, trials: int, clues: bool, clock: Clock) -> None:
    """Compose all jobs of the command line, check them, and look at the store as a running sweep does."""
    arguments = [*synthetic.arguments(trials, clues), f"store={folder}", f"report.folder={folder}/reports"]
    with clock.step("schedule", "compose all jobs"):
        settings = compose(arguments).settings
    with clock.step("schedule", "plan all jobs"):
        sweep.prepared(settings)
    jobs = synthetic.jobs(trials, folder, clues)
    with clock.step("schedule", "make the watch"):
        watch = Watch(jobs, Console(quiet=True))
    with clock.step("schedule", "what is left (launch)"):
        launch._left(jobs)
    with clock.step("schedule", "one look of the watch", 5):
        for _ in range(5):
            watch._progress.show(watch._statuses())
    with clock.step("schedule", "one look of the courier, all sent", 5):
        everything = {job.folder.identity for job in jobs}
        for _ in range(5):
            list(watch.done(everything))
    with clock.step("schedule", "begin to watch"), watch:
        pass
    with clock.step("schedule", "write the record"):
        record(jobs)


def track(folder: Path, trials: int, clues: bool, clock: Clock) -> None:
    """Send some more trials into a store that holds so many; ask it what a dashboard asks."""
    for cells in (False, True):
        if database(folder, cells).exists():
            _send_more(folder, trials, cells, clock)
            _ask(folder, cells, clock)


def _send_more(folder: Path, trials: int, cells: bool, clock: Clock) -> None:
    """Trials beyond those that are stored: other learning rates, and so other identities."""
    from bnlab import track

    every = synthetic.jobs(trials + 100, folder / "more")
    more = [job for job in every if job.settings.train.learning_rate == synthetic.rates(trials + 100)[-1]]
    store = outcome.connect(f"sqlite:///{database(folder, cells)}", "bnlab")
    for job in more[:MARGINAL]:
        synthetic.lay(job)
    ready = [finished(job.folder, _asked(job, cells)) for job in more[:MARGINAL]]
    with clock.step("track", f"send one more trial, {_named(cells)}", MARGINAL):
        for own in ready:
            track.log_trial(store, own)


def _ask(folder: Path, cells: bool, clock: Clock) -> None:
    store = outcome.connect(f"sqlite:///{database(folder, cells)}", "bnlab")
    asked: dict[str, Callable[[], Any]] = {
        f"first 100 runs, {name}": lambda query=query: store.client.search_runs(  # type: ignore[misc]
            [store.experiment], query, max_results=100
        )
        for name, query in {"no filter": "", **FILTERS}.items()
    }
    for what, ask in asked.items():
        with clock.step("dashboard", f"{what}, {_named(cells)}", 3):
            for _ in range(3):
                ask()


def report(folder: Path, trials: int, clues: bool, clock: Clock) -> None:
    """Read a sweep back from the tracking store and draw its report."""
    from bnlab import track

    store = outcome.connect(f"sqlite:///{database(folder, cells=False)}", "bnlab")
    with clock.step("report", "read the readings"):
        own, readings = track.read_sweep(store)
    with clock.step("report", "read the clues"):
        found = track.read_clues(store, own)
    _draw("report", folder, own, readings, found, clock)


def disk(folder: Path, trials: int, clues: bool, clock: Clock) -> None:
    """Draw the report from the trials' folders, as a sweep does whose tracking store is gone."""
    from bnlab import track

    jobs = synthetic.jobs(trials, folder, clues)
    own = record(jobs)
    with clock.step("disk", "read the readings"):
        readings = track.table_of(own, (finished(job.folder, _asked(job, False)) for job in jobs))
    with clock.step("disk", "read the clues"):
        found = track.clues_of(own, (finished(job.folder, _asked(job, False)) for job in jobs if clues))
    _draw("disk", folder, own, readings, found, clock)


def _draw(
    part: str, folder: Path, own: Sweep, readings: pd.DataFrame, found: pd.DataFrame, clock: Clock
) -> None:
    from bnlab.report import pdf

    clock.note(part, "readings", count=len(readings))
    with clock.step(part, "numbers, words and pictures"):
        content = pdf.document(own, readings, clues=found)
    with clock.step(part, "typeset"):
        made = pdf.compiled(pdf.TEMPLATE, content, pdf._moment(own.started))
    path = folder / "reports" / f"{synthetic.NAME}.pdf"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(made)
    clock.note(part, "PDF", mib=len(made) / 2**20)


PARTS = {"lay": lay, "schedule": schedule, "track": track, "report": report, "disk": disk}
