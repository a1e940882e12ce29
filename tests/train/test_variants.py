"""What only some trials have - dropout, ghost batches, averages of their own, noise - trains and resumes."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from bnlab import models
from bnlab.checkpoint import load
from bnlab.data import Images
from bnlab.data.order import batches
from bnlab.data.sequences import sequences
from bnlab.store import Folder
from bnlab.train import train
from bnlab.train.optimizer import optimizer

RENORM = {"r_max": 3.0, "d_max": 5.0, "momentum": 0.9, "warm_up": 0.2, "r_ramp": 0.6, "d_ramp": 0.4}


def variants(trial):
    return {
        "dropout": replace(trial, details=(("dropout", 0.5),)),
        "ghost": replace(trial, norm="ghost", options=(("virtual_batch_size", 2),)),
        "batch_renorm": replace(trial, norm="batch_renorm", options=tuple(sorted(RENORM.items()))),
        "autoencoder": replace(
            trial, model="autoencoder", optimizer="adam", learning_rate=1e-3, momentum=None
        ),
        "sequence": replace(trial, model="sequence", widths=(2, 2, 2, 2), details=(("frames", 2),)),
        "5x5": replace(trial, model="convnet_5x5", widths=(4,)),
        "none": replace(trial, norm="none", options=()),
    }


@pytest.fixture(scope="module")
def seen(images):
    return {False: images, True: sequences(images, 2)}


@pytest.fixture
def run(seen, tmp_path):
    def run(trial, name, steps, until=None):
        keras.backend.clear_session()
        folder = Folder(tmp_path / name)

        def watch(step, loss):
            if step == until:
                raise KeyboardInterrupt

        train(trial, seen[trial.model == "sequence"], folder, steps, watch)
        return folder

    return run


# XLA changes the rounding, not the state: two kinds stand for all.
KINDS = ["dropout", "ghost", "batch_renorm", "autoencoder", "sequence"]


@pytest.mark.parametrize(
    ("kind", "xla"), [*((kind, False) for kind in KINDS), ("dropout", True), ("batch_renorm", True)]
)
def test_an_interrupted_trial_ends_as_if_it_had_not_been(trial, run, kind, xla):
    own = replace(variants(trial)[kind], xla=xla)
    whole = run(own, "whole/trial", (3, 6))
    with pytest.raises(KeyboardInterrupt):
        run(own, "parts/trial", (3, 6), until=6)
    parts = run(own, "parts/trial", (3, 6))
    for step in (3, 6):
        first, second = (load(folder.checkpoint(step)).arrays for folder in (whole, parts))
        assert first.keys() == second.keys()
        assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("kind", ["autoencoder", "sequence", "5x5", "none", "batch_renorm"])
def test_the_loop_is_a_plain_loop_over_keras(trial, seen, run, kind):
    """Written again without the probe: Keras's own layers in training, batch by batch."""
    own = variants(trial)[kind]
    images = seen[own.model == "sequence"]
    model, goal = models.build(own), models.GOALS[own.model]
    descent = optimizer(own)
    descent.build(model.trainable_variables)
    for step, numbers in enumerate(batches(own.seed, len(images.train_x), own.batch_size, 0, own.steps)):
        x = images.train_x[numbers].astype(np.float32) / 255
        if kind == "batch_renorm":
            open_clipping(model, step / own.steps)
        with tf.GradientTape() as tape:
            outputs = model(models.network_inputs(own, tf.constant(x), step), training=True)
            loss = goal.loss(outputs, x, tf.constant(images.train_y[numbers]))
        descent.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
    stored = load(run(own, "loop", (6,)).checkpoint(6))
    for variable in model.trainable_variables:
        # Six steps of rates up to 0.1 on gradients of size one, each a sum of fewer than 10,000 terms whose
        # order differs: a few thousand roundings of 2^-23 bound it; hundreds are seen.
        np.testing.assert_allclose(
            stored.arrays[f"model/{variable.path}"], variable, rtol=0, atol=4096 * 2.0**-23
        )


def open_clipping(model, share):
    """Batch renormalization's bounds at a share of the run, put into Keras's layers by hand."""
    grown = [min(1, max(0, (share - 0.2) / (end - 0.2))) for end in (0.6, 0.4)]
    r_max, d_max = 1 + 2 * grown[0], 5 * grown[1]
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.renorm_clipping = {"rmax": r_max, "rmin": 1 / r_max, "dmax": d_max}


def test_ghost_batches_are_the_mean_of_what_each_would_do(trial, seen, run):
    """With one step, the gradient of a batch of two ghosts is the mean of the gradients of each."""
    own = replace(
        trial, norm="ghost", options=(("virtual_batch_size", 4),), steps=1, momentum=0.0, schedule="constant"
    )
    images = seen[False]
    [numbers] = batches(own.seed, len(images.train_x), 8, 0, 1)
    ends = []
    for part in (numbers[:4], numbers[4:]):
        model = models.build(own)
        with tf.GradientTape() as tape:
            logits = model(images.train_x[part].astype(np.float32) / 255, training=True)
            loss = models.GOALS["convnet"].loss(logits, None, tf.constant(images.train_y[part]))
        gradients = tape.gradient(loss, model.trainable_variables)
        ends.append(
            [np.array(v - 0.1 * g) for v, g in zip(model.trainable_variables, gradients, strict=True)]
        )
    stored = load(run(own, "ghost", (1,)).checkpoint(1))
    for variable, first, second in zip(model.trainable_variables, *ends, strict=True):
        expected = (first + second) / 2
        np.testing.assert_allclose(
            stored.arrays[f"model/{variable.path}"], expected, rtol=0, atol=256 * 2.0**-23
        )


def test_the_tape_of_ghost_batches_has_an_update_per_part(trial, run):
    stored = load(run(variants(trial)["ghost"], "ghost", (6,)).checkpoint(6))
    columns = stored.tape.columns
    assert [(c.layer, c.call) for c in columns] == [(f"block{n}_norm", k) for n in (1, 2) for k in range(4)]
    assert stored.tape.updates("block1_norm").shape == (24, 8)


def test_the_tape_of_batch_renormalization_says_that_it_averages_deviations(trial, run):
    stored = load(run(variants(trial)["batch_renorm"], "renorm", (6,)).checkpoint(6))
    assert {column.epsilon for column in stored.tape.columns} == {1e-3}
    assert {column.epsilon for column in load(run(trial, "batch", (6,)).checkpoint(6)).tape.columns} == {None}


def test_dropout_draws_anew_in_each_step(trial, tmp_path):
    own = replace(variants(trial)["dropout"], steps=2, schedule="constant", learning_rate=1e-30)
    pixels, labels = np.random.default_rng(0).integers(0, 256, (1, 28, 28, 1), np.uint8), np.array([3])
    alike = Images(pixels.repeat(40, 0), labels.repeat(40), pixels.repeat(8, 0), labels.repeat(8))
    for trial, equal in ((replace(own, details=()), True), (own, False)):
        folder = Folder(tmp_path / str(equal))
        train(trial, alike, folder, (2,), lambda step, loss: None)
        [first, second] = load(folder.checkpoint(2)).losses
        assert (first == second) is np.bool_(equal)


def test_sequences_are_as_long_as_asked(seen):
    assert isinstance(seen[True], Images)
    assert seen[True].train_x.shape == (100, 2, 28, 28, 1)
