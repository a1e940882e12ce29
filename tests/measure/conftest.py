"""A trained trial on random images, its checkpoints only to be read, and what a job wants to know of it."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from bnlab.data import Images
from bnlab.plan import Wanted
from bnlab.records import Trial
from bnlab.store import Folder
from bnlab.train import train


@pytest.fixture(scope="session")
def images():
    """200 + 60 images of noise; 48 of the 180 to train on are seen in six steps of eight."""
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (260, 28, 28, 1), np.uint8), rng.integers(0, 10, 260)
    return Images(pixels[:200], labels[:200], pixels[200:], labels[200:])


@pytest.fixture(scope="session")
def trial():
    return Trial(
        task="mnist",
        data="mnist",
        fingerprint="noise",
        model="convnet",
        widths=(4, 8),
        norm="batch",
        options=(("center", True), ("epsilon", 1e-3), ("scale", True)),
        batch_size=8,
        seed=0,
        steps=6,
        optimizer="sgd",
        learning_rate=0.1,
        momentum=0.9,
        schedule="cosine",
        device="cpu",
        threads=1,
        xla=False,
    )


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
