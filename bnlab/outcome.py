"""What a sweep came to: its record, delivered, read back, and shown to a person."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from rich.console import Console

from bnlab.checkpoint import layers
from bnlab.delivery import Parcel, deliver, pack, unpack, waiting
from bnlab.errors import named
from bnlab.files import FileError
from bnlab.job import Job
from bnlab.machine import environment, machine, versions
from bnlab.naming import label, variants
from bnlab.notes import notes
from bnlab.records import Failure, Sweep
from bnlab.science.histogram import LayerHistogram
from bnlab.settings import Settings, dotted
from bnlab.settings.faults import drill
from bnlab.store import trial_folder

if TYPE_CHECKING:
    import pandas as pd

    from bnlab.track import Store

    Rows: TypeAlias = tuple[pd.DataFrame, pd.DataFrame, dict[str, list[LayerHistogram]]]

FAILED = 1


def connect(uri: str, experiment: str) -> Store:
    """Reach a tracking store; imports what that needs only now."""
    from bnlab import track

    return track.connect(uri, experiment)


def command() -> str:
    """Write the command line that this process was started with."""
    return shlex.join(["python", "-m", "bnlab", *sys.argv[1:]])


def record(jobs: Sequence[Job], failures: tuple[Failure, ...], token: str, began: datetime) -> Sweep:
    """Write down what was asked and how it ended."""
    folders = {job.folder.identity: job.folder for job in jobs}
    failed = {failure.trial for failure in failures}
    names = variants({job.folder.identity: job.trial for job in jobs})
    return Sweep(
        name=jobs[0].settings.name,
        started=began.isoformat(timespec="milliseconds"),
        seconds=round((datetime.now(UTC) - began).total_seconds(), 1),
        command=command(),
        trials=tuple(folders),
        trained=sum(folder.trained_by() == token for name, folder in folders.items() if name not in failed),
        decays=tuple(sorted({decay for job in jobs for decay in job.settings.decay})),
        phases=tuple(sorted({phase for job in jobs for phase in job.settings.phase}, reverse=True)),
        drills=tuple(dict.fromkeys(how for job in jobs for how in job.wanted.drills)),
        samples=jobs[0].wanted.samples if any(job.explains for job in jobs) else 0,
        explained=jobs[0].settings.measure.explain,
        remedies=jobs[0].settings.measure.remedies,
        attribution=jobs[0].settings.measure.attribution or "",
        faults=_faults(jobs),
        measured={job.folder.identity: job.wanted.way for job in jobs},
        final=jobs[0].wanted.final,
        variants=names,
        layers={trial: own for trial, folder in folders.items() if (own := layers(folder)) is not None},
        failures=failures,
        settings=_shown([job.settings for job in jobs]),
        versions=versions(),
        machine=machine(),
        notes=notes(
            {label(job.trial, names[job.folder.identity]): job.folder for job in jobs}, environment()
        ),
    )


def _faults(jobs: Sequence[Job]) -> tuple[tuple[str, str, str], ...]:
    """List the faults that jobs make, and where each is seen; nothing where all are healthy."""
    made = {(job.settings.fault.name, job.folder.identity, drill(job.settings.fault)) for job in jobs}
    return tuple(sorted(made)) if any(name != "none" for name, _, _ in made) else ()


def close(parcel: Parcel, settings: Settings, console: Console, problems: list[str]) -> int:
    """Deliver a sweep, read it back, and make of the stored rows what a person sees.

    Args:
        parcel: the sweep with its finished trials.
        settings: where the report goes.
        console: where the last lines go.
        problems: of before, in one line each.

    Returns:
        The exit status.
    """
    from bnlab import closing

    sweep = parcel.sweep
    try:
        pack(parcel)
    except FileError as error:  # then it must arrive now
        problems.append(str(error))
    late = _delivered(parcel)
    try:
        _report(parcel, settings, console, stored=parcel.path not in late)
    except Exception as error:
        problems.append(f"the report could not be made: {named(error)}")
    console.print(f"dashboard: {closing.dashboard(parcel.uri)}", highlight=False)
    closing.show_notes(console, sweep.notes)
    closing.show_failures(console, sweep.failures)
    closing.show_undelivered(console, parcel.store, late)
    for problem in problems:
        console.print(f"problem: {problem}", style="red", highlight=False, markup=False)
    return FAILED if sweep.failures or problems or late else 0


def _delivered(parcel: Parcel) -> dict[Path, str]:
    """Deliver all that waits for a parcel's place, and it last; return what still waits, and why."""
    late: dict[Path, str] = {}
    for own in [*_others(parcel), parcel]:
        # A server that did not answer is not asked again at once.
        if reason := _gone(late) or deliver(own, connect):
            late[own.path] = reason
    return late


def _gone(late: Mapping[Path, str]) -> str:
    """Find the reason why nothing more can be delivered now."""
    return next((reason for reason in late.values() if "cannot be used" in reason), "")


def _others(parcel: Parcel) -> Iterator[Parcel]:
    """Read what else waits for the place that a parcel is for."""
    for path in waiting(parcel.store):
        with suppress(ValueError, OSError):  # damaged, or just delivered by another process
            other = unpack(path)
            if path != parcel.path and (other.uri, other.experiment) == (parcel.uri, parcel.experiment):
                yield other


def _report(parcel: Parcel, settings: Settings, console: Console, stored: bool) -> None:
    """Show the gaps and draw the report, of stored rows; where they could not be sent, of those on disk."""
    from bnlab import closing
    from bnlab.report.pdf import write

    sweep = parcel.sweep
    readings, clues, histograms = (_from_tracking if stored else _from_disk)(parcel)
    closing.show_gaps(console, readings)
    closing.show_answers(console, sweep, readings, clues)
    if settings.report.pdf:
        path = Path(settings.report.folder) / f"{sweep.name}.pdf"
        write(sweep, readings, path, histograms if settings.report.histograms else {}, clues)
        console.print(f"report:    {path.absolute()}", highlight=False)


def _from_tracking(parcel: Parcel) -> Rows:
    from bnlab import track

    store = connect(parcel.uri, parcel.experiment)
    sweep = parcel.sweep
    return track.read_rows(store, sweep), track.read_clues(store, sweep), track.read_histograms(store, sweep)


def _from_disk(parcel: Parcel) -> Rows:
    from bnlab import track

    folders = [trial_folder(parcel.store, identity) for identity in parcel.trials]
    counted = {folder.identity: rows for folder in folders if (rows := folder.histograms())}
    clues = track.clues_of(parcel.sweep, parcel.finished())
    return track.table_of(parcel.sweep, parcel.finished()), clues, counted


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
