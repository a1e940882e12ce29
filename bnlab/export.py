"""Write a trained trial as a stock Keras model: `python -m bnlab.export TRIAL OUT.keras --decay 0.99`.

The file opens with `keras.saving.load_model` where bnlab is not installed. Its moving statistics are the
trial's tape replayed at the given decay, and its layers carry that decay as their momentum, as if the
model had been trained with it (batch renormalization keeps the momentum of its own averages).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bnlab import machine
from bnlab.checkpoint import CheckpointError, load, moving_statistics, restore
from bnlab.errors import first_line
from bnlab.kerasfile import KerasFileError, check_name, write_model
from bnlab.records import Trial
from bnlab.store import Folder, trial_folder

if TYPE_CHECKING:
    import keras


class ExportError(Exception):
    """A trial cannot be exported; the message is one line."""


def exported(folder: Folder, decay: float, step: int | None = None) -> keras.Model:
    """Build a trial's model with weights of a checkpoint and moving statistics of a decay.

    Args:
        folder: the trial's files.
        decay: of the moving statistics, in [0, 1).
        step: a checkpoint's; None takes the last.

    Raises:
        ExportError: the decay is out of range, or there is no such checkpoint.
    """
    if not 0 <= decay < 1:
        raise ExportError(f"--decay must lie in [0, 1), got {decay:g}")
    steps = folder.checkpoints()
    step = steps[-1] if step is None and steps else step
    if not steps:
        raise ExportError(f"trial {folder.identity} has no checkpoint yet")
    if step not in steps:
        raise ExportError(f"trial {folder.identity} has no checkpoint at step {step}; it has {steps}")
    trial = _trial(folder)
    from bnlab import models
    from bnlab.science.probe import put_statistics

    moves = trial.norm in ("batch", "ghost")
    model = models.build(trial, **({"momentum": decay} if moves else {}))
    restore(load(folder.checkpoint(step)), model)
    put_statistics(model, moving_statistics(folder, step, [decay]).at(decay))
    return model


def _trial(folder: Folder) -> Trial:
    try:
        return folder.trial()
    except (OSError, ValueError, KeyError, TypeError) as error:
        path = folder.path / "trial.json"
        raise ExportError(f"{path} cannot be read as a trial: {first_line(error)}") from None


def find(store: Path, prefix: str) -> Folder:
    """Find a trial by the beginning of its identity.

    Raises:
        ExportError: none, or more than one, begins so.
    """
    found = sorted(path.name for path in (store / "trials").glob("*") if path.name.startswith(prefix))
    if len(found) != 1:
        known = ", ".join(found) or "none"
        raise ExportError(f"{prefix!r} must begin the identity of one trial in {store}; found: {known}")
    return trial_folder(store, found[0])


def main(arguments: list[str] | None = None) -> int:
    """Export by command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bnlab.export", description=__doc__.split("\n\n")[1])
    parser.add_argument("trial", metavar="TRIAL", help="identity of a trial, or its beginning")
    parser.add_argument("out", metavar="OUT.keras", type=Path, help="file to write")
    parser.add_argument("--decay", type=float, default=0.99, help="of the moving statistics (default 0.99)")
    parser.add_argument("--step", type=int, help="a checkpoint's step (default: the last)")
    parser.add_argument("--store", type=Path, default=Path("runs"), help="the store's folder (default runs)")
    options = parser.parse_args(arguments)
    try:
        _write(options)
    except (ExportError, CheckpointError, KerasFileError, OSError) as error:
        print(f"bnlab: {error}", file=sys.stderr)
        return 2
    return 0


def _write(options: argparse.Namespace) -> None:
    check_name(options.out)
    folder = find(options.store, options.trial)
    machine.configure("cpu", threads=1)
    write_model(exported(folder, options.decay, options.step), options.out)
    print(f"{options.out}: trial {folder.identity}, moving statistics at decay {options.decay:g}")


if __name__ == "__main__":
    sys.exit(main())
