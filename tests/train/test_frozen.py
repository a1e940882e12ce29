"""Statistics that are frozen in the middle of a run, against a plain loop over Keras that freezes there."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from bnlab import models
from bnlab.checkpoint import load, losses, moving_statistics
from bnlab.data.order import batches
from bnlab.stop import Stopped
from bnlab.store import Folder
from bnlab.train import loop, resume
from bnlab.train.optimizer import optimizer

DECAY = 0.75


@pytest.fixture(scope="module")
def own(trial):
    """Frozen after three of six steps."""
    return replace(trial, frozen_from=3, freeze_decay=DECAY)


@pytest.fixture(scope="module")
def frozen(own, trained, tmp_path_factory):
    return trained(own, tmp_path_factory.mktemp("frozen") / "trial", (1, 3, 6))


@pytest.fixture(scope="module")
def plain(own, images):
    """Keras itself: its own moving averages for three steps in training, and then at inference."""
    model = models.build(own, momentum=DECAY)
    descent = optimizer(own)
    descent.build(model.trainable_variables)
    found = []
    for step, numbers in enumerate(batches(own.seed, len(images.train_x), 8, 0, 6)):
        x, y = images.train_x[numbers].astype(np.float32) / 255, images.train_y[numbers]
        with tf.GradientTape() as tape:
            logits = model(x, training=step < 3)
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True))
        descent.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        found.append(float(loss))
    return model, np.array(found)


def test_frozen_training_is_a_plain_loop_that_freezes_there(frozen, plain):
    model, expected = plain
    stored = load(frozen.checkpoint(6)).arrays
    # As of every variant: a few thousand roundings of 2^-23 bound six steps in another order of sums.
    for variable in model.trainable_variables:
        found = stored[f"model/{variable.path}"]
        np.testing.assert_allclose(found, variable, rtol=0, atol=4096 * 2.0**-23)
    np.testing.assert_allclose(losses(frozen), expected, rtol=0, atol=4096 * 2.0**-23)


def test_statistics_stay_what_they_were(frozen, plain):
    model, _ = plain
    moving = {step: moving_statistics(frozen, step, [DECAY]) for step in (3, 6)}
    assert [own.updates for own in moving.values()] == [{"block1_norm": 3, "block2_norm": 3}] * 2
    for layer, parts in moving[6].at(DECAY).items():
        keras_own = model.get_layer(layer).moving_mean, model.get_layer(layer).moving_variance
        for part, before, in_graph in zip(parts, moving[3].at(DECAY)[layer], keras_own, strict=True):
            assert np.array_equal(part, before)
            # Moments of the third step follow two steps of training: as the weights above.
            np.testing.assert_allclose(part, in_graph, rtol=0, atol=4096 * 2.0**-23)


def test_the_tape_has_rows_until_then_and_none_afterwards(frozen):
    tapes = {step: load(frozen.checkpoint(step)).tape for step in (1, 3, 6)}
    assert [len(tape.updates("block2_norm")) for tape in tapes.values()] == [1, 2, 0]
    assert tapes[6].moments.shape == (3, 24)
    assert np.isnan(tapes[6].moments).all()
    assert tapes[6].columns == tapes[1].columns


def test_until_then_it_is_the_healthy_trial(frozen, first, arrays):
    one, other = arrays(frozen), arrays(first)
    early = [key for key in other if key[0] <= 3]
    assert all(np.array_equal(one[key], other[key]) for key in early)
    assert not np.array_equal(one[6, "model/logits/kernel"], other[6, "model/logits/kernel"])


def test_the_decay_decides_what_is_frozen(own, frozen, trained, tmp_path):
    other = trained(replace(own, freeze_decay=0.5), tmp_path / "trial", (1, 3, 6))
    one, two = (load(folder.checkpoint(6)).arrays["model/logits/kernel"] for folder in (frozen, other))
    assert np.abs(one - two).max() > 100 * 2.0**-23


def files(folder):
    return {str(p.relative_to(folder.path)): p.read_bytes() for p in folder.path.rglob("*") if p.is_file()}


@pytest.mark.parametrize("stops", [(2,), (4,), (2, 3, 5)])
def test_stopped_before_or_after_it_goes_on_to_the_very_same_files(
    own, frozen, trained, tmp_path, monkeypatch, stops
):
    monkeypatch.setattr(loop, "_CALL_IMAGES", 8)  # one step per call
    for step in stops:
        with pytest.raises(Stopped, match=f"^training stopped at step {step}$"):
            trained(own, tmp_path / "trial", (1, 3, 6), lambda at, loss, step=step: at == step)
    assert files(trained(own, tmp_path / "trial", (1, 3, 6))) == files(frozen)


@pytest.mark.parametrize("steps", [(6,), (2, 6)])
def test_there_is_a_checkpoint_where_statistics_are_frozen_whether_asked_or_not(
    own, frozen, trained, tmp_path, steps
):
    folder = trained(own, tmp_path / "trial", steps)
    assert folder.checkpoints() == sorted({*steps, 3})
    one, other = (load(f.checkpoint(6)).arrays for f in (folder, frozen))
    assert np.array_equal(one["model/logits/kernel"], other["model/logits/kernel"])


def test_with_the_checkpoint_lost_all_after_it_is_made_again(own, frozen, trained, tmp_path):
    folder = trained(own, tmp_path / "trial", (1, 3, 6))
    folder.checkpoint(3).unlink()
    assert files(trained(own, folder.path, (1, 6))) == files(frozen)


def test_a_tape_cut_in_pieces_freezes_at_the_same_step(own, frozen, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "_TAPE_BYTES", 4 * 24 * 2)  # two steps
    folder = trained(own, tmp_path / "trial", (6,))
    assert folder.checkpoints() == [2, 3, 5, 6]
    one, other = (load(f.checkpoint(6)).arrays for f in (folder, frozen))
    assert np.array_equal(one["model/logits/kernel"], other["model/logits/kernel"])


def test_a_trial_that_is_frozen_at_once_has_seen_one_batch(own, trained, tmp_path):
    folder = trained(replace(own, frozen_from=1), tmp_path / "trial", (6,))
    assert folder.checkpoints() == [1, 6]
    assert moving_statistics(Folder(folder.path), 6, [0.0]).updates == {"block1_norm": 1, "block2_norm": 1}
