"""What statistics and tape show, in cases where the answer is known."""

import copy
from dataclasses import replace

import numpy as np
import pytest

from bnlab.measure.patient import Patient
from bnlab.measure.signs import apart, distances, signs, start_share_of
from bnlab.measure.splits import whole
from bnlab.science.moments import Moments
from bnlab.science.tape import MovingStatistics, Tape
from bnlab.settings.faults import PhaseTrue, Plain, drill


@pytest.fixture
def shown(scholar):
    """Signs at 0.9, after changes: of the job, the trial, and of the tape that the averages come from."""

    def shown(fault=None, trial=None, tape=None):
        trained = copy.copy(scholar)
        trained.wanted = replace(scholar.wanted, fault=fault or Plain(name="none"))
        trained.trial = replace(scholar.trial, **(trial or {}))
        if tape is not None:
            columns = scholar.tape().columns
            trained.averages = MovingStatistics(columns, [0.9]).advance(Tape(columns, tape))
        patient = Patient(trained, drill(fault) if fault else "", (0.9,))
        split = whole(scholar.trial, scholar.images, scholar.wanted)
        return {clue.name: clue.value for clue in signs(patient, split)}

    return shown


def row(layers):
    return np.concatenate([part for own in layers.values() for part in own])[None].astype(np.float32)


def test_what_was_never_updated_is_at_the_start_to_the_last_bit(shown):
    found = shown(Plain(name="not_updated"))
    assert (found["at_start"], found["not_finite"]) == (1.0, 0.0)
    assert found["start_share"] == pytest.approx(1, abs=1e-12)
    healthy = shown()
    assert (healthy["at_start"], healthy["not_finite"]) == (0.0, 0.0)


def test_one_nan_is_seen_in_every_channel(shown):
    assert shown(Plain(name="nan_pass"))["not_finite"] == 1.0


@pytest.mark.parametrize("updates", [1, 5, 20])
def test_the_share_of_the_start_is_found_in_the_statistics_alone(shown, scholar, updates):
    tape = row(scholar.evaluator.population(scholar.fed(1280))).repeat(updates, 0)
    found = shown(tape=tape)
    # Weights of 0.9 and 0.1 are rounded to float32, and so is the tape.
    assert found["start_share"] == pytest.approx(0.9**updates, rel=1e-5)
    assert found["updates_per_step"] == updates / 240


def test_statistics_of_the_population_itself_are_not_apart(shown, scholar):
    found = shown(tape=row(scholar.evaluator.population(scholar.fed(1280))).repeat(240, 0))
    # A divergence of second order in errors of 2^-24, but for cancellation among numbers of size one.
    assert 0 <= abs(found["kl"]) < 1e-12
    assert found["mean_shift"] < 1e-6
    assert abs(found["log_variance"]) < 1e-6


def test_shuffled_batches_have_the_spread_of_shuffled_batches_and_sorted_ones_do_not(shown):
    """Of 40 batches each, a ratio of variances has a deviation of sqrt(4 / 39) = 0.32; and a median less."""
    assert shown()["spread_of_means"] == pytest.approx(1, abs=3 * 0.32)
    assert shown(trial={"fault": "sorted"})["spread_of_means"] > 5


def test_outputs_depend_on_batch_mates_in_phase_true_alone(shown):
    # Roundings of 2^-23, fewer than 64 of them, of logits below 8.
    assert shown()["batch_dependence"] < 64 * 8 * 2.0**-23
    for size in (4, 32, 128):  # 128 images are looked at: of these the last are one batch
        assert shown(PhaseTrue(name="phase_true", batch=size))["batch_dependence"] > 0.1


def test_a_shift_of_the_inputs_is_seen_as_one(shown):
    plain, scaled = shown()["test_shift"], shown(Plain(name="preprocessing"))["test_shift"]
    assert plain < 0.01
    assert scaled > 100 * plain


def test_distances_are_taken_from_the_population_layer_by_layer(scholar):
    patient = Patient(scholar, "", (0.9, 0.99))
    found = {
        (clue.decay, clue.name, clue.metric): clue.value
        for clue in distances(patient, whole(scholar.trial, scholar.images, scholar.wanted))
    }
    population = scholar.evaluator.population(scholar.fed(1280))
    for decay in (0.9, 0.99):
        for layer, (mean, variance) in scholar.moving(decay).items():
            true, moved = population[layer].variance + 1e-3, variance + 1e-3
            square = (mean - population[layer].mean) ** 2
            kl = (np.log(moved / true) + (true + square) / moved - 1) / 2
            expected = {
                "mean_shift": np.sqrt((square / true).mean()),
                "log_variance": np.log(moved / true).mean(),
                "kl": kl.mean(),
                "worst_kl": kl.max(),
                "worst_channel": kl.argmax(),
            }
            for metric, value in expected.items():
                assert found[decay, layer, metric] == pytest.approx(value, rel=1e-9, abs=1e-12)


def test_a_channel_that_is_always_zero_has_no_say(scholar):
    dead = Moments(np.array([4.0, 0.0]), np.array([9.0, 0.0]))
    half = Moments(np.array([2.0, 0.0]), np.array([5.0, 0.5]))
    assert start_share_of(half, dead) == 0.5
    assert list(apart(Patient(scholar, "", (0.9,)), scholar.moving(0.9), scholar.moving(0.9))) == [
        "block1_norm",
        "block2_norm",
    ]
