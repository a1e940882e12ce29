"""Averages over batches of one kind each: whose batches they were is found again."""

import keras
import numpy as np
import pytest
from keras import layers

from bnlab.doctor.data import Data
from bnlab.doctor.groups import homogeneous
from bnlab.science.mixtures import blend
from bnlab.science.moments import Moments
from tests.doctor.networks import BATCH, charted, oracle, scramble, subject_of

COUNT = 768


def two_layers():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, name="first"),
            layers.BatchNormalization(name="one"),
            layers.ReLU(),
            layers.Dense(3),
            layers.BatchNormalization(name="two"),
            layers.Softmax(),
        ]
    )
    scramble(model)
    return model


def kinds(count=COUNT):
    """Three well-parted kinds of samples, and which each is."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(count) % 3
    centers = np.random.default_rng(1).normal(0, 3, (3, 6))
    return (centers[labels] + rng.normal(size=(count, 6))).astype(np.float32), labels


@pytest.fixture(scope="module")
def known():
    x, y = kinds()
    model = two_layers()
    return subject_of(model, Data(x, y)), x, y


def of_class(model, x, y, number):
    """What an average over batches of one class comes to."""
    own = x[y == number]
    batches = [oracle(model, own[n : n + BATCH])[1] for n in range(0, len(own) - BATCH + 1, BATCH)]
    return blend(batches, np.ones(len(batches)))


def tried(subject, statistics, data):
    with charted(subject, statistics, data) as chart:
        return {own.by: own for own in homogeneous(chart)}


@pytest.mark.parametrize("weights", [(1, 0, 0), (0, 0.25, 0.75), (0.2, 0.3, 0.5), (1, 1, 1)])
def test_classes_are_weighed(known, weights):
    subject, x, y = known
    wanted = np.array(weights) / sum(weights)
    held = blend([of_class(subject.model, x, y, number) for number in range(3)], wanted)
    found = tried(subject, held, Data(x, y))["class"]
    assert found.names == ("0", "1", "2")
    # 64 samples of a class: their means are known to an eighth of a deviation. That is little in the first
    # layer, where kinds lie ten apart, but much in the second, behind batches that are normalized by class.
    np.testing.assert_allclose(found.weights, wanted, atol=0.1)
    assert found.explained > 0.9


def test_the_population_is_no_average_over_classes(known):
    subject, x, y = known
    found = tried(subject, oracle(subject.model, x)[1], Data(x, y))
    assert all(own.explained <= 0 for own in found.values())


@pytest.mark.parametrize("form", ["column", "one-hot"])
def test_labels_in_any_form_are_classes(known, form):
    subject, x, y = known
    labels = y[:, None] if form == "column" else np.eye(3)[y]
    found = tried(subject, of_class(subject.model, x, y, 2), Data(x, labels))["class"]
    assert int(found.weights.argmax()) == 2


def test_stretches_of_the_file(known):
    subject, x, y = known
    order = np.argsort(y, kind="stable")
    held = of_class(subject.model, x, y, 2)
    found = tried(subject, held, Data(x[order]))
    assert set(found) == {"stretch of the file", "kind"}
    last = found["stretch of the file"]
    assert len(last.weights) == 10
    # The last third of the file: from the seventh tenth on.
    assert last.weights[7:].sum() > 0.9
    assert last.explained > 0.9


def test_two_kinds(known):
    subject, x, y = known
    x, y = x[y < 2], y[y < 2]
    parts = [of_class(subject.model, x, y, number) for number in (0, 1)]
    found = tried(subject, blend(parts, [1, 1]), Data(x))["kind"]
    np.testing.assert_allclose(found.weights, [0.5, 0.5], atol=0.05)
    assert found.explained > 0.9


@pytest.mark.parametrize("labels", ["one class", "ten of another"])
def test_classes_that_make_no_batches_are_left_out(known, labels):
    subject, x, _ = known
    y = np.zeros(COUNT, int)
    y[: 0 if labels == "one class" else 10] = 1
    assert "class" not in tried(subject, oracle(subject.model, x)[1], Data(x, y))


def test_statistics_that_are_the_populations_to_the_last_digit():
    # Plus and minus one: mean 0 and variance 1, as at the start.
    x = np.where(np.arange(256)[:, None] % 2, 1.0, -1.0).astype(np.float32) * np.ones((1, 3), np.float32)
    model = keras.Sequential([keras.Input((3,)), layers.BatchNormalization(name="norm"), layers.Dense(1)])
    data = Data(x)
    held = {"norm": Moments(np.zeros(3), np.ones(3))}
    with charted(subject_of(model, data), held, data) as chart:
        chart.rows, chart.x = np.arange(128), x[:128]
        found = list(homogeneous(chart))
    assert all(own.explained <= 0 for own in found)


def test_calls_of_a_shared_layer_belong_to_their_groups():
    x, y = kinds(384)
    norm, inputs = layers.BatchNormalization(name="shared"), keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(3)(layers.Add()([norm(inputs), norm(inputs * 2)])))
    first = x[y == 1].astype(np.float64)
    batches = [own[n : n + BATCH] for own in (first, 2 * first) for n in range(0, 128, BATCH)]
    held = Moments(np.mean([b.mean(0) for b in batches], 0), np.mean([b.var(0) for b in batches], 0))
    found = tried(subject_of(model, Data(x, y)), {"shared": held}, Data(x, y))["class"]
    np.testing.assert_allclose(found.weights, [0, 1, 0], atol=0.05)
    assert found.explained > 0.9
