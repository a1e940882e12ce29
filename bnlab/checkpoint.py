"""Checkpoints: save a model in training, restore it into another one, read its tape.

A checkpoint is one `.npz` file of plain arrays, written whole or not at all:

    model/<variable path>        weights and the state of random generators
    optimizer/<variable path>    momentum, counters
    losses, moments              of the steps since the checkpoint before
    columns                      the tape's layout, JSON
    place                        trial and step: a copied file is not taken for another's

and ends in its checksum: what is not as it was written is set aside, and never trained or measured from.
The tape is spread over the checkpoints, so each costs what its stretch costs, and moving statistics at
any decay are a replay of the checkpoints up to a step.
"""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bnlab.errors import first_line
from bnlab.files import DamagedError, check_seal, replacing, seal, set_aside
from bnlab.science.tape import Column, MovingStatistics, Tape
from bnlab.store import Folder

if TYPE_CHECKING:
    import keras


class CheckpointError(Exception):
    """A checkpoint cannot be used; the message is one line that names the file."""


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint, in memory: `arrays` as they stand in the file."""

    path: Path
    arrays: Mapping[str, np.ndarray]

    @property
    def tape(self) -> Tape:
        """The moments of the steps since the checkpoint before."""
        columns = json.loads(str(self.arrays["columns"]))
        return Tape(tuple(Column(**column) for column in columns), self.arrays["moments"])

    @property
    def losses(self) -> np.ndarray:
        """The training loss of each step since the checkpoint before."""
        return self.arrays["losses"]


def save(
    path: Path, model: keras.Model, optimizer: keras.optimizers.Optimizer, tape: Tape, losses: np.ndarray
) -> None:
    """Write a checkpoint of a model and its optimizer, with the tape since the one before."""
    arrays = {f"model/{v.path}": np.asarray(v) for v in model.variables}
    arrays |= {f"optimizer/{v.path}": np.asarray(v) for v in optimizer.variables}
    columns = json.dumps([_laid_out(column) for column in tape.columns])
    arrays |= {"columns": np.array(columns), "moments": tape.moments, "losses": losses}
    arrays["place"] = np.array(_place(path))
    with replacing(path, "w+b") as file:
        np.savez(file, allow_pickle=False, **arrays)
        seal(file)


def _laid_out(column: Column) -> dict[str, object]:
    """Write a column down; the first replica goes without saying, as before there were others."""
    return {key: value for key, value in asdict(column).items() if (key, value) != ("replica", 0)}


def load(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: the file is missing, torn, or no checkpoint.
    """
    with _opened(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return Checkpoint(path, arrays)


def sound(path: Path) -> Checkpoint | None:
    """Read a checkpoint, or set it aside by name where it is damaged."""
    if _whole(path):
        return load(path)
    set_aside(path)
    return None


def set_damaged_aside(folder: Folder) -> None:
    """Find the first checkpoint of a trial that is not as it was written, and rename it.

    Later ones go, the last one first: whenever this is broken off, what is left is a trial that is not over.
    """
    steps = folder.checkpoints()
    damaged = next((step for step in steps if not _whole(folder.checkpoint(step))), None)
    if damaged is not None:
        for step in reversed(steps[steps.index(damaged) + 1 :]):
            folder.checkpoint(step).unlink()
        set_aside(folder.checkpoint(damaged))


def chain(folder: Folder, last: int | None = None) -> Iterator[tuple[int, Checkpoint]]:
    """Load a trial's checkpoints in order, each with its step, and check that their tapes join.

    Raises:
        CheckpointError: one is missing between two others, or cannot be read.
    """
    done = 0
    for step in folder.checkpoints():
        if last is not None and step > last:
            return
        checkpoint = load(folder.checkpoint(step))
        _check_joint(checkpoint.path, len(checkpoint.losses), step, done)
        yield step, checkpoint
        done = step


def restore(
    checkpoint: Checkpoint, model: keras.Model, optimizer: keras.optimizers.Optimizer | None = None
) -> None:
    """Put a checkpoint's values into a model, and into a built optimizer.

    Variables are found by path and checked by shape; nothing is skipped in silence.

    Raises:
        CheckpointError: a variable is missing on either side, or has another shape.
    """
    _assign(checkpoint, "model", model.variables)
    if optimizer is not None:
        _assign(checkpoint, "optimizer", optimizer.variables)


def moving_statistics(folder: Folder, step: int, decays: Sequence[float]) -> MovingStatistics:
    """Replay a trial's tape up to a checkpoint.

    Raises:
        CheckpointError: there is none, or the tape has a hole.
    """
    moving = None
    for _, checkpoint in chain(folder, step):
        tape = checkpoint.tape
        moving = (moving or MovingStatistics(tape.columns, decays)).advance(tape)
    if moving is None:
        raise CheckpointError(f"{folder.path} has no checkpoint up to step {step}")
    return moving


def losses(folder: Folder) -> np.ndarray:
    """Read the training loss of every step of a trial, up to its last checkpoint.

    Raises:
        CheckpointError: one is missing between two others, or cannot be read.
    """
    parts, done = [np.zeros(0)], 0
    for step in folder.checkpoints():
        parts.append(_member(folder.checkpoint(step), "losses"))
        _check_joint(folder.checkpoint(step), len(parts[-1]), step, done)
        done = step
    return np.concatenate(parts)


def skipped_steps(folder: Folder, optimizer: str) -> int:
    """Count the steps of a trial in float16 that changed no weight, as a gradient overflowed.

    Loss scaling guards the weights alone: what the normalization layers saw is on tape all the same.

    Args:
        folder: with a checkpoint.
        optimizer: the trial's, which counts the steps that it takes.

    Raises:
        CheckpointError: the last checkpoint cannot be read.
    """
    last = folder.checkpoints()[-1]
    return last - int(_member(folder.checkpoint(last), f"optimizer/{optimizer}/iteration"))


def overflowed(folder: Folder) -> int | None:
    """Find the first step that saw infinite moments, which no average forgets; None: there is none.

    Raises:
        CheckpointError: the tape cannot be read, or has a hole.
    """
    for step, checkpoint in chain(folder):
        if len(lost := np.flatnonzero(np.isinf(checkpoint.tape.moments).any(axis=1))):
            return step - len(checkpoint.losses) + int(lost[0]) + 1
    return None


def joined(folder: Folder) -> bool:
    """Whether no checkpoint is missing between two others; all are sound."""
    try:
        losses(folder)
    except CheckpointError:
        return False
    return True


def _check_joint(path: Path, steps: int, step: int, done: int) -> None:
    if steps != step - done:
        raise CheckpointError(
            f"{path} continues step {step - steps}, but the one before it ends at step {done}; "
            "the command of its sweep trains it again"
        )


def layers(folder: Folder) -> tuple[tuple[str, int], ...] | None:
    """List a trial's layers with moving statistics, each with its updates per step; None: it is not known."""
    try:
        columns = json.loads(str(_member(folder.checkpoint(folder.checkpoints()[0]), "columns")))
    except (CheckpointError, IndexError):
        return None
    # Each replica's averages are updated as often as the first one's.
    return tuple(Counter(column["layer"] for column in columns if not column.get("replica")).items())


def _member(path: Path, name: str) -> np.ndarray:
    """Read one array of a checkpoint, and no other."""
    with _opened(path) as archive:
        return archive[name]


@contextmanager
def _opened(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    try:
        with path.open("rb") as file:
            check_seal(file)
            with np.load(file, allow_pickle=False) as archive:
                _check(archive, path)
                yield archive
    except (
        DamagedError,
        OSError,
        ValueError,
        EOFError,
        TypeError,
        AttributeError,
        zipfile.BadZipFile,
    ) as error:
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {first_line(error)}") from None


def _check(archive: np.lib.npyio.NpzFile, path: Path) -> None:
    if missing := {"columns", "losses", "moments", "place"} - set(archive.files):
        raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    if (place := str(archive["place"])) != _place(path):
        raise ValueError(f"it was written as {place}, and lies at {_place(path)}")


def _place(path: Path) -> str:
    """Name the trial and the step of a file by where it lies."""
    return f"{path.parents[1].name}/{path.stem}"


def _whole(path: Path) -> bool:
    # What cannot be opened, for want of a file handle or permission, is not damaged.
    path.open("rb").close()
    try:
        with _opened(path):
            return True
    except CheckpointError:
        return False


def _assign(checkpoint: Checkpoint, part: str, variables: Sequence[keras.Variable]) -> None:
    stored = {name: array for name, array in checkpoint.arrays.items() if name.startswith(f"{part}/")}
    wanted = {f"{part}/{variable.path}": variable for variable in variables}
    if odd := sorted(stored.keys() ^ wanted.keys()):
        raise CheckpointError(f"{checkpoint.path} and the {part} do not hold the same variables: {odd}")
    for name, variable in wanted.items():
        if stored[name].shape != tuple(variable.shape):
            raise CheckpointError(
                f"{checkpoint.path}: {name} has shape {stored[name].shape}, the {part} wants {variable.shape}"
            )
    for name, variable in wanted.items():
        variable.assign(stored[name])
