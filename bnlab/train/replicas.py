"""One training step on several devices: each takes an equal part of the batch, all take the same step.

This is what `tf.distribute.MirroredStrategy` does: weights are copies, gradients are summed over the replicas
before the optimizer sees them, and batch statistics are those of a replica's own part unless synchronized.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from bnlab import models
from bnlab.records import Trial
from bnlab.science.probe import Note, probe
from bnlab.science.sources import Batch

Tensor: TypeAlias = Any
_Row: TypeAlias = Callable[[Sequence[Note]], Tensor]


class Ledger(list[Note]):
    """Notes of a step, apart by the replica that is being traced when they are made.

    Where replicas wait for one another their calls alternate, so calls are counted anew on each.
    """

    def __init__(self) -> None:
        """Hold nothing."""
        self.replicas: dict[int, list[Note]] = defaultdict(list)

    def append(self, note: Note) -> None:
        """Take a note of the replica in whose context this is called."""
        own = self.replicas[current_replica()]
        own.append(note._replace(call=sum(other.layer == note.layer for other in own)))


def strategy(trial: Trial) -> tf.distribute.Strategy:
    """Say what a trial's variables live on: one device, or copies on several.

    Sums are taken on one device in the order of the replicas, so that repeats give the same bits.
    """
    if trial.replicas == 1:
        return tf.distribute.get_strategy()
    devices = [f"{trial.device.upper()}:{number}" for number in range(trial.replicas)]
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=tf.distribute.ReductionToOneDevice())


def current_replica() -> int:
    """Tell which replica is being traced."""
    return int(tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group))


def replicated(
    trial: Trial, model: keras.Model, descent: keras.optimizers.Optimizer, row: _Row, ledger: Ledger
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Make a step of several replicas: (whole batch, labels) -> mean loss, and the rows side by side.

    Args:
        trial: with several replicas.
        model, descent: made in the scope of its strategy.
        row: puts the notes of one replica side by side.
        ledger: gets the notes; synchronized replicas note the same, and the first one's row is all.
    """
    spread = model.distribute_strategy
    statistics = Batch(
        fused=trial.device == "cpu" and not trial.synchronized, synchronized=trial.synchronized
    )
    size = trial.batch_size // trial.replicas

    def on_replica(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        replica = current_replica()
        part = slice(replica * size, (replica + 1) * size)
        loss = _descend(trial, model, descent, tf.cast(x[part], tf.float32) / 255.0, y[part])
        return loss, row(ledger.replicas[replica])

    def step(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        ledger.replicas.clear()
        # Around all replicas: where they wait for one another, none of them is through before the others.
        with probe(model, statistics, ledger):
            losses, rows = map(spread.experimental_local_results, spread.run(on_replica, args=(x, y)))
        kept = rows[:1] if trial.synchronized else rows
        return tf.add_n(losses) / trial.replicas, tf.concat(kept, 0)

    return step


def _descend(
    trial: Trial, model: keras.Model, descent: keras.optimizers.Optimizer, x: Tensor, y: Tensor
) -> Tensor:
    """Take a step by one replica's share of the loss: the optimizer sums the gradients of all."""
    with tf.GradientTape() as gradient:
        inputs = models.network_inputs(trial, x, draw=descent.iterations)
        loss = models.GOALS[trial.model].loss(model(inputs, training=True), x, y)
        share = tf.add_n([loss, *model.losses]) / trial.replicas
    descent.apply(gradient.gradient(share, model.trainable_variables), model.trainable_variables)
    return loss
