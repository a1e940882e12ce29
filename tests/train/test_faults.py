"""Training that goes wrong on purpose, against plain loops over Keras that make the same mistake."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from bnlab import models
from bnlab.checkpoint import load, losses, moving_statistics
from bnlab.data.feed import fed
from bnlab.data.order import batches
from bnlab.science.probe import normalization_layers
from bnlab.store import Folder
from bnlab.train import loop, train
from bnlab.train.optimizer import optimizer

FAULTS = ("phase_false", "sorted", "two_sources")


def plain(trial, images, numbers, forward, **options):
    """Train step by step in eager Keras: `forward(model, x, step)` lists the logits of a step."""
    model = models.build(trial, **options)
    descent = optimizer(trial)
    descent.build(model.trainable_variables)
    found = []
    for step, own in enumerate(numbers):
        x, y = images.train_x[own].astype(np.float32) / 255, images.train_y[own]
        with tf.GradientTape() as tape:
            each = [
                keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
                for logits in forward(model, x, step)
            ]
            loss = tf.reduce_mean(tf.stack(each))
        descent.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        found.append(float(loss))
    return model, np.array(found)


def same_weights(folder, model, roundings=4096):
    # As of every variant: six steps of rates up to 0.1 on gradients of size one, whose sums of fewer than
    # 10,000 terms differ in order: a few thousand roundings of 2^-23 bound it.
    stored = load(folder.checkpoint(6)).arrays
    for variable in model.trainable_variables:
        found = stored[f"model/{variable.path}"]
        np.testing.assert_allclose(found, variable, rtol=0, atol=roundings * 2.0**-23)


@pytest.fixture(scope="module")
def faulty(trial, trained, tmp_path_factory):
    """The trial with each fault: name -> (trial, folder)."""
    own = {fault: replace(trial, fault=fault) for fault in FAULTS}
    return {
        fault: (one, trained(one, tmp_path_factory.mktemp(fault) / "trial", (1, 3, 6)))
        for fault, one in own.items()
    }


@pytest.fixture(scope="module")
def order(trial, images):
    return batches(trial.seed, len(images.train_x), 8, 0, 6)


def test_phase_false_is_a_plain_loop_without_training(faulty, images, order):
    trial, folder = faulty["phase_false"]
    model, expected = plain(trial, images, order, lambda model, x, step: [model(x, training=False)])
    same_weights(folder, model)
    np.testing.assert_allclose(losses(folder), expected, rtol=0, atol=4096 * 2.0**-23)


def test_phase_false_updates_nothing_and_says_so(faulty):
    _, folder = faulty["phase_false"]
    for step in (1, 3, 6):
        tape = load(folder.checkpoint(step)).tape
        assert np.isnan(tape.moments).all()
        assert [len(tape.updates(f"block{number}_norm")) for number in (1, 2)] == [0, 0]
    moving = moving_statistics(folder, 6, [0.0, 0.9])
    assert moving.updates == {"block1_norm": 0, "block2_norm": 0}
    for decay in (0.0, 0.9):
        for mean, variance in moving.at(decay).values():
            assert (set(mean), set(variance)) == ({0.0}, {1.0})
    with pytest.raises(ValueError, match="zero-debias is undefined"):
        moving.debiased(0.9)


def test_phase_false_trains_other_weights_than_phase_true(faulty, first):
    one, other = (load(f.checkpoint(6)).arrays for f in (faulty["phase_false"][1], first))
    assert np.abs(one["model/logits/kernel"] - other["model/logits/kernel"]).max() > 100 * 4096 * 2.0**-23


def test_two_sources_are_a_plain_loop_on_a_batch_and_on_its_negative(faulty, images, order):
    trial, folder = faulty["two_sources"]

    def forward(model, x, step):
        return [model(x, training=True), model(1 - x, training=True)]

    model, expected = plain(trial, images, order, forward)
    same_weights(folder, model)
    np.testing.assert_allclose(losses(folder), expected, rtol=0, atol=4096 * 2.0**-23)


def test_two_sources_update_twice_a_step_each_with_its_own_moments(faulty, images, order, trial):
    _, folder = faulty["two_sources"]
    tape = load(folder.checkpoint(1)).tape
    assert [(c.layer, c.call) for c in tape.columns] == [
        ("block1_norm", 0),
        ("block2_norm", 0),
        ("block1_norm", 1),
        ("block2_norm", 1),
    ]
    model = models.build(trial, momentum=0.0)
    x = images.train_x[order[0]].astype(np.float32) / 255
    for number, source in enumerate((x, 1 - x)):
        model(source, training=True)
        for layer in normalization_layers(model):
            # Sums of fewer than 2,000 numbers: 64 roundings of 2^-23 of the largest, which is below 4.
            expected = np.concatenate([layer.moving_mean, layer.moving_variance])
            found = tape.updates(layer.name)[number]
            np.testing.assert_allclose(found, expected, rtol=0, atol=64 * 4**2 * 2.0**-23)
    assert moving_statistics(folder, 6, [0.9]).updates == {"block1_norm": 12, "block2_norm": 12}


def test_sorted_batches_are_what_is_fed_and_nothing_else_changes(faulty, images, order):
    trial, folder = faulty["sorted"]
    numbers = fed(trial.seed, images, 8, 0, 6, by_class=True)
    assert not np.array_equal(numbers, order)
    assert len(set(images.train_y[numbers[0]])) <= 2
    model, expected = plain(trial, images, numbers, lambda model, x, step: [model(x, training=True)])
    same_weights(folder, model)
    np.testing.assert_allclose(losses(folder), expected, rtol=0, atol=4096 * 2.0**-23)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_trial_that_is_interrupted_ends_as_if_it_had_not_been(
    faulty, trained, arrays, tmp_path, monkeypatch, fault
):
    def interrupt(step, loss):
        if step == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "_CALL_IMAGES", 8)
    trial, whole = faulty[fault]
    with pytest.raises(KeyboardInterrupt):
        trained(trial, tmp_path / "trial", (1, 3, 6), interrupt)
    again, expected = arrays(trained(trial, tmp_path / "trial", (1, 3, 6))), arrays(whole)
    assert again.keys() == expected.keys()
    assert all(np.array_equal(again[key], expected[key], equal_nan=key[1] == "moments") for key in expected)


def test_phase_false_with_ghosts_or_renormalization_is_phase_false(
    faulty, trial, images, order, trained, tmp_path
):
    """Fixed statistics leave nothing of either: it is the same network."""
    renorm = {"r_max": 3.0, "d_max": 5.0, "momentum": 0.9, "warm_up": 0.2, "r_ramp": 0.6, "d_ramp": 0.4}
    norms = {"ghost": (("virtual_batch_size", 2),), "batch_renorm": tuple(sorted(renorm.items()))}
    expected = load(faulty["phase_false"][1].checkpoint(6)).arrays
    for norm, options in norms.items():
        own = replace(trial, fault="phase_false", norm=norm, options=options)
        found = load(trained(own, tmp_path / norm / "trial", (6,)).checkpoint(6)).arrays
        for name in ("model/block1_conv/kernel", "model/block2_norm/gamma", "model/logits/bias"):
            np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=4096 * 2.0**-23)


def test_training_into_a_fresh_folder_needs_no_other_checkpoints(trial, images, tmp_path):
    folder = Folder(tmp_path)
    train(replace(trial, fault="two_sources", steps=2), images, folder, (2,), lambda step, loss: None)
    assert folder.checkpoints() == [2]
