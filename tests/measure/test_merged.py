"""Readings under other statistics of several replicas, against Keras with statistics made by hand."""

from dataclasses import replace

import numpy as np
import pytest

from bnlab import models
from bnlab.measure import explain, measure
from bnlab.plan import unmeasured
from bnlab.science.scores import classifier_scores

SIZES = {"block1_norm": 4, "block2_norm": 8}


@pytest.fixture(scope="module")
def four(trial):
    return replace(trial, replicas=4)


@pytest.fixture(scope="module")
def spread_out(four, trained):
    return trained(four)


@pytest.fixture(scope="module")
def asked(wanted):
    """Both other ways to keep them; two images share their statistics, and few stand for a population."""
    drills = ("replicas mean", "replicas merged")
    return replace(wanted, eval_batch_size=2, drills=drills, explain=True, samples=48)


@pytest.fixture(scope="module")
def readings(four, images, spread_out, asked):
    return list(measure(four, images, spread_out, asked, asked.decays))


def averages(folder, decay):
    """(replicas, row): a recursion over the stored rows, in which the replicas lie side by side."""
    rows = np.concatenate([np.load(folder.checkpoint(step))["moments"] for step in (2, 4, 6)])
    average = np.tile(np.repeat([0.0, 1.0, 0.0, 1.0], [4, 4, 8, 8]), (4, 1))
    for row in rows.astype(float).reshape(6, 4, 24):
        average = float(np.float32(decay)) * average + float(np.float32(1 - decay)) * row
    return average


def kept(average, how):
    """Layer -> (mean, variance)."""
    parts = dict(zip(SIZES, np.split(average, [8], axis=1), strict=True))
    halves = {name: np.split(own, 2, axis=1) for name, own in parts.items()}
    return {
        "": {name: (mean[0], variance[0]) for name, (mean, variance) in halves.items()},
        "replicas mean": {name: (m.mean(axis=0), v.mean(axis=0)) for name, (m, v) in halves.items()},
        "replicas merged": {
            name: (m.mean(axis=0), v.mean(axis=0) + m.var(axis=0)) for name, (m, v) in halves.items()
        },
    }[how]


@pytest.mark.parametrize("decay", [0.5, 0.9])
@pytest.mark.parametrize("how", ["", "replicas mean", "replicas merged"])
def test_a_reading_is_what_keras_gives_with_the_statistics_kept(
    four, images, spread_out, readings, decay, how
):
    model, stored = models.build(four), np.load(spread_out.checkpoint(6))
    for variable in model.variables:
        variable.assign(stored[f"model/{variable.path}"])
    for name, (mean, variance) in kept(averages(spread_out, decay), how).items():
        model.get_layer(name).moving_mean.assign(mean)
        model.get_layer(name).moving_variance.assign(variance)
    logits = model.predict(images.test_x / np.float32(255), verbose=0)
    [own] = [r for r in readings if (r.split, r.decay, r.drill) == ("test", decay, how)]
    expected = classifier_scores(logits, images.test_y)
    # Both in float32, in another order: 64 roundings of probabilities and losses of size one.
    assert own.rmse == pytest.approx(expected.rmse, abs=64 * 2.0**-23)
    assert own.loss == pytest.approx(expected.loss, abs=64 * 2.0**-23 * expected.loss)
    [true] = [r for r in readings if (r.split, r.phase) == ("test", True)]
    assert own.rmse_gap == pytest.approx(own.rmse - true.rmse, abs=1e-12)


def test_all_that_is_asked_for_is_measured(readings, asked):
    assert unmeasured(readings, asked) == ()
    assert unmeasured([r for r in readings if r.drill != "replicas merged"], asked) == (None, 0.5, 0.9)


def test_how_far_replicas_are_apart_is_told(four, images, spread_out, asked):
    found = list(explain(four, images, spread_out, asked, set(asked.clues())))
    signs = {c.decay: c.value for c in found if (c.kind, c.name) == ("sign", "replicas_apart")}
    for decay, value in signs.items():
        average = averages(spread_out, decay)
        whole = kept(average, "replicas merged")
        squares = [
            np.mean(
                [
                    (mean - whole[name][0]) ** 2 / ((variance + whole[name][1]) / 2 + 1e-3)
                    + np.log((variance + 1e-3) / (whole[name][1] + 1e-3)) ** 2 / 2
                    for mean, variance in zip(*np.split(own, 2, axis=1), strict=True)
                ]
            )
            for name, own in zip(SIZES, np.split(average, [8], axis=1), strict=True)
        ]
        # Means of some dozen float64 numbers.
        assert value == pytest.approx(np.mean(squares), rel=1e-12)
    assert sorted(signs) == [0.5, 0.9]
    # What Keras's own synchronized layers would lose: here some roundings of float32.
    lost = {clue.value for clue in found if clue.name == "cancelled"}
    assert len(lost) == 1
    assert 5 * 2.0**-24 < lost.pop() < 1e-3


def test_one_device_has_no_other_to_be_apart_from(trial, images, folder, asked):
    one = replace(asked, eval_batch_size=8, drills=())
    found = explain(trial, images, folder, one, set(one.clues()))
    assert not [clue for clue in found if clue.name in ("replicas_apart", "cancelled")]
