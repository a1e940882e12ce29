"""The training loop: many steps in one graph call, every step's moments on tape.

The loop over steps runs inside TensorFlow, around one step that XLA may compile; the images lie in memory
as uint8 and each batch is one gather. Compiling the whole loop instead is slower from batch 8 upwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from bnlab import checkpoint, models
from bnlab.data import Images
from bnlab.data.order import batches
from bnlab.records import Trial
from bnlab.science.norms import in_training
from bnlab.science.probe import Note, normalization_layers, probe
from bnlab.science.tape import Column, Tape
from bnlab.store import Folder
from bnlab.train.optimizer import optimizer

Tensor: TypeAlias = Any
# Images per graph call: about a second of work, so that progress moves and an interrupt is heard.
_CALL = 3200
# Of the tape, between two checkpoints: however long a trial is, no more of it is ever in memory.
_TAPE_BYTES = 64 * 2**20


class Diverged(Exception):
    """The loss is no longer finite; the message names the step."""


class Watcher(Protocol):
    """Told after every graph call: how many steps are done, and the latest loss."""

    def __call__(self, step: int, loss: float) -> None:
        """Take note."""


def train(trial: Trial, images: Images, folder: Folder, steps: Sequence[int], watch: Watcher) -> None:
    """Train a trial from its last checkpoint, or from the beginning, to its end.

    Args:
        trial: what to train.
        images: its data set.
        folder: gets a checkpoint, with the tape since the one before, at each of `steps`; and between them
            wherever the tape would grow beyond 64 MiB.
        steps: increasing; the last one is the trial's end.
        watch: told about progress.

    Raises:
        Diverged: the loss became NaN or infinite.
    """
    model = models.build(trial)
    descent = optimizer(trial)
    descent.build(model.trainable_variables)
    steps = sorted({*steps, *folder.checkpoints()})
    first = _resume(folder, steps, model, descent)
    columns, run = compiled_steps(trial, model, descent, images)
    count, width = len(images.train_x), sum(2 * column.channels for column in columns)
    for start, stop in stretches(first, steps, width):
        losses = np.empty(stop - start, np.float32)
        moments = np.empty((stop - start, width), np.float32)
        for a, b in _calls(start, stop, trial.batch_size):
            loss, rows = run(batches(trial.seed, count, trial.batch_size, a, b))
            losses[a - start : b - start] = _finite(loss.numpy(), a, trial)
            moments[a - start : b - start] = rows
            watch(b, float(loss[-1]))
        if not all(np.isfinite(variable).all() for variable in model.variables):
            raise Diverged(f"the weights became infinite or NaN at step {stop} ({_pace(trial)})")
        checkpoint.save(folder.checkpoint(stop), model, descent, Tape(columns, moments), losses)


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


def _resume(
    folder: Folder, steps: Iterable[int], model: keras.Model, descent: keras.optimizers.Optimizer
) -> int:
    """Restore the last checkpoint up to which none is missing; return its step.

    Later ones go: each holds the tape since the one before, and there will be another one before.
    """
    have, last, found = set(folder.checkpoints()), 0, None
    for step in steps:
        candidate = checkpoint.load(folder.checkpoint(step)) if step in have else None
        if candidate is None or len(candidate.losses) != step - last:
            break
        last, found = step, candidate
    for step in have:
        if step > last:
            folder.checkpoint(step).unlink()
    if found:
        checkpoint.restore(found, model, descent)
    return last


def stretches(first: int, steps: Iterable[int], width: int) -> Iterator[tuple[int, int]]:
    """Cut a trial into what lies between two checkpoints: (steps done before, steps done after).

    Args:
        first: steps done already.
        steps: at which a checkpoint is wanted, increasing.
        width: numbers in a row of the tape.
    """
    longest = max(1, _TAPE_BYTES // max(1, 4 * width))
    for step in steps:
        while first < step:
            stop = min(step, first + longest)
            yield first, stop
            first = stop


def _calls(start: int, stop: int, batch_size: int) -> Iterator[tuple[int, int]]:
    length = math.ceil(_CALL / batch_size)
    for first in range(start, stop, length):
        yield first, min(first + length, stop)


def _finite(losses: np.ndarray, first: int, trial: Trial) -> np.ndarray:
    broken = np.flatnonzero(~np.isfinite(losses))
    if len(broken):
        step = first + int(broken[0]) + 1
        raise Diverged(f"the loss became {losses[broken[0]]} at step {step} ({_pace(trial)})")
    return losses


def _pace(trial: Trial) -> str:
    return f"{trial.optimizer}, learning rate {trial.learning_rate:g}; try a lower train.learning_rate"
