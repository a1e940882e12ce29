"""What is sent to a tracking store, and what waits on disk until it can be.

Trials lie in their folders; what else a delivery needs - which cells of them, where to, and the sweep's own
record - is a parcel, one JSON file in `<store>/undelivered`. It is written before the delivery is tried, and
removed when everything has arrived. Sending is idempotent, so a parcel may be tried any number of times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

from filelock import FileLock
from pydantic import Field, TypeAdapter

from bnlab.checkpoint import CheckpointError, losses, set_damaged_aside
from bnlab.errors import first_line
from bnlab.files import read_json, write_json
from bnlab.records import Cell, Failure, Sweep
from bnlab.store import Folder, trial_folder

if TYPE_CHECKING:
    from bnlab.track import Finished, Store


_HERE = "{store}"
# It names a folder; nothing that is read may name another one.
Identity: TypeAlias = Annotated[str, Field(pattern="^[0-9a-f]{12}$")]


class IncompleteError(Exception):
    """A trial that was finished has lost something; the message is one line."""


@dataclass(frozen=True)
class Asked:
    """What is sent of one finished trial.

    Attributes:
        cells: (phase, decay, drill) to show as runs of their own.
        way: how their readings were made.
        tags: where its images came from, and what else its folder does not know.
        samples: images behind the population statistics of its clues.
    """

    cells: tuple[Cell, ...]
    way: tuple[int, int, int]
    tags: Mapping[str, str]
    samples: int = 0


@dataclass(frozen=True)
class Parcel:
    """One sweep, to be delivered.

    Attributes:
        path: of the file; it lies in the store that holds the trials.
        uri, experiment: where to.
        trials: those that are finished.
        sweep: its record, with its failures.
    """

    path: Path
    uri: str
    experiment: str
    trials: Mapping[Identity, Asked]
    sweep: Sweep

    @property
    def store(self) -> Path:
        """The folder that holds the trials."""
        return self.path.parent.parent

    def finished(self) -> Iterator[Finished]:
        """Gather what is sent of each trial."""
        for identity, asked in self.trials.items():
            yield finished(trial_folder(self.store, identity), asked)


_PARCEL = TypeAdapter(Parcel)


def finished(folder: Folder, asked: Asked) -> Finished:
    """Gather what is sent of a finished trial.

    Raises:
        IncompleteError: it has no settings or no readings any more.
    """
    from bnlab.track import Finished

    try:
        trial, [environment, *_] = folder.trial(), folder.environments()
        readings, began_ms = folder.readings(), folder.began_ms()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IncompleteError(f"{folder.path / 'trial.json'} cannot be read: {first_line(error)}") from None
    if folder.checkpoints()[-1:] != [trial.steps]:
        raise IncompleteError(f"{folder.path} is being trained again")
    if not readings:
        raise IncompleteError(f"{folder.path} has no readings any more")
    tags = {
        "threads": str(trial.threads),
        "checkpoint": str(folder.checkpoint(trial.steps)),
        **environment,
        **asked.tags,
    }
    return Finished(
        trial=trial,
        identity=folder.identity,
        tags=tags,
        began_ms=began_ms,
        losses=partial(losses, folder),
        readings=readings,
        cells=sorted(asked.cells),
        way=asked.way,
        clues=folder.clues(),
        samples=asked.samples,
        artifacts=folder.histogram_files(),
    )


def send(store: Store, folder: Folder, asked: Asked) -> None:
    """Send a finished trial, once, whoever else sends it at this moment.

    Raises:
        IncompleteError: something of it is gone or damaged; what is damaged was set aside.
    """
    from bnlab import track

    with FileLock(folder.path / "send.lock"):
        try:
            track.log_trial(store, finished(folder, asked))
        except CheckpointError as error:
            set_damaged_aside(folder)
            raise IncompleteError(str(error)) from None


def _send_failure(store: Store, folder: Folder, failure: Failure) -> None:
    """Send a failure, unless the trial was tried again since, and is done."""
    from bnlab import track

    folder.path.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.path / "send.lock"):
        if folder.status().state != "done":
            track.log_failure(store, failure, {})


def pack(parcel: Parcel) -> None:
    """Write a parcel down."""
    content = asdict(parcel)
    del content["path"]
    # The store's own database is that of whatever place the store is copied to.
    content["uri"] = content["uri"].replace(str(parcel.store), _HERE)
    write_json(parcel.path, content)


def waiting(store: Path) -> list[Path]:
    """List the parcels of a store that have not arrived, oldest first."""
    return sorted((store / "undelivered").glob("*.json"))


def unpack(path: Path) -> Parcel:
    """Read a parcel.

    Raises:
        ValueError: it is damaged.
    """
    try:
        raw = read_json(path)
        uri = str(raw["uri"]).replace(_HERE, str(path.parent.parent))
        return _PARCEL.validate_python({**raw, "uri": uri, "path": path})
    except (ValueError, TypeError, KeyError) as error:
        from bnlab.track.check import why

        raise ValueError(f"{path} cannot be read: {why(error)}") from None


def deliver(parcel: Parcel, connect: Callable[[str, str], Store]) -> str:
    """Send everything of a parcel, and remove it; return why that failed, or nothing.

    The trials that arrive before something fails stay where they arrived.
    """
    from bnlab import track

    try:
        _deliver(parcel, connect(parcel.uri, parcel.experiment))
    except Exception as error:  # a tracking store may fail in any way
        return track.told(error)
    parcel.path.unlink(missing_ok=True)
    return ""


def _deliver(parcel: Parcel, store: Store) -> None:
    from bnlab import track

    incomplete = []
    for identity, asked in parcel.trials.items():
        try:
            send(store, trial_folder(parcel.store, identity), asked)
        except IncompleteError as error:
            incomplete.append(f"{error}; the command of its sweep makes it again")
    for failure in parcel.sweep.failures:
        _send_failure(store, trial_folder(parcel.store, failure.trial), failure)
    # Two sweeps of one name must not take each other's run for one that was left open.
    with FileLock(parcel.path.parent / ".lock"):
        track.log_sweep(store, parcel.sweep)
    if incomplete:
        raise IncompleteError("; ".join(incomplete))
