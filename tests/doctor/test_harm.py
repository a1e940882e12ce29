"""Whether a difference is real and would be noticed, by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from bnlab.doctor.harm import better, harm, is_better_in_all, is_worse_on_others
from bnlab.doctor.scoring import Scorer
from bnlab.science.scores import Scores


def scores(squared, correct=None):
    squared = np.asarray(squared, np.float64)
    correct = np.full(len(squared), np.nan) if correct is None else np.asarray(correct, np.float64)
    return Scores(squared, correct, squared)


def test_rmse_by_hand():
    # RMSE 2 against 1; each sample's share is q / (2 rmse): 3/4, 5/4 less 1/2, 1/2.
    found = harm(scores([3.0, 5.0]), scores([1.0, 1.0]))
    assert (found.metric, found.value) == ("rmse", 1.0)
    assert found.standard_error == pytest.approx(0.25)
    # The worse way is itself known to 1 / (2 * 2): the error of its mean square, 1, over twice the root.
    assert found.noticed == pytest.approx(1 / (2 * 0.25))
    assert found.real == pytest.approx(1 / (3 * 0.25))
    assert found.matters
    assert not found.inverse


def test_the_other_way_round_is_the_inverse():
    found = harm(scores([1.0, 1.0]), scores([3.0, 5.0]))
    assert (found.value, found.noticed, found.real) == (-1.0, pytest.approx(-2), pytest.approx(-4 / 3))
    assert found.inverse
    assert not found.matters


def test_accuracy_by_hand():
    right = np.ones(100)
    wrong = right.copy()
    wrong[:20] = 0
    found = harm(scores(np.ones(100), wrong), scores(np.ones(100), right))
    assert (found.metric, found.value) == ("accuracy", pytest.approx(0.2))
    share = 81 / 102  # the rule of succession, of the way that is less sure
    assert found.noticed == pytest.approx(0.2 / (2 * np.sqrt(share * (1 - share) / 100)))
    # The deviation of .2 zeros among ones, over the root of 99.
    assert found.real == pytest.approx(0.2 / (3 * np.sqrt(0.2 * 0.8 / 99)))


def test_of_models_without_mistakes_one_mistake_is_not_noticed():
    right, one = np.ones(50), np.ones(50)
    one[7] = 0
    found = harm(scores(np.ones(50), one), scores(np.ones(50), right))
    share = 50 / 52
    assert found.noticed == pytest.approx(0.02 / (2 * np.sqrt(share * (1 - share) / 50)))
    assert not found.matters


def test_the_metric_that_shows_more_is_told():
    squared, right = np.array([1.0, 1.1] * 50), np.ones(100)
    assert harm(scores(squared * 4, right), scores(squared, right)).metric == "rmse"
    assert harm(scores(squared, 1 - right), scores(squared, right)).metric == "accuracy"


def test_samples_of_one_batch_count_as_one():
    squared = np.repeat([1.0, 9.0], 8)
    by_sample, by_batch = (harm(scores(squared), scores(np.ones(16)), size) for size in (1, 8))
    # Two batches of eight equal samples each: the error of two, not of sixteen.
    assert by_batch.standard_error == pytest.approx(by_sample.standard_error * np.sqrt(15))
    assert by_batch.real == pytest.approx(by_sample.real / np.sqrt(15))
    assert by_batch.noticed == by_sample.noticed


def test_the_same_is_no_harm():
    for own in (scores(np.zeros(4)), scores([1.0, 2.0], [1, 0])):
        found = harm(own, own)
        assert (found.value, found.noticed, found.real) == (0, 0, 0)
        assert not found.matters
        assert not found.inverse


def test_outputs_that_are_no_numbers_are_harm():
    found = harm(scores([np.nan, 1.0], [0, 1]), scores([1.0, 1.0], [1, 1]))
    assert found.matters
    assert (found.metric, found.noticed) == ("rmse", np.inf)
    turned = harm(scores([1.0, 1.0], [1, 1]), scores([np.nan, 1.0], [0, 1]))
    assert (turned.metric, turned.noticed, turned.real) == ("rmse", -np.inf, -np.inf)
    assert not turned.matters
    both = harm(scores([np.nan, 1.0], [0, 1]), scores([np.nan, 1.0], [0, 1]))
    assert (both.noticed, both.real) == (0, 0)


def test_an_rmse_that_gains_where_accuracy_falls():
    one = scores(np.full(100, 0.2), [1] * 60 + [0] * 40)
    other = scores(np.full(100, 0.4), [1] * 80 + [0] * 20)
    assert harm(other, one).matters
    assert not is_better_in_all(one, other)
    assert is_better_in_all(scores(np.full(100, 0.2), [1] * 80 + [0] * 20), other)
    # Two new mistakes and one less: .01 worse, give or take root 3 in a hundred.
    assert is_better_in_all(scores(np.full(100, 0.2), [1] * 78 + [0] * 2 + [1] + [0] * 19), other)


@pytest.mark.parametrize(("right", "worse"), [(64, False), (59, True)])
def test_samples_that_are_not_the_same_are_known_to_both_errors(right, worse):
    # .8 and .64 of a hundred: (81/102 21/102 / 100)^.5 = .0404, .0479; three times their root sum is .188.
    one = scores(np.ones(100), [1] * right + [0] * (100 - right))
    other = scores(np.ones(100), [1] * 80 + [0] * 20)
    assert is_worse_on_others(one, other) == worse
    assert not is_worse_on_others(other, one)


def test_an_rmse_on_samples_that_are_not_the_same():
    # Roots of means of 1 and 9: mean squares 5 and their errors 4 / root(99) / (2 root 5) = .0899.
    squared = np.tile([1.0, 9.0], 50)
    one, other = scores(squared), scores(squared * 0.8)
    assert one.rmse - other.rmse == pytest.approx(np.sqrt(5) - 2)
    assert not is_worse_on_others(one, other)  # .236 against 3 * .0899 * root(1.8) = .362
    assert is_worse_on_others(one, scores(squared * 0.5))  # .655 against 3 * .0899 * root(1.5) = .330


class _Chart:
    """A chart whose outputs under `moved` disagree on some of a hundred samples with those under `right`."""

    population, size = "right", 25

    def __init__(self, moved, by_batch):
        base = np.tile([[1.0, 0.0]], (100, 1))
        self.given = {"right": base, "moved": base.copy(), "batch": base.copy()}
        self.given["moved"][:moved] = [0.0, 1.0]
        self.given["batch"][:by_batch] = [0.0, 1.0]
        self.split = SimpleNamespace(name="train")

    def scorer(self, _):
        return Scorer([self.given["right"]], None)

    def outputs(self, _, name):
        return [self.given[name]]

    def in_batches(self, _, size):
        assert size == self.size
        return [self.given["batch"]]


class _Hundred:
    def __len__(self):
        return 100


@pytest.mark.parametrize(("moved", "by_batch", "matters"), [(15, 5, True), (15, 20, False), (8, 5, False)])
def test_without_labels_predictions_must_move_more_than_a_batch_moves_them(moved, by_batch, matters):
    # Of 100 samples a share is known to .05 at most, and twice that is noticed: more than 10.
    found = better(_Chart(moved, by_batch), _Hundred(), "moved", "right")
    assert (found.metric, found.value) == ("disagreement", moved / 100)
    assert found.noticed == pytest.approx(moved / 10)
    # Two batches are root 2 times as far apart as one is from the population.
    assert found.real == pytest.approx(moved / (2**0.5 * by_batch))
    assert found.matters == matters
