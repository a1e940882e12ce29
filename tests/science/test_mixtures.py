"""Mixtures of statistics: by hand, against plain float64 numpy, and whatever the numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnlab.science.mixtures import SHARES, apart, blend, fit, mixed, squares, weigh
from bnlab.science.moments import Moments


def moments(mean, variance):
    return Moments(np.array(mean, np.float64), np.array(variance, np.float64))


def layers(seed, spread=1.0):
    """Two layers of four and six channels."""
    rng = np.random.default_rng(seed)
    return {
        key: Moments(rng.normal(0, spread, size), np.exp(rng.normal(0, spread, size)))
        for key, size in (("a", 4), ("b", 6))
    }


EPSILONS = {"a": 1e-3, "b": 0.5}
START = {key: Moments(np.zeros(size), np.ones(size)) for key, size in (("a", 4), ("b", 6))}


def test_squares_by_hand():
    # Shift 2 over a mean variance of (1 + 3) / 2 = 2: 4 / 2, and log(1 / 3)^2 / 2. Then e^2 apart: 2^2 / 2.
    one, other = moments([2.0, 5.0], [1.0, np.exp(2)]), moments([0.0, 5.0], [3.0, 1.0])
    np.testing.assert_allclose(squares(one, other, 0.0), [2 + np.log(3) ** 2 / 2, 2.0], rtol=1e-12)
    np.testing.assert_allclose(squares(one, other, 1.0)[0], 4 / 3 + np.log(2) ** 2 / 2, rtol=1e-12)


def test_each_layer_counts_the_same_whatever_its_channels():
    one = {"a": moments([2.0], [1.0]), "b": moments([0.0, 0.0, 0.0], [1.0, 1.0, 1.0])}
    other = {"a": moments([0.0], [1.0]), "b": moments([1.0, 0.0, 0.0], [1.0, 1.0, 1.0])}
    assert apart(one, other, {"a": 0.0, "b": 0.0}) == pytest.approx((4 + 1 / 3) / 2, rel=1e-15)


def test_the_distance_is_that_of_a_plain_loop():
    one, other = layers(1), layers(2)
    total = 0.0
    for key, epsilon in EPSILONS.items():
        of_layer = [
            (m - n) ** 2 / ((v + w) / 2 + epsilon) + (np.log(v + epsilon) - np.log(w + epsilon)) ** 2 / 2
            for m, v, n, w in zip(*one[key], *other[key], strict=True)
        ]
        total += sum(of_layer) / len(of_layer) / 2
    assert apart(one, other, EPSILONS) == pytest.approx(total, rel=1e-12)


def test_small_differences_are_twice_the_divergence_of_the_gaussians():
    true = moments([1.0], [4.0])
    own = moments([1.002], [4.008])
    kl = (np.log(4.008 / 4) + (4 + 0.002**2) / 4.008 - 1) / 2
    # Both are of second order in .002; what they differ by is of third order: .2 % of them.
    assert squares(own, true, 0.0)[0] == pytest.approx(2 * kl, rel=4e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_statistics_that_are_no_statistics_are_at_no_finite_distance(bad):
    assert not np.isfinite(squares(moments([0.0], [bad]), moments([0.0], [1.0]), 0.0)[0])


def test_a_mixture_by_hand():
    found = mixed({"a": moments([4.0], [9.0])}, {"a": moments([0.0], [1.0])}, 0.25)
    assert (found["a"].mean[0], found["a"].variance[0]) == (3.0, 7.0)


def test_a_blend_by_hand():
    parts = [{"a": moments([n, 0.0], [1.0, n])} for n in (0.0, 3.0, 6.0)]
    found = blend(parts, [1, 1, 2])
    assert found["a"].mean.tolist() == [3.75, 0.0]
    assert found["a"].variance.tolist() == [1.0, 3.75]


@pytest.mark.parametrize("share", SHARES[::9])
def test_a_share_of_the_grid_is_found_exactly(share):
    population = layers(3)
    found = fit(mixed(population, START, share), population, START, EPSILONS)
    assert found.share == share
    assert found.explained == pytest.approx(float(share > 0), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0.002, 0.999), seed=st.integers(0, 100))
def test_any_share_is_found_within_a_step_of_the_grid(share, seed):
    # The distance from the true mixture grows with that of the shares on either side, so that one of the two
    # neighbours of the grid is nearest - but how fast it grows differs on the two sides: hence a step.
    population = layers(seed)
    found = fit(mixed(population, START, share), population, START, EPSILONS)
    place = np.searchsorted(SHARES, share)
    assert SHARES[max(place - 1, 0)] <= found.share <= SHARES[min(place, len(SHARES) - 1)]


def test_what_is_explained_is_the_share_of_the_distance_that_goes():
    population, other, statistics = layers(4), layers(5), layers(6)
    found = fit(statistics, population, other, EPSILONS)
    tried = [
        apart(statistics, mixed(population, other, share), EPSILONS) for share in np.linspace(0, 1, 2001)
    ]
    # Half a step of .02 off the best, a parabola is (.01)^2 of its curvature, of order 1, above its bottom.
    assert found.explained == pytest.approx(1 - min(tried) / tried[0], abs=1e-3)
    assert 0 < found.share < 1


def test_the_population_itself_holds_nothing_else():
    assert fit(layers(3), layers(3), START, EPSILONS) == (0.0, 0.0)


def test_the_grid_is_sorted_and_within_bounds():
    assert (np.diff(SHARES) > 0).all()
    assert (SHARES[0], SHARES[-1]) == (0.0, 1 - 1e-4)
    # From a fifth on, steps are .02; below, a fourth of the share: (.2 / .001)^(1 / 23) = 1.259.
    assert np.diff(SHARES[SHARES > 0.19]).max() < 0.0201
    below = SHARES[(SHARES > 0) & (SHARES < 0.21)]
    assert (below[1:] / below[:-1]).max() < 1.26


weights_of = st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(lambda own: sum(own) > 0.1)


@settings(max_examples=25, deadline=None)
@given(weights=weights_of, seed=st.integers(0, 100))
def test_weights_that_add_up_to_one_are_found_again(weights, seed):
    parts = [layers(seed + 1000 * number) for number in range(3)]
    wanted = np.array(weights) / sum(weights)
    # Ten equations for three weights; the worst of these hundred is conditioned to about 1e3 in rows of 1e3.
    np.testing.assert_allclose(weigh(blend(parts, weights), parts, EPSILONS), wanted, atol=1e-8)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(2, 5))
def test_weights_of_anything_are_shares(seed, count):
    parts = [layers(seed + 5000 * (number + 1)) for number in range(count)]
    weights = weigh(layers(seed, 3.0), parts, EPSILONS)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)


def test_weights_by_hand():
    # Means 0 and 8 make 6 with weights 1/4 and 3/4, whatever the variance.
    parts = [{"a": moments([0.0], [1.0])}, {"a": moments([8.0], [1.0])}]
    weights = weigh({"a": moments([6.0], [50.0])}, parts, {"a": 0.0})
    np.testing.assert_allclose(weights, [0.25, 0.75], atol=1e-9)  # one equation, met exactly
