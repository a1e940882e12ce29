"""A trained trial on random images, its checkpoints only to be read, and what a job wants to know of it.

And one on handwritten digits, whose gaps mean something; and a network evaluated by hand.
"""

from dataclasses import replace

import keras
import numpy as np
import pytest

from bnlab import models
from bnlab.checkpoint import load, restore
from bnlab.data import Images
from bnlab.data.standins import stand_in
from bnlab.measure.trained import Trained
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


@pytest.fixture(scope="session")
def digits():
    """Handwritten digits, each class in an ink of its own: 0 has a quarter of the contrast, 9 all of it."""
    plain = stand_in("mnist")

    def inked(x, y):
        return np.round(x * np.linspace(0.25, 1, 10)[y][:, None, None, None]).astype(np.uint8)

    train_x, test_x = inked(plain.train_x, plain.train_y), inked(plain.test_x, plain.test_y)
    return Images(train_x, plain.train_y, test_x, plain.test_y)


@pytest.fixture(scope="session")
def learned(trial):
    """A trial whose rate cools, so that its average at 0.9 has arrived and its weights rest."""
    own = {"fingerprint": "digits", "widths": (8, 16), "batch_size": 32, "steps": 240, "learning_rate": 0.2}
    return replace(trial, **own)


@pytest.fixture(scope="session")
def school(learned, digits, tmp_path_factory):
    """Its folder, with checkpoints at steps 60, 180 and 240."""
    keras.backend.clear_session()
    folder = Folder(tmp_path_factory.mktemp("school") / "trial")
    train(learned, digits, folder, (60, 180, 240), lambda step, loss: None)
    return folder


@pytest.fixture(scope="session")
def curious():
    """Everything about the digits, at two decays: 0.9 has arrived, 0.99 still holds a tenth of its start."""
    return Wanted(
        steps=(240,),
        decays=(None, 0.9, 0.99),
        eval_batch_size=32,
        images=90,
        train_images=100,
        explain=True,
        samples=1280,
        attribution="batch",
    )


@pytest.fixture(scope="session")
def scholar(learned, digits, school, curious):
    """The digits' trial, restored once for all who only look at it."""
    return Trained(learned, digits, school, curious, [0.9, 0.99])


@pytest.fixture(scope="session")
def at_step():
    """A model as a checkpoint left it, by Keras alone."""

    def at_step(trial, folder, step, **options):
        model = models.build(trial, **options)
        restore(load(folder.checkpoint(step)), model)
        return model

    return at_step


@pytest.fixture(scope="session")
def by_hand():
    """Run a plain network layer by layer: Keras convolves, and numpy normalizes in float64.

    `choose` gives a normalization's (mean, variance), broadcastable, of its name and what comes in.
    """

    def by_hand(model, pixels, choose):
        x = np.asarray(pixels, np.float64) / 255
        for layer in model.layers[1:]:
            if isinstance(layer, keras.layers.BatchNormalization):
                mean, variance = choose(layer.name, x)
                gamma, beta = (np.asarray(part, np.float64) for part in (layer.gamma, layer.beta))
                x = gamma * (x - mean) / np.sqrt(variance + layer.epsilon) + beta
            else:
                x = np.asarray(layer(x.astype(np.float32)), np.float64)
        return x

    return by_hand


@pytest.fixture(scope="session")
def population_by_hand(by_hand):
    """Population statistics in one forward pass: layer -> (mean, variance), each over all images at once."""

    def population(model, pixels):
        found = {}

        def choose(name, x):
            found[name] = x.mean((0, 1, 2)), x.var((0, 1, 2))
            return found[name]

        by_hand(model, pixels, choose)
        return found

    return population
