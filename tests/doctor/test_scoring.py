"""Outputs of every kind, scored by hand: what they are is found from the outputs and the labels."""

import numpy as np
import pytest

from bnlab.doctor.scoring import Scorer, ScoringError

CHANCES = np.array([[0.75, 0.25], [0.5, 0.5], [0.125, 0.875]])
NUMBERS = np.array([0, 0, 1])
# Squared errors, averaged over two classes: .25^2, .5^2, .125^2.
SQUARED = [0.0625, 0.25, 0.015625]
LOSSES = -np.log([0.75, 0.5, 0.875])


@pytest.mark.parametrize("form", ["probabilities", "logits"])
@pytest.mark.parametrize(
    "labels",
    [NUMBERS, NUMBERS[:, None], NUMBERS.astype(float), np.eye(2)[NUMBERS], np.eye(2, dtype=bool)[NUMBERS]],
    ids=["numbers", "a column", "float numbers", "one-hot", "bool one-hot"],
)
def test_classes(form, labels):
    outputs = CHANCES if form == "probabilities" else np.log(CHANCES) + np.array([[5.0], [0.0], [-3.0]])
    scorer = Scorer([outputs], labels)
    scores = scorer.scores([outputs])
    assert (scorer.kinds, scorer.labelled) == (("classes",), True)
    np.testing.assert_allclose(scores.squared, SQUARED, rtol=1e-12)
    np.testing.assert_allclose(scores.losses, LOSSES, rtol=1e-12)
    assert scores.correct.tolist() == [1, 1, 1]


def test_whether_outputs_are_probabilities_is_settled_by_the_first():
    # Statistics that are wrong may make anything of outputs; logits stay logits.
    scorer = Scorer([np.log(CHANCES) * 2], NUMBERS)
    assert scorer.scores([np.array([[1.0, 0.0]] * 3)]).rmse == pytest.approx(
        np.sqrt((2 * (1 / (1 + np.e)) ** 2 + (np.e / (1 + np.e)) ** 2) / 3), rel=1e-12
    )


def test_probabilities_in_half_precision_are_probabilities():
    rng = np.random.default_rng(0)
    chances = rng.dirichlet(np.ones(100), 20).astype(np.float16)
    labels = rng.integers(0, 100, 20)
    wanted = -np.log(np.maximum(chances[np.arange(20), labels].astype(np.float64), 1e-7))
    # Sums of 100 rounded numbers are off by less than 100 * 2^-11 / 100.
    np.testing.assert_allclose(Scorer([chances], labels).scores([chances]).losses, wanted, atol=1e-3)


def test_a_probability_of_zero_has_a_finite_loss():
    sure = np.array([[1.0, 0.0]])
    # The least probability is 1e-7, beside 1.
    loss = Scorer([sure], np.array([1])).scores([sure]).loss
    assert loss == pytest.approx(-np.log(1e-7 / (1 + 1e-7)), rel=1e-12)


@pytest.mark.parametrize("form", ["probabilities", "logits"])
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_yes_or_no(form, shape):
    chances = np.array([0.75, 0.25, 0.5, 0.9]).reshape(-1, 1)
    outputs = chances if form == "probabilities" else np.log(chances / (1 - chances))
    scorer = Scorer([outputs], np.array([1, 1, 0, 1]).reshape(shape))
    scores = scorer.scores([outputs])
    assert scorer.kinds == ("yes or no",)
    np.testing.assert_allclose(scores.squared, [0.0625, 0.5625, 0.25, 0.01], rtol=1e-9)
    np.testing.assert_allclose(scores.losses, -np.log([0.75, 0.25, 0.5, 0.9]), rtol=1e-9)
    assert scores.correct.tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_values(shape):
    outputs, labels = np.array([[1.0], [2.0], [5.0]]), np.array([1.0, 0.0, 2.0]).reshape(shape)
    scorer = Scorer([outputs], labels)
    scores = scorer.scores([outputs])
    assert scorer.kinds == ("values",)
    assert scores.squared.tolist() == scores.losses.tolist() == [0, 4, 9]
    assert np.isnan(scores.accuracy)


def test_values_of_several_numbers_each():
    outputs = np.array([[1.0, 2.0], [3.0, -4.0]])
    scores = Scorer([outputs], np.array([[1.0, 0.0], [0.0, 0.0]])).scores([outputs])
    assert scores.squared.tolist() == [2.0, 12.5]


def test_a_class_for_every_pixel():
    outputs = np.log(np.array([[[0.75, 0.25], [0.5, 0.5]], [[0.25, 0.75], [0.125, 0.875]]]))
    labels = np.array([[0, 1], [0, 1]])
    for own in (labels, labels[..., None], np.eye(2)[labels]):
        scorer = Scorer([outputs], own)
        scores = scorer.scores([outputs])
        assert scorer.kinds == ("classes",)
        assert scores.correct.tolist() == [0.5, 0.5]
        np.testing.assert_allclose(scores.squared, [(0.0625 + 0.25) / 2, (0.5625 + 0.015625) / 2], rtol=1e-12)


def test_several_outputs_are_averaged():
    values = np.array([[1.0], [2.0], [3.0]])
    scorer = Scorer([CHANCES, values], (NUMBERS, np.array([1.0, 0.5, 1.5])))
    scores = scorer.scores([CHANCES, values])
    assert scorer.kinds == ("classes", "values")
    np.testing.assert_allclose(scores.squared, np.add(SQUARED, [0, 2.25, 2.25]) / 2, rtol=1e-12)
    assert np.isnan(scores.accuracy)
    both = Scorer([CHANCES, CHANCES], {"a": NUMBERS, "b": 1 - NUMBERS})
    assert both.scores([CHANCES, CHANCES]).accuracy == 0.5  # all right, and none


def test_without_labels_the_outputs_stand_in():
    scorer = Scorer([CHANCES], None)
    assert (scorer.kinds, scorer.labelled) == (("classes",), False)
    same = scorer.scores([CHANCES])
    assert (same.rmse, same.accuracy) == (0.0, 1.0)
    other = scorer.scores([CHANCES[:, ::-1]])
    assert other.squared.tolist() == [0.25, 0.0, 0.5625]
    assert other.correct.tolist() == [0, 1, 0]
    single = Scorer([CHANCES[:, :1]], None)
    assert single.kinds == ("values",)
    assert np.isnan(single.scores([CHANCES[:, :1]]).accuracy)


def test_the_reference_is_not_changed_with_the_array_it_was_made_from():
    outputs = CHANCES.copy()
    scorer = Scorer([outputs.astype(np.float32)], None)
    outputs[:] = 0
    assert scorer.scores([CHANCES]).rmse == 0


def test_disagreement():
    turned = CHANCES[:, ::-1]
    assert Scorer([CHANCES], NUMBERS).disagreement([CHANCES], [turned]) == pytest.approx(2 / 3)
    yes = np.array([[0.6], [0.4], [0.9]])
    assert Scorer([yes], np.array([1, 0, 1])).disagreement([yes], [1 - yes]) == 1
    logits = np.array([[2.0], [-1.0], [3.0]])
    own = Scorer([logits], np.array([1, 0, 1]))
    assert own.disagreement([logits], [logits - 2.5]) == pytest.approx(1 / 3)
    values = np.array([[0.0], [2.0], [4.0]])
    # Off by 1 where the deviation is the root of 8 / 3.
    found = Scorer([values], np.array([0.5, 0, 9])).disagreement([values + 1], [values])
    assert found == pytest.approx(np.sqrt(3 / 8))


@pytest.mark.parametrize(
    ("outputs", "labels", "said"),
    [
        ([CHANCES], (NUMBERS, NUMBERS), "labels must be one array for each of the 1 outputs, got 2"),
        ([CHANCES, CHANCES], NUMBERS, "labels must be one array for each of the 2 outputs, got 1"),
        ([CHANCES], NUMBERS + 1, r"as numbers of classes or as values, got \(n\)"),
        ([CHANCES], NUMBERS - 1, r"labels must fit outputs of shape \(n, 2\), as numbers"),
        ([CHANCES], NUMBERS + 0.5, r"labels must fit outputs of shape \(n, 2\)"),
        ([CHANCES], np.zeros((3, 4)), r"got \(n, 4\)"),
        ([CHANCES[:, :1]], np.zeros((3, 2)), r"of shape \(n, 1\), .*, got \(n, 2\)"),
    ],
)
def test_labels_that_do_not_fit_are_refused(outputs, labels, said):
    with pytest.raises(ScoringError, match=said):
        Scorer(outputs, labels)


@pytest.mark.parametrize("lost", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("labels", [NUMBERS, np.zeros((3, 2)) + 0.3, None], ids=["classes", "values", "none"])
def test_outputs_that_are_no_numbers_have_no_score(lost, labels):
    scorer = Scorer([np.log(CHANCES)], labels)
    outputs = np.log(CHANCES)
    outputs[1] = [lost, 0.0]
    scores = scorer.scores([outputs])
    assert np.isfinite(scores.squared).tolist() == [True, False, True]
    assert np.isnan(scores.rmse)
    assert np.isnan(scorer.disagreement([outputs], [np.log(CHANCES)])) == (scorer.kinds == ("values",))
