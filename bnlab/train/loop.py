"""The training loop: many steps in one graph call, every step's moments on tape.

The loop over steps runs inside TensorFlow, around one step that XLA may compile; the images lie in memory
as uint8 and each batch is one gather. Compiling the whole loop instead is slower from batch 8 upwards.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from bnlab import models
from bnlab.data import Images
from bnlab.data.order import batches
from bnlab.records import Trial
from bnlab.science.norms import in_training
from bnlab.science.probe import Note, normalization_layers, probe
from bnlab.science.tape import Column
from bnlab.stop import Stopped
from bnlab.store import Folder
from bnlab.train.optimizer import optimizer
from bnlab.train.resume import Progress

Tensor: TypeAlias = Any
# Per graph call, at most: progress moves, and an interrupt is heard within a second or two.
_CALL_IMAGES, _CALL_SECONDS = 3200, 0.5
# Between two checkpoints: what a kill costs at most.
_PART_SECONDS = 300.0


class Diverged(Exception):
    """The loss is no longer finite; the message names the step."""


class Watcher(Protocol):
    """Told after every graph call: how many steps are done, and the latest loss."""

    def __call__(self, step: int, loss: float) -> bool | None:
        """Take note; true asks to save and stop."""


def train(trial: Trial, images: Images, folder: Folder, steps: Sequence[int], watch: Watcher) -> None:
    """Train a trial from where it was left, or from the beginning, to its end.

    Args:
        trial: what to train.
        images: its data set.
        folder: gets a checkpoint, with the tape since the one before, at each of `steps`; and between them
            wherever the tape would grow beyond 64 MiB. Every five minutes, and when asked to stop, what is
            done since the last one is saved too.
        steps: increasing; the last one is the trial's end.
        watch: told about progress.

    Raises:
        Diverged: the loss became NaN or infinite.
        Stopped: `watch` asked for it.
    """
    model = models.build(trial)
    descent = optimizer(trial)
    descent.build(model.trainable_variables)
    columns, run = compiled_steps(trial, model, descent, images)
    progress = Progress(folder, model, descent, columns)
    pace, count = _Pace(trial.batch_size), len(images.train_x)
    for stretch in progress.stretches({*steps, *folder.checkpoints()}):
        saved = time.monotonic()
        for a, b in pace.calls(stretch.done, stretch.stop):
            losses, moments = run(batches(trial.seed, count, trial.batch_size, a, b))
            stretch.add(_finite(losses.numpy(), a, trial), moments.numpy())
            stop = watch(b, float(losses[-1]))
            if stretch.whole or stop or time.monotonic() - saved > _PART_SECONDS:
                _check_weights(model, b, trial)
                progress.save(stretch)
                saved = time.monotonic()
            if stop and b < trial.steps:
                raise Stopped(f"training stopped at step {b}")


def compiled_steps(
    trial: Trial, model: keras.Model, descent: keras.optimizers.Optimizer, images: Images
) -> tuple[tuple[Column, ...], Callable[[np.ndarray], tuple[Tensor, Tensor]]]:
    """Compile training: (steps, batch) image numbers -> (steps,) losses and (steps, row) moments.

    Returns:
        The layout of a row of moments, and the function.
    """
    pixels, labels = tf.constant(images.train_x), tf.constant(images.train_y)
    goal, options, notes = models.GOALS[trial.model], dict(trial.options), list[Note]()
    # XLA fuses by itself, and better at the small batches where it is used.
    fused = trial.device == "cpu" and not trial.xla

    @tf.function(jit_compile=trial.xla)
    def step(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        notes.clear()
        x = tf.cast(x, tf.float32) / 255.0
        inputs = models.network_inputs(trial, x, draw=descent.iterations)
        share = tf.cast(descent.iterations, tf.float32) / trial.steps
        statistics = replace(in_training(trial.norm, options, trial.batch_size, share), fused=fused)
        with tf.GradientTape() as gradient, probe(model, statistics, notes):
            loss = goal.loss(model(inputs, training=True), x, y)
            whole = tf.add_n([loss, *model.losses])
        descent.apply(gradient.gradient(whole, model.trainable_variables), model.trainable_variables)
        row = [tf.reshape(_by_update(note), [-1]) for note in notes]
        return loss, tf.concat(row, 0) if row else tf.zeros([0])

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
    return _columns(model, notes), run


def _by_update(note: Note) -> Tensor:
    """Order a call's moments as updates: (groups, 2, channels), means and then variances."""
    return tf.stack([note.mean, note.variance], axis=1)


def _columns(model: keras.Model, notes: Sequence[Note]) -> tuple[Column, ...]:
    epsilons = {n.name: n.epsilon if n.renorm else None for n in normalization_layers(model)}
    columns: list[Column] = []
    for note in notes:
        groups, channels = note.mean.shape
        first = note.call * groups
        updates = range(first, first + groups)
        columns += [Column(note.layer, update, channels, epsilons[note.layer]) for update in updates]
    return tuple(columns)


class _Pace:
    """Steps per graph call: as many as keep it short; how they are grouped changes no number."""

    def __init__(self, batch_size: int) -> None:
        """Begin with one step: nobody knows yet how long it takes."""
        self._most, self._length = math.ceil(_CALL_IMAGES / batch_size), 1

    def calls(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Group steps into graph calls: (steps done before, steps done after)."""
        while start < stop:
            began, end = time.monotonic(), min(start + self._length, stop)
            yield start, end
            each = (time.monotonic() - began) / (end - start)
            self._length = max(1, min(self._most, 4 * self._length, int(_CALL_SECONDS / each)))
            start = end


def _check_weights(model: keras.Model, step: int, trial: Trial) -> None:
    """Refuse to save what cannot be trained on: the loss of a step is that of the weights before it."""
    if not all(np.isfinite(variable).all() for variable in model.variables):
        raise Diverged(f"the weights became infinite or NaN at step {step} ({_pace(trial)})")


def _finite(losses: np.ndarray, first: int, trial: Trial) -> np.ndarray:
    broken = np.flatnonzero(~np.isfinite(losses))
    if len(broken):
        step = first + int(broken[0]) + 1
        raise Diverged(f"the loss became {losses[broken[0]]} at step {step} ({_pace(trial)})")
    return losses


def _pace(trial: Trial) -> str:
    return f"{trial.optimizer}, learning rate {trial.learning_rate:g}; try a lower train.learning_rate"
