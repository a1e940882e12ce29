"""The group normalization layer of the networks: what each of its options does, by value."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import constraints, initializers, layers, regularizers

from bnlab.science.reference import forward


def every_option():
    """None at its default. Regularizers start TensorFlow, so they are made inside a test."""
    return {
        "groups": 2,
        "axis": 1,
        "epsilon": 0.25,
        "beta_initializer": initializers.Constant(0.5),
        "gamma_initializer": initializers.Constant(2.0),
        "beta_regularizer": regularizers.L2(0.01),
        "gamma_regularizer": regularizers.L1(0.1),
        "beta_constraint": constraints.NonNeg(),
        "gamma_constraint": constraints.MaxNorm(1.0),
    }


def images(shape=(3, 4, 5, 8), seed=0):
    return np.random.default_rng(seed).normal(3, 2, shape).astype(np.float32)


def rounding(x, epsilon=1e-3, scale=1.0):
    """At worst: m roundings each for the mean and the deviation of a set of m values, and ten for the closed
    form x * inv + (beta - mean * inv), whose terms reach |x| / sqrt(variance + epsilon); the sets of these
    tests have deviations above 1/2."""
    m = x[0].size
    return (2 * m + 10) * 2.0**-24 * scale * np.abs(x).max() / np.sqrt(0.25 + epsilon)


# What each option does.


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (1, [-1.0, -0.6, 0.6, 1.0]),  # mean 5, variance 17 + 8
        (2, [-1 / 3, 1 / 3, -1 / 3, 1 / 3]),  # means 1 and 9, variances 1 + 8
        (4, [0.0, 0.0, 0.0, 0.0]),  # each value is its own mean
        (-1, [0.0, 0.0, 0.0, 0.0]),  # as many groups as channels
    ],
)
def test_groups_by_hand(groups, expected):
    x = np.array([[[[0.0, 2.0, 8.0, 10.0]]]], np.float32)
    y = np.array(layers.GroupNormalization(groups, epsilon=8.0)(x))
    assert y.ravel().tolist() == pytest.approx(expected, abs=5 * 2.0**-23)  # terms below 4, five roundings


@pytest.mark.parametrize("epsilon", [0.0, 3.0, 8.0, 99.0])
def test_epsilon_is_added_to_the_variance(epsilon):
    # Mean 2, variance 1: -1 and 1 over the root of 1 + epsilon.
    y = np.array(layers.GroupNormalization(1, epsilon=epsilon)(np.array([[1.0, 3.0]], np.float32)))
    assert y.ravel() == pytest.approx(np.array([-1, 1]) / np.sqrt(1 + epsilon), abs=5 * 2.0**-23)


def test_epsilon_is_a_thousandth_unless_given():
    y = np.array(layers.GroupNormalization(1)(np.array([[-0.03, 0.03]], np.float32)))
    assert y[0, 1] == pytest.approx(0.03 / np.sqrt(0.0009 + 0.001), rel=10 * 2.0**-24)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("scale", [True, False])
def test_center_and_scale_are_one_shift_and_one_scale_per_channel(center, scale):
    layer = layers.GroupNormalization(4, center=center, scale=scale)
    layer.build((None, 14, 14, 32))
    held = {variable.name: variable.shape for variable in layer.trainable_variables}
    assert held == {name: (32,) for name, there in [("gamma", scale), ("beta", center)] if there}
    assert layer.non_trainable_variables == []  # no moving statistics: one function in both phases


@pytest.mark.parametrize("axis", [1, 2, 3, -1])
def test_axis_is_where_the_channels_are(axis):
    x = images((3, 4, 6, 8))
    channels = x.shape[axis]
    y = layers.GroupNormalization(2, axis=axis)(x)
    expected, _ = forward(x, np.ones(channels), np.zeros(channels), "group", 2, axis)
    np.testing.assert_allclose(y, expected, rtol=0, atol=rounding(x))


def test_initializers_are_the_first_scale_and_shift():
    two, half = initializers.Constant(2.0), initializers.Constant(0.5)
    x = np.array([[1.0, 3.0]], np.float32)
    layer = layers.GroupNormalization(1, epsilon=3.0, gamma_initializer=two, beta_initializer=half)
    assert layer(x).numpy().tolist() == [[-0.5, 1.5]]
    # Unless given, one and zero.
    assert layers.GroupNormalization(1, epsilon=3.0)(x).numpy().tolist() == [[-0.5, 0.5]]


@pytest.mark.parametrize(
    ("kinds", "loss"),
    [
        ({"gamma": "L1"}, 0.1 * 8 * 3.0),
        ({"gamma": "L2"}, 0.1 * 8 * 9.0),
        ({"beta": "L1"}, 0.1 * 8 * 2.0),
        ({"beta": "L2"}, 0.1 * 8 * 4.0),
        ({"gamma": "L2", "beta": "L1"}, 0.1 * 8 * 11.0),
    ],
)
def test_regularizers_add_their_loss(kinds, loss):
    start = {"gamma_initializer": initializers.Constant(3.0), "beta_initializer": initializers.Constant(-2.0)}
    chosen = {f"{weight}_regularizer": getattr(regularizers, kind)(0.1) for weight, kind in kinds.items()}
    layer = layers.GroupNormalization(4, **start, **chosen)
    layer(images())
    assert float(sum(layer.losses)) == pytest.approx(loss, rel=10 * 2.0**-24)


@pytest.mark.parametrize("weight", ["gamma", "beta"])
def test_constraints_hold_after_a_step(weight):
    layer = layers.GroupNormalization(1, **{f"{weight}_constraint": constraints.NonNeg()})
    layer.build((None, 4))
    variables = [layer.gamma, layer.beta]
    for variable in variables:
        variable.assign([1.0, 0.25, 0.0, -3.0])
    gradient = tf.constant([0.5, 0.5, -1.0, 0.0])
    keras.optimizers.SGD(1.0).apply([gradient, gradient], variables)
    held = {"gamma": layer.gamma.numpy().tolist(), "beta": layer.beta.numpy().tolist()}
    free = {"gamma": "beta", "beta": "gamma"}[weight]
    assert held == {weight: [0.5, 0.0, 1.0, 0.0], free: [0.5, -0.25, 1.0, -3.0]}


# Forms.


@pytest.mark.parametrize("groups", [1, 2, 4, 8, -1])
def test_channels_first_and_last_are_one_layer_transposed(groups):
    x, rng = images(), np.random.default_rng(1)
    gamma, beta = rng.uniform(-1.5, 1.5, (2, 8)).astype(np.float32)
    last, first = layers.GroupNormalization(groups), layers.GroupNormalization(groups, axis=1)
    turned = np.moveaxis(x, -1, 1)
    for layer, inputs in [(last, x), (first, turned)]:
        layer.build(inputs.shape)
        layer.gamma.assign(gamma)
        layer.beta.assign(beta)
    # The order of the sums differs, so the last bits do.
    atol = 2 * rounding(x, scale=1.5)
    np.testing.assert_allclose(np.moveaxis(np.array(first(turned)), 1, -1), last(x), rtol=0, atol=atol)


def test_other_images_of_the_batch_change_nothing():
    x, others, layer = images(), 100 * images(seed=1), layers.GroupNormalization(4)
    others[0] = x[0]
    assert np.array_equal(layer(x)[0], layer(others)[0])
    # An image by itself is summed in another order, so its last bits may differ.
    np.testing.assert_allclose(layer(x[:1])[0], layer(x)[0], rtol=0, atol=2 * rounding(x))


def test_both_phases_are_one_function():
    x = images()
    model = keras.Sequential([keras.Input(x.shape[1:]), layers.GroupNormalization(4)])
    assert np.array_equal(model(x, training=True), model(x, training=False))


# Saved and loaded.


@pytest.fixture
def reloaded(tmp_path):
    """Scramble a layer's weights, save it as a model, and load that: both models."""

    def made(x, **options):
        model = keras.Sequential([keras.Input(x.shape[1:]), layers.GroupNormalization(**options)])
        rng = np.random.default_rng(2)
        for variable in model.variables:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        model.save(tmp_path / "model.keras")
        return model, keras.saving.load_model(tmp_path / "model.keras")

    return made


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("scale", [True, False])
def test_a_loaded_layer_has_its_config_and_its_outputs_bit_for_bit(reloaded, center, scale):
    x = images((3, 8, 4, 5))
    model, loaded = reloaded(x, **every_option(), center=center, scale=scale)
    assert loaded.layers[0].get_config() == model.layers[0].get_config()
    assert np.array_equal(loaded(x), model(x))


def test_a_config_names_every_option():
    config, options = layers.GroupNormalization(**every_option(), center=False).get_config(), every_option()
    numbers = ("groups", "axis", "epsilon", "center", "scale")
    assert [config[name] for name in numbers] == [2, 1, 0.25, False, True]
    objects = {name: value.get_config() for name, value in options.items() if hasattr(value, "get_config")}
    assert {name: config[name]["config"] for name in objects} == objects


def test_as_many_groups_as_channels_are_a_number_once_built(reloaded):
    # Keras writes -1 into the config of a new layer, and the number of channels into that of a built one.
    assert layers.GroupNormalization(-1).get_config()["groups"] == -1
    x = images()
    model, loaded = reloaded(x, groups=-1)
    assert (model.layers[0].groups, loaded.layers[0].groups) == (8, 8)
    assert np.array_equal(loaded(x), model(x))


# Groups that do not fit.


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize(("groups", "channels"), [(8, 4), (32, 16), (8, 12), (3, 16)])
def test_groups_that_do_not_fit_are_an_error_that_names_both_numbers(groups, channels, axis):
    shape = (None, channels, 5, 5) if axis == 1 else (None, 5, 5, channels)
    rule = "cannot be more than" if groups > channels else "must be a multiple"
    with pytest.raises(ValueError, match=rf"groups \({groups}\) {rule} .* channels \({channels}\)"):
        layers.GroupNormalization(groups, axis=axis).build(shape)
