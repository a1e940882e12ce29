"""What is wrong with a model, on scores that are chosen: batches of 8, 64 samples, errors known by hand."""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest

from bnlab.doctor.certain import at_start
from bnlab.doctor.findings import Findings
from bnlab.doctor.fitted import small_batches
from bnlab.doctor.verdict import complaints
from bnlab.science.moments import Moments
from bnlab.science.scores import Scores

SAMPLES, SIZE = 64, 8


def scores(error, spread=0.0):
    """Squared errors of a mean, that differ from batch to batch by a spread, and within none."""
    batches = np.where(np.arange(SAMPLES // SIZE) % 2, 1.0, -1.0)
    squared = error + spread * np.repeat(batches, SIZE)
    return Scores(squared, np.full(SAMPLES, np.nan), squared)


def layers(mean):
    return {"one": Moments(np.array([mean]), np.ones(1))}


@dataclass
class Chart:
    """A model of one layer, whose population has mean 0: scores by what normalizes it."""

    given: dict
    moving_mean: float
    size: int = SIZE
    train: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(name="train"))
    subject: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(
            epsilons={"one": 0.0}, named={}, layers=["one"], moments=lambda x, size, stochastic: layers(0.0)
        )
    )
    x = None
    facts: dict = field(default_factory=dict)

    def __post_init__(self):
        self.moving, self.population = layers(self.moving_mean), layers(0.0)
        self.splits = (self.train,)

    def under(self, _, statistics):
        return self.given["moving" if statistics is self.moving else "population"]

    def with_batch(self, _, size=None):
        return self.given["batch" if size is None else "few"]

    def scorer(self, _):
        return SimpleNamespace(labelled=True)

    def average(self, statistics):
        return statistics


def found(**own):
    signs = dict.fromkeys(("broken", "not_finite", "negative", "at_start", "vanished", "half", "leaks"), ())
    numbers = ("distance", "noise", "log_variance", "test_distance", "test_noise", "calls_apart")
    return Findings(**signs, **dict.fromkeys(numbers, 0.0), **own)


def complaints_of(moving, batch, population, mean=0.1):
    """One batch lies a hundredth of a squared deviation away, which a mean of .1 is as well."""
    chart = Chart({"moving": moving, "batch": batch, "population": population}, mean)
    return [own.what for own in complaints(chart, found(one_batch=0.011), ())]


def test_statistics_that_are_as_good_as_a_batchs_have_nothing_to_complain_of():
    better = scores(0.5)
    assert complaints_of(scores(1.0), scores(1.0), better) == []
    # Further away than a batch (.2^2 = .04), or worse than phase true: either is enough.
    assert complaints_of(scores(1.0), scores(1.0), better, mean=0.2) == ["statistics"]
    assert complaints_of(scores(1.0), scores(0.9), better) == ["statistics"]


def test_weights_that_do_well_with_their_moving_statistics_alone_are_not_accused_of_their_batches():
    # The population is worse than batches, and the moving statistics are not.
    assert complaints_of(scores(1.0), scores(1.0), scores(2.0)) == []
    assert complaints_of(scores(2.0), scores(1.0), scores(2.0)) == ["gap", "batches"]


def test_a_gap_within_the_error_of_the_batches_is_none():
    # Eight batches of 1 +- 3: their standard error is root(9 / 7) = 1.13, and 1 is less than three of those.
    assert complaints_of(scores(10.0, 3.0), scores(9.0), scores(10.0, 3.0)) == []


@pytest.mark.parametrize(
    ("moving", "population", "suspected"), [(2.0, 2.0, True), (1.0, 2.0, False), (2.0, 1.0, False)]
)
def test_small_batches_are_suspected_where_both_fixed_statistics_do_worse(
    monkeypatch, moving, population, suspected
):
    monkeypatch.setattr("bnlab.doctor.fitted.has_learned", lambda chart: True)
    chart = Chart({"moving": scores(moving), "population": scores(population), "few": scores(1.0)}, 0.1)
    names = [own.name for own in small_batches(chart, found(one_batch=0.011))]
    assert names == (["tiny_batch", "tiny_batch"] if suspected else [])


@pytest.mark.parametrize(("batch", "population"), [(1.0, 2.0), (2.0, 1.0), (1.0, 1.0)])
def test_weights_that_do_better_with_the_start_were_trained_with_it(monkeypatch, batch, population):
    monkeypatch.setattr("bnlab.doctor.certain.has_learned", lambda chart: True)
    given = {"moving": scores(1.0), "batch": scores(batch), "population": scores(population)}
    signs = replace(found(one_batch=0.011), at_start=("one",))
    names = [own.name for own in at_start(Chart(given, 0.0), signs)]
    assert names[-2:] == ["never_updated", "not_restored"]
    # Better than with either of the others is enough.
    assert ("trained_with_phase_false" in names) == (max(batch, population) > 1)
