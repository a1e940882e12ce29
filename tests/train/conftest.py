"""A trial of six steps on random images, trained as a job trains it."""

import keras
import numpy as np
import pytest

from bnlab.data import Images
from bnlab.records import Trial
from bnlab.store import Folder
from bnlab.train import train


@pytest.fixture(scope="session")
def images():
    """200 + 60 images of noise; 180 to train on, so that no batch of the six steps comes twice."""
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
def trained(images):
    """Train into a folder in a session of Keras's own, as a job does; returns the folder."""

    def trained(trial, path, steps, watch=lambda step, loss: None):
        keras.backend.clear_session()
        train(trial, images, Folder(path), steps, watch)
        return Folder(path)

    return trained


@pytest.fixture(scope="session")
def first(trial, trained, tmp_path_factory):
    """The trial, with checkpoints at steps 1, 3 and 6: only to be read."""
    return trained(trial, tmp_path_factory.mktemp("first"), (1, 3, 6))


@pytest.fixture(scope="session")
def arrays():
    """Everything that a folder's checkpoints hold: (step, name) -> array."""
    from bnlab.checkpoint import load

    return lambda folder: {
        (step, name): array
        for step in folder.checkpoints()
        for name, array in load(folder.checkpoint(step)).arrays.items()
    }
