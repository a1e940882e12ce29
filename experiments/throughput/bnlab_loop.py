"""bnlab's training as a contender: the compiled loop that trials run, moments on tape included."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from bnlab import machine
from bnlab.data import Images
from bnlab.data.order import batches
from bnlab.records import Trial
from experiments.throughput import material
from experiments.throughput.serve import Built, Setting, contend

# Images per graph call, as in `bnlab.train.loop`.
_CALL = 3200

Run = Callable[[np.ndarray], tuple[Any, Any]]


def build(folder: str, setting: Setting) -> Built:
    """Compile a trial's training and make its first steps."""
    trial, arrays = material.read(folder, setting["xla"])
    from bnlab import models
    from bnlab.train.optimizer import optimizer
    from bnlab.train.steps import compiled_steps

    model, descent = models.build(trial), optimizer(trial)
    descent.build(model.trainable_variables)
    images = Images(arrays["x"], arrays["y"], arrays["x"][:1], arrays["y"][:1])
    began = time.perf_counter()
    _, run = compiled_steps(trial, model, descent, images)
    losses = list(run(arrays["first"][:1])[0].numpy())
    first_s = time.perf_counter() - began
    losses += list(run(arrays["first"][1:])[0].numpy())
    facts = {"parameters": trainable(model), "losses": [float(loss) for loss in losses], "first_s": first_s}
    return Built(_Timed(trial, run), {**facts, "chosen": ""})


class _Timed:
    """Goes on with a trial, step after step, in graph calls of the trainer's length."""

    def __init__(self, trial: Trial, run: Run) -> None:
        self._trial, self._run, self._done = trial, run, 0

    def __call__(self, steps: int) -> float:
        size, kept = self._trial.batch_size, []
        call, stop = -(-_CALL // size), self._done + steps
        began = time.perf_counter()
        for first in range(self._done, stop, call):
            last = min(first + call, stop)
            loss, rows = self._run(batches(self._trial.seed, material.IMAGES, size, first, last))
            kept.append((loss.numpy(), rows.numpy()))
        self._done = stop
        return time.perf_counter() - began


def trainable(model: keras.Model) -> int:
    """Count the trainable parameters of a model."""
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


if __name__ == "__main__":
    machine.configure("cpu", threads=1)
    contend(build)
