"""What training is fed: the plain order, or windows of it sorted by class; and what would follow."""

import numpy as np
import pytest

from bnlab.data import Images
from bnlab.data.feed import WINDOW, fed, fresh, sources
from bnlab.data.order import batches, split

COUNT = 140  # 126 to train on: a window of 60 images may span two epochs
SIZE = 6


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    pixels = np.zeros((COUNT, 1, 1, 1), np.uint8)
    return Images(pixels, rng.integers(0, 4, COUNT), pixels[:2], np.zeros(2, np.int64))


def by_class(images, first, last):
    return fed(3, images, SIZE, first, last, by_class=True)


def test_a_window_is_ten_steps():
    assert WINDOW == 10


@pytest.mark.parametrize(("first", "last"), [(0, 20), (3, 7), (19, 45)])
def test_the_plain_order_is_that_of_the_data(images, first, last):
    assert np.array_equal(fed(3, images, SIZE, first, last), batches(3, COUNT, SIZE, first, last))


def test_sorted_windows_hold_the_images_of_plain_ones(images):
    found, plain = by_class(images, 0, 60), batches(3, COUNT, SIZE, 0, 60)
    assert (found.shape, found.dtype) == ((60, SIZE), np.int32)
    for window in np.arange(60).reshape(-1, WINDOW):
        assert sorted(found[window].ravel()) == sorted(plain[window].ravel())
    assert not np.array_equal(found, plain)


def test_classes_rise_within_a_window_and_images_of_one_keep_their_order(images):
    found, plain = by_class(images, 0, 60), batches(3, COUNT, SIZE, 0, 60)
    for window in np.arange(60).reshape(-1, WINDOW):
        seen = plain[window].ravel().tolist()
        expected = [image for label in range(4) for image in seen if images.train_y[image] == label]
        assert found[window].ravel().tolist() == expected


def test_most_sorted_batches_hold_one_class(images):
    """Of the ten batches of a window at most three hold a border between its four classes."""
    labels = images.train_y[by_class(images, 0, 60)]
    mixed = np.array([len(set(batch)) > 1 for batch in labels]).reshape(-1, WINDOW)
    assert (mixed.sum(axis=1) <= 3).all()


@pytest.mark.parametrize("sort", [False, True])
@pytest.mark.parametrize(("first", "last"), [(0, 1), (4, 9), (9, 11), (10, 20), (13, 41), (59, 60)])
def test_a_step_sees_the_same_images_wherever_one_starts(images, first, last, sort):
    whole = fed(3, images, SIZE, 0, 60, sort)
    assert np.array_equal(fed(3, images, SIZE, first, last, sort), whole[first:last])


def test_no_step_sees_a_held_out_image(images):
    _, held_out = split(COUNT)
    assert len(held_out) == 14
    assert not set(held_out.tolist()) & set(by_class(images, 0, 60).ravel().tolist())


@pytest.mark.parametrize(("samples", "steps"), [(1, 4), (24, 4), (25, 5), (60, 10), (61, 11)])
def test_fresh_images_are_those_of_the_steps_that_would_follow(images, samples, steps):
    found = fresh(3, images, SIZE, 17, samples, by_class=False)
    assert np.array_equal(found, batches(3, COUNT, SIZE, 17, 17 + steps))


@pytest.mark.parametrize(
    ("step", "samples", "first", "last"),
    [(17, 1, 20, 30), (20, 60, 20, 30), (20, 61, 20, 40), (21, 120, 30, 50), (1, 24, 10, 20)],
)
def test_fresh_images_in_sorted_windows_are_whole_ones_after_the_step(images, step, samples, first, last):
    found = fresh(3, images, SIZE, step, samples, by_class=True)
    assert np.array_equal(found, by_class(images, first, last))


def test_a_second_source_is_the_negative_of_the_first():
    pixels = np.array([[0, 55, 255]], np.uint8)
    assert [part.tolist() for part in sources(pixels, 255, False)] == [[[0, 55, 255]]]
    assert [part.tolist() for part in sources(pixels, 255, True)] == [[[0, 55, 255]], [[255, 200, 0]]]
    assert [part.tolist() for part in sources(np.array([0.25]), 1.0, True)] == [[0.25], [0.75]]
