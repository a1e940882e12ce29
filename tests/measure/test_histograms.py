"""Histograms against the arrays in the checkpoints, a replay by hand, and Keras in training."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from bnlab import checkpoint, models
from bnlab.data import Images
from bnlab.data.order import batches, probe
from bnlab.measure import histograms
from bnlab.plan import Wanted
from bnlab.science.histogram import histogram
from bnlab.science.tape import Tape
from bnlab.store import Folder
from bnlab.train.optimizer import optimizer

STEPS, MOVING = (2, 6), ("moving mean", "moving variance")
RENORM = {"r_max": 3.0, "d_max": 5.0, "momentum": 0.99, "warm_up": 0.1, "r_ramp": 0.4, "d_ramp": 0.2}


@pytest.fixture(scope="module")
def rows(trial, images, folder, wanted):
    made = histograms(trial, images, folder, wanted, 0.9)
    return {(row.step, row.layer, row.kind): row for row in made}


@pytest.fixture(scope="module")
def stored(folder):
    return {step: np.load(folder.checkpoint(step)) for step in (2, 4, 6)}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("layer", "kind", "variable", "n"),
    [
        ("block1_conv", "weights", "kernel", 3 * 3 * 1 * 4),
        ("block2_conv", "weights", "kernel", 3 * 3 * 4 * 8),
        ("block1_norm", "scales", "gamma", 4),
        ("block2_norm", "shifts", "beta", 8),
        ("logits", "weights", "kernel", 8 * 10),
        ("logits", "biases", "bias", 10),
    ],
)
def test_parameters_are_those_of_the_checkpoint(rows, stored, step, layer, kind, variable, n):
    row = rows[step, layer, kind]
    assert row.histogram == histogram(stored[step][f"model/{layer}/{variable}"])
    assert sum(row.histogram.counts) == n
    assert row.decay is None


@pytest.mark.parametrize("step", STEPS)
def test_moving_statistics_are_the_replay_of_the_tape(rows, stored, step):
    taped = np.concatenate([stored[s]["moments"] for s in (2, 4, 6) if s <= step]).astype(float)
    average = np.repeat([0.0, 1.0, 0.0, 1.0], [4, 4, 8, 8])  # the row's layout: means, then variances
    for moments in taped:
        average = float(np.float32(0.9)) * average + float(np.float32(0.1)) * moments
    parts = iter(np.split(average, [4, 8, 16]))
    for layer in ("block1_norm", "block2_norm"):
        for kind in MOVING:
            row, expected = rows[step, layer, kind], histogram(next(parts))
            assert (row.decay, row.histogram.n) == (0.9, expected.n)
            close(row.histogram, expected, 1e-12)


@pytest.mark.parametrize("step", STEPS)
def test_activations_are_those_of_keras_in_training_batch_by_batch(trial, images, rows, stored, step):
    model = models.build(trial)
    for variable in model.variables:
        variable.assign(stored[step][f"model/{variable.path}"])
    names = ("block1_relu", "block2_relu", "logits")
    taps = keras.Model(model.input, [model.get_layer(name).output for name in names])
    seen = images.train_x[probe(np.unique(batches(0, 200, 8, 0, 6)), 12)]
    pixels = seen[np.arange(16) % 12].astype(np.float32) / 255  # twelve images: the second batch is filled up
    parts = [taps(batch, training=True) for batch in (pixels[:8], pixels[8:])]
    for name, first, second in zip(names, *parts, strict=True):
        expected = histogram(np.concatenate([first, second])[:12])
        found = rows[step, name, "activations"].histogram
        assert found.n == expected.n
        close(found, expected, 64 * 2.0**-23)


def close(found, expected, tolerance):
    for name in ("low", "high", "mean", "deviation"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=0, abs=tolerance)
    # A value that lies on an edge may fall to either side of it.
    moved = np.abs(np.subtract(found.counts, expected.counts)).sum()
    assert moved <= 1e-3 * expected.n


def test_every_step_has_every_layer_once(rows):
    kinds = {
        "weights": ["block1_conv", "block2_conv", "logits"],
        "biases": ["logits"],
        "activations": ["block1_relu", "block2_relu", "logits"],
    }
    kinds |= {kind: ["block1_norm", "block2_norm"] for kind in ("scales", "shifts", *MOVING)}
    assert set(rows) == {(step, layer, kind) for step in STEPS for kind in kinds for layer in kinds[kind]}


@pytest.fixture
def fresh(tmp_path, images):
    """Histograms of an untrained network with an empty tape: (layer, kind) -> how many values."""

    def fresh(trial, images=images):
        model, folder = models.build(trial), Folder(tmp_path)
        descent = optimizer(trial)
        descent.build(model.trainable_variables)
        checkpoint.save(
            folder.checkpoint(1), model, descent, Tape((), np.zeros((1, 0), np.float32)), np.zeros(1)
        )
        wanted = Wanted((1,), (None,), eval_batch_size=4, images=6, train_images=6)
        made = list(histograms(trial, images, folder, wanted, 0.9))
        assert all(row.histogram.not_finite == 0 for row in made)
        return {(row.layer, row.kind): row.histogram.n for row in made}

    return fresh


@pytest.mark.parametrize(
    ("norm", "options"),
    [
        ("batch", {}),
        ("ghost", {"virtual_batch_size": 4}),
        ("batch_renorm", RENORM),
        ("group", {"groups": 2}),
        ("layer", {}),
        ("instance", {}),
    ],
)
def test_every_normalizer_has_scales_and_shifts(trial, fresh, norm, options):
    counted = fresh(replace(trial, norm=norm, options=tuple(sorted(options.items()))))
    assert counted["block2_norm", "scales"] == counted["block2_norm", "shifts"] == 8
    assert counted["block2_relu", "activations"] == 6 * 7 * 7 * 8
    assert ("block2_conv", "biases") not in counted


def test_without_normalization_convolutions_have_biases(trial, fresh):
    counted = fresh(replace(trial, norm="none", options=()))
    assert counted["block2_conv", "biases"] == 8
    assert counted["block2_relu", "activations"] == 6 * 7 * 7 * 8
    assert not {"scales", "shifts"} & {kind for _, kind in counted}


def test_an_autoencoder_ends_in_pixels(trial, fresh):
    counted = fresh(replace(trial, model="autoencoder"))
    given = {layer: n for (layer, kind), n in counted.items() if kind == "activations"}
    assert list(given) == ["down1_relu", "down2_relu", "up2_relu", "up1_relu", "pixels"]
    assert given["pixels"] == 6 * 28 * 28


def test_a_residual_sum_is_a_block_of_its_own(trial, fresh):
    counted = fresh(replace(trial, model="resnet20", widths=(4, 4, 8)))
    given = [layer for layer, kind in counted if kind == "activations"]
    assert given[:4] == ["stem_relu", "stage1_block1_a_relu", "stage1_block1_b_norm", "stage1_block1_relu"]
    assert len(given) == 1 + 9 * 3 + 1
    assert counted["stage1_block1_b_norm", "activations"] == 6 * 28 * 28 * 4


def test_frames_of_a_filled_up_batch_are_dropped_too(trial, fresh):
    rng = np.random.default_rng(0)
    frames, values = rng.integers(0, 256, (60, 3, 28, 28, 1), np.uint8), rng.random((60, 3), np.float32)
    counted = fresh(
        replace(trial, model="sequence", details=(("bias", True), ("frames", 3))),
        Images(frames, values, frames, values),
    )
    assert counted["block1_relu", "activations"] == 6 * 3 * 14 * 14 * 4
    assert counted["gru", "activations"] == 6 * 3 * 32
    assert counted["gru", "weights"] == 3 * 32 * (16 + 32)  # kernel and recurrent kernel
    assert counted["block1_conv", "biases"] == counted["block1_norm", "shifts"] == 4
