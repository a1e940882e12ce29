"""The share of the start that statistics still hold: by hand, and as a least-squares solver finds it."""

import math

import numpy as np
import pytest

from bnlab.measure.signs import start_share_of
from bnlab.science.moments import Moments

POPULATION = Moments(np.array([4.0, -1.0, 0.5]), np.array([9.0, 0.25, 2.0]))


@pytest.mark.parametrize("share", [0.0, 0.366, 0.5, 0.951, 1.0, -0.1])
def test_a_known_share_is_found(share):
    mixed = Moments((1 - share) * POPULATION.mean, (1 - share) * POPULATION.variance + share)
    assert start_share_of(mixed, POPULATION) == pytest.approx(
        share, abs=1e-14
    )  # numbers below 20, 2^-53 each


def test_a_share_by_hand():
    # The start lies 2 deviations from the population's mean, at its variance; the statistics lie 1 deviation
    # off, and 4 variances, which count for nothing on the way to the start: 1 * 2 / (2 * 2).
    one = Moments(np.array([1.0]), np.array([5.0]))
    assert start_share_of(one, Moments(np.array([2.0]), np.array([1.0]))) == 0.5


def test_it_is_what_a_least_squares_solver_finds():
    rng = np.random.default_rng(0)
    own = Moments(rng.normal(0, 2, 20), rng.gamma(2, 1, 20))
    true = Moments(rng.normal(1, 2, 20), rng.gamma(2, 1, 20))
    scale = np.concatenate([np.sqrt(true.variance), true.variance])
    target = (np.concatenate(own) - np.concatenate(true)) / scale
    towards = (np.repeat([0.0, 1.0], 20) - np.concatenate(true)) / scale
    [expected], *_ = np.linalg.lstsq(towards[:, None], target, rcond=None)
    # Sums of 40 products, a few roundings at 2^-53 of their size each.
    assert start_share_of(own, true) == pytest.approx(expected, rel=1e-12)


def test_channels_that_are_always_zero_do_not_count():
    dead = Moments(np.append(POPULATION.mean, 0.0), np.append(POPULATION.variance, 0.0))
    quarter = Moments(np.append(0.75 * POPULATION.mean, 0), np.append(0.75 * POPULATION.variance + 0.25, 77))
    assert start_share_of(quarter, dead) == pytest.approx(0.25, abs=1e-14)


@pytest.mark.parametrize(
    ("own", "population"),
    [
        (Moments(np.full(3, np.nan), np.ones(3)), POPULATION),
        (Moments(np.array([np.inf, 0, 0]), np.ones(3)), Moments(np.zeros(3), np.full(3, 2.0))),
        (POPULATION, Moments(np.zeros(3), np.ones(3))),
        (POPULATION, Moments(np.zeros(3), np.zeros(3))),
    ],
    ids=["NaN", "infinite", "population at the start", "no channel alive"],
)
def test_a_share_that_cannot_be_told_is_nan_and_warns_of_nothing(own, population):
    assert math.isnan(start_share_of(own, population))
