"""Inputs that are no data, and the same data prepared in another way."""

import keras
import numpy as np
import pytest
from keras import layers

from bnlab.doctor.data import Data
from bnlab.doctor.inputs import dummies, restored, shifted
from tests.doctor.networks import BATCH, blobs, charted, data_of, dense, oracle, scramble, subject_of

X = blobs(512, 8)


def network(shape=(6,)):
    """A normalization behind a linear layer, which cannot tell x from 2 mean(x) - x, and one that can."""
    layer = layers.Dense(8, name="first") if len(shape) == 1 else layers.Conv2D(8, 1, name="first")
    norms = layers.BatchNormalization(name="one"), layers.ReLU(), layers.BatchNormalization(name="two")
    model = keras.Sequential([keras.Input(shape), layer, *norms])
    scramble(model)
    return model


@pytest.fixture(scope="module")
def subject():
    return subject_of(network(), Data(X))


def found_of(subject, held, x):
    with charted(subject, held, Data(x)) as chart:
        return restored(chart, chart.x, chart.fed, chart.moving)


@pytest.mark.parametrize("kind", ["zeros", "ones"])
def test_what_blank_inputs_give(kind):
    model = dense()
    data, population = data_of(model, 256, 16)
    with charted(subject_of(model, data), population, data) as chart:
        found = dummies(chart)
    assert list(found) == ["zeros", "ones", "normal noise", "uniform noise"]
    blank = np.full((BATCH, 6), 0.0 if kind == "zeros" else 1.0)
    for key, own in oracle(model, blank)[1].items():
        # The second layer sees the offset of the first alone; digits of nothing are lost over epsilon.
        np.testing.assert_allclose(found[kind][key].mean, own.mean, atol=1e-3)
        np.testing.assert_allclose(found[kind][key].variance, 0, atol=1e-6)
    kernel, bias = (np.array(own, np.float64) for own in model.get_layer("first").get_weights())
    # 32 samples: a mean is known to 1 / root 32 of a deviation, and these are four of them.
    spread = np.sqrt((kernel**2).sum(0))
    assert (np.abs(found["normal noise"]["one"].mean - bias) < 4 * spread / np.sqrt(32)).all()
    middle = bias + kernel.sum(0) / 2
    assert (np.abs(found["uniform noise"]["one"].mean - middle) < 4 * spread / np.sqrt(12 * 32)).all()


TRAINED = {
    "inputs divided by 255": lambda x: x / 255,
    "inputs times 255": lambda x: x * 255,
    "the sign of inputs turned round": lambda x: -x,
    "inputs mapped from [-1, 1] to [0, 255]": lambda x: (x + 1) * 127.5,
    "inputs mapped from [0, 1] to [-1, 1]": lambda x: x * 2 - 1,
}


@pytest.mark.parametrize("name", TRAINED)
def test_the_change_that_was_made_is_found(subject, name):
    held = oracle(subject.model, TRAINED[name](X.astype(np.float64)))[1]
    found = found_of(subject, held, X)
    # A line of one scale and one offset may fit a little better than the change itself.
    assert found.name == name or found.name.startswith("inputs times ")
    assert found.explained > 0.97
    np.testing.assert_allclose(found.change(X), TRAINED[name](X), rtol=0.1, atol=0.1 * TRAINED[name](X).std())


def test_any_line_is_found(subject):
    held = oracle(subject.model, 3.0 * X.astype(np.float64) - 2)[1]
    found = found_of(subject, held, X)
    assert found.name.startswith("inputs times 3")
    # 256 of 512 samples, of six dimensions: their mean is known to 1 / root 256 of a deviation of 5.
    np.testing.assert_allclose(found.change(X[:1]), 3 * X[:1] - 2, rtol=0.1, atol=0.5)


def test_an_offset_for_each_colour_is_found():
    rng = np.random.default_rng(0)
    x = (rng.uniform(size=(128, 4, 4, 3)) ** 3).astype(np.float32)
    model = network((4, 4, 3))
    offsets = np.array([0.3, -0.2, 0.7])
    found = found_of(subject_of(model, Data(x)), oracle(model, 2.0 * x + offsets)[1], x)
    assert found.name.startswith("inputs times 2")
    # 1,024 pixels of deviation .6: their mean is known to .6 / root 1024 = .02.
    np.testing.assert_allclose(found.change(x[:2]), 2 * x[:2] + offsets, atol=0.06)


def test_colours_in_the_other_order_are_found():
    rng = np.random.default_rng(0)
    x = (rng.uniform(size=(128, 4, 4, 3)) ** [1, 3, 6]).astype(np.float32)
    model = network((4, 4, 3))
    found = found_of(subject_of(model, Data(x)), oracle(model, x[..., ::-1])[1], x)
    assert found.name == "colours in the other order"
    assert np.array_equal(found.change(x), x[..., ::-1])


@pytest.mark.parametrize("x", [{"a": X, "b": X}, X.astype(np.int32)], ids=["two inputs", "whole numbers"])
def test_inputs_that_cannot_be_changed_so_are_left(x):
    if isinstance(x, dict):
        a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
        model = keras.Model({"a": a, "b": b}, layers.BatchNormalization(name="one")(layers.Add()([a, b])))
    else:
        model = keras.Sequential(
            [keras.Input((6,), dtype="int32"), layers.Embedding(9, 2), layers.BatchNormalization(name="one")]
        )
        x = np.abs(x) % 9
    subject = subject_of(model, Data(x))
    with charted(subject, subject.own(), Data(x)) as chart:
        assert restored(chart, chart.x, chart.fed, chart.moving) is None
        # Blank inputs are of the same kind.
        assert set(dummies(chart)) >= {"zeros", "ones"}


def test_what_differs_between_the_parts_is_told(subject):
    x = np.ones((16, 6), np.float32)
    x[:8] = 3
    with charted(subject, subject.own(), Data(x, None, 10 * x + 5)) as chart:
        said = shifted(chart)
    assert said == ["test inputs have mean 25 and deviation 10, training inputs 2 and 1"]
