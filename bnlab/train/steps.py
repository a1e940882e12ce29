"""Compiled training steps: many in one graph call, every step's moments on tape.

The loop over steps runs inside TensorFlow, around one step that XLA may compile; the images lie in memory
as uint8 and each batch is one gather. Compiling the whole loop instead is slower from batch 8 upwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from bnlab import models
from bnlab.data import Images
from bnlab.data.feed import sources
from bnlab.records import Trial
from bnlab.science.norms import in_training
from bnlab.science.probe import Note, normalization_layers, probe, switched_layers
from bnlab.science.sources import Fixed
from bnlab.science.tape import START_MEAN, START_VARIANCE, Column
from bnlab.train.replicas import Ledger, replicated

Tensor: TypeAlias = Any


def compiled_steps(
    trial: Trial,
    model: keras.Model,
    descent: keras.optimizers.Optimizer,
    images: Images,
    frozen: Fixed | None = None,
) -> tuple[tuple[Column, ...], Callable[[np.ndarray], tuple[Tensor, Tensor]]]:
    """Compile training: (steps, batch) image numbers -> (steps,) losses and (steps, row) moments.

    Args:
        trial, model, descent, images: what is trained, by what, on what.
        frozen: statistics to train with instead of the batch's own; nothing updates them.

    Returns:
        The layout of a row of moments, and the function. A step that updates nothing has a row of one NaN.
    """
    pixels, labels = tf.constant(images.train_x), tf.constant(images.train_y)
    notes, ledger = list[Note](), Ledger()
    frozen = _start(model) if trial.fault == "phase_false" else frozen
    if trial.replicas > 1:
        step = replicated(trial, model, descent, _row, ledger)
    else:
        step = tf.function(_step(trial, model, descent, notes, frozen), jit_compile=trial.xla)

    @tf.function(input_signature=[tf.TensorSpec([None, trial.batch_size], tf.int32)])
    def run(numbers: Tensor) -> tuple[Tensor, Tensor]:
        count = tf.shape(numbers)[0]
        losses = tf.TensorArray(tf.float32, count)
        rows = tf.TensorArray(tf.float32, count)
        for i in tf.range(count):
            loss, row = step(tf.gather(pixels, numbers[i]), tf.gather(labels, numbers[i]))
            losses, rows = losses.write(i, loss), rows.write(i, row)
        return losses.stack(), rows.stack()

    run.get_concrete_function()  # traced now, so that the layout is known
    if frozen:
        return _one_each(model), run
    together = {0: notes} if trial.replicas == 1 else dict(sorted(ledger.replicas.items()))
    kept = {0: together[0]} if trial.synchronized else together
    return tuple(column for number, own in kept.items() for column in _columns(model, own, number)), run


def _step(
    trial: Trial,
    model: keras.Model,
    descent: keras.optimizers.Optimizer,
    notes: list[Note],
    frozen: Fixed | None,
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    goal, options = models.GOALS[trial.model], dict(trial.options)
    # XLA fuses by itself, and better at the small batches where it is used.
    fused = trial.device == "cpu" and not trial.xla
    rowed = _overflown if trial.precision == "mixed_float16" else _row

    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        inputs = models.network_inputs(trial, x, draw=descent.iterations)
        return goal.loss(model(inputs, training=True), x, y)

    def step(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        notes.clear()
        x = tf.cast(x, tf.float32) / 255.0
        share = tf.cast(descent.iterations, tf.float32) / trial.steps
        own = replace(in_training(trial.norm, options, trial.batch_size, share), fused=fused)
        with tf.GradientTape() as gradient, probe(model, frozen or own, notes):
            losses = [loss_of(source, y) for source in sources(x, 1.0, trial.fault == "two_sources")]
            loss = losses[0] if len(losses) == 1 else tf.add_n(losses) / len(losses)
            whole = tf.add_n([loss, *model.losses])
            scaled = descent.scale_loss(whole)
        descent.apply(gradient.gradient(scaled, model.trainable_variables), model.trainable_variables)
        return loss, tf.constant([np.nan], tf.float32) if frozen else rowed(notes)

    return step


def _row(notes: Sequence[Note]) -> Tensor:
    """Put the updates of a step side by side: of each call (groups, 2, channels), means then variances."""
    row = [tf.reshape(tf.stack([note.mean, note.variance], axis=1), [-1]) for note in notes]
    return tf.concat(row, 0) if row else tf.zeros([0])


def _overflown(notes: Sequence[Note]) -> Tensor:
    """Put updates side by side, as `_row`; what overflowed is infinite, for NaN stands for no update."""
    row = _row(notes)
    return tf.where(tf.math.is_nan(row), np.float32(np.inf), row)


def _columns(model: keras.Model, notes: Sequence[Note], replica: int) -> tuple[Column, ...]:
    epsilons = _epsilons(model)
    columns: list[Column] = []
    for note in notes:
        groups, channels = note.mean.shape
        first = note.call * groups
        updates = range(first, first + groups)
        columns += [Column(note.layer, update, channels, epsilons[note.layer], replica) for update in updates]
    return tuple(columns)


def _one_each(model: keras.Model) -> tuple[Column, ...]:
    """Lay out rows of one update of each layer; none of them is made."""
    epsilons = _epsilons(model)
    return tuple(Column(name, 0, len(mean), epsilons[name]) for name, (mean, _) in _start(model).items())


def _epsilons(model: keras.Model) -> dict[str, float | None]:
    return {n.name: n.epsilon if n.renorm else None for n in normalization_layers(model)}


def _start(model: keras.Model) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Make the statistics of before the first update."""
    sizes = {layer.name: layer.moving_mean.shape for layer in switched_layers(model)}
    return {
        name: (np.full(size, START_MEAN, np.float32), np.full(size, START_VARIANCE, np.float32))
        for name, size in sizes.items()
    }
