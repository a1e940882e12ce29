"""Which images a step sees: a function of (seed, step), over a pool that nothing can leave."""

import itertools

import numpy as np
import pytest

from bnlab.data.order import batches, held_out_count, probe, probe_size, split, trained_on

IMAGES = 40  # 36 to train on, 4 held out
HELD_OUT = [2, 11, 31, 39]
FIRST_BATCHES = [[0, 30, 10, 5], [20, 32, 12, 26]]
PROBED = [37, 1, 18, 16, 31]


def stream(seed, batch_size, steps, images=IMAGES):
    return batches(seed, images, batch_size, 0, steps).ravel()


@pytest.mark.parametrize("cuts", [[1], [5, 6], [12], list(range(1, 20))])
def test_a_step_sees_the_same_images_however_steps_are_asked_for(cuts):
    edges = [0, *cuts, 20]
    parts = [batches(3, IMAGES, 5, a, b) for a, b in itertools.pairwise(edges)]
    assert np.array_equal(np.concatenate(parts), batches(3, IMAGES, 5, 0, 20))


@pytest.mark.parametrize("batch_size", [1, 5, 36, 80])
def test_every_epoch_has_every_image_of_the_pool_once(batch_size):
    pool, _ = split(IMAGES)
    seen = stream(0, batch_size, -(-3 * len(pool) // batch_size))
    for epoch in range(3):
        assert np.array_equal(np.sort(seen[36 * epoch : 36 * (epoch + 1)]), pool)


def test_batches_follow_one_another_without_a_gap():
    # 36 images in batches of 5: step 8 takes one image of the first epoch and four of the second.
    assert np.array_equal(stream(0, 5, 36), stream(0, 1, 180))


def test_batches_are_int32_rows_of_one_step_each():
    rows = batches(0, IMAGES, 5, 2, 9)
    assert (rows.shape, rows.dtype) == ((7, 5), np.int32)


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1])
def test_no_trial_sees_a_held_out_image(seed):
    _, held_out = split(IMAGES)
    assert len(held_out) == 4
    assert not set(held_out) & set(stream(seed, 7, 100))


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [tuple(stream(seed, 36, 2)[36 * e : 36 * (e + 1)]) for seed in (0, 1) for e in (0, 1)]
    assert len(set(orders)) == 4


@pytest.mark.parametrize(
    ("images", "held_out"), [(9, 0), (10, 1), (1437, 143), (49_999, 4999), (50_000, 5000), (60_000, 5000)]
)
def test_a_tenth_of_a_small_set_is_held_out_and_5000_of_a_large_one(images, held_out):
    pool, rest = split(images)
    assert held_out_count(images) == len(rest) == held_out
    assert np.array_equal(np.sort(np.concatenate([pool, rest])), np.arange(images))


def test_held_out_images_and_orders_are_the_same_on_every_machine():
    # Written down: a change would make trials of one identity differ.
    assert split(IMAGES)[1].tolist() == HELD_OUT
    assert batches(7, IMAGES, 4, 0, 2).tolist() == FIRST_BATCHES
    assert probe(np.arange(IMAGES), 5).tolist() == PROBED


@pytest.mark.parametrize(
    ("candidates", "wanted", "size"), [(100, 10, 10), (100, 25, 25), (100, 26, 25), (10, 512, 2), (3, 5, 1)]
)
def test_a_probe_is_at_most_a_quarter_of_its_candidates(candidates, wanted, size):
    drawn = probe(np.arange(1000, 1000 + candidates), wanted)
    assert probe_size(candidates, wanted) == len(drawn) == len(set(drawn)) == size
    assert set(drawn) <= set(range(1000, 1000 + candidates))


def test_a_smaller_probe_is_the_beginning_of_a_larger_one():
    candidates = np.arange(100)
    assert np.array_equal(probe(candidates, 10), probe(candidates, 25)[:10])


@pytest.mark.parametrize("steps", [1, 4, 8, 9, 30])
def test_trained_on_lists_the_images_of_all_steps(steps):
    # 4 images per step: 9 steps are an epoch of the pool of 36.
    assert np.array_equal(trained_on(5, IMAGES, 4 * steps), np.unique(stream(5, 4, steps)))
