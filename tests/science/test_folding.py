"""A folded model gives the outputs of phase false; what cannot be folded is left, by name and reason."""

import dataclasses
import json
import re

import keras
import numpy as np
import pytest
from keras import Input, Model, Sequential, layers, ops

from bnlab.science.foldable import foldable
from bnlab.science.folding import deviation, folded, folded_weights

# Of the largest output. Two models sum up 36 products each and round about 6 times more, by at most 2^-24 of
# a sum that is at most twice the largest output: 2 * 42 * 2 * 2^-24 = 1e-5. In deeper networks the roundings
# add up, but their signs are independent.
PROMISE = 1e-5


def scrambled(model, seed=1):
    """Give every variable a value of its own; variances stay positive, and a third of the numbers large."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape) * rng.choice([1, 1, 1.5], variable.shape))
    return model


def inputs_of(model, images=6):
    shape = (images, *model.input_shape[1:])
    return np.random.default_rng(0).normal(0, 1, shape).astype("float32")


def norm(name="norm", **options):
    return layers.BatchNormalization(name=name, **options)


def conv(name="conv", filters=4, **options):
    return layers.Conv2D(filters, 3, padding="same", name=name, **options)


def fold(model):
    return folded(model, foldable(model)[0])


def normalizations(model):
    return [layer.name for layer in model._flatten_layers() if isinstance(layer, layers.BatchNormalization)]


LAYERS = {
    "dense": (lambda **o: layers.Dense(5, **o), (6,)),
    "dense on rows": (lambda **o: layers.Dense(5, **o), (3, 6)),
    "conv1d": (lambda **o: layers.Conv1D(5, 3, **o), (7, 4)),
    "conv2d": (lambda **o: layers.Conv2D(5, 3, strides=2, **o), (7, 7, 4)),
    "conv2d of groups": (lambda **o: layers.Conv2D(6, 3, groups=2, **o), (5, 5, 4)),
    "conv3d": (lambda **o: layers.Conv3D(5, 2, **o), (4, 4, 4, 2)),
    "conv1d transposed": (lambda **o: layers.Conv1DTranspose(5, 3, strides=2, **o), (7, 4)),
    "conv2d transposed": (lambda **o: layers.Conv2DTranspose(5, 3, **o), (5, 5, 4)),
    "conv3d transposed": (lambda **o: layers.Conv3DTranspose(5, 2, **o), (3, 3, 3, 2)),
    "conv1d depthwise": (lambda **o: layers.DepthwiseConv1D(3, depth_multiplier=2, **o), (7, 4)),
    "conv2d depthwise": (lambda **o: layers.DepthwiseConv2D(3, depth_multiplier=2, **o), (5, 5, 4)),
    "conv1d separable": (lambda **o: layers.SeparableConv1D(5, 3, depth_multiplier=2, **o), (7, 4)),
    "conv2d separable": (lambda **o: layers.SeparableConv2D(5, 3, **o), (5, 5, 4)),
}
OPTIONS = {
    "plain": {},
    "no scale": {"scale": False},
    "no center": {"center": False},
    "neither": {"scale": False, "center": False},
    "renorm": {"renorm": True},
    "small epsilon": {"epsilon": 1e-7},
}


def assert_folds(model, count=1):
    x = inputs_of(model)
    before = np.array(model(x, training=False))
    new = fold(model)
    assert len(normalizations(model)) == count
    assert normalizations(new) == []
    assert deviation(model, new, x) <= PROMISE
    np.testing.assert_array_equal(model(x, training=False), before)
    return new


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", list(LAYERS))
def test_each_kind_of_layer_takes_a_normalization_in(kind, bias):
    layer, shape = LAYERS[kind]
    model = scrambled(Sequential([Input(shape), layer(use_bias=bias), norm(), layers.ReLU()]))
    assert_folds(model)


@pytest.mark.parametrize("options", list(OPTIONS))
def test_each_kind_of_batch_normalization_is_folded(options):
    assert_folds(scrambled(Sequential([Input((6, 6, 2)), conv(), norm(**OPTIONS[options])])))


@pytest.mark.parametrize("layer", [layers.Conv2D, layers.Conv2DTranspose])
def test_channels_may_come_first(layer):
    first = layer(5, 3, data_format="channels_first")
    assert_folds(scrambled(Sequential([Input((2, 6, 6)), first, norm(axis=1)])))


def test_the_arithmetic_is_that_of_the_definition():
    rng = np.random.default_rng(0)
    kernel, (bias, mean, variance, gamma, beta) = rng.normal(size=(3, 3, 2, 4)), rng.uniform(1, 2, (5, 4))
    x = rng.normal(size=(3, 3, 2))
    wanted = gamma * (np.tensordot(x, kernel, 3) + bias - mean) / np.sqrt(variance + 0.1) + beta
    new_kernel, new_bias = folded_weights(kernel, bias, mean, variance, gamma, beta, 0.1)
    assert new_kernel.dtype == new_bias.dtype == np.float32
    # Kernel and bias are rounded once, by half a step each: 18 products and one sum.
    largest = np.abs(x).sum() * np.abs(new_kernel).max() + np.abs(new_bias).max()
    np.testing.assert_allclose(
        np.tensordot(x, new_kernel, 3) + new_bias, wanted, rtol=0, atol=largest * 2**-24
    )


def residual():
    """Two blocks with a skip connection through operations that are no layers."""
    image = Input((6, 6, 4), name="image")
    x = layers.ReLU(name="stem_relu")(norm("stem_norm")(conv("stem", use_bias=False)(image)))
    y = layers.ReLU(name="a_relu")(norm("a_norm")(conv("a", 6, use_bias=False)(x)))
    y = norm("b_norm")(conv("b", 6, use_bias=False)(y))
    x = layers.Add(name="add")([ops.pad(x, ((0, 0), (0, 0), (0, 0), (1, 1))), y * 0.5])
    return scrambled(Model(image, layers.Dense(3, name="logits")(layers.GlobalAveragePooling2D()(x))))


def test_a_residual_network_keeps_its_names_and_its_other_layers():
    model = residual()
    new = assert_folds(model, count=3)
    assert {layer.name for layer in model.layers} - {layer.name for layer in new.layers} == {
        "stem_norm",
        "a_norm",
        "b_norm",
    }
    assert new.get_layer("logits") is model.get_layer("logits")
    assert (new.name, new.inputs[0].name, new.output_names) == (model.name, "image", ["logits"])


def test_it_is_a_model_of_stock_layers(tmp_path):
    model = fold(residual())
    modules = re.findall(r'"module": "([^"]*)"', json.dumps(model.get_config()))
    assert {module.split(".")[0] for module in modules} == {"keras"}
    model.save(tmp_path / "folded.keras")
    opened = keras.saving.load_model(tmp_path / "folded.keras", compile=False)
    x = inputs_of(model)
    np.testing.assert_array_equal(opened(x, training=False), model(x, training=False))


def test_models_inside_models_are_folded_too():
    inner = Sequential([Input((6, 6, 4)), conv("inner1"), norm("norm1"), layers.ReLU()], name="inner")
    image = Input((6, 6, 4))
    block = Model(image, norm("norm2")(conv("inner2")(image)), name="block")
    # `block` is called twice, layer and normalization together: both calls are those of the folded layer.
    model = Sequential([Input((6, 6, 4)), inner, block, block_again(block), layers.ReLU()])
    new = assert_folds(scrambled(model), count=2)
    assert new.get_layer("inner").get_layer("inner1").use_bias


def block_again(block):
    x = Input((6, 6, 4))
    return Model(x, block(x), name="again")


def test_an_output_keeps_its_name():
    image = Input((6, 6, 2), name="image")
    model = scrambled(Model({"image": image}, {"x": norm("last")(conv()(image)), "y": layers.ReLU()(image)}))
    new = fold(model)
    x = {"image": np.ones((2, 6, 6, 2), "float32")}
    assert new.output_names == model.output_names
    assert isinstance(new.get_layer("last"), layers.Identity)
    assert new(x).keys() == {"x", "y"}
    assert deviation(model, new, x) <= PROMISE


def test_options_of_inputs_survive():
    image, other = Input((4,), name="image"), Input((4,), name="other", optional=True)
    x = layers.Dense(3, name="head")(norm()(layers.Dense(4, name="dense")(image)))
    new = fold(Model([image, other], x))
    assert [x._keras_history.operation.optional for x in new.inputs] == [False, True]


def test_the_deviation_is_a_share_of_the_largest_output():
    def dense(scale):
        return Sequential(
            [Input((2,)), layers.Dense(1, kernel_initializer=keras.initializers.Constant(scale))]
        )

    x = np.array([[1.0, 1.0], [0.5, 0.5]], "float32")
    assert deviation(dense(2.0), dense(2.5), x) == 0.25
    assert deviation(dense(0.0), dense(2.5), x) == 5.0
    assert np.isnan(deviation(dense(1.0), dense(np.nan), x))


def test_resnet20_loses_its_19_normalizations(trial):
    from bnlab import models

    model = models.build(dataclasses.replace(trial, model="resnet20", widths=(4, 8, 8)))
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            for variable in layer.variables:
                variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    assert_folds(model, count=19)


def functional(build, shape=(6, 6, 4)):
    image = Input(shape, name="image")
    return Model(image, build(image))


def twice(layer, x):
    return layers.Add()([layer(x), layer(layers.ReLU()(x))])


def shared_convolution(x):
    shared = conv()
    return layers.Add()([norm()(shared(x)), shared(layers.ReLU()(x))])


def lora(x):
    layer = layers.Dense(4, name="dense")
    y = norm()(layer(x))
    layer.enable_lora(2)
    return y


def output_used_again(x):
    y = conv()(x)
    return layers.Add()([y, norm()(y)])


def broken(x):
    layer = norm(moving_variance_initializer=keras.initializers.Constant(-1.0))
    return layer(conv()(x))


UNFOLDABLE = {
    "it follows image (InputLayer)": lambda x: norm()(x),
    "it follows pool (MaxPooling2D)": lambda x: norm()(layers.MaxPooling2D(name="pool")(conv()(x))),
    "it follows add (Add)": lambda x: norm()(layers.Add(name="add")([conv()(x), x])),
    "it follows all (Concatenate)": lambda x: norm()(layers.Concatenate(name="all")([conv()(x), x])),
    "it follows group (GroupNormalization)": lambda x: norm()(
        layers.GroupNormalization(2, name="group")(conv()(x))
    ),
    "it follows inner (Functional)": lambda x: norm()(Model(x, conv()(x), name="inner")(x)),
    "it is called 2 times": lambda x: twice(norm(), conv()(x)),
    "conv is called 2 times": shared_convolution,
    "the output of conv is used elsewhere too": output_used_again,
    "conv has an activation of its own (relu)": lambda x: norm()(conv(activation="relu")(x)),
    "conv has an activation of its own (LeakyReLU)": lambda x: norm()(conv(activation=layers.LeakyReLU())(x)),
    "its axis 1 is not the channel axis 3 of conv": lambda x: norm(axis=1)(conv()(x)),
    "conv computes in mixed_float16": lambda x: norm()(conv(dtype="mixed_float16")(x)),
    "norm computes in float64": lambda x: norm(dtype="float64")(conv()(x)),
    "it is called with training=True": lambda x: norm()(conv()(x), training=True),
    "it is inside a layer or a model that shows no graph": lambda x: layers.TimeDistributed(norm())(
        conv()(x)
    ),
    "GroupNormalization is not Keras's": lambda x: layers.GroupNormalization(2, name="norm")(conv()(x)),
    "LayerNormalization is not Keras's": lambda x: layers.LayerNormalization(name="norm")(conv()(x)),
    "dense has a low-rank adaptation": lora,
    "its scale is not finite": broken,
}


@pytest.mark.parametrize("reason", list(UNFOLDABLE))
def test_what_cannot_be_folded_is_left_with_its_reason(reason):
    pairs, left = foldable(functional(UNFOLDABLE[reason]))
    assert pairs == []
    assert dict(left)["norm"].startswith(reason)


def test_an_output_of_the_model_is_a_use():
    image = Input((6, 6, 4))
    x = conv()(image)
    assert foldable(Model(image, [x, norm()(x)]))[1][0].reason == "the output of conv is used elsewhere too"


def test_what_is_left_still_works_beside_what_is_folded():
    def build(x):
        x = norm("folded")(conv("one")(x))
        return norm("left")(layers.ReLU()(x))

    model = scrambled(functional(build))
    new = fold(model)
    assert normalizations(new) == ["left"]
    assert deviation(model, new, inputs_of(model)) <= PROMISE


def test_a_model_without_a_graph_is_left_whole():
    class Own(Model):
        def __init__(self):
            super().__init__()
            self.stack = [conv(), norm()]

        def call(self, x):
            return self.stack[1](self.stack[0](x))

    model = Own()
    model(np.zeros((1, 6, 6, 4), "float32"))
    pairs, left = foldable(model)
    assert (pairs, [each.name for each in left]) == ([], ["norm"])
