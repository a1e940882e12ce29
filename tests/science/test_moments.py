"""Moments merged, averaged and compared: by hand, by enumeration, by numpy over all samples, by integrals."""

import itertools
import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from bnlab.science.moments import Distance, Moments, averaged, distance, merged

SIZES = [2, 4, 8, 16, 32, 64]


def moments_of(x, size):
    """Moments of consecutive batches of the rows of x, over all axes but the last."""
    batches = x.reshape(-1, size, *x.shape[1:])
    axes = tuple(range(1, batches.ndim - 1))
    return Moments(batches.mean(axes), batches.var(axes))


def test_merging_by_hand():
    # Means 1, 3, 5 and 0, 0, 6 vary by (4 + 0 + 4) / 3 and (4 + 4 + 16) / 3; variances average to 2 and 0.
    found = merged(Moments(np.array([[1, 0], [3, 0], [5, 6]]), np.array([[1, 0], [2, 0], [3, 0]])))
    assert found.mean.tolist() == [3, 2]
    np.testing.assert_allclose(found.variance, [2 + 8 / 3, 8], rtol=2**-51)  # a handful of float64 roundings


def test_averaging_by_hand():
    found = averaged(Moments(np.array([[1, 0], [3, 0], [5, 6]]), np.array([[1, 0], [2, 0], [3, 3]])))
    assert (found.mean.tolist(), found.variance.tolist()) == ([3, 2], [2, 1])


def test_batch_renormalizations_average_is_of_deviations():
    # sqrt(0 + 1) and sqrt(8 + 1) average to 2, and 2^2 - 1 = 3; the variances average to 4.
    found = averaged(Moments(np.zeros((2, 1)), np.array([[0.0], [8.0]])), epsilon=1.0)
    assert found.variance.tolist() == [3.0]


def test_a_variance_is_never_negative_where_epsilon_is_all_there_is():
    epsilons = np.geomspace(1e-6, 1e-2, 50)
    assert (np.sqrt(epsilons) ** 2 < epsilons).any()  # what rounding would leave
    found = [averaged(Moments(np.zeros((1, 1)), np.zeros((1, 1))), epsilon).variance for epsilon in epsilons]
    assert np.min(found) == 0


@pytest.mark.parametrize("size", [1, 2, 3])
def test_over_all_possible_batches_merging_is_exact_and_averaging_misses_one_part_in_n(size):
    values = np.array([0.0, 1.0, 5.0])  # mean 2, variance (4 + 1 + 9) / 3 = 14 / 3
    batches = np.array(list(itertools.product(values, repeat=size)))
    moments = Moments(batches.mean(1, keepdims=True), batches.var(1, keepdims=True))
    # At most 27 terms of at most 25, each rounded at 2^-53 a few times.
    close = {"rtol": 0, "atol": 27 * 25 * 2.0**-51}
    np.testing.assert_allclose(merged(moments), [[2], [14 / 3]], **close)
    np.testing.assert_allclose(averaged(moments), [[2], [14 / 3 * (1 - 1 / size)]], **close)


@pytest.mark.parametrize("size", SIZES)
def test_however_the_samples_are_cut_they_merge_to_the_same_moments(size):
    rng = np.random.default_rng(0)
    # Images of unlike means, so that most of the variance lies between batches where they are small.
    x = rng.normal([3.0, -50.0, 0.0], [2.0, 1.0, 1e-3], (128, 4, 4, 3)) + rng.normal(0, 2, (128, 1, 1, 1))
    found = merged(moments_of(x, size))
    # Each of the 2,048 terms behind a number is rounded a few times at 2^-53 of at most the largest square.
    close = {"rtol": 0, "atol": 2048 * 2.0**-53 * np.square(x).max()}
    np.testing.assert_allclose(found.mean, x.mean((0, 1, 2)), **close)
    np.testing.assert_allclose(found.variance, x.var((0, 1, 2)), **close)


@pytest.mark.parametrize("size", SIZES)
def test_small_variances_around_a_large_mean_do_not_cancel(size):
    x = np.random.default_rng(1).normal(1e4, 1.0, (512, 2))
    mean, variance = (part.astype(np.float32) for part in moments_of(x, size))  # as a tape holds them
    # Float32 numbers around 1e8 are 8 apart, so the difference of two of them is no variance around 1.
    naive = np.mean(mean**2 + variance, axis=0) - np.mean(mean, axis=0) ** 2
    assert np.spacing(np.float32(1e8)) == 8
    assert (np.abs(naive - x.var(axis=0)) > 0.5).all()
    # Means are rounded by at most h = 2^-11, half of what float32 numbers around 1e4 are apart, which moves
    # their variance by at most 2 h deviation + h^2; variances, below 4, are rounded by at most 2^-23.
    h, deviation = 2.0**-11, moments_of(x, size).mean.std(axis=0).max()
    bound = 2 * h * deviation + h**2 + 2.0**-23
    found = merged(Moments(mean, variance))
    np.testing.assert_allclose(found.variance, x.var(axis=0), rtol=0, atol=bound)
    np.testing.assert_allclose(found.mean, x.mean(axis=0), rtol=0, atol=h)


def test_both_are_float64_whatever_comes_in():
    batches = Moments(np.ones((2, 3), np.float32), np.ones((2, 3), np.float32))
    assert {part.dtype for f in (merged, averaged) for part in f(batches)} == {np.dtype("float64")}


@pytest.mark.parametrize(
    ("mean", "variance", "true_mean", "true_variance"),
    [(0, 1, 0, 1), (1, 1, 0, 1), (0, 4, 0, 1), (0, 0.25, 0, 1), (3, 0.5, 2.5, 7.0), (-1, 100, 20, 30.0)],
)
def test_the_divergence_is_the_integral_over_two_gaussians(mean, variance, true_mean, true_variance):
    own, true = norm(mean, math.sqrt(variance)), norm(true_mean, math.sqrt(true_variance))
    width = 12 * math.sqrt(true_variance)  # beyond 12 deviations lie e^-72 of it
    expected, error = quad(
        lambda x: true.pdf(x) * (true.logpdf(x) - own.logpdf(x)),
        true_mean - width,
        true_mean + width,
        epsabs=1e-12,
        epsrel=1e-12,
    )
    found = distance(
        Moments(np.array([mean]), np.array([variance])),
        Moments(np.array([true_mean]), np.array([true_variance])),
        0.0,
    )
    assert error < 1e-9
    assert found.kl == found.worst_kl == pytest.approx(expected, abs=error + 1e-12)


def test_a_distance_by_hand():
    # With epsilon 1 variances are 2, 2 and 8, true ones 2, 8 and 2. Shifts of 2 and 4: squares over true
    # variances 2, 0 and 8, of mean 10 / 3. Divergences: (0 + 4 / 2 + 1 - 1) / 2, (-log 4 + 4 - 1) / 2 and
    # (log 4 + (2 + 16) / 8 - 1) / 2.
    found = distance(
        Moments(np.array([2.0, 5.0, 4.0]), np.array([1.0, 1.0, 7.0])),
        Moments(np.array([0.0, 5.0, 0.0]), np.array([1.0, 7.0, 1.0])),
        1.0,
    )
    each = [1.0, (3 - math.log(4)) / 2, (math.log(4) + 1.25) / 2]
    assert found.mean_shift == pytest.approx(math.sqrt(10 / 3), rel=1e-15)
    assert found.log_variance == pytest.approx(0.0, abs=1e-15)
    assert found.kl == pytest.approx(sum(each) / 3, rel=1e-15)
    assert (found.worst_channel, found.worst_kl) == (2, pytest.approx(each[2], rel=1e-15))


def test_variances_of_zero_have_a_distance_as_epsilon_allows():
    zero = Moments(np.zeros(1), np.zeros(1))
    assert distance(zero, zero, 1e-3) == Distance(0.0, 0.0, 0.0, 0.0, 0)


@pytest.mark.parametrize(
    ("mean", "variance", "kl"),
    [
        (math.nan, 1.0, math.nan),
        (0.0, math.nan, math.nan),
        (math.inf, 1.0, math.inf),
        (0.0, math.inf, math.inf),
        (-math.inf, math.inf, math.nan),
    ],
)
def test_a_channel_that_is_not_finite_is_the_worst_one_and_warns_of_nothing(mean, variance, kl):
    own = Moments(np.array([9.0, mean, 0.0]), np.array([1.0, variance, 1.0]))
    found = distance(own, Moments(np.zeros(3), np.ones(3)), 1e-3)
    assert found.worst_channel == 1
    assert [found.kl, found.worst_kl] == pytest.approx([kl, kl], nan_ok=True)


def test_infinite_statistics_on_both_sides_warn_of_nothing():
    endless = Moments(np.array([math.inf]), np.array([math.inf]))
    assert math.isnan(distance(endless, endless, 1e-3).kl)


def test_the_first_of_channels_that_are_not_finite_is_named():
    own = Moments(np.array([0.0, math.inf, math.nan]), np.ones(3))
    assert distance(own, Moments(np.zeros(3), np.ones(3)), 1e-3).worst_channel == 1
