"""Scores by hand, and against scipy where a hand is too slow."""

import math

import numpy as np
import pytest
from scipy.special import log_softmax

from bnlab.science.scores import Scores, classifier_scores, regressor_scores


def test_a_classifier_by_hand():
    # Probabilities 1/4 and 3/4: squared errors (9/16 + 9/16) / 2 where wrong, (1/16 + 1/16) / 2 where right.
    scores = classifier_scores(np.log([[1.0, 3.0], [1.0, 3.0]]), np.array([0, 1]))
    np.testing.assert_allclose(scores.squared, [9 / 16, 1 / 16], rtol=1e-15)
    assert scores.correct.tolist() == [0.0, 1.0]
    np.testing.assert_allclose(scores.losses, [math.log(4), math.log(4 / 3)], rtol=1e-15)
    assert scores.rmse == pytest.approx(math.sqrt(10 / 32), rel=1e-15)
    assert scores.accuracy == 0.5
    assert scores.loss == pytest.approx((math.log(4) + math.log(4 / 3)) / 2, rel=1e-15)


def test_rmse_is_one_root_over_all_images():
    # One of eight images is off by .08: sqrt(.08 / 8) = .1; batches of two have roots .2, 0, 0, 0.
    squared = np.array([0.08, 0, 0, 0, 0, 0, 0, 0])
    one_root = Scores(squared, squared, squared).rmse
    per_batch = np.sqrt(squared.reshape(4, 2).mean(axis=1)).mean()
    assert one_root == pytest.approx(0.1, rel=1e-15)
    assert per_batch == pytest.approx(0.05, rel=1e-15)


@pytest.mark.parametrize("size", [1.0, 1e2, 1e4])
def test_cross_entropy_is_scipys(size):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, size, (200, 10)), rng.integers(0, 10, 200)
    expected = -log_softmax(logits, axis=1)[np.arange(200), labels]
    # A difference of two logits of this size rounds to 2^-52 of it, four times at most.
    atol = 4 * 2.0**-52 * np.abs(logits).max()
    np.testing.assert_allclose(classifier_scores(logits, labels).losses, expected, rtol=0, atol=atol)


def test_probabilities_of_huge_logits_stay_finite():
    scores = classifier_scores(np.array([[1e4, -1e4], [-1e4, 1e4]]), np.array([0, 0]))
    assert scores.squared.tolist() == [0.0, 1.0]
    assert scores.losses.tolist() == [0.0, 2e4]


def test_the_first_of_equal_outputs_is_the_answer():
    assert classifier_scores(np.zeros((2, 3)), np.array([0, 1])).correct.tolist() == [1.0, 0.0]


def test_float32_logits_are_scored_in_float64():
    logits = np.array([[0.1, 0.7, -0.3]], np.float32)
    own, expected = (classifier_scores(x, np.array([2])) for x in (logits, logits.astype(np.float64)))
    assert (own.losses.dtype, own.loss, own.rmse) == (np.float64, expected.loss, expected.rmse)


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 2, 3)])
def test_a_regressor_by_hand(shape):
    outputs, targets = np.zeros(shape), np.ones(shape)
    outputs[1] = 4.0  # errors 1 and 3 everywhere
    scores = regressor_scores(outputs, targets)
    assert scores.squared.tolist() == scores.losses.tolist() == [1.0, 9.0]
    assert scores.rmse == math.sqrt(5)
    assert math.isnan(scores.accuracy)
