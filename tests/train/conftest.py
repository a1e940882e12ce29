"""A trial of six steps on random images, trained as a job trains it."""

import keras
import pytest

from bnlab.store import Folder
from bnlab.train import train


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
    """Everything that a folder's checkpoints hold, but for where they lie: (step, name) -> array."""
    from bnlab.checkpoint import load

    return lambda folder: {
        (step, name): array
        for step in folder.checkpoints()
        for name, array in load(folder.checkpoint(step)).arrays.items()
        if name != "place"
    }


@pytest.fixture(scope="session")
def damage():
    """Harm a file: flip one bit in its middle, cut its end off, or leave nothing of it."""

    def damage(path, harm):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 16
        path.write_bytes({"flip": content, "cut": content[: len(content) // 2], "empty": b""}[harm])

    return damage
