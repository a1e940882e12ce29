"""The faults: what was done wrong, in training or after it, in doses from mild to strong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import ops

from experiments.doctor.architectures import build
from experiments.doctor.bench import Bench, Case
from experiments.doctor.custom import AlwaysTraining
from experiments.doctor.images import Samples, classes_of, samples
from experiments.doctor.phases import norms, put_variance, reset
from experiments.doctor.recipe import Recipe
from experiments.doctor.training import Snapshots, Trained, compile_model, train, train_by_hand


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
    made.data = Samples(
        made.data.x_train, made.data.y_train, change(made.data.x_test).astype(np.float32), made.data.y_test
    )
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


def weights_averaged(bench: Bench, dose: int) -> Trained:
    """The mean of the weights of the last steps, beside the statistics of the last weights."""
    recipe = _warm(bench.recipe("averaged", dose), *((1, 0.01), (2, 0.01), (2, 0.02), (4, 0.02))[dose])
    recipe = recipe.but(momentum=0.9)
    keep = Snapshots(recipe.steps, 5, share=0.7)
    made = train(recipe, callbacks=[keep])
    slow = bench.random.random() < 0.5
    for number, variable in enumerate(made.model.trainable_variables):
        variable.assign(_average([kept[number] for kept in keep.kept], 0.95 if slow else None))
    made.notes["average"] = "exponential" if slow else "mean"
    return made


def _warm(recipe: Recipe, factor: float, decay: float) -> Recipe:
    """A constant rate, with a share of the weights lost per step: it keeps their directions moving."""
    rate = recipe.rate * factor
    return recipe.but(schedule="constant", rate=rate, weight_decay=decay / rate if decay else None)


def _average(values: list[np.ndarray], decay: float | None) -> np.ndarray:
    if decay is None:
        return np.mean(values, axis=0)
    now = values[0]
    for value in values[1:]:
        now = decay * now + (1 - decay) * value
    return now


def not_arrived(bench: Bench, dose: int) -> Trained:
    """An average too slow for the steps that were made."""
    recipe = bench.recipe("not_arrived", dose)
    slow = bench.random.random() < 0.5
    steps = (60, 40, 25)[dose] if slow else recipe.steps * 2 // (2 + dose)
    return train(recipe.but(momentum=0.99 if slow else 0.999, steps=steps))


def hot(bench: Bench, dose: int) -> Trained:
    """A learning rate far too high to the very end."""
    recipe = bench.recipe("hot", dose)
    doses = ((3.0, 0.0), (2.0, 0.002), (2.0, 0.005), (3.0, 0.01), (6.0, 0.0))
    return train(_warm(recipe, *doses[dose]).but(momentum=0.99, steps=360))


def trained_with_phase_false(bench: Bench, dose: int) -> Trained:
    """Moving statistics at their start normalized in training: phase true was never seen."""
    recipe = bench.recipe("phase_false", dose)
    recipe = recipe.but(rate=recipe.rate * (0.5, 0.5, 0.2, 1.0)[dose])
    if bench.random.random() < 0.5:
        made = train_by_hand(recipe, lambda model, x, y, loss: loss(y, model(x, training=False)))
        made.notes["way"] = "training=False"
        return made
    model = build(recipe)
    for layer in norms(model):
        layer.trainable = False
    made = train(recipe, model=model)
    for layer in norms(model):
        layer.trainable = True
    compile_model(model, recipe)
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(recipe.steps)
    made.notes["way"] = "trainable=False"
    return made


def unshuffled(bench: Bench, dose: int) -> Trained:
    """Batches of one class after another: from the start, or where training went on after a shuffled one."""
    recipe = bench.recipe("unshuffled", dose)
    recipe = recipe.but(momentum=0.9, samples=4000, task=_classes(recipe.task), batch_size=(32, 24, 16)[dose])
    data = samples(recipe)
    model = train(recipe, data=replace(data)).model
    order = np.argsort(classes_of(data.y_train), kind="stable")
    data.x_train, data.y_train = data.x_train[order], data.y_train[order]
    gentle = recipe.but(rate=recipe.rate * 0.03, steps=4000 // recipe.batch_size)
    made = train(gentle, data=data, model=model, shuffle=False)
    made.notes["file"] = "sorted" if bench.random.random() < 0.5 else "shuffled"
    # Of a sorted file that is to show every class, each second sample.
    chosen = np.arange(0, 4000, 2) if made.notes["file"] == "sorted" else bench.random.permutation(4000)
    data.x_train, data.y_train = data.x_train[chosen], data.y_train[chosen]
    return made


def _classes(task: str) -> str:
    return "ints" if task == "shape" else task


def two_sources(bench: Bench, dose: int) -> Trained:
    """Two passes of two kinds of images through the same layers in every step."""
    recipe = bench.recipe("two_sources", dose)
    noise = bench.random.random() < 0.5
    data = samples(recipe)
    low, high = float(data.x_train.min()), float(data.x_train.max())

    def other(x: Any) -> Any:  # noqa: ANN401
        return keras.random.uniform(ops.shape(x), low, high) if noise else low + high - x

    def forward(model: keras.Model, x: Any, y: Any, loss: Any) -> Any:  # noqa: ANN401
        first = loss(y, model(x, training=True))
        second = model(other(x), training=True)
        return first + (0.1 * ops.mean(ops.square(second)) if noise else loss(y, second))

    made = train_by_hand(recipe, forward, data)
    made.notes.update(other="noise" if noise else "inverted", file="first")
    if not noise and bench.random.random() < 0.4:
        half = len(data.x_train[:2000]) // 2
        data.x_train = np.concatenate([data.x_train[:half], low + high - data.x_train[half : 2 * half]])
        data.y_train = data.y_train[: 2 * half]
        made.notes["file"] = "both"
    return made


def tiny_batch(bench: Bench, dose: int) -> Trained:
    """Batches of one image, or of two where layers are dense."""
    recipe = bench.recipe("tiny_batch", dose)
    size = 2 if recipe.architecture in ("dense", "nested") else 1 + dose % 2
    rate = recipe.rate * (0.5, 0.3, 1.0, 0.1)[dose]
    return train(recipe.but(batch_size=size, rate=rate, steps=700, momentum=0.9))


def momentum_reversed(bench: Bench, dose: int) -> Trained:
    """An average that is all but the last batch: its momentum was meant the other way round."""
    recipe = bench.recipe("momentum_reversed", dose)
    return train(recipe.but(momentum=0.01, batch_size=(16, 12, 8, 8)[dose]))


def dropout_shift(bench: Bench, dose: int) -> Trained:
    """Strong dropout right before normalization: variances of training do not fit inference."""
    recipe = bench.recipe("dropout_shift", dose)
    return train(recipe.but(before_norm=(0.5, 0.6, 0.7)[dose], steps=recipe.steps * 3 // 2, momentum=0.95))


def batch_at_inference(bench: Bench, dose: int) -> Trained:
    """A layer, or a model, that uses batch statistics in inference too."""
    recipe = bench.recipe("batch_at_inference")
    if recipe.architecture in ("cnn", "dense") and bench.random.random() < 0.5:
        widths = [recipe.width * 2**n for n in range(recipe.depth)]
        activation = "softmax" if recipe.task in ("ints", "one_hot") else None
        keras.utils.set_random_seed(recipe.seed)
        flat = recipe.architecture == "dense"
        units = 2 if recipe.regression else 10
        model = AlwaysTraining(widths, units, activation, recipe.momentum, recipe.epsilon, flat)
        model.build((None, *recipe.shape))
        made = train(recipe, model=model)
        made.custom = "experiments.doctor.custom:AlwaysTraining"
        return made
    made = train(recipe.but(normalizer="always_batch"))
    made.custom = "experiments.doctor.custom:AlwaysBatch"
    return made


def leaked_phase(bench: Bench, dose: int) -> Trained:
    """A resizing layer at the front, after which Keras lets layers believe that they train."""
    return train(bench.recipe("leaked").but(inside="resizing"))


FAULTS: tuple[Case, ...] = (
    Case("never_updated", "reset", never_updated),
    Case("not_restored", "weights_only", not_restored),
    Case("partly_restored", "some_layers", partly_restored, 3),
    Case("dummy_pass", "dummy", dummy_pass, 4),
    Case("nan_statistics", "bad_batch", nan_statistics),
    Case("test_preprocessing", "test_scaled", test_preprocessing, 4, "drop"),
    Case("train_preprocessing", "file_scaled", train_preprocessing, 4, "drop"),
    Case("epsilon", "changed_after", epsilon, 4, "drop"),
    Case("half_precision", "stalled", half_precision, 4),
    Case("not_arrived", "slow_average", not_arrived, 3),
    Case("weights_averaged", "averaged", weights_averaged, 4),
    Case("hot", "high_rate", hot, 5),
    Case("trained_with_phase_false", "start_statistics", trained_with_phase_false, 4, "reverse"),
    Case("tiny_batch", "one_or_two", tiny_batch, 4),
    Case("momentum_reversed", "last_batch", momentum_reversed, 4, "population"),
    Case("two_sources", "two_passes", two_sources, 3),
    Case("dropout_shift", "before_norm", dropout_shift, 3),
    Case("unshuffled", "by_class", unshuffled, 3),
    Case("batch_statistics_at_inference", "always_batch", batch_at_inference, 1, "mates"),
    Case("batch_statistics_at_inference", "resizing", leaked_phase, 1, "leak"),
)
EXCLUSIONS = {
    ("never_updated", "renorm"): "renormalization that never updates is no normalization in either phase",
    ("batch_statistics_at_inference", "renorm"): "the class for it does not renormalize",
}
