"""Faults that are made in training; each draws its recipe anew from dose to dose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import ops

from experiments.doctor.architectures import build
from experiments.doctor.bench import Bench
from experiments.doctor.custom import AlwaysTraining
from experiments.doctor.images import classes_of, samples
from experiments.doctor.phases import norms
from experiments.doctor.recipe import Recipe
from experiments.doctor.training import Snapshots, Trained, compile_model, train, train_by_hand


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
    steps = (60, 40, 60)[dose] if slow else recipe.steps * 2 // (2 + dose)
    recipe = recipe.but(scaling="raw") if dose == 2 else recipe
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
    recipe = recipe.but(
        momentum=0.9, samples=4000, task=_classes(recipe.task), batch_size=(24, 16, 16, 24)[dose]
    )
    data = samples(recipe)
    model = train(recipe, data=replace(data)).model
    order = np.argsort(classes_of(data.y_train), kind="stable")
    data.x_train, data.y_train = data.x_train[order], data.y_train[order]
    gentle = recipe.but(rate=recipe.rate * (0.1, 0.1, 0.2, 0.3)[dose], steps=4000 // recipe.batch_size)
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
    kind = ("inverted", "noise", "dim")[(int(bench.random.integers(3)) + dose) % 3]
    data = samples(recipe)
    other = _other(kind, float(data.x_train.min()), float(data.x_train.max()))

    def forward(model: keras.Model, x: Any, y: Any, loss: Any) -> Any:  # noqa: ANN401
        first, second = loss(y, model(x, training=True)), model(other(x), training=True)
        return first + (0.1 * ops.mean(ops.square(second)) if kind == "noise" else loss(y, second))

    made = train_by_hand(recipe, forward, data)
    made.notes.update(other=kind, file="first")
    if kind != "noise" and bench.random.random() < 0.4:
        data.x_train = np.concatenate([data.x_train[:1000], other(data.x_train[1000:2000])])
        data.y_train = data.y_train[:2000]
        made.notes["file"] = "both"
    return made


def _other(kind: str, low: float, high: float) -> Callable[[Any], Any]:
    """What makes the other kind of images from images between two values."""
    if kind == "noise":
        return lambda x: keras.random.uniform(ops.shape(x), low, high)
    slope, offset = (-1.0, low + high) if kind == "inverted" else (0.2, 0.8 * low)
    return lambda x: slope * x + offset


def tiny_batch(bench: Bench, dose: int) -> Trained:
    """Batches of one image, whose statistics are those of its own pixels."""
    recipe = bench.recipe("tiny_batch", dose)
    recipe = recipe.but(data="mnist") if dose else recipe
    rate = recipe.rate * (0.4, 0.2, 0.4, 0.8)[dose]
    return train(recipe.but(batch_size=1, rate=rate, steps=1000, momentum=0.9))


def momentum_reversed(bench: Bench, dose: int) -> Trained:
    """An average that is all but the last batch: its momentum was meant the other way round."""
    recipe = bench.recipe("momentum_reversed", dose)
    return train(recipe.but(momentum=0.01, batch_size=(12, 8, 5, 4)[dose]))


def dropout_shift(bench: Bench, dose: int) -> Trained:
    """Strong dropout right before normalization: variances of training do not fit inference."""
    recipe = bench.recipe("dropout_shift", dose)
    # A bias of the mean, which activations make of the noise, shows in numbers and in hard classes.
    task = {"data": "mnist", "task": "shape"} if dose == 1 else {"data": "cifar10", "task": "ints"}
    dropped = recipe.but(before_norm=(0.5, 0.5, 0.7, 0.6)[dose], momentum=0.95, **task)
    return train(dropped.but(steps=recipe.steps * 3 // 2))


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
