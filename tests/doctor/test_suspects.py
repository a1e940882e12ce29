"""Every cause on statistics that it made: it comes first; and whether a model is sick."""

import keras
import numpy as np
import pytest
from keras import layers

from bnlab.doctor.catalogue import CATALOGUE
from bnlab.doctor.data import Data
from bnlab.doctor.drift import drift
from bnlab.doctor.findings import examine_signs
from bnlab.doctor.inputs import other_sources
from bnlab.doctor.suspect import FACT, Suspect
from bnlab.doctor.suspects import NONE_OF_THESE, epsilon_of, ranked, suspects
from bnlab.doctor.verdict import complaints
from bnlab.science.mixtures import blend, fit, mixed
from bnlab.science.moments import Moments
from tests.doctor.networks import BATCH, blobs, charted, data_of, dense, mixture_of_start, oracle, subject_of


@pytest.fixture(scope="module")
def known():
    model = dense()
    data, population = data_of(model)
    return subject_of(model, data), data, population


class Found:
    """What is found of a subject with other moving statistics, and perhaps other data."""

    def __init__(self, subject, statistics, data, **facts):
        with charted(subject, statistics, data, **facts) as chart:
            self.signs = examine_signs(chart)
            self.named, self.missed = suspects(chart, self.signs)
            self.wrong = complaints(chart, self.signs, self.named)
            self.fed, self.moving = chart.fed, chart.moving
        self.first = self.named[0]
        self.by_name = {own.name: own for own in self.named}
        self.is_sick = bool(self.wrong)


@pytest.fixture(scope="module")
def found(known):
    subject, own_data, population = known

    def looked(change, data=own_data, **facts):
        return Found(subject, change(population), data, **facts)

    return looked


def batches_of(model, x, size=BATCH):
    """Mean moments of batches."""
    parts = [oracle(model, x[n : n + size])[1] for n in range(0, len(x) - size + 1, size)]
    return blend(parts, np.ones(len(parts)))


def test_the_populations_own_statistics_are_healthy(found):
    own = found(dict)
    assert not own.is_sick
    # Within what sampling makes, not even weights that moved are suspected.
    assert all(one.strength < 1 for one in own.named)
    assert not {"hot", "weights_changed"} & set(own.by_name)


@pytest.mark.parametrize(("share", "steps"), [(0.4, 91), (0.7, None), (0.2, 160)])
def test_an_average_that_has_not_arrived(found, share, steps):
    own = found(lambda population: mixture_of_start(population, share), iterations=steps)
    assert own.is_sick
    assert own.first.name == "not_arrived"
    start = {key: Moments(np.zeros(8), np.ones(8)) for key in ("one", "two")}
    mixture = fit(own.moving, own.fed, start, dict.fromkeys(start, 1e-3))
    # Half a step of .02, and the population of 512 samples: it is known to a twentieth of a deviation.
    assert mixture.share == pytest.approx(share, abs=0.03)
    assert mixture.explained > 0.98
    assert f"{mixture.share:.2g} of the start" in own.first.evidence[0]
    if steps:  # .99^91 = .4, .99^160 = .2
        assert f"0.99^{steps} = {0.99**steps:.2g}" in own.first.evidence[1]


def test_steps_that_do_not_fit_speak_against_it(found):
    fits, not_so = (
        found(lambda population: mixture_of_start(population, 0.4), iterations=steps).by_name["not_arrived"]
        for steps in (91, 5000)
    )
    assert fits.strength > not_so.strength


@pytest.mark.parametrize("kind", ["zeros", "ones"])
def test_a_dummy_pass(found, known, kind):
    blank = np.full((BATCH, 6), float(kind == "ones"))
    other = oracle(known[0].model, blank)[1]
    own = found(lambda population: mixed(population, other, 0.5))
    assert own.is_sick
    assert own.first.name == "dummy_pass"
    assert f"of what a batch of {kind} gives" in own.first.evidence[0]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_statistics_of_before_the_first_step(found, share):
    own = found(lambda population: mixture_of_start(population, 1.0), iterations=int(share * 500))
    assert own.is_sick
    assert {own.first.name, own.named[1].name} == {"never_updated", "not_restored"}
    assert own.first.name == ("never_updated" if share else "not_restored")
    assert "2 of 2 layers hold mean 0 and variance 1, exactly" in own.first.evidence


def test_one_layer_at_its_start_was_not_restored(found):
    own = found(lambda population: {**population, "two": mixture_of_start(population, 1.0)["two"]})
    assert own.first.name == "not_restored"
    assert "1 of 2 layers" in own.first.evidence[0]


def test_weights_that_were_trained_with_phase_false(known):
    subject, data, population = known
    start = mixture_of_start(population, 1.0)
    logits = [oracle(subject.model, x, start)[0] for x in (data.x_train, data.x_test)]
    labels = [own.argmax(-1) for own in logits]
    own = Found(subject, start, Data(data.x_train, labels[0], data.x_test, labels[1]), iterations=900)
    assert own.first.name == "trained_with_phase_false"
    assert {one.what for one in own.wrong} == {"unfit"}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_statistics_that_are_not_finite(found, bad):
    def spoilt(population):
        mean = population["one"].mean.copy()
        mean[2] = bad
        return {**population, "one": population["one"]._replace(mean=mean)}

    own = found(spoilt)
    assert own.is_sick
    assert own.first == Suspect("not_finite", 10 * FACT, ("moving statistics of one are NaN or infinite",))
    assert "not_arrived" not in own.by_name


@pytest.mark.parametrize("layer", ["first", "last"])
def test_weights_that_are_not_finite(layer):
    model = dense()
    data, population = data_of(model)
    kernel = np.array(model.get_layer(layer).kernel)
    kernel[0, 0] = np.nan
    model.get_layer(layer).kernel.assign(kernel)
    own = Found(subject_of(model, data), population, data)
    assert own.is_sick
    said = f"1 of 14 weights are NaN or infinite: {model.get_layer(layer).kernel.path}"
    assert own.first == Suspect("weights_not_finite", 100 * FACT, (said,))


def test_half_precision(found):
    own = found(lambda population: {k: Moments(*map(np.float16, v)) for k, v in population.items()})
    assert own.first.name == "half_precision"
    assert not own.is_sick, "it does no harm here"


def test_batches_of_one_sample(found, known):
    subject, data, _ = known
    own = found(lambda _: batches_of(subject.model, data.x_train[:256], 1))
    assert own.is_sick
    assert own.first.name == "tiny_batch"
    assert "variances of one, two have gone to 0" in own.first.evidence[0]


@pytest.mark.parametrize("factor", [255.0, 1 / 255])
def test_a_file_whose_inputs_are_scaled_otherwise(found, known, factor):
    _, data, _ = known
    scaled = Data(
        data.x_train * np.float32(factor), data.y_train, data.x_test * np.float32(factor), data.y_test
    )
    own = found(dict, scaled)
    assert own.is_sick
    assert own.first.name == "preprocessing"
    change = "divided by 255" if factor > 1 else "times 255"
    # A line of any scale may fit better by a hair.
    scale = f"times {1 / factor:.2g}"[:9]
    assert f"with inputs {change}" in own.first.evidence[0] or f"with inputs {scale}" in own.first.evidence[0]


def test_test_inputs_that_are_prepared_otherwise(found, known):
    _, data, _ = known
    own = found(dict, Data(data.x_train, data.y_train, data.x_test * 255, data.y_test))
    assert own.is_sick
    assert own.first.name == "preprocessing"
    assert own.first.harms
    mean = data.x_test.mean() * 255
    assert f"test inputs have mean {mean:.3g}" in own.first.evidence[2]


@pytest.fixture(scope="module")
def parted():
    """Labels that are the kinds of `blobs`, which lie well apart."""
    model = dense()
    x, y = blobs(1024, 1), np.random.default_rng(1).permutation(1024) % 3
    return subject_of(model, Data(x, y)), x, y


def test_batches_of_one_class_each(parted):
    subject, x, y = parted
    of_class = [batches_of(subject.model, x[y == number]) for number in range(3)]
    own = Found(subject, blend(of_class, [0, 1, 2]), Data(x, y))
    assert own.first.name == "unshuffled"
    assert "has class 2" in own.first.evidence[1]


def test_half_of_a_sorted_file(parted):
    subject, x, y = parted
    order = np.argsort(y, kind="stable")
    held = batches_of(subject.model, x[order][512:])
    own = Found(subject, held, Data(x[order]))
    assert own.first.name == "unshuffled"
    assert "one stretch of the file each" in own.first.evidence[0]


def test_an_average_that_forgets_at_once():
    model = dense(momentum=0.01)
    data, _ = data_of(model)
    own = Found(subject_of(model, data), oracle(model, data.x_train[:BATCH])[1], data)
    assert own.is_sick
    assert own.first.name == "momentum_reversed"
    assert "an average of 1 batches" in own.first.evidence[0]


def test_dropout_before_a_normalization():
    model = dense(dropout=0.5)
    data, _ = data_of(model)
    rng = np.random.default_rng(0)
    kernel, bias = (np.array(own, np.float64) for own in model.get_layer("first").get_weights())
    dropped = (data.x_train @ kernel + bias) * 2 * (rng.random((1024, 8)) < 0.5)
    one = Moments(dropped.mean(0), dropped.var(0))
    layer, second = model.get_layer("one"), model.get_layer("second")
    x = (dropped - one.mean) / np.sqrt(one.variance + 1e-3) * np.array(layer.gamma) + np.array(layer.beta)
    kernel, bias = (np.array(own, np.float64) for own in second.get_weights())
    x = np.maximum(x, 0) @ kernel + bias
    own = Found(subject_of(model, data), {"one": one, "two": Moments(x.mean(0), x.var(0))}, data)
    assert own.first.name == "dropout_shift"
    assert own.signs.distance < own.signs.one_batch


@pytest.mark.parametrize("factor", [0.3, 0.2])
def test_another_epsilon(factor):
    trained, model = dense(epsilon=0.1), dense(epsilon=1e-5)
    # Variances of a tenth, or less, of what they were: epsilon is as large; at .2 only outputs under the
    # right one fit their labels.
    for layer in ("first", "second"):
        for own in (trained, model):
            own.get_layer(layer).set_weights([factor * part for part in own.get_layer(layer).get_weights()])
    data, population = data_of(trained)
    own = Found(subject_of(model, data), population, data)
    assert own.first.name == "epsilon"
    assert own.first.harms
    assert own.first.epsilon == epsilon_of(own.named) == 0.1
    assert "epsilon" in {one.what for one in own.wrong}


def test_calls_of_a_shared_layer_that_are_apart():
    norm, x = layers.BatchNormalization(name="shared"), keras.Input((6,))
    model = keras.Model(x, layers.Dense(3)(layers.Add()([norm(x), norm(x * 4 + 3)])))
    own_x = blobs(512, 1)
    both = np.concatenate([own_x, own_x * 4 + 3]).astype(np.float64)
    own = Found(subject_of(model, Data(own_x)), {"shared": Moments(both.mean(0), both.var(0))}, Data(own_x))
    assert own.first.name == "two_sources"
    assert own.first.evidence[0].startswith("calls of a shared layer see populations ")


class Leaking(keras.Sequential):
    """A stack whose normalization is in phase true, whatever is asked for."""

    def call(self, x, training=None, mask=None):
        for layer in self.layers:
            x = layer(x, training=True) if isinstance(layer, layers.BatchNormalization) else layer(x)
        return x


def test_batch_statistics_in_inference():
    model = Leaking(
        [keras.Input((6,)), layers.Dense(8), layers.BatchNormalization(name="one"), layers.Dense(3)]
    )
    data = Data(blobs(256, 1))
    own = Found(subject_of(model, data), oracle(model, data.x_train)[1], data)
    assert own.first.name == "batch_statistics_at_inference"
    assert own.is_sick
    assert own.wrong[0].what == "inference"


def test_statistics_of_other_weights(found):
    rng = np.random.default_rng(5)

    def moved(population):
        return {
            key: Moments(
                own.mean + 0.5 * np.sqrt(own.variance) * rng.normal(size=8),
                own.variance * np.exp(rng.normal(-0.3, 0.5, 8)),
            )
            for key, own in population.items()
        }

    own = found(moved)
    assert own.is_sick
    assert own.first.name == "hot"
    assert own.signs.log_variance < 0
    assert {one.split for one in own.wrong} == {"train", "test"}


def test_without_labels_what_moves_predictions_is_sick(found, known):
    _, data, _ = known
    bare = Data(data.x_train, None, data.x_test)
    assert not found(dict, bare).is_sick
    own = found(lambda population: mixture_of_start(population, 0.8), bare)
    assert own.is_sick
    assert own.first.name == "not_arrived"
    assert {one.harm.metric for one in own.wrong} == {"disagreement"}


def test_confidences_add_up_and_follow_the_catalogue():
    named = [
        Suspect("not_arrived", 6.0, ("a",)),
        Suspect("hot", 1.0, ("b",)),
        Suspect("dummy_pass", 0.005, ()),
    ]
    causes, unexplained = ranked(named)
    assert [own.name for own in causes] == ["not_arrived", "hot"]
    total = 7.005 + NONE_OF_THESE
    assert causes[0].confidence == pytest.approx(6 / total)
    assert unexplained == pytest.approx(NONE_OF_THESE / total)
    assert (causes[0].title, causes[0].mendable) == (CATALOGUE["not_arrived"].title, True)
    assert ranked([]) == ((), 1.0)


def test_an_epsilon_is_taken_from_a_suspect_that_harms():
    one, other = Suspect("epsilon", 5.0, (), False, 1e-5), Suspect("epsilon", 4.0, (), True, 1e-3)
    assert epsilon_of([one, other]) == 1e-3
    assert epsilon_of([one]) is None


def test_batches_of_two_kinds_in_turn(found, known):
    subject, data, population = known
    with charted(subject, population, data) as chart:
        other = other_sources(chart)["inputs turned round"]
    own = found(lambda population: mixed(population, other, 0.5))
    assert own.is_sick
    assert own.first.name == "two_sources"
    assert "of what a batch of inputs turned round gives explains" in own.first.evidence[0]


def test_every_other_batch_of_inputs_that_are_changed(found, known):
    subject, data, _ = known
    other = oracle(subject.model, data.x_train * 0.4 + 1.5)[1]
    own = found(lambda population: mixed(population, other, 0.5))
    assert own.is_sick
    assert own.first.name == "two_sources"
    said = own.first.evidence[0].removeprefix("half of what inputs times ").split(",")
    # A variance of 256 samples is known to root(2 / 256), its root to half of that.
    assert float(said[0]) == pytest.approx(0.4, rel=3 * 0.044)
    # A scaling of all inputs explains less.
    assert own.by_name["preprocessing"].strength < own.first.strength


def test_how_far_weights_move_by_hand(known):
    subject, data, population = known
    with charted(subject, population, data) as chart:
        # A walk by a tenth of the weights, and its average of a hundred steps: 100 / 2 * .01.
        assert drift(chart).distance == pytest.approx(0.5)
    with charted(subject, population, data, optimizer="SGD", learning_rate=1e-3) as chart:
        assert drift(chart).distance == pytest.approx(0.5)
    with charted(subject, population, data, optimizer="Adam", learning_rate=1e-3) as chart:
        sizes = [np.sqrt(np.mean(np.square(w))) for w in subject.model.get_weights() if w.ndim > 1]
        wanted = 50 * np.mean([(1e-3 / size) ** 2 for size in sizes])
        assert drift(chart).distance == pytest.approx(wanted, rel=1e-6)
        assert drift(chart).by == "the learning rate, 0.001, in a step"
