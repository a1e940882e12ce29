"""The networks: their size in exact integers, their normalizations, their seeds."""

from dataclasses import replace
from math import prod

import keras
import numpy as np
import pytest

from bnlab import models
from bnlab.models.block import conv_norm_relu
from bnlab.models.convnet import convnet
from bnlab.models.resnet import resnet20
from bnlab.records import Trial
from bnlab.science.probe import normalization_layers

TRIAL = Trial(
    task="mnist",
    data="mnist",
    fingerprint="",
    model="convnet",
    widths=(4, 8),
    norm="batch",
    options=(("center", True), ("epsilon", 2e-3), ("scale", False)),
    batch_size=8,
    seed=0,
    steps=6,
    optimizer="sgd",
    learning_rate=0.1,
    momentum=0.9,
    schedule="cosine",
    device="cpu",
    threads=1,
    xla=False,
)
MNIST, CIFAR = (28, 28, 1), (32, 32, 3)


@pytest.fixture(scope="module")
def resnet():
    return resnet20(CIFAR, 10, (16, 32, 64), conv_norm_relu)


def multiply_adds(model):
    """Every output value of a convolution or dense layer sums one product per weight that feeds it."""
    weighted = [
        layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense)
    ]
    return sum(prod(layer.output.shape[1:]) * prod(layer.kernel.shape[:-1]) for layer in weighted)


@pytest.mark.parametrize(
    ("shape", "widths", "expected"),
    [
        # 14^2 * 16 * 9 + 7^2 * 32 * 144 + 4^2 * 64 * 288 + 640
        (MNIST, (16, 32, 64), 549_568),
        # 16^2 * 32 * 27 + 8^2 * 64 * 288 + 4^2 * 128 * 576 + 1,280
        (CIFAR, (32, 64, 128), 2_581_760),
    ],
)
def test_the_convolution_network_takes_as_many_multiply_adds_as_it_says(shape, widths, expected):
    model = convnet(shape, 10, widths, conv_norm_relu)
    assert multiply_adds(model) == expected
    assert len(normalization_layers(model)) == 3
    assert model.output_shape == (None, 10)


def test_resnet20_takes_as_many_multiply_adds_as_it_says(resnet):
    # Stem 32^2 * 16 * 27; stage 1: six of 32^2 * 16 * 144; stages 2 and 3: half of one of these and five.
    one = 32**2 * 16 * 144
    assert multiply_adds(resnet) == 32**2 * 16 * 27 + 6 * one + 2 * (one // 2 + 5 * one) + 640 == 40_551_040


def test_resnet20_has_the_papers_parameters(resnet):
    # arXiv 1512.03385, table 6: 0.27 M. Convolutions 267,696, dense 650, scales and shifts 1,376.
    trainable = sum(prod(variable.shape) for variable in resnet.trainable_variables)
    assert trainable == 267_696 + 650 + 1376
    assert resnet.output_shape == (None, 10)


def test_resnet20_normalizes_after_each_of_19_convolutions(resnet):
    convolutions = [layer for layer in resnet.layers if isinstance(layer, keras.layers.Conv2D)]
    assert len(convolutions) == len(normalization_layers(resnet)) == 19
    assert all(
        norm.input is conv.output
        for norm, conv in zip(normalization_layers(resnet), convolutions, strict=True)
    )


def test_shortcuts_skip_positions_and_pad_channels_with_zeros(resnet):
    # With nothing from the residual branches the stem's output passes through every shortcut: each fourth
    # position is left, and 16 channels stand in the middle of 64.
    model = keras.models.clone_model(resnet)
    for layer in normalization_layers(model):
        if layer.name.endswith("_b_norm"):
            layer.gamma.assign(layer.gamma * 0)
    parts = keras.Model(model.input, [model.get_layer("stem_relu").output, model.get_layer("mean").input])
    stem, last = parts(np.random.default_rng(0).random((2, *CIFAR), np.float32))
    expected = np.pad(np.array(stem)[:, ::4, ::4], ((0, 0), (0, 0), (0, 0), (24, 24)))
    assert np.array_equal(last, expected)


@pytest.mark.parametrize("model", ["convnet", "resnet20"])
def test_layers_and_variables_have_names_of_their_own(model):
    built = models.build(replace(TRIAL, model=model, widths=(4, 8, 8)))
    for names in ([layer.name for layer in built.layers], [variable.path for variable in built.variables]):
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("model", ["convnet", "resnet20"])
def test_group_normalization_leaves_no_batch_normalization(model):
    options = (("groups", 2),)
    built = models.build(replace(TRIAL, model=model, norm="group", options=options))
    groups = [layer for layer in built.layers if isinstance(layer, keras.layers.GroupNormalization)]
    assert normalization_layers(built) == []
    assert {layer.groups for layer in groups} == {2}
    assert len(groups) == {"convnet": 2, "resnet20": 1 + 2 * 3 * 2}[model]


def test_convolutions_have_no_bias_and_normalizations_the_trials_options():
    built = models.build(TRIAL)
    assert not any(layer.use_bias for layer in built.layers if isinstance(layer, keras.layers.Conv2D))
    assert {(n.center, n.epsilon, n.scale) for n in normalization_layers(built)} == {(True, 2e-3, False)}


def test_further_options_are_added_to_the_trials():
    [first, *_] = normalization_layers(models.build(TRIAL, momentum=0.5))
    assert (first.momentum, first.epsilon) == (0.5, 2e-3)


@pytest.mark.parametrize(("seed", "equal"), [(0, True), (1, False)])
def test_a_seed_makes_the_weights(seed, equal):
    own = models.build(TRIAL).get_weights()
    other = models.build(replace(TRIAL, seed=seed)).get_weights()
    assert all(map(np.array_equal, own, other)) is equal


def test_weights_do_not_depend_on_what_was_built_before():
    own = models.build(TRIAL).get_weights()
    models.build(replace(TRIAL, seed=5, model="resnet20"))
    assert all(map(np.array_equal, own, models.build(TRIAL).get_weights()))


@pytest.mark.parametrize(("data", "shape"), [("mnist", MNIST), ("cifar", CIFAR)])
def test_a_data_set_gives_the_shape_of_images_and_logits(data, shape):
    built = models.build(replace(TRIAL, data=data))
    assert built.input_shape == (None, *shape)
    assert built.output_shape == (None, 10)
