"""The loop against a plain one in eager Keras, its tape against numpy, and its repeats bit for bit."""

import math
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from bnlab import models
from bnlab.checkpoint import load, moving_statistics
from bnlab.data.order import batches
from bnlab.store import Folder
from bnlab.train import Diverged, loop, resume, steps, train
from bnlab.train.optimizer import optimizer


def plain(trial, images, weights, dtype):
    """Train step by step: gradients from eager Keras, momentum and cosine written out.

    Returns (losses, trained weights, gradients of the first step).
    """
    model = models.build(trial)
    model.set_weights(weights)
    velocity, losses, first = [0.0] * len(model.trainable_variables), [], None
    for step, numbers in enumerate(
        batches(trial.seed, len(images.train_x), trial.batch_size, 0, trial.steps)
    ):
        x, y = images.train_x[numbers].astype(dtype) / 255, images.train_y[numbers]
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True))
        gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        rate = trial.learning_rate * (0.001 + 0.999 * (1 + math.cos(math.pi * step / trial.steps)) / 2)
        velocity = [trial.momentum * v - rate * g for v, g in zip(velocity, gradients, strict=True)]
        for variable, v in zip(model.trainable_variables, velocity, strict=True):
            variable.assign_add(v)
        first = first or gradients
        losses.append(float(loss))
    return np.array(losses), {v.path: np.array(v) for v in model.trainable_variables}, first


def largest(one, other):
    return max(np.abs(np.asarray(one[name], np.float64) - other[name]).max() for name in other)


def precision(dtype):
    """Let Keras build models of this precision."""
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)


@pytest.fixture(scope="module")
def truth(trial, images):
    """(losses, weights) of the plain loop in float64, and ten times how far float32 takes it from there.

    Another order of float32 operations is as far from the truth, within such a factor. Float32's own
    steps, 2^-22 for losses between 2 and 4 and 2^-24 for weights below 1, are the least.
    """
    weights = models.build(trial).get_weights()
    losses32, single, _ = plain(trial, images, weights, "float32")
    precision("float64")
    try:
        losses64, double, _ = plain(trial, images, weights, "float64")
    finally:
        precision("float32")
    loss_error, weight_error = np.abs(losses32 - losses64).max(), largest(single, double)
    return losses64, double, 10 * max(loss_error, 2.0**-22), 10 * max(weight_error, 2.0**-24)


def test_the_loop_is_the_plain_loop(first, truth):
    losses, weights, loss_error, weight_error = truth
    checkpoint = load(first.checkpoint(6))
    own = {name.removeprefix("model/"): array for name, array in checkpoint.arrays.items()}
    found = np.concatenate([load(first.checkpoint(step)).losses for step in (1, 3, 6)])
    assert np.abs(found - losses).max() < loss_error < 1e-4
    assert largest(own, weights) < weight_error < 1e-4


def test_the_tape_of_the_first_step_holds_the_first_convolutions_moments(trial, images, first):
    numbers = batches(trial.seed, 200, 8, 0, 1)[0]
    pixels = np.pad(images.train_x[numbers].astype(np.float64) / 255, ((0, 0), (0, 1), (0, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (3, 3), axis=(1, 2))[:, ::2, ::2]
    kernel = models.build(trial).get_layer("block1_conv").kernel
    seen = np.einsum("nhwcij,ijcf->nhwf", windows, np.array(kernel, np.float64))
    [row] = load(first.checkpoint(1)).tape.updates("block1_norm")
    # Nine products and a blocked sum of 1,568 values: fewer than 64 roundings of 2^-23 each.
    atol = 64 * 2.0**-23 * np.abs(seen).max() ** 2
    np.testing.assert_allclose(row[:4], seen.mean((0, 1, 2)), rtol=0, atol=atol)
    np.testing.assert_allclose(row[4:], seen.var((0, 1, 2)), rtol=0, atol=atol)


def test_the_tape_has_a_row_per_step_and_a_column_per_layer(first):
    tapes = [load(first.checkpoint(step)).tape for step in (1, 3, 6)]
    assert [(column.layer, column.call, column.channels) for column in tapes[0].columns] == [
        ("block1_norm", 0, 4),
        ("block2_norm", 0, 8),
    ]
    assert [tape.moments.shape for tape in tapes] == [(1, 24), (2, 24), (3, 24)]


def test_moving_statistics_are_not_touched_by_training(first):
    stored = load(first.checkpoint(6)).arrays
    for number in (1, 2):
        assert (stored[f"model/block{number}_norm/moving_mean"] == 0).all()
        assert (stored[f"model/block{number}_norm/moving_variance"] == 1).all()


def test_training_again_is_bit_identical(trial, trained, first, arrays, tmp_path):
    again, expected = arrays(trained(trial, tmp_path, (1, 3, 6))), arrays(first)
    assert again.keys() == expected.keys()
    assert all(np.array_equal(again[key], expected[key]) for key in expected)


@pytest.mark.parametrize("steps", [(6,), (1, 2, 3, 4, 5, 6)])
def test_how_steps_are_cut_changes_no_bit(trial, trained, first, arrays, tmp_path, monkeypatch, steps):
    monkeypatch.setattr(loop, "_CALL_IMAGES", 16)  # two steps per graph call instead of all
    cut, expected = arrays(trained(trial, tmp_path, steps)), arrays(first)
    for name in ("moments", "losses"):
        whole = [np.concatenate([a for (_, n), a in kept.items() if n == name]) for kept in (cut, expected)]
        assert np.array_equal(*whole)
    final = [name for step, name in expected if step == 6 and name not in ("moments", "losses")]
    assert all(np.array_equal(cut[6, name], expected[6, name]) for name in final)


def test_a_long_tape_is_cut_into_more_checkpoints(trial, trained, first, arrays, tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "_TAPE_BYTES", 2 * 24 * 4 + 1)  # two rows of 24 float32
    parts = trained(trial, tmp_path, (1, 6))
    assert parts.checkpoints() == [1, 3, 5, 6]
    moments = [load(parts.checkpoint(step)).tape.moments for step in (1, 3, 5, 6)]
    assert max(part.nbytes for part in moments) <= resume._TAPE_BYTES
    whole = np.concatenate([load(first.checkpoint(step)).tape.moments for step in (1, 3, 6)])
    assert np.array_equal(np.concatenate(moments), whole)
    for decay in (0.0, 0.9):
        cut, uncut = (moving_statistics(folder, 6, [decay]).at(decay) for folder in (parts, first))
        for layer in uncut:
            np.testing.assert_allclose(cut[layer], uncut[layer], rtol=2.0**-48)


def test_a_resumed_trial_is_cut_where_the_undisturbed_one_is(trial, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "_TAPE_BYTES", 2 * 24 * 4)
    folder = trained(trial, tmp_path, (1, 6))
    for step in (5, 6):
        folder.checkpoint(step).unlink()
    assert trained(trial, tmp_path, (1, 6)).checkpoints() == [1, 3, 5, 6]


def test_a_resnet_at_batch_2_over_30_000_steps_keeps_64_mib_of_tape():
    channels = 7 * 16 + 6 * 32 + 6 * 64  # the stem and eighteen convolutions
    longest = max(b - a for a, b in resume.cuts(0, [30_000], 2 * channels))
    assert 60 * 2**20 < longest * 8 * channels <= 64 * 2**20 < 30_000 * 8 * channels


@pytest.mark.parametrize("momentum", [0.0, 0.9999])
def test_the_decay_of_the_layers_changes_no_bit(trial, trained, first, arrays, tmp_path, momentum):
    decayed = replace(trial, options=(*trial.options, ("momentum", momentum)))
    other, expected = arrays(trained(decayed, tmp_path, (1, 3, 6))), arrays(first)
    assert all(np.array_equal(other[key], expected[key]) for key in expected)


def test_the_watcher_is_told_the_step_and_its_loss_after_every_call(trial, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_CALL_IMAGES", 16)
    told = []
    folder = trained(trial, tmp_path, (3, 6), lambda step, loss: told.append((step, loss)))
    losses = np.concatenate([load(folder.checkpoint(step)).losses for step in (3, 6)])
    assert told == [(step, float(losses[step - 1])) for step in (1, 3, 5, 6)]


def test_a_loss_that_is_not_finite_names_its_step(trial, images, trained, tmp_path):
    hot = replace(trial, learning_rate=1e30)
    with np.errstate(all="ignore"):
        losses, _, _ = plain(hot, images, models.build(hot).get_weights(), "float32")
    step = int(np.flatnonzero(~np.isfinite(losses))[0]) + 1
    with pytest.raises(
        Diverged, match=rf"^the loss became (nan|inf) at step {step} \(sgd, learning rate 1e\+30; "
    ):
        trained(hot, tmp_path, (1, 6))
    assert Folder(tmp_path).checkpoints() == [1]


@pytest.mark.parametrize("xla", [False, True])
def test_xla_compiles_the_step_when_the_trial_says_so(trial, images, xla):
    model, descent = models.build(trial), optimizer(trial)
    descent.build(model.trainable_variables)
    _, run = steps.compiled_steps(replace(trial, xla=xla), model, descent, images)
    functions = run.get_concrete_function().graph.as_graph_def().library.function
    assert any(function.attr["_XlaMustCompile"].b for function in functions) is xla


def test_xla_trains_as_the_plain_loop_does(trial, trained, truth, tmp_path):
    losses, _, loss_error, _ = truth
    folder = trained(replace(trial, xla=True), tmp_path, (6,))
    assert np.abs(load(folder.checkpoint(6)).losses - losses).max() < loss_error


def test_group_normalization_has_an_empty_tape(trial, trained, tmp_path):
    grouped = replace(trial, norm="group", options=(("groups", 2),))
    tape = trained(grouped, tmp_path, (2, 6)).checkpoint(6)
    assert (load(tape).tape.columns, load(tape).tape.moments.shape) == ((), (4, 0))


def test_the_first_step_of_adam_goes_by_the_rate_against_the_gradients_sign(trial, images, trained, tmp_path):
    warm = replace(trial, optimizer="adam", learning_rate=0.01, momentum=None)
    start = models.build(warm)
    _, _, gradients = plain(trial, images, start.get_weights(), "float32")
    stored = load(trained(warm, tmp_path, (1, 6)).checkpoint(1)).arrays
    for variable, gradient in zip(start.trainable_variables, map(np.array, gradients), strict=True):
        large = np.abs(gradient) > 1e-3
        step = stored[f"model/{variable.path}"] - np.array(variable)
        # rate * g / (|g| + 1e-7 / sqrt(.001)): less than .4 % under the rate where |g| > .001.
        np.testing.assert_allclose(step[large], -0.01 * np.sign(gradient[large]), rtol=4e-3)


def test_training_goes_on_in_a_process_that_has_trained_before(trial, images, tmp_path):
    for wanted in ((3, 6), (3, 5, 6)):
        train(trial, images, Folder(tmp_path), wanted, lambda step, loss: None)
    assert Folder(tmp_path).checkpoints() == [3, 5, 6]
