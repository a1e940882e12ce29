"""A model under any statistics, against Keras itself and float64 numpy; and given back as it came."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from bnlab.doctor.subject import Subject, joined, length, take
from bnlab.science.moments import Moments
from tests.doctor.networks import blobs, dense, oracle, scramble

X = blobs(40, 5)
# Float32 rounds at 6e-8; in two layers of sums of eight numbers of size 10, whose deviations may be a
# tenth of them, and outputs of size 10, that is below 1e-4 of them.
CLOSE = {"rtol": 1e-4, "atol": 1e-3}


def statistics_of(model, seed=3):
    """Statistics that are neither the model's own nor any batch's."""
    rng = np.random.default_rng(seed)
    found = [layer for layer in model._flatten_layers() if isinstance(layer, layers.BatchNormalization)]
    sizes = {layer.name: layer.gamma.shape[0] for layer in found}
    return {k: Moments(rng.normal(0, 1, n), rng.uniform(0.5, 2, n)) for k, n in sizes.items()}


def state(model):
    """All that a model is: variables, flags, what its layers have of their own, its optimizer."""
    own = [np.array(variable) for variable in model.variables]
    optimizer = getattr(model, "optimizer", None)
    more = [] if optimizer is None else [np.array(variable) for variable in optimizer.variables]
    flags = [(layer.name, layer.trainable, "call" in vars(layer)) for layer in model._flatten_layers()]
    compiled = [vars(model).get(name) for name in ("train_function", "test_function", "predict_function")]
    return own, more, flags, [model.compiled, *compiled]


def assert_same(one, other):
    for before, after in zip(one[:2], other[:2], strict=True):
        assert len(before) == len(after)
        assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(before, after, strict=True))
    assert one[2:] == other[2:]
    assert not any(has_call for _, _, has_call in other[2])


def put(model, statistics):
    for layer in model.layers:
        if layer.name in statistics:
            layer.moving_mean.assign(statistics[layer.name].mean)
            layer.moving_variance.assign(statistics[layer.name].variance)


def in_training(model, x, size):
    """What Keras computes in training, batch by batch; moving statistics are put back."""
    kept = model.get_weights()
    parts = [np.array(model(x[n : n + size], training=True)) for n in range(0, len(x), size)]
    model.set_weights(kept)
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def model():
    return dense()


@pytest.fixture(scope="module")
def subject(model):
    return Subject(model, X, 8)


def test_fixed_statistics_are_keras_in_inference(model, subject):
    given = statistics_of(model)
    kept = model.get_weights()
    put(model, given)
    wanted = np.array(model(X, training=False))
    model.set_weights(kept)
    with subject:
        found = subject.fixed(X, given)
    # Compiled, sums may be taken in another order.
    np.testing.assert_allclose(found[0], wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[0], oracle(model, X, given)[0], **CLOSE)


@pytest.mark.parametrize("size", [8, 5])
def test_phase_true_is_keras_in_training(model, subject, size):
    with subject:
        found = subject.in_batches(X, None if size == 8 else size)
    # Batches of few have variances that may be a hundredth of their squares: digits are lost there.
    np.testing.assert_allclose(found[0], in_training(model, X, size), rtol=1e-3, atol=1e-3)


def test_a_last_batch_is_filled_with_the_first_samples(model, subject):
    with subject:
        found = subject.in_batches(X[:12])[0]
    assert len(found) == 12
    filled = np.concatenate([X[:12], X[:4]])
    np.testing.assert_allclose(found, in_training(model, filled, 8)[:12], rtol=1e-3, atol=1e-3)


def test_layers_are_switched_one_by_one(model, subject):
    given = statistics_of(model)
    with subject:
        none, every = (subject.blended(X, given, np.full(2, own, np.float64)) for own in (0, 1))
        first = subject.blended(X, given, np.array([1.0, 0.0]))
        np.testing.assert_allclose(none[0], subject.fixed(X, given)[0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(every[0], subject.in_batches(X)[0], rtol=1e-4, atol=1e-4)
    wanted = [
        oracle(model, part, {**given, "one": oracle(model, part)[1]["one"]})[0] for part in np.split(X, 5)
    ]
    np.testing.assert_allclose(first[0], np.concatenate(wanted), **CLOSE)


def test_moments_are_those_of_each_batch(model, subject):
    with subject:
        found = subject.moments(X[:38], 8)
    assert {key: own.mean.shape for key, own in found.items()} == {"one": (4, 8), "two": (4, 8)}
    for number in range(4):
        seen = oracle(model, X[8 * number : 8 * number + 8])[1]
        for key in found:
            np.testing.assert_allclose(found[key].mean[number], seen[key].mean, **CLOSE)
            np.testing.assert_allclose(found[key].variance[number], seen[key].variance, **CLOSE)


@pytest.mark.parametrize("count", [40, 33])
def test_the_population_is_found_layer_by_layer(model, subject, count):
    with subject:
        found = subject.population(X[:count])
    for key, own in oracle(model, X[:count])[1].items():
        np.testing.assert_allclose(found[key].mean, own.mean, **CLOSE)
        np.testing.assert_allclose(found[key].variance, own.variance, **CLOSE)


def test_more_samples_than_a_call_holds(model, monkeypatch):
    many = blobs(300, 6)
    with Subject(model, many, 8) as own:
        seen = own.population(many)
        outputs = own.fixed(many, statistics_of(model))[0]
    wanted = oracle(model, many)[1]
    for key in wanted:
        np.testing.assert_allclose(seen[key].variance, wanted[key].variance, **CLOSE)
    np.testing.assert_allclose(outputs, oracle(model, many, statistics_of(model))[0], **CLOSE)


def test_more_samples_than_the_memory_holds_are_merged(model, monkeypatch):
    monkeypatch.setattr("bnlab.doctor.subject._BYTES", 4 * 8 * 10)
    with Subject(model, X, 8) as own:
        assert own.together == 10
        seen = own.population(X)
        outputs = own.fixed(X, statistics_of(model))[0]
    # The first layer's population is exact in parts too; that of the second goes by its parts' statistics.
    first = oracle(model, X)[1]["one"]
    np.testing.assert_allclose(seen["one"].mean, first.mean, **CLOSE)
    np.testing.assert_allclose(seen["one"].variance, first.variance, **CLOSE)
    parts = [oracle(model, part)[1]["two"] for part in np.split(X, 4)]
    np.testing.assert_allclose(seen["two"].mean, np.mean([own.mean for own in parts], 0), **CLOSE)
    np.testing.assert_allclose(outputs, oracle(model, X, statistics_of(model))[0], **CLOSE)


def test_how_far_layers_outputs_differ_between_the_phases(model, subject):
    given = statistics_of(model)
    with subject:
        found = subject.output_differences(X, given)
    seen = oracle(model, X[:8])[1]["one"]
    x = X[:8].astype(np.float64) @ np.array(model.get_layer("first").kernel) + np.array(
        model.get_layer("first").bias
    )
    layer = model.get_layer("one")
    one, other = (
        (x - own.mean) / np.sqrt(own.variance + 1e-3) * np.array(layer.gamma) + np.array(layer.beta)
        for own in (given["one"], seen)
    )
    assert found["one"] == pytest.approx(np.sqrt(np.mean((one - other) ** 2)) / other.std(), rel=1e-4)
    assert list(found) == ["one", "two"]


def test_a_model_comes_back_as_it_came():
    model = dense(dropout=0.5)
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"], jit_compile=False)
    model.fit(X, np.zeros((40, 3)), batch_size=20, verbose=0)
    model.predict(X, verbose=0)
    before, given = state(model), statistics_of(model)
    with Subject(model, X, 8) as own:
        own.fixed(X, given)
        own.in_batches(X)
        own.blended(X, given, np.array([0.0, 1.0]))
        own.population(X, stochastic=True)
        own.output_differences(X, given)
        own.as_it_is(X, training=True)
    assert_same(before, state(model))


def test_a_model_comes_back_after_an_exception_too():
    model = dense(dropout=0.5)
    before = state(model)

    class StopError(Exception):
        pass

    def fall_over():
        with Subject(model, X, 8) as own:
            own.as_it_is(X, training=True)
            assert not np.array_equal(model.get_layer("one").moving_mean, before[0][4])
            raise StopError

    with pytest.raises(StopError):
        fall_over()
    assert_same(before, state(model))
    with pytest.raises(ValueError, match="incompatible"), Subject(model, X, 8) as own:
        own.in_batches(X[:, :5])
    assert_same(before, state(model))
    with pytest.raises(ValueError, match="incompatible"):
        Subject(model, X[:, :5], 8)
    assert_same(before, state(model))


def test_dropout_is_on_where_training_is_looked_at():
    model = dense(dropout=0.5)
    with Subject(model, X, 8) as own:
        off, again, on, twice = (
            own.moments(X, 40, stochastic=phase)["one"].variance for phase in (False, False, True, True)
        )
    # A half of the numbers times 2: the square's mean is twice what it was.
    seen = oracle(dense(), X)[1]["one"]
    np.testing.assert_allclose(off[0], seen.variance, **CLOSE)
    assert np.array_equal(off, again)
    assert np.array_equal(on, twice), "random layers draw the same each time"
    ratio = (on[0] / (seen.variance + (seen.variance + seen.mean**2))).mean()
    # Forty samples of eight channels: the mean square of 320 numbers is known to some 10 %.
    assert ratio == pytest.approx(1, abs=0.3)


def two_inputs(form):
    """Two inputs, two outputs, a normalization on each way."""
    a, b = keras.Input((6,), name="a"), keras.Input((2,), name="b")
    one = layers.BatchNormalization(name="left")(layers.Dense(4, name="own")(a))
    other = layers.BatchNormalization(name="right")(b)
    both = layers.Concatenate()([one, other])
    inputs = {"a": a, "b": b} if form == "dict" else [a, b]
    model = keras.Model(inputs, [layers.Dense(3, name="y")(both), one])
    scramble(model)
    return model


@pytest.mark.parametrize("form", ["dict", "list", "tuple"])
def test_several_inputs_and_outputs(form):
    model = two_inputs(form)
    given = {"a": X, "b": X[:, :2] * 3}
    x = given if form == "dict" else {"list": list, "tuple": tuple}[form](given.values())
    with Subject(model, x, 8) as own:
        found = own.in_batches(x)
        seen = own.population(x)
    assert [y.shape for y in found] == [(40, 3), (40, 4)]
    np.testing.assert_allclose(seen["right"].variance, (X[:, :2].astype(np.float64) * 3).var(0), rtol=1e-4)
    parts = np.split(X.astype(np.float64), 5)
    kernel, bias = (np.array(w, np.float64) for w in model.get_layer("own").get_weights())
    layer = model.get_layer("left")
    seen = [part @ kernel + bias for part in parts]
    left = np.concatenate([(own - own.mean(0)) / np.sqrt(own.var(0) + 1e-3) for own in seen])
    left = left * np.array(layer.gamma) + np.array(layer.beta)
    np.testing.assert_allclose(found[1], left, **CLOSE)


def test_a_shared_layer_has_rows_for_each_of_its_calls():
    norm, x = layers.BatchNormalization(name="shared"), keras.Input((6,))
    model = keras.Model(x, norm(norm(x) * 2 + 1))
    with Subject(model, X, 8) as own:
        assert own.calls == {"shared": 2}
        seen, by_call = own.moments(X, 8), own.by_call(X, 8)["shared"]
    assert seen["shared"].mean.shape == (10, 6)
    np.testing.assert_allclose(seen["shared"].mean[:5], X.reshape(5, 8, 6).mean(1), **CLOSE)
    # What the first call gives has mean 0 and variance v / (v + epsilon); then twice that and 1.
    np.testing.assert_allclose(seen["shared"].mean[5:], 1, atol=1e-4)
    for number, own in enumerate(by_call):
        assert np.array_equal(own.mean, seen["shared"].mean[5 * number : 5 * number + 5])


def test_layers_of_nested_models_and_frozen_ones():
    inner = keras.Sequential(
        [keras.Input((6,)), layers.Dense(3), layers.BatchNormalization(name="inner")], name="nest"
    )
    frozen = layers.BatchNormalization(name="frozen", trainable=False)
    x = keras.Input((6,))
    model = keras.Model(x, layers.BatchNormalization(name="outer")(frozen(inner(x))))
    with Subject(model, X, 8) as own:
        assert own.layers == ["inner", "outer"]
        assert list(own.own()) == list(own.population(X)) == ["inner", "outer"]
        found = own.in_batches(X)[0]
    np.testing.assert_allclose(found, in_training(model, X, 8), rtol=1e-3, atol=1e-3)


class Subclassed(keras.Model):
    """A model of somebody's own: unbuilt until it is called, and not to be compiled in its flow."""

    def __init__(self, untraceable=False):
        super().__init__()
        self.first, self.norm = layers.Dense(4), layers.BatchNormalization(name="own")
        self.untraceable = untraceable

    def call(self, x, training=None):
        y = self.norm(self.first(x), training=training)
        return y * float(len(y.numpy()) > 0) if self.untraceable else y


@pytest.mark.parametrize("untraceable", [False, True])
def test_a_subclassed_model_is_built_by_looking_at_it(untraceable):
    model = Subclassed(untraceable)
    with Subject(model, X, 8) as own:
        assert own.layers == ["own"]
        found = own.in_batches(X)[0]
        before = state(model)
        own.as_it_is(X, training=True)
    assert_same(before, state(model))
    np.testing.assert_allclose(found, in_training(model, X, 8), rtol=1e-3, atol=1e-3)


class Leaking(keras.Model):
    """A model whose normalization is called with training=True in any phase."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = layers.Dense(4), layers.BatchNormalization(name="own")

    def call(self, x, training=None):
        return self.norm(self.first(x), training=True)


def test_what_a_leaking_phase_changes_is_told_and_put_back():
    model = Leaking()
    model(X)
    before = state(model)
    with Subject(model, X, 8) as own:
        assert own.put_back() == []
        own.as_it_is(X, training=False)
        changed = own.put_back()
        assert [path.split("/")[-1] for path in changed] == ["moving_mean", "moving_variance"]
        fixed = own.fixed(X, {"own": Moments(np.zeros(4), np.ones(4))})[0]
        assert own.put_back() == []
    assert_same(before, state(model))
    kernel, bias = (np.array(w) for w in model.first.get_weights())
    np.testing.assert_allclose(fixed, (X @ kernel + bias) / np.sqrt(1.001), **CLOSE)


def test_the_states_of_random_layers_are_put_back_and_named():
    model = dense(dropout=0.5)
    with Subject(model, X, 8) as own:
        own.as_it_is(X, training=True)
        changed = own.put_back()
    assert sum("seed" in path for path in changed) == 1
    assert len(changed) == 5


def test_images_in_half_precision():
    kept = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = keras.Sequential(
            [
                keras.Input((8, 8, 2)),
                layers.Conv2D(3, 3),
                layers.BatchNormalization(name="norm"),
                layers.ReLU(),
            ]
        )
    finally:
        keras.config.set_dtype_policy(kept)
    x = np.random.default_rng(0).normal(size=(24, 8, 8, 2)).astype(np.float32)
    with Subject(model, x, 8) as own:
        seen, found = own.population(x)["norm"], own.fixed(x, own.population(x))[0]
    values = np.array(model.layers[0](x), np.float64)
    # A number of half precision is off by 2^-11 of itself.
    np.testing.assert_allclose(seen.mean, values.mean((0, 1, 2)), atol=2e-3)
    np.testing.assert_allclose(seen.variance, values.var((0, 1, 2)), rtol=5e-3)
    wanted = (values - values.mean((0, 1, 2))) / np.sqrt(values.var((0, 1, 2)) + 1e-3)
    np.testing.assert_allclose(found, np.maximum(wanted, 0), atol=1e-2)


def test_nests_are_counted_taken_and_joined():
    nest = {"a": np.arange(6).reshape(3, 2), "b": [np.arange(3)]}
    assert length(nest) == 3
    assert take(nest, slice(1, 2))["a"].tolist() == [[2, 3]]
    both = joined([nest, take(nest, [0, 0])])
    assert both["b"][0].tolist() == [0, 1, 2, 0, 0]


def test_nothing_random_of_the_process_is_touched(model):
    keras.utils.set_random_seed(4)
    tf.random.set_seed(4)
    wanted = np.random.default_rng(0).normal(), np.random.random(), float(tf.random.normal(()))  # noqa: NPY002
    keras.utils.set_random_seed(4)
    tf.random.set_seed(4)
    with Subject(model, X, 8) as own:
        own.in_batches(X)
    assert (np.random.default_rng(0).normal(), np.random.random(), float(tf.random.normal(()))) == wanted  # noqa: NPY002


def test_another_epsilon_is_added_inside_and_not_after(model, subject):
    given = statistics_of(model)
    with subject:
        before = subject.fixed(X, given)[0]
        with subject.of_epsilon(1.0):
            inside = subject.fixed(X, given)[0]
        after = subject.fixed(X, given)[0]
        with pytest.raises(KeyboardInterrupt), subject.of_epsilon(1.0):
            raise KeyboardInterrupt
    added = {key: own._replace(variance=own.variance + 1 - 1e-3) for key, own in given.items()}
    np.testing.assert_allclose(inside, oracle(model, X, added)[0], **CLOSE)
    assert np.array_equal(before, after)
    assert {layer.epsilon for layer in subject.named.values()} == {1e-3}


def test_a_population_is_corrected_towards_no_average():
    """Of renormalization as of ordinary normalization with the same weights, whatever it keeps."""
    plain, renormalizing = dense(), dense(norm=lambda **own: layers.BatchNormalization(renorm=True, **own))
    for layer in renormalizing.layers:
        if isinstance(layer, layers.BatchNormalization):
            for average in ("moving_mean", "moving_variance", "renorm_mean", "renorm_stddev"):
                getattr(layer, average).assign(np.full(8, 3.0))
    _, wanted = oracle(plain, X)
    found = Subject(renormalizing, X, 8)
    with found:
        population, batches = found.population(X), found.moments(X, 40)
    for key, own in wanted.items():
        np.testing.assert_allclose(population[key].mean, own.mean, **CLOSE)
        np.testing.assert_allclose(population[key].variance, own.variance, **CLOSE)
    # A batch of all samples is corrected: the second layer sees others.
    assert np.abs(batches["two"].mean[0] - wanted["two"].mean).max() > 0.1
