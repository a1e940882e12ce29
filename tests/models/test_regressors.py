"""Autoencoders and sequences: their shapes, their noise, their goals."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from bnlab import models
from bnlab.models.goals import GOALS, network_inputs
from bnlab.science.probe import normalization_layers

OPTIONS = {
    "batch": {},
    "ghost": {"virtual_batch_size": 4},
    "batch_renorm": {"r_max": 3, "d_max": 5, "momentum": 0.9, "warm_up": 0.1, "r_ramp": 0.5, "d_ramp": 0.3},
    "group": {"groups": 2},
    "layer": {},
    "instance": {},
    "none": {},
}
FRAMES = (("frames", 3),)


def of(trial, model, norm="batch"):
    widths, details = ((4, 4, 4, 8), FRAMES) if model == "sequence" else ((4, 8), ())
    options = tuple(sorted(OPTIONS[norm].items()))
    return replace(trial, model=model, norm=norm, options=options, widths=widths, details=details)


@pytest.mark.parametrize("norm", OPTIONS)
@pytest.mark.parametrize("model", models.MODELS)
def test_every_network_takes_every_normalizer(trial, model, norm):
    own = of(trial, model, norm)
    built = models.build(own)
    shape = (8, 3, 28, 28, 1) if model == "sequence" else (8, 28, 28, 1)
    found = built(network_inputs(own, tf.random.stateless_uniform(shape, [0, 0]), draw=0), training=False)
    expected = {"autoencoder": (8, 28, 28, 1), "sequence": (8, 3)}.get(model, (8, 10))
    assert found.shape == expected
    assert np.isfinite(found).all()
    assert bool(normalization_layers(built)) is (norm in ("batch", "ghost", "batch_renorm"))


@pytest.mark.parametrize(("data", "sides"), [("mnist", [14, 7, 14, 28]), ("cifar", [16, 8, 16, 32])])
def test_an_autoencoder_goes_down_two_levels_and_up_again(trial, data, sides):
    model = models.build(replace(of(trial, "autoencoder"), data=data))
    blocks = [layer for layer in model.layers if layer.name.endswith("_norm")]
    assert [layer.output.shape[1] for layer in blocks] == sides
    assert [layer.output.shape[-1] for layer in blocks] == [4, 8, 4, 4]
    assert model.output_shape == model.input_shape


def test_pixels_of_an_autoencoder_lie_between_0_and_1(trial):
    model = models.build(of(trial, "autoencoder"))
    found = np.array(model(100 * np.random.default_rng(0).normal(size=(4, 28, 28, 1)), training=False))
    assert found.min() >= 0
    assert found.max() <= 1


def test_the_sequence_network_is_that_of_the_question(trial):
    model = models.build(replace(of(trial, "sequence"), widths=(16, 32, 64, 128)))
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [(c.kernel_size, c.strides) for c in convolutions] == [((4, 4), (2, 2))] * 4
    assert [c.output.shape[1:] for c in convolutions] == [(14, 14, 16), (7, 7, 32), (4, 4, 64), (2, 2, 128)]
    assert len(normalization_layers(model)) == 4
    assert list(model.output_shape) == [None, 3]


def test_an_output_of_the_sequence_network_depends_on_no_later_frame(trial):
    own = of(trial, "sequence", "none")
    model, rng = models.build(own), np.random.default_rng(0)
    x, noise = rng.random((2, 3, 28, 28, 1), np.float32), rng.normal(size=(2, 3, 16)).astype(np.float32)
    changed = x.copy()
    changed[:, 2] = 0
    moved = np.abs(np.array(model([x, noise])) - np.array(model([changed, noise]))).max(axis=0)
    assert moved[0] == moved[1] == 0
    assert moved[2] > 1e-4


def test_equal_draws_give_equal_noise_and_others_do_not(trial):
    own = of(trial, "sequence")
    x = tf.zeros((512, 3, 28, 28, 1))
    first, again, other = (np.array(network_inputs(own, x, draw)[1]) for draw in (5, 5, 6))
    assert first.shape == (512, 3, 16)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    # 24,576 standard normal values: their mean and deviation are known to 0.0064 and 0.0045.
    assert first.mean() == pytest.approx(0, abs=5 * 0.0064)
    assert first.std() == pytest.approx(1, abs=5 * 0.0045)


def test_the_loss_of_a_regressor_is_the_rmse():
    outputs, targets = tf.constant([[1.0, 3.0]]), tf.constant([[1.0, 1.0]])
    assert float(GOALS["sequence"].loss(outputs, None, targets)) == pytest.approx(2**0.5, rel=2.0**-22)
    assert float(GOALS["autoencoder"].loss(outputs, targets, None)) == pytest.approx(2**0.5, rel=2.0**-22)


def test_pixels_are_scored_on_their_scale_of_0_to_1():
    images = np.full((2, 1, 1, 1), 255, np.uint8)
    assert GOALS["autoencoder"].scores(np.zeros((2, 1, 1, 1)), images, None).rmse == 1.0


def test_what_a_constant_gets(trial):
    labels = np.array([0, 0, 1, 1])  # shares of 1/2: each of two classes of ten has variance 1/4
    assert GOALS["convnet"].constant(trial, None, labels) == pytest.approx((2 * 0.25 / 10) ** 0.5, rel=1e-12)
    images = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)
    assert GOALS["autoencoder"].constant(trial, images, None) == 0.5
    values = np.array([[0.0, 0.5], [1.0, 0.5]])
    assert GOALS["sequence"].constant(trial, None, values) == pytest.approx((0.25 / 2) ** 0.5, rel=1e-12)
