"""Faults that are made after training: the plain training, and something done to it."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.doctor.architectures import build
from experiments.doctor.bench import Bench
from experiments.doctor.phases import norms, put_variance, reset
from experiments.doctor.training import Trained, compile_model


def never_updated(bench: Bench, dose: int) -> Trained:
    """Statistics at their start under an optimizer that has stepped."""
    made = bench.plain()
    for layer in norms(made.model):
        reset(layer)
    return made


def not_restored(bench: Bench, dose: int) -> Trained:
    """A new model that got all weights but the moving statistics."""
    made = bench.plain()
    new = build(made.recipe)
    kept = {id(v) for layer in norms(new) for v in _moving(layer)}
    for own, trained in zip(new.variables, made.model.variables, strict=True):
        if id(own) not in kept:
            own.assign(trained)
    if bench.random.random() < 0.5:
        compile_model(new, made.recipe)
    return bench.instead(made, new)


def _moving(layer: Any) -> list[Any]:  # noqa: ANN401
    return [layer.moving_mean, layer.moving_variance, *([layer.moving_stddev] if layer.renorm else [])]


def partly_restored(bench: Bench, dose: int) -> Trained:
    """Some layers' statistics lost: more of them from dose to dose."""
    made = bench.plain()
    found = norms(made.model)
    count = min(len(found) - 1, 1 + dose * max(1, len(found) // 3))
    lost = bench.random.choice(len(found), count, replace=False)
    for number in lost:
        reset(found[number])
    made.notes["layers"] = sorted(found[number].name for number in lost)
    return made


def dummy_pass(bench: Bench, dose: int) -> Trained:
    """Calls in training mode on what is no data: zeros, ones or noise."""
    made = bench.plain()
    calls = int(bench.random.integers(5, 10) * 3**dose / (10 * (1 - made.recipe.momentum)))
    kind = ("zeros", "ones", "noise")[int(bench.random.integers(3))]
    for _ in range(max(calls, 3)):
        made.model(_dummy(kind, made.recipe.shape, bench.random), training=True)
    made.notes.update(calls=max(calls, 3), kind=kind)
    return made


def _dummy(kind: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    if kind == "noise":
        return random.standard_normal((16, *shape)).astype(np.float32)
    return np.full((16, *shape), kind == "ones", np.float32)


def nan_statistics(bench: Bench, dose: int) -> Trained:
    """One batch with a value that is no number, seen in training mode; the weights are sound."""
    made = bench.plain()
    x = made.data.x_train[: made.recipe.batch_size].copy()
    value = (np.nan, np.inf)[int(bench.random.integers(2))]
    x[3, 5, 5, 0] = value
    made.model(x, training=True)
    made.notes["value"] = str(value)
    return made


def test_preprocessing(bench: Bench, dose: int) -> Trained:
    """Test images in another scaling than the training images."""
    made = bench.plain()
    name, change = bench.changed_scaling(dose)
    made.data.x_test = change(made.data.x_test).astype(np.float32)
    made.notes["change"] = name
    return made


def train_preprocessing(bench: Bench, dose: int) -> Trained:
    """All images of the file in another scaling than the model was trained on."""
    made = test_preprocessing(bench, dose)
    _, change = bench.changed_scaling(dose)
    made.data.x_train = change(made.data.x_train).astype(np.float32)
    return made


def epsilon(bench: Bench, dose: int) -> Trained:
    """Layers that add another epsilon to the variance than in training."""
    made = bench.plain()
    value = (1e-2, 0.1, 0.5, 2.0)[dose]
    for layer in norms(made.model):
        layer.epsilon = value
    made.notes["epsilon"] = value
    return made


def other_form(bench: Bench, dose: int) -> Trained:
    """Standard deviations, or reciprocals of them, where Keras keeps the variance."""
    made = bench.plain()
    power = (0.5, -0.5, -1.0)[(dose + bench.seed) % 3]
    for layer in norms(made.model):
        put_variance(layer, (np.array(layer.moving_variance) + layer.epsilon) ** power)
    made.notes["power"] = power
    return made


def exchanged(bench: Bench, dose: int) -> Trained:
    """Statistics of layers of one width, each in the next one's place."""
    made = bench.plain()
    found = norms(made.model)
    for width in sorted({int(layer.moving_mean.shape[0]) for layer in found}):
        same = [layer for layer in found if layer.moving_mean.shape[0] == width]
        values = [(np.array(n.moving_mean), np.array(n.moving_variance)) for n in same]
        for layer, (mean, variance) in zip(same, values[1:] + values[:1], strict=True):
            layer.moving_mean.assign(mean)
            put_variance(layer, variance)
    return made


def half_precision(bench: Bench, dose: int) -> Trained:
    """Statistics where an average in float16 stalls; in float16 layers for half of the seeds."""
    made = bench.plain()
    decay = (0.999, 0.9995, 0.9998, 0.9999)[dose]
    values = [[_stalled(np.array(v), start, decay) for v, start in zip(_moving(n)[:2], (0, 1), strict=True)]
              for n in norms(made.model)]  # fmt: skip
    if bench.random.random() < 0.5 and made.recipe.architecture != "renorm":
        new = build(made.recipe.but(norm_dtype="float16", momentum=decay))
        new.set_weights(made.model.get_weights())
        compile_model(new, made.recipe)
        new.optimizer.build(new.trainable_variables)
        new.optimizer.iterations.assign(made.recipe.steps)
        made = bench.instead(made, new)
    for layer, (mean, variance) in zip(norms(made.model), values, strict=True):
        layer.momentum = decay
        layer.moving_mean.assign(mean)
        put_variance(layer, variance)
    made.notes.update(decay=decay, dtype=str(norms(made.model)[0].moving_mean.dtype))
    return made


def _stalled(value: np.ndarray, start: float, decay: float) -> np.ndarray:
    """Where an average in float16 with this decay stops on its way from the start to a value."""
    now = np.full(value.shape, start, np.float16)
    for _ in range(20000):
        then = now
        now = (then.astype(np.float32) * decay + value * (1 - decay)).astype(np.float16)
        if (now == then).all():
            break
    return now.astype(np.float32)
