"""The gap and its standard error: by hand, by scipy, by a slow loop and by a bootstrap."""

import math

import numpy as np
import pytest
from scipy.stats import sem

from bnlab.science.gap import METRICS, contrast, gap, paired_standard_error
from bnlab.science.scores import Scores


def scores(squared, correct=None, losses=None):
    squared = np.asarray(squared, float)
    given = (squared if part is None else np.asarray(part, float) for part in (correct, losses))
    return Scores(squared, *given)


def test_a_gap_by_hand():
    # RMSE .5 and .4. Slopes 1 / (2 RMSE): shares .25, .25 and 0, .4; differences .25, -.15, of mean .05:
    # standard error sqrt(2 / 1 * (.2^2 + .2^2)) / 2 = .2. Loss: 3, 1 -> mean 2, sqrt(2 * (1 + 1)) / 2 = 1.
    moving = scores([0.25, 0.25], correct=[1, 0], losses=[4, 4])
    batch = scores([0.0, 0.32], correct=[1, 1], losses=[1, 3])
    found = gap(moving, batch, batch_size=1)
    assert found["rmse"] == pytest.approx((0.1, 0.2), rel=1e-12)
    assert found["loss"] == pytest.approx((2.0, 1.0), rel=1e-12)
    assert found["accuracy"] == pytest.approx((-0.5, 0.5), rel=1e-12)


@pytest.mark.parametrize(("batch_size", "expected"), [(1, 1 / math.sqrt(3)), (2, 1.0)])
def test_images_of_one_batch_count_as_one(batch_size, expected):
    # Deviations -1, -1, 1, 1. One by one: sqrt(4 / 3 * 4) / 4; in pairs: sqrt(2 / 1 * (4 + 4)) / 4.
    assert paired_standard_error(np.array([1.0, 1.0, 3.0, 3.0]), batch_size) == pytest.approx(expected)


def test_with_batches_of_one_it_is_scipys_standard_error():
    differences = np.random.default_rng(0).normal(3, 2, 50)
    assert paired_standard_error(differences) == pytest.approx(sem(differences), rel=1e-12)


@pytest.mark.parametrize(("images", "batch_size"), [(12, 4), (13, 4), (15, 4), (5, 4), (100, 7)])
def test_it_is_the_cluster_formula_with_a_smaller_last_batch(images, batch_size):
    differences = np.random.default_rng(1).normal(3, 2, images)
    mean, total, batches = sum(differences) / images, 0.0, 0
    for first in range(0, images, batch_size):
        total += sum(d - mean for d in differences[first : first + batch_size]) ** 2
        batches += 1
    expected = math.sqrt(batches / (batches - 1) * total) / images
    assert paired_standard_error(differences, batch_size) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("images", "batch_size"), [(1, 1), (4, 4), (4, 5)])
def test_fewer_than_two_batches_have_no_standard_error(images, batch_size):
    assert math.isnan(paired_standard_error(np.arange(float(images)), batch_size))


@pytest.mark.parametrize("batch_size", [1, 5])
def test_the_standard_error_of_the_rmse_gap_is_a_bootstraps(batch_size):
    images, draws = 1000, 4000
    rng = np.random.default_rng(2)
    noise = rng.gamma(2.0, 1.0, images // batch_size).repeat(batch_size)  # shared by a batch
    batch = noise * rng.gamma(4.0, 0.25, images)
    moving = 1.5 * batch + rng.gamma(2.0, 0.2, images)
    chosen = rng.integers(0, images // batch_size, (draws, images // batch_size))
    roots = [np.sqrt(s.reshape(-1, batch_size)[chosen].mean(axis=(1, 2))) for s in (moving, batch)]
    bootstrap = (roots[0] - roots[1]).std(ddof=1)
    found = gap(scores(moving), scores(batch), batch_size)["rmse"].standard_error
    # A deviation of 4,000 draws has one of 1 / sqrt(8,000) of its own: 4.5 % is four of those. What the
    # linear and the G / (G - 1) forms add is of the order of one in 200 batches.
    assert found == pytest.approx(bootstrap, rel=4 / math.sqrt(2 * draws) + batch_size / images)


def test_pairing_removes_what_both_phases_share():
    # Every image's loss differs by 1: the gap is exactly 1, however unlike the images are.
    losses = np.arange(20.0)
    found = gap(scores(losses, losses=losses + 1), scores(losses, losses=losses), 4)
    assert found["loss"] == (1.0, 0.0)


def test_equal_scores_have_no_gap_and_no_error():
    same = scores([0.1, 0.4, 0.2, 0.3])
    assert set(gap(same, same, 2).values()) == {(0.0, 0.0)}


def test_perfect_scores_have_no_gap_and_warn_of_nothing():
    perfect = scores(np.zeros(4))
    assert gap(perfect, perfect, 2)["rmse"] == (0.0, 0.0)


def test_a_perfect_phase_leaves_the_other_ones_error():
    # RMSE 1, slope 1/2: shares 0, 1, deviations 1/2: sqrt(2 * (1/4 + 1/4)) / 2 = 1/2.
    found = gap(scores([0.0, 2.0]), scores([0.0, 0.0]), 1)["rmse"]
    assert found == pytest.approx((1.0, 0.5), rel=1e-15)


def test_regressors_have_no_accuracy_gap():
    value, error = gap(scores([1, 2], correct=[np.nan] * 2), scores([2, 3], correct=[np.nan] * 2), 1)[
        "accuracy"
    ]
    assert math.isnan(value)
    assert math.isnan(error)


def test_a_contrast_of_three_by_hand():
    # Losses 4, 8 and 2, 2 against 1, 1: halves less the third are 2, 4, of mean 3 and standard error
    # sqrt(2 / 1 * (1 + 1)) / 2. RMSE 2, 4 and 1: slopes 1/4, 1/8 and 1/2 of squares 4, 4; 16, 16; 0, 2 are
    # shares 1, 1; 2, 2; 0, 1: 1.5 less those are 1.5 and .5, of standard error sqrt(2 * (1/4 + 1/4)) / 2.
    terms = [
        (0.5, scores([4.0, 4.0], correct=[1, 1], losses=[4, 8])),
        (0.5, scores([16.0, 16.0], correct=[1, 0], losses=[2, 2])),
        (-1.0, scores([0.0, 2.0], correct=[0, 0], losses=[1, 1])),
    ]
    found = contrast(terms, 1)
    assert found["loss"] == (3.0, 1.0)
    assert found["rmse"] == pytest.approx((0.5 * 2 + 0.5 * 4 - 1, 0.5), rel=1e-15)
    assert found["accuracy"] == (0.75, 0.25)  # 1 and .5


@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_a_contrast_of_two_is_the_gap(batch_size):
    rng = np.random.default_rng(0)
    one, other = (scores(rng.gamma(2, 1, 40), correct=rng.integers(0, 2, 40)) for _ in range(2))
    found, expected = contrast([(1.0, one), (-1.0, other)], batch_size), gap(one, other, batch_size)
    assert found == expected
    # And by what a gap is: a difference of metrics, and the error of paired losses.
    assert [found[name].value for name in METRICS] == [
        getattr(one, name) - getattr(other, name) for name in METRICS
    ]
    paired = paired_standard_error(one.losses - other.losses, batch_size)
    assert found["loss"].standard_error == paired


def test_contrasts_of_a_telescope_add_up():
    rng = np.random.default_rng(1)
    first, second, third = (scores(rng.gamma(2, 1, 40), correct=rng.integers(0, 2, 40)) for _ in range(3))
    whole = gap(first, third, 2)
    for name in METRICS:
        total = gap(first, second, 2)[name].value + gap(second, third, 2)[name].value
        assert total == pytest.approx(whole[name].value, abs=2.0**-50)  # three roundings of numbers below 4


def test_a_contrast_of_what_cancels_is_nothing():
    same = scores([0.25, 1.0, 4.0], losses=[1, 2, 4])
    assert set(contrast([(0.5, same), (0.5, same), (-1.0, same)], 1).values()) == {(0.0, 0.0)}
