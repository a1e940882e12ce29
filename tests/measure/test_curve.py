"""Readings against Keras and numpy by hand, from the arrays that lie in the checkpoints."""

import hashlib
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax

from bnlab import models
from bnlab.data.order import batches, probe, shuffled
from bnlab.measure import NotFinite, measure
from bnlab.store import Folder
from bnlab.train import train

DECAYS = (None, 0.5, 0.9)


@pytest.fixture(scope="module")
def readings(trial, images, folder, wanted):
    return list(measure(trial, images, folder, wanted, DECAYS))


@pytest.fixture(scope="module")
def restored(trial, folder):
    """A model that holds a step's weights, with the moving statistics of a decay by recursion."""

    def restored(step, decay=0.5):
        model = models.build(trial)
        stored = {s: np.load(folder.checkpoint(s)) for s in (2, 4, 6)}
        for variable in model.variables:
            variable.assign(stored[step][f"model/{variable.path}"])
        rows = np.concatenate([stored[s]["moments"] for s in (2, 4, 6) if s <= step]).astype(float)
        average = np.repeat([0.0, 1.0, 0.0, 1.0], [4, 4, 8, 8])  # the row's layout: means, then variances
        for row in rows:
            average = float(np.float32(decay)) * average + float(np.float32(1 - decay)) * row
        parts = np.split(average, [4, 8, 16])
        for number in (1, 2):
            norm = model.get_layer(f"block{number}_norm")
            norm.moving_mean.assign(parts[2 * number - 2])
            norm.moving_variance.assign(parts[2 * number - 1])
        return model

    return restored


@pytest.fixture(scope="module")
def splits(trial, images):
    """The images and labels of each split; the train probe is drawn from what six steps have seen."""
    seen = np.unique(batches(trial.seed, 200, 8, 0, 6))
    train, test = probe(seen, 15), probe(np.arange(60), 15)
    assert (len(seen), len(train), len(test)) == (48, 12, 15)
    return {
        "train_probe": (images.train_x[train], images.train_y[train]),
        "test_probe": (images.test_x[test], images.test_y[test]),
        "test": (images.test_x, images.test_y),
    }


def scored(logits, labels):
    """(RMSE, accuracy, loss) and each image's loss, in float64."""
    log_p = log_softmax(np.asarray(logits, np.float64), axis=1)
    rmse = math.sqrt(((np.exp(log_p) - np.eye(10)[labels]) ** 2).mean())
    losses = -log_p[np.arange(len(labels)), labels]
    return (rmse, (log_p.argmax(1) == labels).mean(), losses.mean()), losses


def in_phase_true(model, pixels):
    """Batch by batch of eight, the last one filled up with the first images."""
    count = len(pixels)
    x = pixels[np.arange(-(-count // 8) * 8) % count].astype(np.float32) / 255
    return np.concatenate([model(part, training=True) for part in x.reshape(-1, 8, 28, 28, 1)])[:count]


def in_phase_false(model, pixels):
    return np.array(model(pixels.astype(np.float32) / 255, training=False))


def chosen(readings, step, split, decay):
    [found] = [r for r in readings if (r.step, r.split, r.decay) == (step, split, decay)]
    return found


def close(reading, expected):
    # Logits of size one after fewer than 64 roundings of 2^-23 each; no metric moves by more than they do.
    assert (reading.rmse, reading.accuracy, reading.loss) == pytest.approx(expected, rel=0, abs=64 * 2.0**-23)


CURVE = [(step, split) for step in (2, 6) for split in ("train_probe", "test_probe")] + [(6, "test")]


@pytest.mark.parametrize(("step", "split"), CURVE)
def test_phase_true_is_keras_in_training_batch_by_batch(readings, restored, splits, step, split):
    pixels, labels = splits[split]
    expected, _ = scored(in_phase_true(restored(step), pixels), labels)
    close(chosen(readings, step, split, None), expected)


@pytest.mark.parametrize("decay", [0.5, 0.9])
@pytest.mark.parametrize(("step", "split"), CURVE)
def test_phase_false_is_keras_at_inference_with_the_replayed_average(
    readings, restored, splits, step, split, decay
):
    pixels, labels = splits[split]
    expected, _ = scored(in_phase_false(restored(step, decay), pixels), labels)
    close(chosen(readings, step, split, decay), expected)


@pytest.mark.parametrize("decay", [0.5, 0.9])
@pytest.mark.parametrize(("step", "split"), CURVE)
def test_a_gap_is_phase_false_less_phase_true(readings, step, split, decay):
    false, true = (chosen(readings, step, split, d) for d in (decay, None))
    expected = (false.rmse - true.rmse, false.accuracy - true.accuracy, false.loss - true.loss)
    assert (false.rmse_gap, false.accuracy_gap, false.loss_gap) == expected
    assert all(
        math.isnan(value) for value in (true.rmse_gap, true.accuracy_gap, true.loss_gap, true.loss_gap_se)
    )


def test_the_loss_gaps_standard_error_takes_batches_of_eight_as_units(readings, restored, splits):
    pixels, labels = splits["test"]
    model = restored(6, 0.9)
    _, false = scored(in_phase_false(model, pixels), labels)
    _, true = scored(in_phase_true(model, pixels), labels)
    deviations = (false - true) - (false - true).mean()
    sums = [deviations[i : i + 8].sum() for i in range(0, 60, 8)]  # seven batches of eight and one of four
    expected = math.sqrt(8 / 7 * sum(s**2 for s in sums)) / 60
    assert chosen(readings, 6, "test", 0.9).loss_gap_se == pytest.approx(expected, rel=0, abs=64 * 2.0**-23)


def test_the_test_set_is_measured_at_the_last_step_only(readings):
    assert sorted({(r.step, r.split) for r in readings}) == sorted(CURVE)
    assert len(readings) == len(CURVE) * len(DECAYS)


def test_all_that_was_trained_on_is_read_in_a_random_order(trial, images, folder, wanted, restored):
    chosen = replace(wanted, steps=(6,), final="train")
    [reading] = [r for r in measure(trial, images, folder, chosen, (None,)) if r.split == "train"]
    seen = shuffled(np.unique(batches(trial.seed, 200, 8, 0, 6)))
    assert (np.diff(seen) < 0).any()
    assert reading.images == len(seen) == 48
    close(reading, scored(in_phase_true(restored(6), images.train_x[seen]), images.train_y[seen])[0])


def test_readings_say_how_they_were_made(readings):
    assert {(r.split, r.images) for r in readings} == {("train_probe", 12), ("test_probe", 15), ("test", 60)}
    assert {(r.samples_seen, r.eval_batch_size) for r in readings} == {(16, 8), (48, 8)}
    assert {(r.phase, r.decay) for r in readings} == {(True, None), (False, 0.5), (False, 0.9)}


def test_phase_true_alone_is_the_same_phase_true(trial, images, folder, wanted, readings):
    alone = list(measure(trial, images, folder, wanted, (None,)))
    expected = [r for r in readings if r.phase]
    assert [(r.step, r.split, r.rmse, r.loss) for r in alone] == [
        (r.step, r.split, r.rmse, r.loss) for r in expected
    ]


def test_an_evaluation_batch_of_its_own_is_used(trial, images, folder, wanted, restored, splits):
    other = replace(wanted, steps=(6,), eval_batch_size=4)
    reading = chosen(measure(trial, images, folder, other, (None,)), 6, "train_probe", None)
    pixels, labels = splits["train_probe"]
    model = restored(6)
    logits = [model(pixels[i : i + 4].astype(np.float32) / 255, training=True) for i in (0, 4, 8)]
    close(reading, scored(np.concatenate(logits), labels)[0])


def test_measuring_leaves_the_checkpoints_as_they_were(trial, images, folder, wanted):
    def hashes():
        return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.path.rglob("*.npz")}

    before = hashes()
    list(measure(trial, images, folder, wanted, DECAYS))
    assert hashes() == before


def test_group_normalization_has_no_gap_by_measurement(grouped, images, trained, wanted):
    found = [r for r in measure(grouped, images, trained(grouped), wanted, DECAYS) if not r.phase]
    assert len(found) == len(CURVE) * 2
    gaps = [abs(gap) for r in found for gap in (r.rmse_gap, r.accuracy_gap, r.loss_gap)]
    assert max(gaps) < 1e-6


def test_what_the_last_step_broke_is_no_reading(trial, images, wanted, tmp_path):
    # Its loss is that of the weights before it, and these are still finite numbers, of 1e37.
    hot = replace(trial, learning_rate=1e38, steps=1, schedule="constant")
    train(hot, images, Folder(tmp_path), (1,), lambda step, loss: None)
    with pytest.raises(NotFinite, match=r"^the outputs at step 1 are not finite"):
        list(measure(hot, images, Folder(tmp_path), replace(wanted, steps=(1,)), DECAYS))
