"""Which values are averaged together: by hand, by count, and by what Keras's layers answer to."""

import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from bnlab.science.sets import average, moments, shared


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("batch", [[[3, 6], [3, 6]], [[3, 6], [3, 6]]]),
        ("layer", [[[2, 2], [2, 2]], [[7, 7], [7, 7]]]),
        ("instance", [[[1, 3], [1, 3]], [[5, 9], [5, 9]]]),
        ("group", [[[1, 3], [1, 3]], [[5, 9], [5, 9]]]),
    ],
)
def test_averages_by_hand(kind, expected):
    # Two images, two positions, two channels: channel 0 is (0, 2), (4, 6); channel 1 is (3, 3), (9, 9).
    x = np.array([[[0, 3], [2, 3]], [[4, 9], [6, 9]]])
    assert average(x, kind, groups=2).tolist() == expected
    first = average(np.moveaxis(x, -1, 1), kind, groups=2, axis=1)
    assert np.moveaxis(first, 1, -1).tolist() == expected


def test_groups_are_of_neighbouring_channels():
    x = np.array([[1.0, 3.0, 10.0, 30.0, 100.0, 300.0]])
    mean, variance = moments(x, "group", groups=3)
    assert mean.tolist() == [[2, 2, 20, 20, 200, 200]]
    assert variance.tolist() == [[1, 1, 100, 100, 10_000, 10_000]]


@pytest.mark.parametrize(
    ("kind", "groups", "values"), [("batch", 1, 60), ("layer", 1, 90), ("instance", 1, 15), ("group", 3, 30)]
)
def test_masks_hold_as_many_cells_as_a_set(kind, groups, values):
    assert shared(kind, (4, 3, 5, 6), groups).sum() == values
    assert shared(kind, (4, 6, 3, 5), groups, axis=1).sum() == values


def test_masks_by_hand():
    # One position: images by channels; the cell is image 1, channel 2.
    def masks(kind):
        return shared(kind, (2, 4), groups=2, cell=(1, 2)).astype(int).tolist()

    assert masks("batch") == [[0, 0, 1, 0], [0, 0, 1, 0]]
    assert masks("layer") == [[0, 0, 0, 0], [1, 1, 1, 1]]
    assert masks("instance") == [[0, 0, 0, 0], [0, 0, 1, 0]]
    assert masks("group") == [[0, 0, 0, 0], [0, 0, 1, 1]]


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize(
    ("kind", "layer"),
    [
        ("batch", lambda axis: layers.BatchNormalization(axis=axis)),
        ("layer", lambda axis: layers.GroupNormalization(1, axis=axis)),
        ("instance", lambda axis: layers.GroupNormalization(-1, axis=axis)),
        ("group", lambda axis: layers.GroupNormalization(2, axis=axis)),
    ],
)
def test_masks_are_what_one_output_of_keras_answers_to(kind, layer, axis):
    shape, cell = (3, 4, 5, 4), (1, 2, 3, 1)
    x = tf.constant(np.random.default_rng(0).normal(3, 2, shape), "float32")
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(axis)(x, **({"training": True} if kind == "batch" else {}))[cell]
    assert np.array_equal(tape.gradient(y, x) != 0, shared(kind, shape, 2, axis, cell))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (8, "groups larger than channels: 8 groups, 6 channels"),
        (4, "channels not a multiple of groups: 6 channels, 4 groups"),
        (0, "there must be at least 1 group, got 0"),
    ],
)
def test_groups_that_do_not_fit_are_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        average(np.ones((2, 6)), "group", groups)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind must be one of batch, instance, layer, group, got 'ghost'"):
        average(np.ones((2, 6)), "ghost")
