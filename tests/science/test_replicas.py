"""Statistics of several replicas: which a checkpoint keeps, and averages that run side by side."""

import numpy as np
import pytest

from bnlab.science.moments import Moments
from bnlab.science.replicas import KEPT, kept, spread
from bnlab.science.tape import Column, MovingStatistics, Tape

# Four replicas, two channels: means 0, 10, 20, 30 and -1, 1, -1, 1; variances 1, 2, 3, 6 and 4.
FOUR = [
    {"norm": Moments(np.array([10.0 * r, (-1.0) ** (r + 1)]), np.array([v, 4.0]))}
    for r, v in enumerate([1.0, 2.0, 3.0, 6.0])
]


@pytest.mark.parametrize(
    ("how", "mean", "variance"),
    [("first", [0, -1], [1, 4]), ("mean", [15, 0], [3, 4]), ("merged", [15, 0], [3 + 125, 4 + 1])],
)
def test_one_set_of_statistics_is_made_of_all(how, mean, variance):
    own = kept(FOUR, how)["norm"]
    assert own.mean.tolist() == mean
    assert own.variance.tolist() == variance


@pytest.mark.parametrize("how", sorted(KEPT))
def test_of_one_replica_all_are_its_own(how):
    own = kept(FOUR[3:], how)["norm"]
    assert (own.mean.tolist(), own.variance.tolist()) == ([30, 1], [6, 4])


def test_merged_replicas_have_the_moments_of_all_their_samples():
    x = np.random.default_rng(0).normal(3, 2, (4, 50, 3)) + np.arange(4)[:, None, None]
    parts = [{"norm": Moments(part.mean(axis=0), part.var(axis=0))} for part in x]
    own, every = kept(parts, "merged")["norm"], x.reshape(-1, 3)
    # Sums of 200 numbers below 12 in another order: 200 roundings of their squares.
    np.testing.assert_allclose(own.mean, every.mean(axis=0), atol=200 * 2.0**-52 * 12)
    np.testing.assert_allclose(own.variance, every.var(axis=0), atol=200 * 2.0**-52 * 144)


def test_replicas_that_agree_are_not_apart():
    assert spread([FOUR[1]] * 3, {"norm": 1e-3}) == 0


def test_how_far_replicas_are_apart():
    two = [{"norm": Moments(np.array([mean]), np.array([3.0]))} for mean in (-1.0, 1.0)]
    # Merged: mean 0, variance 4. Each is 1 away, of a mean variance of 3.5.
    assert spread(two, {"norm": 0.0}) == pytest.approx(1 / 3.5 + np.log(0.75) ** 2 / 2, rel=1e-15)


COLUMNS = tuple(Column("norm", 0, 1, replica=replica) for replica in (0, 1))
TAPE = Tape(COLUMNS, np.array([[2, 3, 4, 7], [6, 5, 0, 1]], np.float32))


def test_averages_run_side_by_side():
    moving = MovingStatistics(COLUMNS, [0.5]).advance(TAPE)
    # First: mean 0 -> 1 -> 3.5, variance 1 -> 2 -> 3.5; second: 0 -> 2 -> 1 and 1 -> 4 -> 2.5.
    assert [[part.tolist() for part in own["norm"]] for own in moving.each(0.5)] == [
        [[3.5], [3.5]],
        [[1.0], [2.5]],
    ]
    assert moving.replicas == 2
    assert moving.updates == {"norm": 2}


def test_averages_of_replicas_are_those_of_tapes_of_their_own():
    both = MovingStatistics(COLUMNS, [0.9]).advance(TAPE)
    for replica, half in enumerate((TAPE.moments[:, :2], TAPE.moments[:, 2:])):
        alone = MovingStatistics(COLUMNS[:1], [0.9]).advance(Tape(COLUMNS[:1], half))
        assert both.each(0.9)[replica]["norm"] == alone.at(0.9)["norm"]


@pytest.mark.parametrize(
    ("how", "mean", "variance"), [("first", 3.5, 3.5), ("mean", 2.25, 3.0), ("merged", 2.25, 3.0 + 1.5625)]
)
def test_a_replay_keeps_what_it_is_asked_for(how, mean, variance):
    moving = MovingStatistics(COLUMNS, [0.5]).advance(TAPE)
    assert moving.at(0.5, how) == {"norm": (np.array([mean]), np.array([variance]))}


def test_the_start_is_taken_out_of_each_replica_before_they_are_merged():
    moving = MovingStatistics(COLUMNS, [0.5]).advance(TAPE)
    # (3.5 - 0) / .75 and (1 - 0) / .75; (3.5 - .25) / .75 and (2.5 - .25) / .75
    mean, variance = moving.debiased(0.5, "merged")["norm"]
    assert mean == pytest.approx([3.0], rel=1e-15)
    assert variance == pytest.approx([(13 / 3 + 3) / 2 + (5 / 3) ** 2], rel=1e-15)


def test_without_a_replica_named_a_tape_tells_of_the_first():
    assert TAPE.updates("norm").tolist() == [[2, 3], [6, 5]]
    assert TAPE.updates("norm", 1).tolist() == [[4, 7], [0, 1]]
