"""Training in half precision: what is rounded, what is not, and what an overflow does to statistics."""

from dataclasses import replace
from itertools import pairwise

import keras
import numpy as np
import pytest
import tensorflow as tf

from bnlab import models
from bnlab.checkpoint import load, moving_statistics, overflowed, skipped_steps
from bnlab.data.order import batches
from bnlab.science.probe import Note, probe
from bnlab.science.sources import Batch
from bnlab.stop import Stopped
from bnlab.train import Diverged, loop

HALVES = {"mixed_float16": np.float16, "mixed_bfloat16": tf.bfloat16.as_numpy_dtype}
# Its `train` is a function of the room's, its module `bnlab.train.optimizer` one of the room's modules.
SCALE = "bnlab.train.optimizer.INITIAL_SCALE"
TOO_LARGE = 2.0**21
RENORM = {"r_max": 3.0, "d_max": 5.0, "momentum": 0.9, "warm_up": 0.2, "r_ramp": 0.6, "d_ramp": 0.4}


def half(trial, precision="mixed_float16", **changes):
    return replace(trial, precision=precision, **changes)


@pytest.fixture(scope="module", params=list(HALVES))
def precision(request):
    return request.param


@pytest.fixture(scope="module")
def skipping(trial, trained, tmp_path_factory):
    """A loss scale so large that gradients overflow in steps 1, 2 and 4, until it is small enough."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SCALE, TOO_LARGE)
        return trained(half(trial), tmp_path_factory.mktemp("skipping") / "trial", (1, 2, 3, 4, 5, 6))


@pytest.fixture(scope="module")
def overflowing(trial, trained, tmp_path_factory):
    """Kernels so large that the activations of one step exceed 65504, in one channel."""
    own = half(trial, details=(("deviation", 3000.0),))
    return trained(own, tmp_path_factory.mktemp("overflowing") / "trial", (1, 2, 3, 6))


def trainable(folder, step):
    return {
        name: array
        for name, array in load(folder.checkpoint(step)).arrays.items()
        if name.startswith(("model/", "optimizer/sgd/")) and "seed" not in name
    }


def same(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one)


def test_only_what_lies_between_is_half(trial, precision):
    model = models.build(half(trial, precision))
    assert keras.config.dtype_policy().name == "float32"
    assert {variable.dtype for variable in model.variables} == {"float32"}
    name = precision.removeprefix("mixed_")
    assert {layer.compute_dtype for layer in model.layers[1:-1]} == {name}
    assert (model.layers[-1].compute_dtype, model.output.dtype) == ("float32", "float32")


@pytest.mark.parametrize("kind", ["autoencoder", "sequence"])
def test_other_networks_end_in_float32_too(trial, precision, kind):
    details = (("frames", 2),) if kind == "sequence" else ()
    model = models.build(half(trial, precision, model=kind, widths=(2, 2), details=details))
    assert model.output.dtype == "float32"
    assert {variable.dtype for variable in model.weights} == {"float32"}


def test_a_policy_that_was_set_before_comes_back(trial):
    keras.config.set_dtype_policy("float64")
    try:
        with models._precision("mixed_float16"):
            assert keras.config.dtype_policy().name == "mixed_float16"
        assert keras.config.dtype_policy().name == "float64"
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("parts", [1, 4])
def test_moments_are_those_of_rounded_activations_taken_in_float32(trial, images, precision, parts):
    """Against float64: each is a sum of thousands of numbers, whose roundings in float32 bound it."""
    model = models.build(half(trial, precision))
    pixels = images.train_x[:8].astype(np.float32) / 255
    first = keras.Model(model.input, model.get_layer("block1_conv").output)
    seen = np.asarray(first(pixels)).astype(np.float64)
    assert np.array_equal(seen.astype(HALVES[precision]).astype(np.float64), seen)
    notes = list[Note]()
    with probe(model, Batch(parts=parts), notes):
        model(pixels, training=True)
    mean, variance = (np.asarray(own[0], np.float64) for own in (notes[0].mean, notes[0].variance))
    assert notes[0].mean.dtype == notes[0].variance.dtype == "float32"
    # A tree of 11 sums of pairs for 8 x 14 x 14 values, and a few roundings more, twice for a variance.
    scale = np.abs(seen).max((0, 1, 2))
    assert np.all(np.abs(mean - seen.mean((0, 1, 2))) < 32 * 2.0**-24 * scale)
    assert np.all(np.abs(variance - seen.var((0, 1, 2))) < 64 * 2.0**-24 * scale**2)


def test_keras_takes_moments_and_averages_in_float32_as_well(precision):
    """In half precision an average of 1 would not take note of a thousandth, nor a mean be 1000.5."""
    layer = keras.layers.BatchNormalization(momentum=0.999, dtype=precision)
    x = np.array([[1000.0], [1001.0]], HALVES["mixed_float16"])
    x = x if precision == "mixed_float16" else np.array([[128.0], [129.0]], HALVES[precision])
    layer(x, training=True)
    assert layer.moving_mean.dtype == "float32"
    kept, taken = np.float32(0.999), np.float32(1 - 0.999)
    mean, variance = x.astype(np.float64).mean(), 0.25
    np.testing.assert_allclose(np.asarray(layer.moving_mean), [taken * mean], rtol=2.0**-22)
    np.testing.assert_allclose(np.asarray(layer.moving_variance), [kept + taken * variance], rtol=2.0**-22)


def test_the_loop_is_a_plain_loop_over_keras(trial, images, trained, tmp_path, precision):
    """Written again without the probe: Keras's layers in training, its loss scale and optimizer."""
    own = half(trial, precision)
    model = models.build(own)
    sgd = keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 6, alpha=1e-3), momentum=0.9)
    scaled = precision == "mixed_float16"
    descent = keras.optimizers.LossScaleOptimizer(sgd) if scaled else sgd
    descent.build(model.trainable_variables)
    cross = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    losses = []
    for numbers in batches(own.seed, len(images.train_x), own.batch_size, 0, own.steps):
        with tf.GradientTape() as tape:
            logits = model(images.train_x[numbers].astype(np.float32) / 255, training=True)
            losses.append(cross(images.train_y[numbers], logits))
            whole = descent.scale_loss(losses[-1])
        descent.apply(tape.gradient(whole, model.trainable_variables), model.trainable_variables)
    folder = trained(own, tmp_path / "trial", (6,))
    stored = load(folder.checkpoint(6))
    assert skipped_steps(folder, "sgd") == 0
    # Both round alike but where float32 sums, in another order, fall on the other side of a step of the half
    # precision: activations of size four, of which a few do, move a loss by some steps.
    step = {"mixed_float16": 2.0**-10, "mixed_bfloat16": 2.0**-7}[precision]
    np.testing.assert_allclose(stored.losses, np.array(losses), rtol=0, atol=2 * step)


def test_half_precision_is_not_float32(trial, first, trained, tmp_path, precision):
    """Tolerances would be of no worth if nothing were rounded."""
    folder = trained(half(trial, precision), tmp_path / "trial", (1, 3, 6))
    one, other = (load(f.checkpoint(1)).tape.moments for f in (folder, first))
    apart = np.abs(one - other).max()
    step = {"mixed_float16": 2.0**-10, "mixed_bfloat16": 2.0**-7}[precision]
    # The first step's weights are the same: activations of size one, off by a fraction of a step each.
    assert step / 64 < apart < 4 * step


@pytest.mark.parametrize(
    ("precision", "changes"),
    [
        ("mixed_bfloat16", {}),
        ("mixed_float16", {}),
        ("mixed_float16", {"optimizer": "adam", "momentum": None, "details": (("dropout", 0.5),)}),
        ("mixed_float16", {"norm": "batch_renorm", "options": tuple(sorted(RENORM.items()))}),
        ("mixed_float16", {"norm": "group", "options": (("groups", 2),)}),
        ("mixed_float16", {"frozen_from": 3, "freeze_decay": 0.5}),
    ],
    ids=["bfloat16", "sgd", "adam with dropout", "batch_renorm", "group", "frozen"],
)
def test_stopped_it_goes_on_with_the_same_bits(
    trial, trained, arrays, tmp_path, monkeypatch, precision, changes
):
    """The loss scale and its counter come back as well; the first steps are skipped."""
    monkeypatch.setattr(loop, "_CALL_IMAGES", 8)  # one step per call
    monkeypatch.setattr(SCALE, TOO_LARGE)
    own = half(trial, precision, **changes)
    whole = arrays(trained(own, tmp_path / "whole" / "trial", (3, 6)))
    for step in (2, 5):
        with pytest.raises(Stopped):
            trained(own, tmp_path / "parts" / "trial", (3, 6), lambda done, loss, at=step: done == at)
    parts = arrays(trained(own, tmp_path / "parts" / "trial", (3, 6)))
    assert whole.keys() == parts.keys()
    # As bytes: where nothing is updated there is NaN.
    assert all(np.array_equal(whole[name].tobytes(), parts[name].tobytes()) for name in whole)


def test_a_skipped_step_changes_no_weight(skipping):
    states = [trainable(skipping, step) for step in range(1, 7)]
    assert [same(*pair) for pair in pairwise(states)] == [True, False, True, False, False]
    assert [int(own["optimizer/sgd/iteration"]) for own in states] == [0, 0, 1, 1, 2, 3]
    assert skipped_steps(skipping, "sgd") == 3
    scale = load(skipping.checkpoint(6)).arrays["optimizer/loss_scale/dynamic_scale"]
    assert scale == TOO_LARGE / 2**3


def test_a_skipped_step_has_still_moved_the_statistics(skipping):
    """Its batch was seen, and loss scaling does not take that back."""
    row = load(skipping.checkpoint(1)).tape.moments[0]
    layers = {"block1_norm": 4, "block2_norm": 8}
    moved = moving_statistics(skipping, 1, [0.75]).at(0.75)
    start = 0
    for layer, channels in layers.items():
        mean, variance = row[start : start + channels], row[start + channels : start + 2 * channels]
        start += 2 * channels
        np.testing.assert_allclose(moved[layer][0], 0.25 * mean.astype(np.float64), rtol=1e-15)
        np.testing.assert_allclose(moved[layer][1], 0.75 + 0.25 * variance.astype(np.float64), rtol=1e-15)
        assert np.abs(moved[layer][0]).max() > 0.01
    assert overflowed(skipping) is None


def test_so_it_is_with_a_stock_network_of_keras():
    """The first step is skipped: weights stay, and the moving mean goes to a tenth of the batch's."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.BatchNormalization(momentum=0.9)])
    descent = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1.0), initial_scale=2.0**127)
    descent.build(model.trainable_variables)
    before = [np.array(variable) for variable in model.trainable_variables]
    with tf.GradientTape() as tape:
        x = np.array([[2.0], [4.0]], np.float32)
        scaled = descent.scale_loss(tf.reduce_sum(8 * model(x, training=True)))
    descent.apply(tape.gradient(scaled, model.trainable_variables), model.trainable_variables)
    assert int(descent.iterations) == 0
    assert all(map(np.array_equal, before, map(np.array, model.trainable_variables)))
    np.testing.assert_allclose(np.array(model.layers[0].moving_mean), [0.3], rtol=2.0**-22)


def test_an_overflow_of_activations_leaves_statistics_infinite_and_weights_whole(overflowing):
    assert [skipped_steps(overflowing, "sgd"), overflowed(overflowing)] == [1, 2]
    stored = {step: load(overflowing.checkpoint(step)) for step in (1, 2, 3, 6)}
    losses = np.concatenate([own.losses for own in stored.values()])
    assert np.isfinite(losses).tolist() == [True, False, True, True, True, True]
    assert same(trainable(overflowing, 1), trainable(overflowing, 2))
    assert all(np.isfinite(own).all() for own in trainable(overflowing, 6).values())
    lost = np.isinf(stored[2].tape.moments[0])
    assert lost.sum() == 2  # mean and variance of one channel
    assert np.isfinite(stored[6].tape.moments).all()
    for decay in (0.5, 0.99):
        moving = moving_statistics(overflowing, 6, [decay]).at(decay)
        finite = np.concatenate([np.concatenate(own) for own in moving.values()])
        assert np.array_equal(~np.isfinite(finite), lost)


def test_where_every_step_overflows_the_trial_fails(trial, trained, tmp_path):
    own = half(trial, steps=40, details=(("deviation", 15_000.0),))
    said = r"^float16 overflowed at every loss scale down to 1 by step \d+ \(sgd, learning rate 0\.1; try"
    with pytest.raises(Diverged, match=said):
        trained(own, tmp_path / "trial", (20, 40))


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_without_a_loss_scale_a_loss_that_is_not_finite_ends_the_trial(trial, trained, tmp_path, precision):
    own = replace(trial, precision=precision, learning_rate=1e30, schedule="constant")
    with pytest.raises(Diverged, match="became"):
        trained(own, tmp_path / "trial", (6,))
