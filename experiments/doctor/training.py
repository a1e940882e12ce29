"""Training as a Keras user does it: compile and fit; a loop of one's own where a fault needs one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from experiments.doctor.architectures import build
from experiments.doctor.images import Samples, samples
from experiments.doctor.recipe import Recipe

Augment = Callable[[Any], Any]
LOSSES = {
    "ints": lambda: keras.losses.SparseCategoricalCrossentropy(),
    "one_hot": lambda: keras.losses.CategoricalCrossentropy(),
    "logits": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "logits_one_hot": lambda: keras.losses.CategoricalCrossentropy(from_logits=True),
    "shape": lambda: keras.losses.MeanSquaredError(),
}


@dataclass
class Trained:
    """A trained model, and the samples that go into its data file.

    Attributes:
        recipe: what it was trained by.
        model: compiled with its optimizer, unless the fault says otherwise.
        data: the samples, of which the file gets the first.
        custom: `module:class` that loading it needs.
        notes: what a fault drew: calls, layers, a value.
    """

    recipe: Recipe
    model: keras.Model
    data: Samples
    custom: str | None = None
    notes: dict[str, Any] = field(default_factory=dict)


def make_optimizer(recipe: Recipe) -> keras.optimizers.Optimizer:
    """Make the recipe's optimizer with its schedule."""
    rate: Any = recipe.rate
    if recipe.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(recipe.rate, recipe.steps, alpha=0.01)
    if recipe.optimizer in ("sgd", "nesterov"):
        nesterov = recipe.optimizer == "nesterov"
        return keras.optimizers.SGD(rate, 0.9, nesterov=nesterov, weight_decay=recipe.weight_decay)
    kind = {"adam": keras.optimizers.Adam, "rmsprop": keras.optimizers.RMSprop}[recipe.optimizer]
    return kind(rate, weight_decay=recipe.weight_decay)


def compile_model(model: keras.Model, recipe: Recipe) -> None:
    """Compile with the recipe's optimizer and loss, and accuracy for classifiers."""
    metrics = [] if recipe.regression else ["accuracy"]
    model.compile(make_optimizer(recipe), LOSSES[recipe.task](), metrics=metrics, jit_compile=False)


def feed(recipe: Recipe, data: Samples, shuffle: bool = True, augment: Augment | None = None) -> Any:  # noqa: ANN401
    """Give endless batches of the training samples."""
    stream = tf.data.Dataset.from_tensor_slices((data.x_train, data.y_train))
    if shuffle:
        stream = stream.shuffle(len(data.x_train), seed=recipe.seed)
    stream = stream.repeat().batch(recipe.batch_size, drop_remainder=True)
    if augment is not None:
        stream = stream.map(lambda x, y: (augment(x), y))
    return stream.prefetch(2)


class Snapshots(keras.callbacks.Callback):
    """Weights, statistics left out, every few steps of the last part of training."""

    def __init__(self, steps: int, every: int, share: float = 0.5) -> None:
        super().__init__()
        self.first, self.every = int(steps * (1 - share)), every
        self.kept: list[list[np.ndarray]] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ANN401
        """Keep a copy when its time has come."""
        if batch + 1 > self.first and (batch + 1) % self.every == 0:
            self.kept.append([np.array(v) for v in self.model.trainable_variables])


def train(
    recipe: Recipe,
    data: Samples | None = None,
    model: keras.Model | None = None,
    shuffle: bool = True,
    augment: Augment | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Trained:
    """Train with `compile` and `fit`.

    Args:
        recipe: what to train and how.
        data: samples instead of the recipe's own.
        model: to go on with instead of a new one.
        shuffle: whether each epoch has an order of its own.
        augment: batch of inputs -> batch of inputs, in the input pipeline.
        callbacks: for `fit`.
    """
    data = samples(recipe) if data is None else data
    model = build(recipe) if model is None else model
    compile_model(model, recipe)
    stream = feed(recipe, data, shuffle, augment)
    model.fit(
        stream, steps_per_epoch=recipe.steps, epochs=1, verbose=0, shuffle=False, callbacks=list(callbacks)
    )
    return Trained(recipe, model, data)


def train_by_hand(
    recipe: Recipe,
    forward: Callable[[keras.Model, Any, Any, Any], Any],
    data: Samples | None = None,
    model: keras.Model | None = None,
) -> Trained:
    """Train with a loop of one's own.

    Args:
        recipe: what to train and how.
        forward: (model, x, y, loss function) -> loss.
        data: samples instead of the recipe's own.
        model: to go on with instead of a new one.
    """
    data = samples(recipe) if data is None else data
    model = build(recipe) if model is None else model
    compile_model(model, recipe)
    optimizer, loss = model.optimizer, LOSSES[recipe.task]()
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(x: Any, y: Any) -> None:  # noqa: ANN401
        with tf.GradientTape() as tape:
            value = forward(model, x, y, loss)
        optimizer.apply(tape.gradient(value, model.trainable_variables), model.trainable_variables)

    for x, y in feed(recipe, data).take(recipe.steps):
        step(x, y)
    return Trained(recipe, model, data)
