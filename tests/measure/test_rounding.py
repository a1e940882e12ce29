"""How far half precision takes population statistics, against a network rounded by hand in float64."""

from dataclasses import replace

import keras
import ml_dtypes
import numpy as np
import pytest

from bnlab import models
from bnlab.checkpoint import load, restore
from bnlab.measure import explain, measure
from bnlab.measure.curve import NotFinite
from bnlab.measure.patient import Patient
from bnlab.measure.trained import Trained
from bnlab.science.moments import Moments, distance

KINDS = {"mixed_float16": np.float16, "mixed_bfloat16": ml_dtypes.bfloat16}


@pytest.fixture(scope="module", params=list(KINDS))
def half(request, trial):
    return replace(trial, precision=request.param)


@pytest.fixture(scope="module")
def halved(half, trained):
    return trained(half)


@pytest.fixture(scope="module")
def asked(wanted):
    return replace(wanted, explain=True, samples=64)


@pytest.fixture(scope="module")
def clues(half, images, halved, asked):
    return list(explain(half, images, halved, asked, set(asked.clues())))


def convolved(x, layer, rounded):
    """A 3x3 convolution of stride 2 with padding `same`, as a sum over its taps in float64."""
    kernel = rounded(np.asarray(layer.kernel, np.float64))
    size = x.shape[1] // 2
    # Of an even side, all padding of stride 2 lies at the end: one row or column.
    wide = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
    taps = [
        wide[:, i : i + 2 * size : 2, j : j + 2 * size : 2] @ kernel[i, j] for i in range(3) for j in range(3)
    ]
    return rounded(np.sum(taps, axis=0))


def populations(model, pixels, rounded):
    """Layer -> moments of all images at once; activations are rounded, statistics are not."""
    x, found = rounded(np.asarray(pixels, np.float64) / 255), {}
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            x = convolved(x, layer, rounded)
        elif isinstance(layer, keras.layers.BatchNormalization):
            found[layer.name] = own = Moments(x.mean((0, 1, 2)), x.var((0, 1, 2)))
            gamma, beta = (np.asarray(part, np.float64) for part in (layer.gamma, layer.beta))
            x = rounded(gamma * (x - own.mean) / np.sqrt(own.variance + layer.epsilon) + beta)
        elif isinstance(layer, keras.layers.ReLU):
            x = np.maximum(x, 0)
    return found


def test_the_distance_is_that_of_a_network_rounded_by_hand(half, images, halved, asked, clues):
    found = {(c.name, c.metric): c for c in clues if c.kind == "rounding"}
    trained = Trained(half, images, halved, asked, [0.5])
    fed = Patient(trained, "", [0.5]).populations.fed
    kind = KINDS[half.precision]
    exact = populations(trained.model, fed, lambda x: x)
    ours = populations(trained.model, fed, lambda x: x.astype(np.float32).astype(kind).astype(np.float64))
    for layer in ("block1_norm", "block2_norm"):
        assert {metric for name, metric in found if name == layer} == set(
            distance(ours[layer], exact[layer], 1e-3)._fields
        )
        wanted = distance(ours[layer], exact[layer], 1e-3)
        # Sums in float32 fall on the other side of a rounding for a few of thousands of activations: that
        # moves their mean by hundredths of what the rounding of all of them does. And float32's own distance
        # from float64 is 2^-24 a number.
        slack = 0.05 * abs(wanted.mean_shift) + 2.0**-20
        assert abs(found[layer, "mean_shift"].value - wanted.mean_shift) < slack
        assert abs(found[layer, "log_variance"].value - wanted.log_variance) < slack
    assert {(c.decay, c.drill, c.split) for c in found.values()} == {(None, "", "test")}


def test_steps_of_half_precision_are_seen(half, clues):
    """A mean of thousands of roundings lies within a step of its kind, and beyond those of the next finer."""
    step = {"mixed_float16": 2.0**-10, "mixed_bfloat16": 2.0**-7}[half.precision]
    shifts = [c.value for c in clues if (c.kind, c.metric) == ("rounding", "mean_shift")]
    assert len(shifts) == 2
    assert all(step / 256 < shift < step for shift in shifts)


def test_float32_has_none(trial, images, folder, asked):
    clues = list(explain(trial, images, folder, asked, set(asked.clues())))
    assert {clue.kind for clue in clues} == {"cause", "distance", "sign"}
    assert not [clue for clue in clues if clue.name == "skipped_steps"]


def test_skipped_steps_are_a_sign_of_float16_alone(half, clues):
    found = {(clue.decay, clue.value) for clue in clues if clue.name == "skipped_steps"}
    assert found == ({(0.5, 0.0), (0.9, 0.0)} if half.precision == "mixed_float16" else set())


def test_a_checkpoint_in_half_precision_is_read_as_keras_reads_it(half, images, halved, asked):
    """Phase true of one batch of eight: Keras's own layers in training, dropout there is none."""
    own = replace(asked, images=8, train_images=8)
    [first] = [
        r for r in measure(half, images, halved, own, (None,)) if r.step == 2 and r.split == "test_probe"
    ]
    from bnlab.measure.splits import probes

    split = next(split for split in probes(half, images, own) if split.name == "test_probe")
    model = models.build(half)
    restore(load(halved.checkpoint(2)), model)
    logits = np.asarray(model(split.x.astype(np.float32) / 255, training=True), np.float64)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    errors = odds / odds.sum(axis=1, keepdims=True) - np.eye(10)[split.y]
    # The same operations in the same precision; a few roundings of float32 in the probabilities.
    assert first.rmse == pytest.approx(np.sqrt(np.mean(errors**2)), abs=16 * 2.0**-24)


def test_outputs_that_overflow_say_what_helps(trial, images, trained, wanted):
    """Kernels so large that test images overflow where the last batches of training did not all."""
    own = replace(trial, precision="mixed_float16", details=(("deviation", 15_000.0),))
    folder = trained(own)
    with pytest.raises(NotFinite, match=r"at step 2 are not finite; try train\.precision=mixed_bfloat16"):
        list(measure(own, images, folder, wanted, wanted.decays))
