"""Where a gap comes from: parts that add up to it, each moved by its own cause."""

import numpy as np
import pytest

from bnlab.doctor.data import Data
from bnlab.doctor.findings import leaks
from bnlab.doctor.parts import LINKS, attributed, debiased, parts, start
from bnlab.science.gap import gap
from tests.doctor.networks import charted, data_of, dense, mixture_of_start, subject_of


@pytest.fixture(scope="module")
def known():
    model = dense()
    data, population = data_of(model)
    return subject_of(model, data), data, population


def whole(chart, split, leaks=()):
    before = chart.scorer(split).scores(chart.deployed(split, leaks[0].phase)) if leaks else None
    return gap(before or chart.under(split, chart.moving), chart.with_batch(split), chart.size)["rmse"].value


def of(chart, split, leaks=()):
    return {own.cause: own for own in parts(chart, split, leaks)}


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_parts_add_up_to_the_gap(known, share):
    subject, data, population = known
    with charted(subject, mixture_of_start(population, share), data) as chart:
        for split in chart.splits:
            found = of(chart, split)
            assert list(found) == [link for link in LINKS if link != "deployment"]
            # A sum of seven float64 numbers.
            assert sum(own.value for own in found.values()) == pytest.approx(whole(chart, split), abs=1e-12)
            assert found["dropout"].value == 0
            assert {own.split for own in found.values()} == {split.name}


def test_the_start_that_is_left_is_lag_and_nothing_else(known):
    subject, data, population = known
    with charted(subject, population, data) as chart:
        healthy = of(chart, chart.train)
    with charted(subject, mixture_of_start(population, 0.4), data) as chart:
        sick = of(chart, chart.train)
    assert sick["lag"].value > 5 * sick["lag"].standard_error > 0
    # The grid's nearest share is .4 itself; statistics of 1,024 samples are not those of the 512 fitted to.
    assert sick["noise"].value == pytest.approx(healthy["noise"].value, abs=2e-3)
    for cause in ("bias", "dropout", "shift", "batch"):
        assert sick[cause] == healthy[cause]


def test_other_test_inputs_are_shift_on_the_test_part_alone(known):
    subject, data, population = known
    moved = Data(data.x_train, data.y_train, data.x_test + 2, data.y_test)
    with charted(subject, population, moved) as chart:
        train, test = of(chart, chart.train), of(chart, chart.test)
    assert train["shift"].value == 0
    assert test["shift"].value > 5 * test["shift"].standard_error > 0


def test_what_runs_in_inference_comes_first(known):
    subject, data, population = known
    with charted(subject, population, data) as chart:
        leak = leaks(chart)
        assert leak == []

        class Leak:
            phase = {"training": True}  # noqa: RUF012

        found = of(chart, chart.train, [Leak])
        assert next(iter(found)) == "deployment"
        assert sum(own.value for own in found.values()) == pytest.approx(0, abs=1e-6)  # it is phase true


@pytest.mark.parametrize("share", [0.02, 0.4, 0.9])
def test_the_start_is_taken_out(known, share):
    subject, data, population = known
    with charted(subject, mixture_of_start(population, share), data) as chart:
        found = debiased(chart)
    for key, own in population.items():
        # The share is known to a step of .02, or a fourth of itself: of order 1, over what is kept.
        off = min(0.02, share / 4) / (1 - share)
        np.testing.assert_allclose(found[key].mean, own.mean, atol=off * (1 + np.abs(own.mean).max()))
        np.testing.assert_allclose(found[key].variance, own.variance, atol=off * (1 + own.variance.max()))


def test_statistics_that_hold_nothing_of_the_start_are_left(known):
    subject, data, population = known
    with charted(subject, population, data) as chart:
        found = debiased(chart)
        assert all(np.array_equal(found[key].mean, chart.moving[key].mean) for key in population)
    with charted(subject, mixture_of_start(population, 1.0), data) as chart:
        assert debiased(chart) is None
        for key, own in start(chart).items():
            assert np.array_equal(own.mean, chart.moving[key].mean)
            assert np.array_equal(own.variance, chart.moving[key].variance)


def test_layers_parts_add_up_and_the_layer_that_is_off_has_the_most(known):
    subject, data, population = known
    off = {**population, "two": mixture_of_start(population, 0.95)["two"]}
    with charted(subject, off, data) as chart:
        found = attributed(chart)
        some = chart.some(np.arange(256))
        scorer = chart.scorer(some)
        before = scorer.scores(subject.fixed(some.x, chart.moving))
        after = scorer.scores(subject.in_batches(some.x))
    one, two = (own.part["rmse"] for own in found.layers)
    # Blended and plain statistics are computed in other orders: float32 rounding of the outputs.
    assert found.whole["rmse"].value == pytest.approx(before.rmse - after.rmse, abs=1e-5)
    assert one.value + two.value == pytest.approx(found.whole["rmse"].value, abs=1e-12)
    assert two.value > 3 * two.standard_error > 0
    assert abs(one.value) < two.value / 3
