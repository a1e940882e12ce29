"""Every sign on a network that has it, and on none that has not."""

import keras
import numpy as np
import pytest
from keras import layers

from bnlab.doctor.findings import bare_leaks, examine_signs
from bnlab.science.mixtures import apart
from bnlab.science.moments import Moments
from tests.doctor.networks import (
    BATCH,
    blobs,
    charted,
    data_of,
    dense,
    mixture_of_start,
    oracle,
    scramble,
    subject_of,
)


@pytest.fixture(scope="module")
def known():
    model = dense()
    data, population = data_of(model, 256, 64)
    return subject_of(model, data), data, population


@pytest.fixture(scope="module")
def signs(known):
    """Look for signs, with other moving statistics and perhaps other data."""
    subject, own_data, population = known

    def looked(change, data=own_data):
        with charted(subject, change(population), data) as chart:
            return examine_signs(chart), chart

    return looked


def only(population, key, **changes):
    """Change one layer's statistics."""
    return {**population, key: population[key]._replace(**changes)}


@pytest.fixture(scope="module")
def right(signs):
    return signs(dict)


def test_a_model_with_its_populations_statistics_has_no_sign(right):
    found, _ = right
    assert (
        found.not_finite
        == found.negative
        == found.at_start
        == found.vanished
        == found.half
        == found.leaks
        == ()
    )
    assert found.calls_apart == 0
    assert found.distance < found.noise < found.one_batch
    assert abs(found.log_variance) < 0.05
    assert found.test_distance < found.one_batch


def test_distances_are_those_of_plain_numpy(right, known):
    found, chart = right
    model, held = known[0].model, known[2]
    epsilons = dict.fromkeys(("one", "two"), 1e-3)
    population = oracle(model, chart.x)[1]
    # Float32 statistics are off by 1e-4 of a deviation; the distance's slope there is twice its root.
    close = {"rel": 5e-3, "abs": 1e-6}
    assert found.distance == pytest.approx(apart(held, population, epsilons), **close)
    batches = [oracle(model, part)[1] for part in np.split(chart.x, len(chart.x) // BATCH)]
    means = {
        key: Moments(*(np.mean([own[key][i] for own in batches], 0) for i in (0, 1))) for key in population
    }
    one_batch = np.mean([apart(own, means, epsilons) for own in batches])
    assert found.one_batch == pytest.approx(one_batch, **close)
    parts = [oracle(model, part)[1] for part in np.split(chart.x, 4)]
    pairs = [apart(parts[a], parts[b], epsilons) for a in range(4) for b in range(a)]
    # Two quarters are apart by twice a quarter's variance: the whole sample's is a fourth of that.
    assert found.test_noise == pytest.approx(np.mean(pairs) / 4, **close)
    # An average at .99 is one of 199 batches.
    assert found.noise == pytest.approx(one_batch / 199 + np.mean(pairs) / 4, **close)
    ratios = [np.log((held[k].variance + 1e-3) / (population[k].variance + 1e-3)) for k in population]
    assert found.log_variance == pytest.approx(np.mean(ratios), abs=1e-4)
    own_test = apart(oracle(model, chart.test.x)[1], population, epsilons)
    assert found.test_distance == pytest.approx(own_test, **close)


def test_statistics_at_their_start(signs):
    found, _ = signs(lambda own: mixture_of_start(own, 1.0))
    assert found.at_start == ("one", "two")
    found, _ = signs(lambda own: only(own, "two", mean=np.zeros(8), variance=np.ones(8)))
    assert found.at_start == ("two",)
    found, _ = signs(lambda own: only(own, "two", mean=np.zeros(8)))
    assert found.at_start == ()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("part", ["mean", "variance"])
def test_statistics_that_are_not_finite(signs, bad, part):
    def spoilt(own):
        values = getattr(own["one"], part).copy()
        values[3] = bad
        return only(own, "one", **{part: values})

    found, _ = signs(spoilt)
    assert found.not_finite == ("one",)
    assert not np.isfinite(found.distance)


def test_variances_that_have_vanished(signs):
    # The limit is a thousandth; variances of 128 samples are known to root(2 / 128) = 12 %.
    found, _ = signs(lambda own: only(own, "one", variance=own["one"].variance * 0.5e-3))
    assert found.vanished == ("one",)
    found, _ = signs(lambda own: only(own, "one", variance=own["one"].variance * 2e-3))
    assert found.vanished == ()
    # One channel of eight is more than a tenth.
    found, _ = signs(lambda own: only(own, "one", variance=own["one"].variance * ([1] + 7 * [0])))
    assert found.vanished == ()


def test_numbers_of_half_precision(signs):
    def halved(own):
        return {key: Moments(*(np.float16(part) for part in values)) for key, values in own.items()}

    assert signs(halved)[0].half == ("one", "two")
    assert signs(lambda own: {**own, "two": halved(own)["two"]})[0].half == ("two",)
    # The start is made of such numbers, and no sign of it.
    assert signs(lambda own: mixture_of_start(own, 1.0))[0].half == ()


def test_statistics_kept_in_half_precision():
    keep = {"dtype": "float16"}
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(4, **keep), layers.BatchNormalization(name="norm", **keep)]
    )
    scramble(model)
    data = data_like(blobs(64, 1))
    with charted(subject_of(model, data), {"norm": Moments(np.zeros(4), np.ones(4))}, data) as chart:
        assert model.layers[1].moving_mean.dtype == "float16"
        found = examine_signs(chart)
    assert found.half == ("norm",)
    assert found.leaks == (), "outputs in half precision differ by its rounding"


def data_like(x):
    from bnlab.doctor.data import Data

    return Data(x)


class Own(keras.Model):
    """A model that calls its normalization in a phase of its own choice."""

    def __init__(self, phase):
        super().__init__()
        self.phase = phase
        self.first, self.norm = layers.Dense(4), layers.BatchNormalization(name="norm")

    def call(self, x, training=None):
        return self.norm(self.first(x), training=self.phase(training))


LEAKS = {
    "always": (lambda _: True, True, True),
    "unless told": (lambda training: training is None or training, False, True),
    "never": (lambda _: False, False, False),
    "as told": (bool, False, False),
}


@pytest.mark.parametrize("name", LEAKS)
def test_batch_statistics_in_inference(name):
    phase, in_predict, bare = LEAKS[name]
    model, data = Own(phase), data_like(blobs(128, 1))
    model(data.x_train[:2], training=False)
    scramble(model)
    with charted(subject_of(model, data), {"norm": Moments(np.zeros(4), np.ones(4))}, data) as chart:
        before = [np.array(own) for own in model.variables]
        found = examine_signs(chart)
        without = bare_leaks(chart)
        assert all(np.array_equal(a, b) for a, b in zip(before, model.variables, strict=True))
    assert [leak.how for leak in found.leaks] == ["predict(x)"] * in_predict
    assert [leak.how for leak in without] == ["model(x)"] * bare
    for leak in (*found.leaks, *without):
        assert [path.split("/")[-1] for path in leak.changed] == ["moving_mean", "moving_variance"]
        # Half of 64 samples have means that are 1 / root 64 of a deviation off: that moves all outputs.
        assert 0.02 < leak.differs < 0.6
        assert leak.phase == ({} if leak.how == "model(x)" else {"training": False})


def test_calls_of_a_shared_layer():
    norm, x = layers.BatchNormalization(name="shared"), keras.Input((6,))

    def looked(scale):
        model, data = keras.Model(x, layers.Add()([norm(x), norm(x * scale)])), data_like(blobs(128, 1))
        with charted(subject_of(model, data), {"shared": Moments(np.zeros(6), np.ones(6))}, data) as chart:
            return examine_signs(chart).calls_apart, chart

    assert looked(1.0)[0] == 0
    found, chart = looked(3.0)
    mean, variance = chart.x.mean(0, np.float64), chart.x.var(0, dtype=np.float64)
    shift = (2 * mean) ** 2 / (5 * variance + 1e-3)
    logs = np.log((9 * variance + 1e-3) / (variance + 1e-3)) ** 2 / 2
    assert found == pytest.approx((shift + logs).mean(), rel=1e-4)


def test_without_a_test_part_there_is_no_distance_of_it(signs, known):
    found, _ = signs(dict, data_like(known[1].x_train))
    assert np.isnan(found.test_distance)
    assert np.isfinite(found.distance)


def test_averages_of_renormalization_are_no_weights():
    model = dense(norm=lambda **own: layers.BatchNormalization(renorm=True, **own))
    data, population = data_of(model, 256, 64)
    model.get_layer("one").renorm_mean.assign(np.full(8, np.nan))
    with charted(subject_of(model, data), population, data) as chart:
        assert examine_signs(chart).broken == ()
    beta = model.get_layer("one").beta
    beta.assign(np.full(8, np.inf))
    with charted(subject_of(model, data), population, data) as chart:
        assert examine_signs(chart).broken == (beta.path,)
