"""Measure a trial over its checkpoints: every wanted decay and both phases on the same images."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from bnlab import models
from bnlab.checkpoint import chain, restore
from bnlab.data import Images
from bnlab.data.order import probe, trained_on
from bnlab.measure.evaluate import Evaluator
from bnlab.plan import Wanted
from bnlab.records import Reading, Trial
from bnlab.science.gap import Difference, gap
from bnlab.science.probe import Batch
from bnlab.science.scores import Scores, classifier_scores
from bnlab.science.tape import MovingStatistics
from bnlab.store import Folder

METRICS = ("rmse", "accuracy", "loss")
_NO_GAP = {metric: Difference(float("nan"), float("nan")) for metric in METRICS}
_Split = tuple[np.ndarray, np.ndarray]


class NotFinite(Exception):
    """A network gives infinite or NaN outputs with its own batch statistics; the message names the step."""


def measure(
    trial: Trial, images: Images, folder: Folder, wanted: Wanted, decays: Sequence[float | None]
) -> Iterator[Reading]:
    """Read a trial's curves from its checkpoints, restored one after another into one new model.

    Args:
        trial: a trained one.
        images: its data set.
        folder: its checkpoints and tape.
        wanted: steps, probes and evaluation batch size.
        decays: those to measure; None (phase true) among them, because gaps are taken against it.

    Yields:
        Readings on both probes at each wanted step, and on the whole test set at the last.
    """
    model = models.build(trial)
    evaluator = Evaluator(model, wanted.eval_batch_size)
    splits = _probes(trial, images, wanted)
    moving = None
    fixed = [decay for decay in decays if decay is not None]
    for step, checkpoint in chain(folder):
        tape = checkpoint.tape
        moving = (moving or MovingStatistics(tape.columns, fixed)).advance(tape)
        if step not in wanted.steps:
            continue
        restore(checkpoint, model)
        if step == wanted.steps[-1]:
            splits = {**splits, "test": (images.test_x, images.test_y)}
        for name, split in splits.items():
            yield from _readings(evaluator, moving, split, _common(trial, wanted, step, name, split))


def _probes(trial: Trial, images: Images, wanted: Wanted) -> dict[str, _Split]:
    """Draw the fixed images of each curve: some that the trial is trained on, some of the test set."""
    seen = trained_on(trial.seed, len(images.train_x), trial.steps * trial.batch_size)
    train = probe(seen, wanted.train_images)
    test = probe(np.arange(len(images.test_x)), wanted.images)
    return {
        "train_probe": (images.train_x[train], images.train_y[train]),
        "test_probe": (images.test_x[test], images.test_y[test]),
    }


def _common(trial: Trial, wanted: Wanted, step: int, name: str, split: _Split) -> dict:
    return {
        "step": step,
        "samples_seen": step * trial.batch_size,
        "split": name,
        "eval_batch_size": wanted.eval_batch_size,
        "images": len(split[0]),
    }


def _readings(
    evaluator: Evaluator, moving: MovingStatistics, split: _Split, common: dict
) -> Iterator[Reading]:
    size = common["eval_batch_size"]
    batch = classifier_scores(evaluator(split[0], Batch(size)), split[1])
    if not np.isfinite(batch.rmse):
        # The loss of the last step is that of the weights before it: only here does it show.
        raise NotFinite(
            f"the outputs at step {common['step']} are not finite; try a lower train.learning_rate"
        )
    yield _reading(common, True, None, batch, _NO_GAP)
    known: dict[bytes, Scores] = {}
    for decay in moving.decays:
        statistics = moving.at(decay)
        # A model without moving statistics has one and the same value at every decay: measured once.
        key = _bytes(statistics)
        if key not in known:
            known[key] = classifier_scores(evaluator(split[0], statistics), split[1])
        yield _reading(common, False, decay, known[key], gap(known[key], batch, size))


def _bytes(statistics: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> bytes:
    return b"".join(part.tobytes() for pair in statistics.values() for part in pair)


def _reading(
    common: dict, phase: bool, decay: float | None, scores: Scores, gaps: Mapping[str, Difference]
) -> Reading:
    values = {metric: getattr(scores, metric) for metric in METRICS}
    values |= {f"{metric}_gap": gaps[metric].value for metric in METRICS}
    values |= {f"{metric}_gap_se": gaps[metric].standard_error for metric in METRICS}
    return Reading(**common, phase=phase, decay=decay, **values, time_ms=time.time_ns() // 1_000_000)
