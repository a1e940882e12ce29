"""Every fault at inference against Keras and numpy, and healthy readings beside it as they were."""

import copy
from dataclasses import replace

import numpy as np
import pytest

from bnlab import models
from bnlab.checkpoint import load
from bnlab.measure import deployments, measure
from bnlab.measure.deployments import FAULTS, deployed, needed_decays
from bnlab.measure.patient import Patient
from bnlab.measure.splits import whole
from bnlab.measure.trained import Trained
from bnlab.science.probe import put_statistics
from bnlab.science.scores import classifier_scores
from bnlab.settings.faults import DummyPass, Epsilon, PhaseTrue, Plain, Slow, WeightsAveraged, drill

MADE = {
    "not_updated": Plain(name="not_updated"),
    "not_restored": Plain(name="not_restored"),
    "phase_true": PhaseTrue(name="phase_true", batch=4),
    "decay_reversed": Plain(name="decay_reversed"),
    "slow": Slow(name="slow", decay=0.999),
    "preprocessing": Plain(name="preprocessing"),
    "epsilon": Epsilon(name="epsilon", epsilon=0.5),
    "weights_averaged": WeightsAveraged(name="weights_averaged", checkpoints=2),
    "dummy_pass": DummyPass(name="dummy_pass", passes=2),
    "nan_pass": Plain(name="nan_pass"),
    "bessel": Plain(name="bessel"),
    "half_precision": Plain(name="half_precision"),
}
DECAY = 0.75
START = np.repeat([0.0, 1.0, 0.0, 1.0], [4, 4, 8, 8])  # the layout of a row: means, then variances


@pytest.fixture(scope="module")
def made(trial, images, folder, wanted):
    """A trial of six steps on noise, brought to inference with a fault: (trained, deployment)."""
    decays = [0.25, 0.5, DECAY, 0.999]
    whole = Trained(trial, images, folder, wanted, decays)

    def made(name):
        trained = copy.copy(whole)
        trained.wanted = replace(wanted, fault=MADE[name])
        return trained, deployed(trained, DECAY, drill(MADE[name]))

    return made


@pytest.fixture(scope="module")
def tape(folder):
    return np.concatenate([np.load(folder.checkpoint(step))["moments"] for step in (2, 4, 6)]).astype(float)


def replayed(rows, decay):
    average = START
    for row in rows:
        average = float(np.float32(decay)) * average + float(np.float32(1 - decay)) * row
    return average


def flat(layers):
    return np.concatenate([part for own in layers.values() for part in own])


def statistics(row):
    parts = np.split(row, [4, 8, 16])
    return {"block1_norm": (parts[0], parts[1]), "block2_norm": (parts[2], parts[3])}


@pytest.fixture
def plain(trial, folder, at_step, tape):
    """Keras's outputs at inference: an average of the tape, weights of a step, a built model's options."""

    def plain(pixels, row=None, **options):
        model = at_step(trial, folder, 6, **options)
        put_statistics(model, statistics(replayed(tape, DECAY) if row is None else row))
        return np.array(model(np.asarray(pixels, np.float32) / 255, training=False))

    return plain


@pytest.fixture(scope="module")
def split(trial, images, wanted):
    return whole(trial, images, wanted)


def same(found, expected):
    # Fewer than 64 roundings of 2^-23, as of any evaluation.
    np.testing.assert_allclose(found, expected, rtol=0, atol=64 * 2.0**-23 * np.abs(expected).max())


def test_every_fault_is_made_here():
    assert MADE.keys() == FAULTS.keys()


def test_without_a_drill_a_model_is_healthy_whatever_the_job_makes(made, tape, plain, split):
    trained, _ = made("epsilon")
    healthy = deployed(trained, DECAY)
    np.testing.assert_allclose(flat(healthy.moving), replayed(tape, DECAY), rtol=1e-14)
    same(healthy.given(split), plain(split.x))


@pytest.mark.parametrize("name", ["not_updated", "not_restored"])
def test_the_start_is_what_is_left(made, plain, split, name):
    _, found = made(name)
    assert np.array_equal(flat(found.moving), START)
    assert found.debiased is None
    same(found.given(split), plain(split.x, START))


def test_phase_true_takes_batches_of_its_size_in_the_order_given(trial, folder, at_step, made, split):
    _, found = made("phase_true")
    model = at_step(trial, folder, 6)
    x = split.x.astype(np.float32) / 255
    expected = np.concatenate([model(part, training=True) for part in x.reshape(15, 4, 28, 28, 1)])
    same(found.given(split), expected)


@pytest.mark.parametrize(("name", "decay"), [("decay_reversed", 1 - DECAY), ("slow", 0.999)])
def test_another_decay_is_replayed(made, tape, plain, split, name, decay):
    _, found = made(name)
    expected = replayed(tape, decay)
    np.testing.assert_allclose(flat(found.moving), expected, rtol=1e-14)
    same(found.given(split), plain(split.x, expected))
    weights = decay ** np.arange(5, -1, -1.0)
    mean = (weights / weights.sum()) @ tape
    # The decay and 1 - decay as float32, and a division by 1 - decay^6: 2^-24 / 0.006 of 1 is below 1e-5.
    np.testing.assert_allclose(flat(found.debiased), mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("decay", "other"), [(0.9, 0.1), (0.99, 0.01), (0.0, 1 - 2.0**-24)])
def test_a_decay_turned_round_can_still_be_averaged_at(decay, other):
    assert needed_decays(MADE["decay_reversed"], (decay,)) == (other,)


def test_preprocessing_scales_what_is_evaluated_and_not_what_was_trained_on(made, plain, split, images):
    _, found = made("preprocessing")
    same(found.given(split), plain(2.0 * split.x - 255.0))
    train = replace(split, name="train_probe", x=images.train_x[:16])
    same(found.given(train), plain(train.x))


def test_another_epsilon_is_keras_with_it(made, plain, split):
    _, found = made("epsilon")
    same(found.given(split), plain(split.x, epsilon=0.5))
    assert found.moving.keys() == found.debiased.keys()


def test_averaged_weights_are_the_mean_of_the_last_checkpoints(trial, folder, made, tape, split):
    trained, found = made("weights_averaged")
    model = models.build(trial)
    arrays = [load(folder.checkpoint(step)).arrays for step in (4, 6)]
    for variable in model.trainable_variables:
        variable.assign((arrays[0][f"model/{variable.path}"] + arrays[1][f"model/{variable.path}"]) / 2)
    put_statistics(model, statistics(replayed(tape, DECAY)))
    same(found.given(split), np.array(model(split.x.astype(np.float32) / 255, training=False)))
    # Phase true is that of the averaged weights: what is compared differs in statistics alone.
    batches = np.concatenate(
        [
            model(part, training=True)
            for part in (split.x[np.arange(64) % 60].astype(np.float32) / 255).reshape(8, 8, 28, 28, 1)
        ]
    )[:60]
    patient = Patient(trained, drill(trained.wanted.fault), (DECAY,))
    expected = classifier_scores(batches, split.y)
    assert patient.in_batches(split).rmse == pytest.approx(expected.rmse, rel=0, abs=64 * 2.0**-23)


def test_blank_images_pass_with_phase_true(made, tape, split, trial, folder, at_step, plain):
    """A blank image is 0 after the first convolution, with variance 0; then it is a constant by hand."""
    _, found = made("dummy_pass")
    model = at_step(trial, folder, 6)
    x = np.zeros((1, 28, 28, 1), np.float32)
    beta = np.array(model.get_layer("block1_norm").beta)
    h = np.broadcast_to(np.maximum(beta, 0), (1, 14, 14, 4)).astype(np.float32)
    second = np.array(model.get_layer("block2_conv")(h), np.float64)
    assert not np.array(model.get_layer("block1_conv")(x)).any()
    seen = np.concatenate([np.zeros(8), second.mean((0, 1, 2)), second.var((0, 1, 2))])
    average = DECAY**2 * replayed(tape, DECAY) + (1 - DECAY**2) * seen
    np.testing.assert_allclose(flat(found.moving), average, rtol=0, atol=64 * 2.0**-23 * np.abs(second).max())
    same(found.given(split), plain(split.x, average))
    share = DECAY**8
    cured = (average - share * START) / (1 - share)
    np.testing.assert_allclose(flat(found.debiased), cured, rtol=0, atol=64 * 2.0**-23 * np.abs(second).max())


def test_one_pass_of_nan_is_for_good(made, split):
    _, found = made("nan_pass")
    assert np.isnan(flat(found.moving)).all()
    assert np.isnan(found.given(split)).all()


@pytest.mark.parametrize("size", [4, 8])
def test_bessels_correction_is_that_of_training_batches_whatever_is_evaluated_in(
    made, tape, plain, split, size
):
    trained, _ = made("bessel")
    trained.wanted = replace(trained.wanted, eval_batch_size=size)
    found = deployed(trained, DECAY, "bessel")
    factors = np.ones(24)
    factors[4:8], factors[16:24] = 8 * 14 * 14 / (8 * 14 * 14 - 1), 8 * 7 * 7 / (8 * 7 * 7 - 1)
    np.testing.assert_allclose(flat(found.moving), factors * replayed(tape, DECAY), rtol=1e-14)
    same(found.given(split), plain(split.x, factors * replayed(tape, DECAY)))


def test_half_precision_rounds_every_operation(made, tape, plain, split):
    _, found = made("half_precision")
    average = START.astype(np.float16)
    for row in tape.astype(np.float16):
        average = average * np.float16(0.75) + row * np.float16(0.25)
    assert np.array_equal(flat(found.moving), average.astype(float))
    same(found.given(split), plain(split.x, average.astype(float)))
    assert not np.allclose(flat(found.moving), replayed(tape, DECAY), rtol=2.0**-14)


def test_checkpoints_that_others_asked_for_are_not_averaged(made, monkeypatch):
    """Of a curve of two points there are the checkpoints of steps 1 and 6, and here that of step 6."""
    monkeypatch.setattr(deployments, "KEPT", 2)
    trained, _ = made("weights_averaged")
    three = WeightsAveraged(name="weights_averaged", checkpoints=3)
    trained.wanted = replace(trained.wanted, fault=three)
    found = deployed(trained, DECAY, drill(three))
    for one, other in zip(
        found.evaluator._model.trainable_variables, trained.model.trainable_variables, strict=True
    ):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("name", ["preprocessing", "weights_averaged", "phase_true"])
def test_readings_beside_a_fault_are_those_without_it(trial, images, folder, wanted, name):
    plain, beside = (
        [replace(r, time_ms=0) for r in measure(trial, images, folder, own, (None, 0.5, 0.9))]
        for own in (wanted, replace(wanted, fault=MADE[name]))
    )
    healthy = [repr(reading) for reading in beside if not reading.drill]
    assert healthy == list(map(repr, plain))
    faulty = [(r.drill, r.split, r.step, r.decay) for r in beside if r.drill]
    assert faulty == [(drill(MADE[name]), "test", 6, decay) for decay in (0.5, 0.9)]


def test_a_faults_gap_is_taken_on_the_pixels_that_it_sees(trial, images, folder, wanted, at_step):
    own = replace(wanted, steps=(6,), fault=MADE["preprocessing"])
    [reading] = [r for r in measure(trial, images, folder, own, (None, 0.9)) if r.drill]
    model = at_step(trial, folder, 6)
    x = (2 * images.test_x[np.arange(64) % 60].astype(np.float32) / 255 - 1).reshape(8, 8, 28, 28, 1)
    true = classifier_scores(np.concatenate([model(part, training=True) for part in x])[:60], images.test_y)
    assert reading.rmse - reading.rmse_gap == pytest.approx(true.rmse, rel=0, abs=64 * 2.0**-23)


def test_without_a_decay_no_fault_is_read(trial, images, folder, wanted):
    own = replace(wanted, steps=(6,), fault=MADE["not_updated"])
    assert {r.drill for r in measure(trial, images, folder, own, (None,))} == {""}
