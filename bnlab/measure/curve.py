"""Measure a trial over its checkpoints: every wanted decay and both phases on the same images."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from bnlab import models
from bnlab.checkpoint import chain, restore
from bnlab.data import Images
from bnlab.data.order import probe, shuffled, trained_on
from bnlab.measure.drills import restored
from bnlab.measure.evaluate import Evaluator
from bnlab.plan import Wanted
from bnlab.records import Reading, Trial
from bnlab.science.gap import Difference, gap
from bnlab.science.scores import Scores
from bnlab.science.tape import MovingStatistics
from bnlab.store import Folder

METRICS = ("rmse", "accuracy", "loss")
_NO_GAP = {metric: Difference(float("nan"), float("nan")) for metric in METRICS}


class NotFinite(Exception):
    """A network gives infinite or NaN outputs with its own batch statistics; the message names the step."""


@dataclass(frozen=True)
class Split:
    """Images to measure on, with what a constant predictor gets on them."""

    name: str
    x: np.ndarray
    y: np.ndarray
    constant_rmse: float


def measure(
    trial: Trial, images: Images, folder: Folder, wanted: Wanted, decays: Sequence[float | None]
) -> Iterator[Reading]:
    """Read a trial's curves from its checkpoints, restored one after another into one new model.

    Args:
        trial: a trained one.
        images: its data set.
        folder: its checkpoints and tape.
        wanted: steps, probes, evaluation batch size and drills.
        decays: those to measure; None (phase true) among them, because gaps are taken against it.

    Yields:
        Readings on both probes at each wanted step, and on the whole final split at the last.
    """
    reader = _Reader(trial, wanted)
    probes = _probes(trial, images, wanted)
    fixed = [decay for decay in decays if decay is not None]
    moving = None
    for step, checkpoint in chain(folder):
        tape = checkpoint.tape
        moving = (moving or MovingStatistics(tape.columns, fixed)).advance(tape)
        if step not in wanted.steps:
            continue
        restore(checkpoint, reader.model)
        whole = [_whole(trial, images, wanted)] if step == wanted.steps[-1] else []
        for split in (*probes, *whole):
            yield from reader.read(split, step, moving)


def _probes(trial: Trial, images: Images, wanted: Wanted) -> list[Split]:
    """Draw the fixed images of each curve: some that the trial is trained on, some of the test set."""
    train = probe(_seen(trial, images), wanted.train_images)
    test = probe(np.arange(len(images.test_x)), wanted.images)
    return [
        _split(trial, "train_probe", images.train_x[train], images.train_y[train]),
        _split(trial, "test_probe", images.test_x[test], images.test_y[test]),
    ]


def _whole(trial: Trial, images: Images, wanted: Wanted) -> Split:
    """Take everything: the test set, or all that was trained on."""
    if wanted.final == "test":
        return _split(trial, "test", images.test_x, images.test_y)
    # In a random order: neighbours of a file may be alike, and share a batch in phase true.
    seen = shuffled(_seen(trial, images))
    return _split(trial, "train", images.train_x[seen], images.train_y[seen])


def _seen(trial: Trial, images: Images) -> np.ndarray:
    return trained_on(trial.seed, len(images.train_x), trial.steps * trial.batch_size)


def _split(trial: Trial, name: str, x: np.ndarray, y: np.ndarray) -> Split:
    return Split(name, x, y, models.GOALS[trial.model].constant(trial, x, y))


class _Reader:
    """Reads a trial's model, whichever checkpoint it holds, on any split."""

    def __init__(self, trial: Trial, wanted: Wanted) -> None:
        self._trial, self._wanted = trial, wanted
        self.model = models.build(trial)
        self._evaluator = Evaluator(trial, self.model, wanted.eval_batch_size)

    def read(self, split: Split, step: int, moving: MovingStatistics) -> Iterator[Reading]:
        """Read phase true, then phase false under each decay, and at the end after each drill."""
        common, size = self._common(split, step), self._wanted.eval_batch_size
        batch = self._scores(split, self._evaluator.in_batches(split.x, step))
        if not np.isfinite(batch.rmse):
            # The loss of the last step is that of the weights before it: only here does it show.
            raise NotFinite(f"the outputs at step {step} are not finite; try a lower train.learning_rate")
        yield _reading(common, True, None, batch, _NO_GAP)
        for decay, scores in self._under(split, moving):
            yield _reading(common, False, decay, scores, gap(scores, batch, size))
        if split.name == self._wanted.final:
            for drill, decay, scores in self._drilled(split, moving):
                yield _reading({**common, "drill": drill}, False, decay, scores, gap(scores, batch, size))

    def _under(self, split: Split, moving: MovingStatistics) -> Iterator[tuple[float, Scores]]:
        statistics = {decay: moving.at(decay) for decay in moving.decays}
        # A model without moving statistics has one and the same value at every decay: measured once.
        distinct = {_bytes(fixed): fixed for fixed in statistics.values()}
        given = self._evaluator.with_fixed(split.x, list(distinct.values()))
        scores = {key: self._scores(split, own) for key, own in zip(distinct, given, strict=True)}
        yield from ((decay, scores[_bytes(fixed)]) for decay, fixed in statistics.items())

    def _drilled(self, split: Split, moving: MovingStatistics) -> Iterator[tuple[str, float, Scores]]:
        """Restore the model in every wanted way, and see what it then gives at inference."""
        for decay, drill in product(moving.decays, self._wanted.drills):
            other = restored(drill, self._trial, self.model, moving.at(decay))
            yield drill, decay, self._scores(split, self._evaluator.of_another(split.x, other))

    def _scores(self, split: Split, outputs: np.ndarray) -> Scores:
        return models.GOALS[self._trial.model].scores(outputs, split.x, split.y)

    def _common(self, split: Split, step: int) -> dict:
        return {
            "step": step,
            "samples_seen": step * self._trial.batch_size,
            "split": split.name,
            "eval_batch_size": self._wanted.eval_batch_size,
            "images": len(split.x),
            "constant_rmse": split.constant_rmse,
        }


def _bytes(statistics: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> bytes:
    return b"".join(part.tobytes() for pair in statistics.values() for part in pair)


def _reading(
    common: dict, phase: bool, decay: float | None, scores: Scores, gaps: Mapping[str, Difference]
) -> Reading:
    values = {metric: getattr(scores, metric) for metric in METRICS}
    values |= {f"{metric}_gap": gaps[metric].value for metric in METRICS}
    values |= {f"{metric}_gap_se": gaps[metric].standard_error for metric in METRICS}
    return Reading(**common, phase=phase, decay=decay, **values, time_ms=time.time_ns() // 1_000_000)
