"""A trained trial on random images, its checkpoints only to be read, and what a job wants to know of it."""

from dataclasses import replace

import keras
import pytest

from bnlab.plan import Wanted
from bnlab.store import Folder
from bnlab.train import train


@pytest.fixture(scope="session")
def grouped(trial):
    return replace(trial, norm="group", options=(("groups", 2),))


@pytest.fixture(scope="session")
def wanted():
    """Steps 2 and 6; batches of 8; probes of 15 test images and 12 that were trained on: both wrap round."""
    return Wanted(steps=(2, 6), decays=(None, 0.5, 0.9), eval_batch_size=8, images=15, train_images=12)


@pytest.fixture(scope="session")
def trained(images, tmp_path_factory):
    """Train a trial with checkpoints at steps 2, 4 and 6; returns its folder."""

    def trained(trial):
        keras.backend.clear_session()
        folder = Folder(tmp_path_factory.mktemp("trial"))
        train(trial, images, folder, (2, 4, 6), lambda step, loss: None)
        return folder

    return trained


@pytest.fixture(scope="session")
def folder(trial, trained):
    return trained(trial)
