"""The embedded sets are the same pixels everywhere, and what their description says."""

import numpy as np
import pytest

from bnlab.data import load, locate
from bnlab.data.standins import FIGURES, enlarge, stand_in


@pytest.mark.parametrize(
    ("name", "fingerprint"),
    [("mnist", "standin-mnist-cd0a0a90eb2d7677"), ("cifar", "standin-cifar-46489a62f43e9dec")],
)
def test_fingerprints_hold(name, fingerprint):
    assert locate(name, None).fingerprint == fingerprint


def test_descriptions_say_that_they_stand_in():
    assert locate("mnist", None).description == (
        "STAND-IN for MNIST: scikit-learn's 8x8 handwritten digits scaled to 28x28 (1,437 + 360 images)"
    )
    assert locate("cifar", None).description == (
        "STAND-IN for CIFAR-10: ten procedural figures and textures in random colours, 32x32x3 "
        "(12,000 + 2,000 images)"
    )


def test_digits_are_all_of_scikit_learns():
    from sklearn.datasets import load_digits

    images = load(locate("mnist", None))
    labels = np.concatenate([images.train_y, images.test_y])
    np.testing.assert_array_equal(np.bincount(labels), np.bincount(load_digits().target))
    assert images.train_x.shape == (1437, 28, 28, 1)
    assert images.test_x.shape == (360, 28, 28, 1)
    assert images.train_x.dtype == np.uint8


def test_digits_lie_in_the_middle_as_mnists_do():
    images = load(locate("mnist", None))
    rows = np.flatnonzero(images.train_x.any((0, 2, 3)))
    columns = np.flatnonzero(images.train_x.any((0, 1, 3)))
    assert (rows.min(), rows.max()) == (4, 23)
    assert columns.min() >= 4
    assert columns.max() <= 23
    assert images.train_x.max() == 255


def test_enlarging_keeps_flat_images_and_interpolates_linearly():
    np.testing.assert_array_equal(enlarge(np.full((1, 8, 8), 16), 20, 16), np.full((1, 20, 20), 255))
    ramp = np.tile(np.arange(8), (1, 8, 1)) * 2
    row = enlarge(ramp, 20, 16)[0, 7].astype(int)
    centres = np.clip((np.arange(20) + 0.5) * 8 / 20 - 0.5, 0, 7)
    np.testing.assert_array_equal(row, np.round(centres * 2 / 16 * 255))


def test_figures_are_balanced_and_differ_between_the_splits():
    images = stand_in("cifar")
    np.testing.assert_array_equal(np.bincount(images.train_y), [1200] * 10)
    np.testing.assert_array_equal(np.bincount(images.test_y), [200] * 10)
    assert images.train_y.dtype == np.int64
    assert not (images.train_x[: len(images.test_x)] == images.test_x).all((1, 2, 3)).any()


def test_figures_have_the_shapes_that_they_are_named_after():
    x, y = np.meshgrid(np.arange(-3, 4), np.arange(-3, 4))
    drawn = {name: figure(x, y, np.array(3)).astype(int).tolist() for name, figure in FIGURES.items()}
    assert list(drawn) == [
        "disc",
        "ring",
        "square",
        "frame",
        "diamond",
        "plus",
        "cross",
        "horizontal bars",
        "vertical bars",
        "checkerboard",
    ]
    assert drawn["square"] == [[1] * 7] * 7
    assert drawn["diamond"][0] == [0, 0, 0, 1, 0, 0, 0]
    assert drawn["frame"][3] == [1, 1, 0, 0, 0, 1, 1]
    assert drawn["plus"][0] == [0, 0, 1, 1, 1, 0, 0]
    assert drawn["horizontal bars"] == np.transpose(drawn["vertical bars"]).tolist()
    assert drawn["ring"][3] == [1, 1, 0, 0, 0, 1, 1]


def test_colour_does_not_give_the_class_away():
    images = stand_in("cifar")
    means = [images.train_x[images.train_y == label].mean((0, 1, 2)) for label in range(10)]
    np.testing.assert_allclose(means, np.full((10, 3), 128.0), atol=3)


def test_noise_needs_no_clipping():
    pixels = stand_in("cifar").train_x
    assert pixels.min() > 0
    assert pixels.max() < 255
