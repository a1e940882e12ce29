"""Around the jobs: check all of them first, launch, watch, send, report - whatever happened in between."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bnlab.checkpoint import layers
from bnlab.compose import compose
from bnlab.data import DataError
from bnlab.job import Job, prepare
from bnlab.launch import Launch, launcher
from bnlab.launch import run as launch_all
from bnlab.machine import machine, versions
from bnlab.records import Failure, Sweep, first_line, variants
from bnlab.settings import Settings, SettingsError, dotted

if TYPE_CHECKING:
    from bnlab.track import Store

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
# One value for a whole sweep: where things go, and what a process cannot change once it runs.
_COMMON = ("store", "name", "track", "report", "data", "device", "measure", "train.threads", "train.fresh")


def run(arguments: list[str]) -> int:
    """Run a command line from the first check to the report.

    Args:
        arguments: what the user typed, for Hydra.

    Returns:
        The exit status: 0; 1 when a trial failed or something could not be sent or drawn; 2 for bad
        input; 130 after an interrupt.
    """
    try:
        command = compose(arguments)
        jobs = prepared(command.settings)
        store = _connected(jobs[0].settings)
    except (SettingsError, DataError) as error:
        print(f"bnlab: {error}", file=sys.stderr)
        return BAD_INPUT
    console = Console(soft_wrap=True)
    for source in {job.source.fingerprint: job.source for job in jobs}.values():
        mark, style = ("warning", "bold yellow") if source.stand_in else ("data", "")
        console.print(f"{mark}: {source.description}", style=style, highlight=False)
    return _run(jobs, store, launcher(command), console)


def prepared(checked: Sequence[Settings]) -> list[Job]:
    """Find data and trial of every job, and check what they must have in common.

    Raises:
        SettingsError, DataError: one line.
    """
    for key in _COMMON:
        values = list(dict.fromkeys(_at(settings, key) for settings in checked))
        if len(values) > 1:
            raise SettingsError(
                f"{key} must be the same in all jobs of a sweep, got {len(values)} values; "
                "run a sweep for each"
            )
    first = checked[0]
    for key, folder in (("store", first.folder), ("report.folder", Path(first.report.folder))):
        _check_writable(key, folder)
    return [prepare(settings, parent=True) for settings in checked]


def _run(jobs: list[Job], store: Store, launch: Launch, console: Console) -> int:
    from bnlab.watch import Watch

    began = datetime.now(UTC)
    if jobs[0].settings.train.fresh:
        for job in jobs:
            job.folder.clear()
    untrained = {job.folder.identity for job in jobs if not job.trained}
    with Watch(jobs, store, console) as watch:
        trouble = "" if watch.complete() else launch_all(jobs, launch, watch.tell)
    problems = [problem for problem in (trouble, watch.send()) if problem]
    sweep = _record(jobs, watch.failures(), untrained, began)
    return _close(sweep, jobs[0].settings, store, console, problems)


def _record(
    jobs: Sequence[Job], failures: tuple[Failure, ...], untrained: set[str], began: datetime
) -> Sweep:
    """Write down what was asked and how it ended."""
    folders = {job.folder.identity: job.folder for job in jobs}
    return Sweep(
        name=jobs[0].settings.name,
        started=began.isoformat(timespec="seconds"),
        seconds=round((datetime.now(UTC) - began).total_seconds(), 1),
        command=shlex.join(["python", "-m", "bnlab", *sys.argv[1:]]),
        trials=tuple(folders),
        trained=len(untrained - {failure.trial for failure in failures}),
        decays=tuple(sorted({decay for job in jobs for decay in job.settings.decay})),
        phases=tuple(sorted({phase for job in jobs for phase in job.settings.phase}, reverse=True)),
        drills=jobs[0].wanted.drills,
        measured={job.folder.identity: job.wanted.way for job in jobs},
        final=jobs[0].wanted.final,
        variants=variants({job.folder.identity: job.trial for job in jobs}),
        layers={trial: own for trial, folder in folders.items() if (own := layers(folder)) is not None},
        failures=failures,
        settings=_shown([job.settings for job in jobs]),
        versions=versions(),
        machine=machine(),
    )


def _connected(settings: Settings) -> Store:
    from bnlab.track import TrackingError, connect

    try:
        return connect(settings.tracking_uri, settings.track.experiment)
    except TrackingError as error:
        raise SettingsError(str(error)) from None


def _close(sweep: Sweep, settings: Settings, store: Store, console: Console, problems: list[str]) -> int:
    """Record the sweep, read it back, and make of the stored rows what a person sees."""
    from bnlab import closing, track
    from bnlab.report.pdf import write

    try:
        _, readings = track.read_sweep(store, track.log_sweep(store, sweep))
        closing.show_gaps(console, readings)
        closing.show_answers(console, sweep, readings)
        if settings.report.pdf:
            histograms = track.read_histograms(store, sweep) if settings.report.histograms else {}
            path = write(sweep, readings, Path(settings.report.folder) / f"{sweep.name}.pdf", histograms)
            console.print(f"report:    {path.absolute()}", highlight=False)
    except Exception as error:
        problems.append(f"the report could not be made: {type(error).__name__}: {first_line(error)}")
    console.print(f"dashboard: {closing.dashboard(settings.tracking_uri)}", highlight=False)
    closing.show_failures(console, sweep.failures)
    for problem in problems:
        console.print(f"problem: {problem}", style="red", highlight=False, markup=False)
    return FAILED if sweep.failures or problems else 0


def _at(settings: Settings, key: str) -> Any:  # noqa: ANN401
    value: Any = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _check_writable(key: str, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SettingsError(
            f"{key}={folder} must be a folder that can be written to: {error.strerror}"
        ) from None


def _shown(all_settings: Sequence[Settings]) -> dict[str, str]:
    """Write every setting as a person reads it; one that varies lists its values."""
    flat = [dotted(settings) for settings in all_settings]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    return {key: ", ".join(dict.fromkeys(_text(f[key]) for f in flat if key in f)) for key in keys}


def _text(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, tuple):
        return " ".join(map(_text, value))
    if value is None:
        return "default"
    return str(value).lower() if isinstance(value, bool) else str(value)
