"""Checkpoints: save a model in training, restore it into another one, read its tape.

A checkpoint is one `.npz` file of plain arrays, written whole or not at all:

    model/<variable path>        weights and the state of random generators
    optimizer/<variable path>    momentum, counters
    losses, moments              of the steps since the checkpoint before
    columns                      the tape's layout, JSON

The tape is spread over the checkpoints, so each costs what its stretch costs, and moving statistics at
any decay are a replay of the checkpoints up to a step.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bnlab.science.tape import Column, MovingStatistics, Tape
from bnlab.store import Folder, replacing

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
    columns = json.dumps([asdict(column) for column in tape.columns])
    arrays |= {"columns": np.array(columns), "moments": tape.moments, "losses": losses}
    with replacing(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: the file is missing, torn, or no checkpoint.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return Checkpoint(path, {name: archive[name] for name in archive.files})
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {error}") from None


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
    """Replay a trial's tape up to a checkpoint."""
    checkpoints = (load(folder.checkpoint(s)) for s in folder.checkpoints() if s <= step)
    moving = None
    for checkpoint in checkpoints:
        tape = checkpoint.tape
        moving = (moving or MovingStatistics(tape.columns, decays)).advance(tape)
    if moving is None:
        raise CheckpointError(f"{folder.path} has no checkpoint up to step {step}")
    return moving


def losses(folder: Folder) -> np.ndarray:
    """Read the training loss of every step of a trial."""
    parts = [load(folder.checkpoint(step)).losses for step in folder.checkpoints()]
    return np.concatenate(parts) if parts else np.zeros(0)


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
        variable.assign(stored[name])
