"""What all contenders are given: the same images, the same first batches, the same initial weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from bnlab import machine
from bnlab.compose import compose
from bnlab.job import Job, prepare
from bnlab.records import Trial
from bnlab.store import Folder

# Enough for a second of training at any batch size, and little beside ten processes.
IMAGES = 25_600
# Steps of the schedule: more than any contender makes, so that nobody trains at a rate of nothing.
HORIZON = 200_000
# Steps whose losses are compared before the first round: weights, forward and backward pass, update.
CHECKED = 3


def default_job(*overrides: str) -> Job:
    """Prepare the job of a command line."""
    [settings] = compose(list(overrides)).settings
    return prepare(settings, parent=True)


def write(folder: Path, task: str, batch_size: int) -> Trial:
    """Write `trial.json` and `material.npz` for every contender; return the trial at the table's `xla`.

    Args:
        folder: where to.
        task, batch_size: as in `python -m bnlab task=... batch_size=...`.
    """
    samples = f"train.samples={HORIZON * batch_size}"
    job = default_job(f"task={task}", f"batch_size={batch_size}", samples, "device=cpu")
    machine.configure(job.trial.device, job.trial.threads)
    from bnlab import models
    from bnlab.data import load
    from bnlab.train.optimizer import FINAL_SHARE

    images, model = load(job.source), models.build(job.trial)
    arrays = {f"weights/{v.path}": np.asarray(v) for v in model.trainable_variables}
    arrays |= {"x": images.train_x[:IMAGES], "y": images.train_y[:IMAGES]}
    arrays |= {"first": first_batches(batch_size), "final_share": np.array(FINAL_SHARE)}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "material.npz", allow_pickle=False, **arrays)
    Folder(folder).write_trial(job.trial, {})
    return job.trial


def read(folder: str, xla: bool) -> tuple[Trial, dict[str, np.ndarray]]:
    """Read a trial and its arrays back, with or without XLA."""
    with np.load(Path(folder) / "material.npz", allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files if not name.startswith("weights/")}
    return replace(Folder(Path(folder)).trial(), xla=xla), arrays


def first_batches(batch_size: int) -> np.ndarray:
    """Draw the images of the first steps: (steps, batch), no image twice."""
    drawn = np.random.default_rng(0).permutation(IMAGES)[: CHECKED * batch_size]
    return drawn.reshape(CHECKED, batch_size).astype(np.int32)
