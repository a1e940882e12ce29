"""The probe against Keras itself: bit for bit where the arithmetic is the same, else in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from bnlab.science.probe import (
    Batch,
    Blend,
    normalization_layers,
    outputs,
    own_statistics,
    probe,
    put_statistics,
)


def values(model):
    return [np.array(variable) for variable in model.variables]


def is_free(model):
    """No layer's `call` is replaced."""
    return not any("call" in vars(layer) for layer in model._flatten_layers())


def batch_by_batch(model, x, size):
    """What Keras computes when it trains on each batch by itself."""
    parts = [model(x[i : i + size], training=True) for i in range(0, len(x), size)]
    return np.concatenate([np.array(part) for part in parts])


def test_the_batchs_own_statistics_are_keras_in_training_bit_for_bit(make, kind):
    model, x = make(kind)
    with probe(model, Batch()):
        probed = model(x, training=True)
    assert np.array_equal(probed, model(x, training=True))


@pytest.mark.parametrize("size", [1, 2, 4, 12])
def test_many_batches_in_one_call_are_each_batch_by_itself(make, kind, size):
    model, x = make(kind, "float64")
    # Float64 rounds at 1.1e-16; sums of fewer than 10,000 terms of size 10 stay far below 1e-9.
    np.testing.assert_allclose(
        outputs(model, x, Batch(len(x) // size)), batch_by_batch(model, x, size), rtol=0, atol=1e-9
    )


def test_fixed_statistics_are_keras_at_inference_bit_for_bit(make, kind, fixed_of):
    model, x = make(kind)
    statistics = fixed_of(model)
    assert np.array_equal(outputs(model, x, statistics), model(x, training=False))


def test_fixed_statistics_other_than_the_models_own_are_those_that_are_used(make, fixed_of):
    model, x = make("images")
    given = {name: (mean + 1, 2 * variance) for name, (mean, variance) in fixed_of(model).items()}
    probed = outputs(model, x, given)
    for layer in normalization_layers(model):
        layer.moving_mean.assign(given[layer.name][0])
        layer.moving_variance.assign(given[layer.name][1])
    assert np.array_equal(probed, model(x, training=False))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 4])
def test_notes_are_the_moments_of_what_the_layer_saw(make, kind, dtype, count):
    model, x = make(kind, dtype)
    notes = []
    with probe(model, Batch(count), notes):
        model(x)
    layer = normalization_layers(model)[0]
    seen = np.array(keras.Model(model.input, layer.input)(x), np.float64)
    groups = seen.reshape(count, -1, *seen.shape[1:])
    channel = layer.axis % seen.ndim + 1
    axes = tuple(axis for axis in range(1, groups.ndim) if axis != channel)
    # A blocked sum of under 1,000 terms rounds fewer than 32 times on the way to any of them.
    atol = 32 * np.finfo(dtype).eps * np.abs(seen).max() ** 2
    np.testing.assert_allclose(notes[0].mean, groups.mean(axes), rtol=0, atol=atol)
    np.testing.assert_allclose(notes[0].variance, groups.var(axes), rtol=0, atol=atol)


def test_later_layers_see_what_earlier_batch_statistics_made(make):
    model, x = make("images", "float64")
    notes = []
    with probe(model, Batch(), notes):
        model(x)
    seen = np.array(keras.Model(model.input, normalization_layers(model)[1].input)(x, training=True))
    assert [(note.layer, note.call) for note in notes] == [("norm1", 0), ("norm2", 0)]
    np.testing.assert_allclose(notes[1].mean[0], seen.mean((0, 1, 2)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_changed(make, kind, fixed_of, training):
    model, x = make(kind)
    before = values(model)
    for statistics in (Batch(), Batch(4), fixed_of(model)):
        with probe(model, statistics):
            model(x, training=training)
    assert all(map(np.array_equal, before, values(model)))
    assert is_free(model)


def test_an_error_inside_leaves_nothing_behind(make):
    model, _ = make("images")
    with pytest.raises(KeyboardInterrupt), probe(model, Batch()):
        raise KeyboardInterrupt
    assert is_free(model)


@pytest.mark.parametrize("lacking", ["norm1", "norm2"])
def test_statistics_that_lack_a_layer_are_an_error(make, fixed_of, lacking):
    model, x = make("images")
    statistics = {name: pair for name, pair in fixed_of(model).items() if name != lacking}
    with pytest.raises(KeyError, match=lacking):
        outputs(model, x, statistics)


def test_statistics_that_lack_a_layer_leave_nothing_behind(make, fixed_of):
    model, x = make("images")
    with pytest.raises(KeyError):
        outputs(model, x, {"norm1": fixed_of(model)["norm1"]})
    assert is_free(model)


def test_groups_that_do_not_divide_the_images_are_an_error(make):
    model, x = make("vectors")
    with pytest.raises(tf.errors.InvalidArgumentError, match="multiple of 30"):  # 5 groups of 6 channels
        outputs(model, x, Batch(5))


@pytest.mark.parametrize("phase", ["batch", "fixed"])
def test_dropout_stays_off_in_both_phases(fixed_of, phase):
    def built(rate):
        drop = layers.Dropout(rate) if rate else layers.Identity()
        stack = [keras.Input((6,)), layers.Dense(4), drop, layers.BatchNormalization(name="norm")]
        return keras.Sequential(stack)

    with_dropout, without = built(0.5), built(0.0)
    without.set_weights([w for w in with_dropout.get_weights() if w.dtype == np.float32])
    x = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
    statistics = Batch() if phase == "batch" else fixed_of(without)
    first, second = (np.array(outputs(with_dropout, x, statistics)) for _ in range(2))
    assert np.array_equal(first, second)
    assert np.array_equal(first, outputs(without, x, statistics))


def test_a_shared_layer_is_noted_once_per_call():
    norm, x = layers.BatchNormalization(name="shared"), keras.Input((3,))
    model = keras.Model(x, norm(norm(x) * 2))
    notes, seen = [], np.random.default_rng(0).normal(3, 2, (64, 3)).astype(np.float32)
    with probe(model, Batch(), notes):
        model(seen)
    assert [(note.layer, note.call) for note in notes] == [("shared", 0), ("shared", 1)]
    # The second call sees twice what has mean 0 and variance v / (v + epsilon).
    second = 4 * seen.var(0) / (seen.var(0) + norm.epsilon)
    np.testing.assert_allclose(notes[1].variance[0], second, rtol=1e-5)  # 64 float32 terms of 1.2e-7 each


def test_layers_of_nested_models_are_found_and_held():
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(3), layers.BatchNormalization(name="inner")])
    x = keras.Input((3,))
    model = keras.Model(x, layers.BatchNormalization(name="outer")(inner(x)))
    seen = np.random.default_rng(0).normal(3, 2, (8, 3)).astype(np.float32)
    assert [layer.name for layer in normalization_layers(model)] == ["inner", "outer"]
    assert np.array_equal(outputs(model, seen, Batch()), model(seen, training=True))


def test_a_subclassed_model_is_held_too():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.norm = layers.Dense(3), layers.BatchNormalization(name="own")

        def call(self, x, training=None):
            return self.norm(self.dense(x), training=training)

    model, x = Own(), np.random.default_rng(0).normal(3, 2, (8, 4)).astype(np.float32)
    model(x)
    assert np.array_equal(outputs(model, x, Batch()), model(x, training=True))


def test_two_layers_of_one_name_are_refused():
    parts = [
        keras.Sequential([keras.Input((3,)), layers.BatchNormalization(name="norm")], name=name)
        for name in ("first", "second")
    ]
    model = keras.Sequential(parts)
    with pytest.raises(ValueError, match=r"names of their own, got \['norm', 'norm'\]"):
        normalization_layers(model)


def test_a_model_without_batch_normalization_is_one_function_in_both_phases():
    model = keras.Sequential([keras.Input((4, 4, 4)), layers.GroupNormalization(2), layers.Flatten()])
    x = np.random.default_rng(0).normal(3, 2, (6, 4, 4, 4)).astype(np.float32)
    assert normalization_layers(model) == []
    assert np.array_equal(outputs(model, x, Batch(4)), outputs(model, x, {}))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("statistics", ["batch", "fixed"])
def test_a_graph_computes_what_eager_mode_computes(make, fixed_of, compiled, statistics):
    model, x = make("images", "float64")
    chosen = Batch(4) if statistics == "batch" else fixed_of(model)
    graph = tf.function(lambda x: outputs(model, x, chosen), jit_compile=compiled)
    np.testing.assert_allclose(graph(x), outputs(model, x, chosen), rtol=0, atol=1e-9)  # as above
    assert is_free(model)


def test_a_graph_traced_outside_does_not_feel_a_probe(make):
    model, x = make("images")
    graph = tf.function(lambda x: model(x, training=False))
    before = graph(x)
    with probe(model, Batch()):
        assert np.array_equal(graph(x), before)


def moments_over(layer, x):
    """Mean and variance of each channel, kept broadcastable."""
    axes = tuple(axis for axis in range(x.ndim) if axis != layer.axis % x.ndim)
    return x.mean(axes, keepdims=True), x.var(axes, keepdims=True)


def spread(layer, values, rank):
    """One number per channel, broadcastable over what the layer sees."""
    shape = [1] * rank
    shape[layer.axis % rank] = -1
    return np.asarray(values, np.float64).reshape(shape)


def forward(model, x, moments):
    """A whole model in plain numpy; `moments` says what a layer normalizes what it sees by."""
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            mean, variance = moments(layer, x)
            scale, offset = (layer.gamma if layer.scale else 1), (layer.beta if layer.center else 0)
            x = (x - mean) / np.sqrt(variance + layer.epsilon) * spread(layer, scale, x.ndim)
            x = x + spread(layer, offset, x.ndim)
        elif isinstance(layer, layers.Conv2D):
            kernel, bias = map(np.array, layer.get_weights())
            windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))
            x = np.einsum("nijcab,abcf->nijf", windows, kernel) + bias
            x = np.maximum(x, 0) if layer.activation is keras.activations.relu else x
        elif isinstance(layer, layers.Dense):
            kernel, bias = map(np.array, layer.get_weights())
            x = x @ kernel + bias
        elif isinstance(layer, layers.Flatten):
            x = x.reshape(len(x), -1)
    return x


# Float64 rounds at 1.1e-16; sums of fewer than 10,000 terms, numbers below 1,000: far below 1e-9.
CLOSE = {"rtol": 0, "atol": 1e-9}
WEIGHTS = {"norm1": 0.3, "norm2": 0.85}


def other_statistics(model):
    """Statistics unlike the model's own and unlike those of any batch."""
    rng = np.random.default_rng(5)
    return {
        layer.name: (rng.normal(1, 2, layer.moving_mean.shape), rng.uniform(0.5, 9, layer.moving_mean.shape))
        for layer in normalization_layers(model)
    }


def as_dtype(statistics, dtype):
    return {name: tuple(part.astype(dtype) for part in own) for name, own in statistics.items()}


def test_a_blend_without_the_batch_is_the_fixed_statistics_bit_for_bit(make, kind):
    model, x = make(kind)
    fixed = as_dtype(other_statistics(model), "float32")
    blend = Blend(fixed, dict.fromkeys(fixed, 0.0))
    assert np.array_equal(outputs(model, x, blend), outputs(model, x, fixed))


def test_a_blend_of_the_batch_alone_is_the_batchs_own_statistics_bit_for_bit(make, kind):
    model, x = make(kind)
    fixed = as_dtype(other_statistics(model), "float32")
    blend = Blend(fixed, dict.fromkeys(fixed, 1.0))
    assert np.array_equal(outputs(model, x, blend), outputs(model, x, Batch()))


@pytest.mark.parametrize("groups", [4, 12])
def test_so_it_is_in_groups(make, kind, groups):
    # Not to the last bit: a root of many numbers is rounded otherwise than one of few.
    model, x = make(kind, "float64")
    fixed = other_statistics(model)
    none, whole = (outputs(model, x, Blend(fixed, dict.fromkeys(fixed, w), groups)) for w in (0.0, 1.0))
    np.testing.assert_allclose(none, outputs(model, x, fixed), **CLOSE)
    np.testing.assert_allclose(whole, outputs(model, x, Batch(groups)), **CLOSE)


def test_a_mixture_by_hand():
    # Half of mean 0, variance 1 and half of mean 4, variance 4: mean 2, variance 2.5 + 4^2 / 4 = 6.5.
    norm = layers.BatchNormalization(name="norm", epsilon=2.5, dtype="float64")
    model = keras.Sequential([keras.Input((1,), dtype="float64"), norm])
    x = np.array([[2.0], [6.0]])
    found = outputs(model, x, Blend({"norm": (np.zeros(1), np.ones(1))}, {"norm": 0.5}))
    # (x - 2) / sqrt(6.5 + 2.5); a few float64 roundings of numbers below 6.
    np.testing.assert_allclose(np.ravel(found), [0.0, 4 / 3], rtol=0, atol=2.0**-48)


@pytest.mark.parametrize("groups", [1, 4, 12])
def test_in_between_a_blend_is_the_mixture_of_both_distributions(make, kind, groups):
    """With as many groups as images each image's own moments are mixed in."""
    model, x = make(kind, "float64")
    fixed = other_statistics(model)

    def mixture(layer, seen):
        # E[x] and E[x^2] are mixed, as an oracle may in float64.
        w, kept = WEIGHTS[layer.name], [spread(layer, part, seen.ndim) for part in fixed[layer.name]]
        own = moments_over(layer, seen)
        mean = (1 - w) * kept[0] + w * own[0]
        squares = (1 - w) * (kept[1] + kept[0] ** 2) + w * (own[1] + own[0] ** 2)
        return mean, squares - mean**2

    parts = np.split(x.astype(np.float64), groups)
    expected = np.concatenate([forward(model, part, mixture) for part in parts])
    found = outputs(model, x, Blend(fixed, {name: WEIGHTS[name] for name in fixed}, groups))
    np.testing.assert_allclose(found, expected, **CLOSE)


def test_each_layer_of_a_blend_goes_by_its_own_weight(make):
    model, x = make("images")
    fixed = as_dtype(other_statistics(model), "float32")
    notes = []
    with probe(model, Batch(), notes):
        model(x)
    first = tuple(np.array(part[0]) for part in notes[0][2:])
    # The first layer on its batch's statistics, the second on fixed ones.
    found = outputs(model, x, Blend(fixed, {"norm1": 1.0, "norm2": 0.0}))
    assert np.array_equal(found, outputs(model, x, {**fixed, "norm1": first}))


@pytest.mark.parametrize("lacking", ["fixed", "weight"])
def test_a_blend_that_lacks_a_layer_is_an_error_and_leaves_nothing_behind(make, lacking):
    model, x = make("images")
    given = {"fixed": as_dtype(other_statistics(model), "float32"), "weight": dict.fromkeys(WEIGHTS, 0.5)}
    del given[lacking]["norm2"]
    with pytest.raises(KeyError, match="norm2"):
        outputs(model, x, Blend(**given))
    assert is_free(model)


def test_one_graph_serves_all_weights_of_a_blend(make):
    model, x = make("images", "float64")
    fixed = other_statistics(model)
    graph = tf.function(lambda w: outputs(model, x, Blend(fixed, {"norm1": w[0], "norm2": w[1]}, 4)))
    for first, second in ((0.0, 1.0), (0.3, 0.85), (1.0, 0.0)):
        eager = outputs(model, x, Blend(fixed, {"norm1": first, "norm2": second}, 4))
        np.testing.assert_allclose(graph(tf.constant([first, second], tf.float64)), eager, **CLOSE)
    assert graph.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("parts", [1, 2, 3, 6, 12])
def test_moments_merged_of_parts_are_those_of_the_whole_batch_layer_by_layer(make, kind, parts):
    model, x = make(kind, "float64")
    expected = {}

    def whole(layer, seen):
        expected[layer.name] = moments_over(layer, seen)
        return expected[layer.name]

    y = forward(model, x, whole)
    notes = []
    with probe(model, Batch(parts=parts), notes):
        found = model(x)
    np.testing.assert_allclose(found, y, **CLOSE)
    assert [note.layer for note in notes] == list(expected)
    for note in notes:
        mean, variance = expected[note.layer]
        np.testing.assert_allclose(note.mean, mean.reshape(1, -1), **CLOSE)
        np.testing.assert_allclose(note.variance, variance.reshape(1, -1), **CLOSE)


def test_parts_that_do_not_divide_the_images_are_an_error(make):
    model, x = make("vectors")
    with pytest.raises(tf.errors.InvalidArgumentError, match="multiple of 30"):  # 5 parts of 6 channels
        outputs(model, x, Batch(parts=5))


def test_parts_of_several_batches_are_refused():
    with pytest.raises(ValueError, match=r"^parts are of one batch, got groups=2 and parts=3$"):
        Batch(2, parts=3)


def test_parts_keep_a_small_variance_around_a_large_mean():
    # Float32 means around 1e4 are 2^-10 apart; those of parts are off by no more than that, and so is their
    # merged mean; around it the variance of means is off by twice that times a deviation below 1.
    norm = layers.BatchNormalization(name="norm")
    model = keras.Sequential([keras.Input((1,)), norm])
    x = np.random.default_rng(0).normal(1e4, 1, (4096, 1)).astype(np.float32)
    notes = []
    with probe(model, Batch(parts=64), notes):
        model(x)
    assert float(notes[0].mean[0, 0]) == pytest.approx(x.mean(dtype=np.float64), abs=2.0**-9)
    assert float(notes[0].variance[0, 0]) == pytest.approx(x.var(dtype=np.float64), abs=2 * 2.0**-9)


@pytest.mark.parametrize("training", [True, False])
def test_parts_and_blends_change_nothing(make, kind, training):
    model, x = make(kind)
    before = values(model)
    fixed = as_dtype(other_statistics(model), "float32")
    for statistics in (Batch(parts=4), Blend(fixed, WEIGHTS, 1), Blend(fixed, WEIGHTS, 4)):
        with probe(model, statistics):
            model(x, training=training)
    assert all(map(np.array_equal, before, values(model)))
    assert is_free(model)


def test_statistics_that_are_put_into_a_model_are_its_own(make):
    model, x = make("images")
    given = as_dtype(other_statistics(model), "float32")
    expected = np.array(outputs(model, x, given))
    put_statistics(model, given)
    own = own_statistics(model)
    assert list(own) == ["norm1", "norm2"]
    for name, pair in given.items():
        assert all(map(np.array_equal, own[name], pair))
    assert np.array_equal(model(x, training=False), expected)


def test_a_frozen_layer_is_left_alone_by_blends_too(make):
    model, x = make("images")
    first, _ = normalization_layers(model)
    first.trainable = False
    fixed = as_dtype(other_statistics(model), "float32")
    own = {"norm1": (np.array(first.moving_mean), np.array(first.moving_variance)), "norm2": fixed["norm2"]}
    found = outputs(model, x, Blend({"norm2": fixed["norm2"]}, {"norm2": 0.0}))
    first.trainable = True
    assert np.array_equal(found, outputs(model, x, own))
