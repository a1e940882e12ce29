"""Keras `fit` as a contender: the same model and optimizer, compiled with the settings asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from bnlab import machine
from experiments.throughput import material
from experiments.throughput.bnlab_loop import trainable
from experiments.throughput.serve import Built, Setting, contend

# Each candidate for steps per execution is timed for at least, and about at most, so long.
_TRIAL_SECONDS, _TRIAL_LIMIT = 0.3, 1.0


class Stopwatch(keras.callbacks.Callback):
    """Times an epoch from its first step on: setting `fit` up is not counted."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds, self._began = 0.0, 0.0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ANN401
        """Begin with the first step."""
        self._began = self._began or time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ANN401
        """End with the epoch."""
        self.seconds = time.perf_counter() - self._began


class Fitted:
    """A model that `fit` trains: N steps are an epoch of N shuffled batches.

    Args:
        model: with its initial weights.
        optimizer: a built one is taken over as it is.
        setting: `jit`, for Keras's `jit_compile`.
        arrays: `x`, `y` and `first`, as in the material.
    """

    def __init__(
        self, model: keras.Model, optimizer: keras.optimizers.Optimizer, setting: Setting, arrays: dict
    ) -> None:
        self.model, self._optimizer, self._jit = model, optimizer, setting["jit"]
        self._x, self._y = arrays["x"].astype(np.float32) / 255.0, arrays["y"]
        self._size = arrays["first"].shape[1]

    def compile(self, steps_per_execution: int) -> None:
        """Compile anew; weights and the optimizer's state stay."""
        self.model.compile(
            self._optimizer,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            steps_per_execution=steps_per_execution,
            jit_compile=self._jit,
        )

    def loss(self, numbers: np.ndarray) -> float:
        """Make one step on these images; return the loss before it."""
        done = self.model.fit(self._x[numbers], self._y[numbers], batch_size=len(numbers), verbose=0)
        return float(done.history["loss"][0])

    def seconds(self, steps: int) -> float:
        """Time an epoch of so many steps."""
        images, watch = steps * self._size, Stopwatch()
        if images > len(self._x):
            raise ValueError(f"an epoch has at most {len(self._x) // self._size} steps, got {steps}")
        self.model.fit(
            self._x[:images], self._y[:images], batch_size=self._size, callbacks=[watch], verbose=0
        )
        return watch.seconds

    def pace(self, steps_per_execution: int, numbers: np.ndarray) -> float:
        """Compile with a setting and measure, briefly, how long a step takes."""
        self.compile(steps_per_execution)
        self.loss(numbers)
        steps = steps_per_execution
        while (seconds := self.seconds(steps)) < _TRIAL_SECONDS and 4 * steps * self._size <= len(self._x):
            steps *= 4
        return seconds / steps


def build(folder: str, setting: Setting) -> Built:
    """Compile the model, make its first steps, and choose among the given steps per execution.

    Args:
        folder: of the material.
        setting: `jit`, and `steps_per_execution`: a list to choose the fastest one from.
    """
    trial, arrays = material.read(folder, xla=False)
    from bnlab import models
    from bnlab.train.optimizer import optimizer

    model, candidates = models.build(trial), setting["steps_per_execution"]
    fitted = Fitted(model, optimizer(trial), setting, arrays)
    first_s, losses = _first(fitted, candidates[0], arrays["first"])
    chosen = candidates[0]
    if len(candidates) > 1:
        chosen = _fastest(fitted, candidates, arrays["first"][0])
    facts = {"parameters": trainable(model), "losses": losses, "first_s": first_s}
    return Built(fitted.seconds, {**facts, "chosen": chosen})


def _fastest(fitted: Fitted, candidates: Sequence[int], numbers: np.ndarray) -> int:
    """Find the fastest number of steps per execution, and leave the model compiled with it."""
    paces: dict[int, float] = {}
    for number in candidates:
        # Where a step takes long, what surrounds a step no longer matters.
        if not paces or number * min(paces.values()) < _TRIAL_LIMIT:
            paces[number] = fitted.pace(number, numbers)
    best = min(paces, key=paces.__getitem__)
    fitted.compile(best)
    fitted.loss(numbers)
    return best


def _first(fitted: Fitted, number: int, first: np.ndarray) -> tuple[float, list[float]]:
    began = time.perf_counter()
    fitted.compile(number)
    losses = [fitted.loss(first[0])]
    return time.perf_counter() - began, losses + [fitted.loss(numbers) for numbers in first[1:]]


if __name__ == "__main__":
    machine.configure("cpu", threads=1)
    contend(build)
