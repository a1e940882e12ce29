"""Sequences: every image at most once, targets by hand, the same ones every time."""

import numpy as np
import pytest

from bnlab.data import Images, Source, in_sequences
from bnlab.data.sequences import sequences

SOURCE = Source("mnist", "stand-in", None, "standin-mnist-0", "a stand-in", True, 1437, 360)


@pytest.fixture(scope="module")
def numbered():
    """25 + 11 images whose pixel is their number, labels their number modulo ten."""
    pixels = np.arange(36, dtype=np.uint8).reshape(-1, 1, 1, 1)
    labels = np.arange(36) % 10
    return Images(pixels[:25], labels[:25], pixels[25:], labels[25:])


@pytest.mark.parametrize("frames", [1, 3, 10])
def test_images_are_cut_into_sequences_without_a_repeat(numbered, frames):
    made = sequences(numbered, frames)
    assert made.train_x.shape == (25 // frames, frames, 1, 1, 1)
    assert made.test_x.shape == (11 // frames, frames, 1, 1, 1)
    assert len(set(made.train_x.ravel())) == made.train_x.size
    assert made.train_x.max() < 25 <= made.test_x.min()


def test_a_target_is_the_mean_of_the_labels_so_far_over_nine(numbered):
    made = sequences(numbered, 3)
    for x, y in zip(made.train_x.reshape(-1, 3), made.train_y, strict=True):
        labels = [int(number) % 10 for number in x]
        expected = [sum(labels[: t + 1]) / (t + 1) / 9 for t in range(3)]
        assert y == pytest.approx(expected, rel=2.0**-23)
    assert made.train_y.dtype == np.float32


def test_the_same_sequences_are_made_every_time(numbered):
    assert np.array_equal(sequences(numbered, 5).train_x, sequences(numbered, 5).train_x)


def test_sequences_are_drawn_in_a_random_order(numbered):
    order = sequences(numbered, 5).train_x.ravel()
    assert sorted(order) == list(range(25))
    assert (
        np.diff(order.astype(int)) == 1
    ).sum() < 8  # of 24: neighbours in the file are seldom neighbours here


def test_a_source_counts_sequences():
    made = in_sequences(SOURCE, 10)
    assert (made.train, made.test, made.frames) == (143, 36, 10)
    assert in_sequences(SOURCE, None) is SOURCE
