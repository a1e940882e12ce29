"""Many images in few graph calls give what each batch by itself gives, and change nothing."""

import numpy as np
import pytest

from bnlab import models
from bnlab.measure import evaluate
from bnlab.measure.evaluate import Evaluator
from bnlab.science.probe import normalization_layers


@pytest.fixture
def model(trial):
    """Scrambled, so that no two channels are alike."""
    built, rng = models.build(trial), np.random.default_rng(1)
    for variable in built.variables:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return built


def own(model):
    """Its moving statistics in float64, as a replay gives them."""
    layers = normalization_layers(model)
    return {n.name: (np.array(n.moving_mean, float), np.array(n.moving_variance, float)) for n in layers}


def tolerance(outputs):
    """Sums of fewer than 100 terms in two layers: fewer than 64 roundings of 2^-23 each."""
    return 64 * 2.0**-23 * np.abs(outputs).max()


@pytest.mark.parametrize("call", [8, 24, 512])
def test_phase_false_is_keras_at_inference(trial, model, images, monkeypatch, call):
    monkeypatch.setattr(evaluate, "_CALL", call)  # many graph calls, and one
    expected = model(images.test_x.astype(np.float32) / 255, training=False)
    found = Evaluator(trial, model, 8).with_fixed(images.test_x, own(model))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance(expected))


@pytest.mark.parametrize("call", [8, 20, 512])
@pytest.mark.parametrize("count", [8, 15, 60])
def test_phase_true_is_keras_in_training_batch_by_batch(trial, model, images, monkeypatch, call, count):
    # The last partial batch is filled up with the first images.
    monkeypatch.setattr(evaluate, "_CALL", call)
    x = images.test_x[np.arange(-(-count // 8) * 8) % count].astype(np.float32) / 255
    expected = np.concatenate([model(part, training=True) for part in x.reshape(-1, 8, 28, 28, 1)])[:count]
    found = Evaluator(trial, model, 8).in_batches(images.test_x[:count], step=6)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance(expected))


def test_fewer_images_than_a_batch_are_repeated(trial, model, images):
    found = Evaluator(trial, model, 8).in_batches(images.test_x[:4], step=6)
    expected = model(np.tile(images.test_x[:4], (2, 1, 1, 1)).astype(np.float32) / 255, training=True)[:4]
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance(expected))


def test_evaluating_leaves_every_variable_as_it_was(trial, model, images):
    before = [np.array(variable) for variable in model.variables]
    evaluator = Evaluator(trial, model, 8)
    evaluator.in_batches(images.test_x, 6), evaluator.with_fixed(images.test_x, own(model))
    assert all(map(np.array_equal, before, map(np.array, model.variables)))


def test_values_restored_between_calls_are_seen(trial, model, images):
    evaluator = Evaluator(trial, model, 8)
    first = evaluator.in_batches(images.test_x, 6)
    model.get_layer("logits").bias.assign_add(np.full(10, 3.0, np.float32))
    moved = evaluator.in_batches(images.test_x, 6) - first
    np.testing.assert_allclose(moved, 3.0, rtol=0, atol=2.0**-22 * np.abs(first).max() + 2.0**-21)


def test_statistics_are_compiled_once_for_all_their_values(trial, model, images):
    evaluator = Evaluator(trial, model, 8)
    for shift in range(3):
        evaluator.with_fixed(images.test_x, {name: (m + shift, v) for name, (m, v) in own(model).items()})
    assert evaluator._fixed.experimental_get_tracing_count() == 1
