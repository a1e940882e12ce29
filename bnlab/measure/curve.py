"""Measure a trial over its checkpoints: every wanted decay and both phases on the same images."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import keras
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
    model = models.build(trial)
    evaluator = Evaluator(trial, model, wanted.eval_batch_size)
    probes = [_split(trial, name, *part) for name, part in _probes(trial, images, wanted).items()]
    fixed = [decay for decay in decays if decay is not None]
    moving = None
    for step, checkpoint in chain(folder):
        tape = checkpoint.tape
        moving = (moving or MovingStatistics(tape.columns, fixed)).advance(tape)
        if step not in wanted.steps:
            continue
        restore(checkpoint, model)
        last = step == wanted.steps[-1]
        for split in (
            [*probes, _split(trial, wanted.final, *_whole(trial, images, wanted))] if last else probes
        ):
            common = _common(trial, wanted, step, split)
            batch = _phase_true(evaluator, trial, split, step)
            yield _reading(common, True, None, batch, _NO_GAP)
            yield from _phase_false(evaluator, trial, split, moving, batch, common)
            if split.name == wanted.final:
                yield from _drilled(evaluator, trial, model, split, moving, batch, common, wanted.drills)


def _probes(trial: Trial, images: Images, wanted: Wanted) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Draw the fixed images of each curve: some that the trial is trained on, some of the test set."""
    train = probe(_seen(trial, images), wanted.train_images)
    test = probe(np.arange(len(images.test_x)), wanted.images)
    return {
        "train_probe": (images.train_x[train], images.train_y[train]),
        "test_probe": (images.test_x[test], images.test_y[test]),
    }


def _whole(trial: Trial, images: Images, wanted: Wanted) -> tuple[np.ndarray, np.ndarray]:
    """Take everything: the test set, or all that was trained on."""
    if wanted.final == "test":
        return images.test_x, images.test_y
    # In a random order: neighbours of a file may be alike, and share a batch in phase true.
    seen = shuffled(_seen(trial, images))
    return images.train_x[seen], images.train_y[seen]


def _seen(trial: Trial, images: Images) -> np.ndarray:
    return trained_on(trial.seed, len(images.train_x), trial.steps * trial.batch_size)


def _split(trial: Trial, name: str, x: np.ndarray, y: np.ndarray) -> Split:
    return Split(name, x, y, models.GOALS[trial.model].constant(trial, x, y))


def _common(trial: Trial, wanted: Wanted, step: int, split: Split) -> dict:
    return {
        "step": step,
        "samples_seen": step * trial.batch_size,
        "split": split.name,
        "eval_batch_size": wanted.eval_batch_size,
        "images": len(split.x),
        "constant_rmse": split.constant_rmse,
    }


def _phase_true(evaluator: Evaluator, trial: Trial, split: Split, step: int) -> Scores:
    batch = models.GOALS[trial.model].scores(evaluator.in_batches(split.x, step), split.x, split.y)
    if not np.isfinite(batch.rmse):
        # The loss of the last step is that of the weights before it: only here does it show.
        raise NotFinite(f"the outputs at step {step} are not finite; try a lower train.learning_rate")
    return batch


def _phase_false(
    evaluator: Evaluator, trial: Trial, split: Split, moving: MovingStatistics, batch: Scores, common: dict
) -> Iterator[Reading]:
    known: dict[bytes, Scores] = {}
    for decay in moving.decays:
        statistics = moving.at(decay)
        # A model without moving statistics has one and the same value at every decay: measured once.
        key = _bytes(statistics)
        if key not in known:
            outputs = evaluator.with_fixed(split.x, statistics)
            known[key] = models.GOALS[trial.model].scores(outputs, split.x, split.y)
        yield _reading(common, False, decay, known[key], gap(known[key], batch, common["eval_batch_size"]))


def _drilled(
    evaluator: Evaluator,
    trial: Trial,
    model: keras.Model,
    split: Split,
    moving: MovingStatistics,
    batch: Scores,
    common: dict,
    drills: Sequence[str],
) -> Iterator[Reading]:
    """Restore the model in every wanted way, and read what it then gives at inference."""
    for decay, drill in product(moving.decays, drills):
        outputs = evaluator.of_another(split.x, restored(drill, trial, model, moving.at(decay)))
        scores = models.GOALS[trial.model].scores(outputs, split.x, split.y)
        differences = gap(scores, batch, common["eval_batch_size"])
        yield _reading({**common, "drill": drill}, False, decay, scores, differences)


def _bytes(statistics: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> bytes:
    return b"".join(part.tobytes() for pair in statistics.values() for part in pair)


def _reading(
    common: dict, phase: bool, decay: float | None, scores: Scores, gaps: Mapping[str, Difference]
) -> Reading:
    values = {metric: getattr(scores, metric) for metric in METRICS}
    values |= {f"{metric}_gap": gaps[metric].value for metric in METRICS}
    values |= {f"{metric}_gap_se": gaps[metric].standard_error for metric in METRICS}
    return Reading(**common, phase=phase, decay=decay, **values, time_ms=time.time_ns() // 1_000_000)
