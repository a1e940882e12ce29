"""The training loop: graph calls of many steps each, with checkpoints, progress and checks between them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

import keras
import numpy as np

from bnlab import models
from bnlab.checkpoint import moving_statistics
from bnlab.data import Images
from bnlab.data.feed import fed
from bnlab.records import Trial
from bnlab.science.sources import Fixed
from bnlab.stop import Stopped
from bnlab.store import Folder
from bnlab.train.optimizer import optimizer
from bnlab.train.replicas import strategy
from bnlab.train.resume import Progress
from bnlab.train.steps import compiled_steps

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
            done since the last one is saved too. Where statistics are frozen, there is one as well.
        steps: increasing; the last one is the trial's end.
        watch: told about progress.

    Raises:
        Diverged: the loss became NaN or infinite; in float16, where such a step is skipped, too often.
        Stopped: `watch` asked for it.
    """
    spread = strategy(trial)
    model = models.build_in(spread.scope(), trial)
    with spread.scope():
        descent = optimizer(trial)
        descent.build(model.trainable_variables)
    columns, run = compiled_steps(trial, model, descent, images)
    progress = Progress(folder, model, descent, columns)
    pace, frozen = _Pace(trial.batch_size), False
    turns = {trial.frozen_from} if trial.frozen_from else set[int]()
    for stretch in progress.stretches({*steps, *turns, *folder.checkpoints()}):
        saved = time.monotonic()
        if trial.frozen_from is not None and not frozen and stretch.start >= trial.frozen_from:
            frozen = True
            _, run = compiled_steps(trial, model, descent, images, _frozen(trial, folder))
        for a, b in pace.calls(stretch.done, stretch.stop):
            losses, moments = run(fed(trial.seed, images, trial.batch_size, a, b, trial.fault == "sorted"))
            stretch.add(_finite(losses.numpy(), a, trial), moments.numpy())
            _check_scale(descent, b, trial)
            stop = watch(b, float(losses[-1]))
            if stretch.whole or stop or time.monotonic() - saved > _PART_SECONDS:
                _check_weights(model, b, trial)
                progress.save(stretch)
                saved = time.monotonic()
            if stop and b < trial.steps:
                raise Stopped(f"training stopped at step {b}")


def _frozen(trial: Trial, folder: Folder) -> Fixed:
    """Replay the averages up to the step from which they stay as they are."""
    decay, step = trial.freeze_decay or 0.0, trial.frozen_from or 0
    fixed = moving_statistics(folder, step, [decay]).at(decay)
    return {name: (np.float32(mean), np.float32(variance)) for name, (mean, variance) in fixed.items()}


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
    if len(broken) and trial.precision != "mixed_float16":  # there such a step is skipped
        step = first + int(broken[0]) + 1
        raise Diverged(f"the loss became {losses[broken[0]]} at step {step} ({_pace(trial)})")
    return losses


def _check_scale(descent: keras.optimizers.Optimizer, step: int, trial: Trial) -> None:
    """Refuse to go on where every step is skipped: each halves the scale, and Keras lets it go to 0."""
    if trial.precision == "mixed_float16" and descent.dynamic_scale < 1:
        raise Diverged(f"float16 overflowed at every loss scale down to 1 by step {step} ({_pace(trial)})")


def _pace(trial: Trial) -> str:
    other = " or train.precision=mixed_bfloat16" if trial.precision == "mixed_float16" else ""
    return f"{trial.optimizer}, learning rate {trial.learning_rate:g}; try a lower train.learning_rate{other}"
