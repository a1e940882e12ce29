"""The images that a trial is measured on: probes of fixed images, and whole splits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnlab import models
from bnlab.data import Images
from bnlab.data.order import probe, shuffled, trained_on
from bnlab.plan import Wanted
from bnlab.records import Trial


@dataclass(frozen=True)
class Split:
    """Images to measure on, with what a constant predictor gets on them."""

    name: str
    x: np.ndarray
    y: np.ndarray
    constant_rmse: float


def probes(trial: Trial, images: Images, wanted: Wanted) -> list[Split]:
    """Draw the fixed images of each curve: some that the trial is trained on, some of the test set."""
    train = probe(_seen(trial, images), wanted.train_images)
    test = probe(np.arange(len(images.test_x)), wanted.images)
    return [
        _split(trial, "train_probe", images.train_x[train], images.train_y[train]),
        _split(trial, "test_probe", images.test_x[test], images.test_y[test]),
    ]


def whole(trial: Trial, images: Images, wanted: Wanted) -> Split:
    """Take everything: the test set, or all that was trained on."""
    if wanted.final == "test":
        return _split(trial, "test", images.test_x, images.test_y)
    # In a random order: neighbours of a file may be alike, and share a batch in phase true.
    seen = shuffled(_seen(trial, images))
    return _split(trial, "train", images.train_x[seen], images.train_y[seen])


def _seen(trial: Trial, images: Images) -> np.ndarray:
    return trained_on(trial.seed, len(images.train_x), trial.steps * trial.batch_size)


def _split(trial: Trial, name: str, x: np.ndarray, y: np.ndarray) -> Split:
    return Split(name, x, y, models.GOALS[trial.model].constant(trial, x, y))
