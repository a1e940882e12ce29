"""Which samples are estimated from and which scored on; statistics and scores, each worked out once."""

import numpy as np
import pytest

from bnlab.doctor.chart import Chart, concatenated, content
from bnlab.doctor.data import Data
from bnlab.science.moments import Moments
from bnlab.science.scores import classifier_scores
from tests.doctor.networks import (
    BATCH,
    SAMPLES,
    charted,
    data_of,
    dense,
    mixture_of_start,
    oracle,
    subject_of,
)


@pytest.fixture(scope="module")
def known():
    """A model, its data, and the population's statistics."""
    model = dense()
    data, population = data_of(model)
    return subject_of(model, data), data, population


@pytest.fixture(scope="module")
def chart(known):
    """Its moving statistics hold four tenths of their start."""
    subject, data, population = known
    with charted(subject, mixture_of_start(population, 0.4), data) as own:
        yield own


def rows_of(chart, x):
    """The numbers of samples in the file."""
    places = {row.tobytes(): number for number, row in enumerate(chart.data.x_train)}
    return [places[row.tobytes()] for row in np.asarray(x)]


@pytest.mark.parametrize(
    ("count", "samples", "batch", "estimated", "scored"),
    [
        (1024, 1024, 32, 512, 512),  # half of it is 16 batches
        (1000, 1024, 32, 256, 744),  # 15 batches: 8 is the power of two
        (1000, 300, 32, 256, 300),  # 9 batches
        (1000, 1024, 1, 256, 744),
        (300, 1024, 32, 128, 172),  # four batches are just enough
        (255, 1024, 32, 224, 255),  # three are not: all whole batches, and all
        (100, 1024, 32, 96, 100),
        (100, 40, 32, 32, 40),
        (8, 1024, 32, 8, 8),
        (8, 1024, 3, 6, 8),
        (9, 2, 1, 2, 2),
    ],
)
def test_samples_are_parted(count, samples, batch, estimated, scored):
    x = np.arange(2.0 * count, dtype=np.float32).reshape(count, 2)

    class Any:
        batch_size = batch

    own = Chart(Any(), Data(x, np.arange(count)), samples, {})
    rows, others = rows_of(own, own.x), rows_of(own, own.train.x)
    assert (len(rows), len(others)) == (estimated, scored)
    assert len(set(rows)) == estimated
    assert len(set(others)) == scored
    assert rows == own.rows.tolist()
    assert own.train.y.tolist() == others
    few = min(samples, count // 2) // own.size < 4
    assert bool(set(rows) & set(others)) == few
    assert (own.test, own.splits) == (None, [own.train])


def test_the_same_rows_are_drawn_each_time_and_at_random(chart, known):
    subject, data, _ = known
    again = Chart(subject, data, SAMPLES, {})
    assert np.array_equal(again.rows, chart.rows)
    # The mean of 512 of the numbers to 1,023: 511.5 +- 296 / root 512 * root(1 / 2) = 9.2.
    assert chart.rows.mean() == pytest.approx(511.5, abs=3 * 9.2)


def test_the_test_split_is_no_longer_than_twice_the_sample(known):
    subject, data, _ = known
    short = Data(data.x_train[:256], None, data.x_test, data.y_test)
    own = Chart(subject, short, 128, {})
    assert (len(own.x), len(own.test)) == (128, 256)
    assert [split.name for split in own.splits] == ["train", "test"]


# Float32 in two layers of eight sums of eight numbers.
CLOSE = {"rtol": 1e-3, "atol": 1e-3}


def assert_close(one, other):
    assert list(one) == list(other)
    for key in one:
        np.testing.assert_allclose(one[key].mean, other[key].mean, **CLOSE)
        np.testing.assert_allclose(one[key].variance, other[key].variance, **CLOSE)


def test_statistics_are_those_of_the_sample(chart, known):
    model = known[0].model
    assert_close(chart.population, oracle(model, chart.x)[1])
    assert chart.fed is chart.population
    assert_close(chart.of_test, oracle(model, chart.test.x[: len(chart.x)])[1])
    for own, part in zip(chart.population_of_parts, np.split(chart.x, 4), strict=True):
        assert_close(own, oracle(model, part)[1])


def test_means_are_those_of_its_batches(chart, known):
    batches = [oracle(known[0].model, part)[1] for part in np.split(chart.x, len(chart.x) // BATCH)]
    assert chart.batches["one"].mean.shape == (16, 8)
    wanted = {
        key: Moments(*(np.mean([own[key][i] for own in batches], 0) for i in (0, 1)))
        for key in ("one", "two")
    }
    assert_close(chart.means, wanted)


def test_moving_statistics_are_those_that_the_model_holds(chart, known):
    held = mixture_of_start(known[2], 0.4)
    for key, own in chart.moving.items():
        assert np.array_equal(own.mean, np.float32(held[key].mean))
        assert np.array_equal(own.variance, np.float32(held[key].variance))


def test_scores_are_those_of_the_outputs(chart, known):
    logits, _ = oracle(known[0].model, chart.train.x, chart.moving)
    wanted = classifier_scores(logits, chart.train.y)
    found = chart.under(chart.train, chart.moving)
    assert found.accuracy == wanted.accuracy
    np.testing.assert_allclose(found.squared, wanted.squared, atol=1e-3)
    parts = np.split(chart.train.x, len(chart.train) // BATCH)
    in_batches = np.concatenate([oracle(known[0].model, part)[0] for part in parts])
    np.testing.assert_allclose(
        chart.with_batch(chart.train).squared, classifier_scores(in_batches, chart.train.y).squared, atol=1e-3
    )


def test_outputs_are_computed_once_whatever_the_statistics_are_called(chart):
    first = chart.outputs(chart.train, chart.moving)
    again = {key: Moments(own.mean.astype(np.float64), own.variance) for key, own in chart.moving.items()}
    assert chart.outputs(chart.train, again) is first
    assert chart.outputs(chart.train, chart.population) is not first
    assert chart.in_batches(chart.train) is chart.in_batches(chart.train, BATCH)
    assert content(chart.moving) != content(chart.population)


def test_some_of_the_scored_samples(chart):
    some = chart.some(np.array([3, 5]))
    assert (some.name, len(some)) == ("train 2", 2)
    assert np.array_equal(some.x, chart.train.x[[3, 5]])
    assert np.array_equal(some.y, chart.train.y[[3, 5]])


def test_a_model_as_its_owner_calls_it(chart, known):
    x = chart.train.x
    found = chart.deployed(chart.train, {"training": True})[0]
    wanted = np.concatenate([oracle(known[0].model, part)[0] for part in np.split(x, len(x) // BATCH)])
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=5e-3)
    assert np.array_equal(known[0].model.get_layer("one").moving_mean, chart.moving["one"].mean)


def test_dropout_is_stochastic_and_its_absence_is_not(chart):
    assert not chart.is_stochastic
    model = dense(dropout=0.5)
    data, population = data_of(model, 128, 16)
    with charted(subject_of(model, data), population, data) as own:
        assert own.is_stochastic
        # The mean square of numbers of which half are nothing, and half twice: twice what it was.
        off, on = own.population["one"], own.fed["one"]
        ratio = (on.variance + on.mean**2) / (off.variance + off.mean**2)
    # 128 samples of eight channels: the mean of 1,024 numbers of relative deviation 2 is known to .06.
    assert ratio.mean() == pytest.approx(2, abs=3 * 0.12)


def test_channels_of_all_layers_lie_side_by_side():
    layers = {"a": Moments(np.ones(2), np.zeros(2)), "b": Moments(np.full(1, 5), np.full(1, 6))}
    found = concatenated(layers)
    assert (found.mean.tolist(), found.variance.tolist()) == ([1, 1, 5], [0, 0, 6])
    assert found.mean.dtype == np.float64
