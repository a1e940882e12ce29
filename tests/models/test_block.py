"""`conv_norm_relu`: what each of its options does."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from bnlab import models
from bnlab.models.block import conv_norm_relu
from bnlab.store import Folder
from bnlab.train import train


def block(**options):
    image = keras.Input((9, 9, 2))
    return keras.Model(image, conv_norm_relu(image, 6, "own", **options))


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (9, 9, 6)),
        ({"kernel": 5, "padding": "valid"}, (5, 5, 6)),
        ({"stride": 2}, (5, 5, 6)),
        ({"stride": 2, "padding": "valid"}, (4, 4, 6)),
        ({"stride": 2, "transposed": True}, (18, 18, 6)),
    ],
)
def test_filters_kernel_stride_and_padding_make_the_shape(options, shape):
    model = block(**options)
    assert model.output_shape[1:] == shape
    kernel = options.get("kernel", 3)
    assert sorted(model.get_layer("own_conv").kernel.shape[:2]) == [kernel, kernel]


def test_without_relu_negative_values_stay():
    x = np.random.default_rng(0).normal(size=(4, 9, 9, 2)).astype(np.float32)
    assert np.min(block(relu=False)(x)) < 0
    assert np.min(block()(x)) == 0
    assert [layer.name for layer in block(relu=False).layers[1:]] == ["own_conv", "own_norm"]


@pytest.mark.parametrize(
    ("norm", "bias", "expected"),
    [
        ("batch", None, False),
        ("batch", True, True),
        ("none", None, True),
        ("none", False, False),
        ("layer", None, False),
    ],
)
def test_a_convolution_has_a_bias_where_it_is_asked_or_no_normalization_follows(norm, bias, expected):
    assert block(norm=norm, bias=bias).get_layer("own_conv").use_bias is expected


def test_the_initial_kernel_has_the_deviation_that_is_asked_for():
    keras.utils.set_random_seed(0)
    image = keras.Input((9, 9, 64))
    model = keras.Model(image, conv_norm_relu(image, 64, "own", deviation=0.01))
    kernel = np.array(model.get_layer("own_conv").kernel)  # 36,864 values: their deviation is known to 0.4 %
    assert kernel.std() == pytest.approx(0.01, rel=5 * 0.0037)


def test_weight_decay_adds_the_sum_of_squares_to_the_loss():
    model = block(weight_decay=0.25)
    kernel = np.array(model.get_layer("own_conv").kernel, np.float64)
    [loss] = model.losses
    assert float(loss) == pytest.approx(0.25 * (kernel**2).sum(), rel=108 * 2.0**-23)
    assert block().losses == []


def test_a_frozen_block_is_frozen_whole():
    model = block(freeze=True, bias=True)
    assert model.trainable_variables == []
    assert len(model.variables) == 6


def trained(trial, images, path):
    model = models.build(trial)
    before = {v.path: np.array(v) for v in model.variables}
    train(trial, images, Folder(path), (trial.steps,), lambda step, loss: None)
    with np.load(Folder(path).checkpoint(trial.steps)) as stored:
        return before, {name: stored[f"model/{name}"] for name in before}, stored["moments"]


def test_training_leaves_a_frozen_network_as_it_is_but_for_its_last_layer(trial, images, tmp_path):
    frozen = replace(trial, details=(("freeze", True),))
    before, after, moments = trained(frozen, images, tmp_path)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"logits/kernel", "logits/bias"}
    assert moments.shape == (trial.steps, 0)  # no layer saw batch statistics


def test_training_changes_every_weight_of_a_network_that_is_not_frozen(trial, images, tmp_path):
    before, after, _ = trained(trial, images, tmp_path)
    still = {name for name in before if np.array_equal(before[name], after[name])}
    assert still == {f"block{n}_norm/moving_{kind}" for n in (1, 2) for kind in ("mean", "variance")}


def test_weight_decay_shrinks_kernels_in_training(trial, images, tmp_path):
    _, plain, _ = trained(trial, images, tmp_path / "plain")
    _, decayed, _ = trained(replace(trial, details=(("weight_decay", 0.5),)), images, tmp_path / "decayed")
    norms = [np.linalg.norm(weights["block2_conv/kernel"]) for weights in (decayed, plain)]
    assert norms[0] < 0.95 * norms[1]
