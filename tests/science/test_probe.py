"""The probe against Keras itself: bit for bit where the arithmetic is the same, else in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from bnlab.science.probe import Batch, normalization_layers, outputs, probe


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
