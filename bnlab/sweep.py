"""Around the jobs: check all of them first, launch, watch, send, report - whatever happened in between."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from filelock import Timeout
from rich.console import Console

from bnlab.compose import compose
from bnlab.courier import Courier
from bnlab.data import DataError
from bnlab.delivery import Parcel
from bnlab.engines import check
from bnlab.files import FileError, explained
from bnlab.job import Job, prepare
from bnlab.launch import Launch, launcher
from bnlab.launch import run as launch_all
from bnlab.outcome import FAILED, close, command, connect, record
from bnlab.settings import Settings, SettingsError
from bnlab.stop import Interrupt

BAD_INPUT = 2
# One value for a whole sweep: where things go, and what a process cannot change once it runs.
_COMMON = (
    *("store", "name", "track", "report", "data", "device.name", "device.statistics", "measure"),
    *("train.threads", "train.fresh"),
)


def run(arguments: list[str]) -> int:
    """Run a command line from the first check to the report.

    Args:
        arguments: what the user typed, for Hydra.

    Returns:
        The exit status: 0; 1 when a trial failed or something could not be sent, drawn or written; 2 for
        bad input; 130 after Ctrl-C.
    """
    try:
        command = compose(arguments)
        check(command.engine, command.settings[0])
        jobs = prepared(command.settings, command.engine.elsewhere)
        _reach(jobs[0].settings)
        if jobs[0].settings.train.fresh:
            _forget(jobs)
    except (SettingsError, DataError) as error:
        print(f"bnlab: {error}", file=sys.stderr)
        return BAD_INPUT
    console = Console(soft_wrap=True)
    for source in {job.source.fingerprint: job.source for job in jobs}.values():
        mark, style = ("warning", "bold yellow") if source.stand_in else ("data", "")
        console.print(f"{mark}: {source.description}", style=style, highlight=False)
    try:
        return _run(jobs, launcher(command, jobs), console)
    except (FileError, OSError) as error:
        print(f"bnlab: {explained(error) if isinstance(error, OSError) else error}", file=sys.stderr)
        return FAILED


def interrupted(status: int) -> int:
    """Say how to go on after an interrupt; return the exit status."""
    print(f"\nbnlab: interrupted; to go on where it stopped: {command()}", file=sys.stderr, flush=True)
    return status


def prepared(checked: Sequence[Settings], elsewhere: bool = False) -> list[Job]:
    """Find data and trial of every job, and check what they must have in common.

    Args:
        checked: the settings of every job.
        elsewhere: other machines train, so this one need not have what they train on.

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
    device = first.device.name if elsewhere else None
    return [prepare(settings, parent=True, device=device) for settings in checked]


def _run(jobs: list[Job], launch: Launch, console: Console) -> int:
    from bnlab.watch import Watch

    began, settings, trouble = datetime.now(UTC), jobs[0].settings, ""
    reach = partial(connect, settings.tracking_uri, settings.track.experiment)
    with Watch(jobs, console) as watch, Courier(reach, watch.done):

        def leave(status: int) -> None:
            watch.close()
            os._exit(interrupted(status))

        with Interrupt(settings.folder / "sweeps", watch.tell, leave) as interrupt:
            if not (interrupt.status or watch.complete()):
                trouble = launch_all(jobs, launch, watch.tell)
    if interrupt.status:
        return interrupted(interrupt.status)
    parcel = Parcel(
        path=settings.folder / "undelivered" / f"{began:%Y%m%dT%H%M%S%f}-{settings.name}.json",
        uri=settings.tracking_uri,
        experiment=settings.track.experiment,
        trials={folder.identity: asked for folder, asked in watch.finished()},
        sweep=record(jobs, watch.failures(), interrupt.sweep, began),
    )
    return close(parcel, settings, console, [trouble] if trouble else [])


def _reach(settings: Settings) -> None:
    """Refuse a tracking store that cannot be used, before anything trains; unless it may come later."""
    from bnlab.track import TrackingError

    if settings.track.later:
        return
    try:
        connect(settings.tracking_uri, settings.track.experiment)
    except TrackingError as error:
        raise SettingsError(f"{error}; track.later=true trains now and delivers later") from None


def _forget(jobs: Sequence[Job]) -> None:
    """Clear the folders of all trials, so that they are trained anew."""
    folders = {job.folder.identity: job.folder for job in jobs}.values()
    with ExitStack() as locks:
        for folder in folders:
            folder.path.mkdir(parents=True, exist_ok=True)
            try:
                locks.enter_context(folder.alone().acquire(timeout=0))
            except Timeout:
                raise SettingsError(
                    f"train.fresh=true clears trial {folder.identity}, and another sweep works on it; "
                    "wait for it"
                ) from None
        for folder in folders:
            folder.clear()


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
