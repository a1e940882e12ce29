"""What mends a model: remedies tried on other samples, the best chosen, and written into a copy."""

import numpy as np
import pytest

from bnlab.doctor.diagnosis import Cause, Diagnosis, Remedy
from bnlab.doctor.examination import Examination
from bnlab.doctor.mend import MendError, refused
from bnlab.doctor.mending import MENDINGS, TRANSDUCTIVE, best_of, candidates, tried, with_epsilon
from bnlab.science.moments import Moments
from tests.doctor.networks import charted, data_of, dense, mixture_of_start, oracle, subject_of


@pytest.fixture(scope="module")
def known():
    model = dense()
    data, population = data_of(model)
    return subject_of(model, data), data, population


@pytest.fixture(scope="module")
def sick(known):
    """Moving statistics that hold six tenths of their start."""
    subject, data, population = known
    with charted(subject, mixture_of_start(population, 0.6), data) as chart:
        yield chart


def outcomes(chart, epsilon=None):
    return {(own.name, own.split): own for own, _ in tried(chart, epsilon)}


def test_every_remedy_is_tried_on_every_part_that_it_may_be(sick):
    found = outcomes(sick, epsilon=1e-5)
    ways = [name for name in MENDINGS if name not in TRANSDUCTIVE]
    assert set(found) == {(name, split) for name in ways for split in ("train", "test")} | {
        ("test_statistics", "test")
    }
    assert all(own.writable for own in found.values())


def test_what_a_remedy_closes_by_hand(sick):
    found = outcomes(sick)["population", "train"]
    batch, before, after = (
        own.rmse
        for own in (
            sick.with_batch(sick.train),
            sick.under(sick.train, sick.moving),
            sick.under(sick.train, sick.population),
        )
    )
    assert found.metrics["rmse"] == after
    assert found.gap == pytest.approx(after - batch, rel=1e-12)
    assert found.closed == pytest.approx(1 - (after - batch) / (before - batch), rel=1e-12)
    assert found.metrics["accuracy"] == sick.under(sick.train, sick.population).accuracy


def test_a_gap_that_is_none_is_not_closed(known):
    subject, data, population = known
    with charted(subject, population, data) as chart:
        found = outcomes(chart)
        assert {own.closed for own in found.values() if own.split == "train"} == {None}
        # Without its start it is what it was.
        assert not any(name == "zero_debias" for name, _ in found)


def test_statistics_that_hold_nothing_but_their_start_cannot_be_debiased(known):
    subject, data, population = known
    with charted(subject, mixture_of_start(population, 1.0), data) as chart:
        assert not any(name == "zero_debias" for name, _ in outcomes(chart))


def test_an_epsilon_for_another(sick):
    found = with_epsilon(sick, {"one": Moments(np.zeros(3), np.array([0.0, 0.5, 2.0]))}, 0.1)
    # The layers' own is 1e-3.
    np.testing.assert_allclose(found["one"].variance, [0.099, 0.599, 2.099], rtol=1e-12)
    less = with_epsilon(sick, {"one": Moments(np.zeros(2), np.array([5e-4, 1.0]))}, 1e-5)
    np.testing.assert_allclose(less["one"].variance, [0, 1 - 0.00099], rtol=1e-12)
    assert "epsilon" not in candidates(sick, None)
    own = candidates(sick, 0.1)["epsilon"]()
    np.testing.assert_allclose(own["two"].variance, sick.moving["two"].variance + 0.099, rtol=1e-6)


def remedy(name, rmse, split="train"):
    return Remedy(name, split, {"rmse": rmse}, 0.0, None, True, 0.0)


def test_the_best_is_the_first_that_is_not_noticeably_worse_and_makes_a_difference(sick):
    ways = {
        "population": sick.population,
        "mean_moments": sick.means,
        "zero_debias": sick.moving,
        "test_statistics": sick.of_test,
    }
    listed = [
        remedy("zero_debias", 0.1),  # no difference at all
        remedy("population", 0.3),
        remedy("mean_moments", 0.2),
        remedy("test_statistics", 0.0, "test"),
        remedy("population", 0.01, "test"),
    ]
    assert best_of(sick, listed, ways) == "population", "mean moments have less error, but not noticeably"
    assert best_of(sick, listed[:2], ways) == "population"
    assert best_of(sick, listed[:1], ways) is None
    assert best_of(sick, [], {}) is None


def test_what_is_found_best_brings_the_model_to_its_population(sick, known):
    listed = list(tried(sick, None))
    ways = {own.name: statistics for own, statistics in listed}
    name = best_of(sick, [own for own, _ in listed], ways)
    assert name in ("population", "mean_moments", "zero_debias")
    model, _, population = known[0].model, *known[1:]
    logits = oracle(model, sick.train.x, ways[name])[0]
    wanted = oracle(model, sick.train.x, population)[0]
    agree = (logits.argmax(-1) == wanted.argmax(-1)).mean()
    assert agree > 0.9
    assert agree > (sick.outputs(sick.train, sick.moving)[0].argmax(-1) == wanted.argmax(-1)).mean()


def found(verdict, mendings=(), best=None, causes=()):
    return Examination(Diagnosis(verdict, (), causes=causes), {name: {} for name in mendings}, best)


CAUSE = Cause("tiny_batch", "", 0.9, (), "", "train with larger batches", False)


@pytest.mark.parametrize(
    ("own", "remedy", "said"),
    [
        (found("healthy"), "population", "the verdict is healthy, and nothing is written"),
        (found("nothing to examine"), None, "the verdict is nothing to examine, and nothing is written"),
        (
            found("sick", ("population",), None, (CAUSE,)),
            None,
            "no statistics of the training data mend these weights, and nothing is written; "
            "train with larger batches",
        ),
        (found("sick", ("population",), "population"), None, ""),
    ],
)
def test_what_cannot_be_mended_is_told(own, remedy, said):
    assert refused(own, remedy) == said


def test_a_remedy_that_was_not_tried_is_an_error():
    said = r"^--remedy must be one that was tried \(population, zero_debias\), got prayer$"
    with pytest.raises(MendError, match=said):
        refused(found("sick", ("population", "zero_debias")), "prayer")
