"""Measure a trial over its checkpoints: every wanted decay and both phases on the same images."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain as chained
from itertools import product

import numpy as np

from bnlab import models
from bnlab.checkpoint import chain, restore
from bnlab.data import Images
from bnlab.measure.deployments import needed_decays
from bnlab.measure.drills import DRILLS, restored
from bnlab.measure.evaluate import Evaluator, Known, content
from bnlab.measure.patient import Patient
from bnlab.measure.splits import Split, probes, whole
from bnlab.measure.trained import Trained
from bnlab.naming import of_replicas
from bnlab.plan import Wanted
from bnlab.records import Reading, Trial
from bnlab.science.gap import METRICS, Difference, gap
from bnlab.science.replicas import KEPT
from bnlab.science.scores import Scores
from bnlab.science.tape import MovingStatistics
from bnlab.settings.faults import drill
from bnlab.store import Folder

_NO_GAP = {metric: Difference(float("nan"), float("nan")) for metric in METRICS}


class NotFinite(Exception):
    """A network gives infinite or NaN outputs with its own batch statistics; the message names the step."""


def measure(
    trial: Trial,
    images: Images,
    folder: Folder,
    wanted: Wanted,
    decays: Sequence[float | None],
    known: Known | None = None,
) -> Iterator[Reading]:
    """Read a trial's curves from its checkpoints, restored one after another into one new model.

    Args:
        trial: a trained one.
        images: its data set.
        folder: its checkpoints and tape.
        wanted: steps, probes, evaluation batch size and drills.
        decays: those to measure; None (phase true) among them, because gaps are taken against it.
        known: gets the scores of the last step, for whoever explains them.

    Yields:
        Readings on both probes at each wanted step, and on the whole final split at the last.
    """
    known = {} if known is None else known
    reader = _Reader(trial, images, folder, wanted, known)
    fixed_images = probes(trial, images, wanted)
    fixed = [decay for decay in decays if decay is not None]
    moving = None
    for step, checkpoint in chain(folder):
        tape = checkpoint.tape
        moving = (moving or MovingStatistics(tape.columns, fixed)).advance(tape)
        if step not in wanted.steps:
            continue
        known.clear()  # other weights
        restore(checkpoint, reader.model)
        final = [whole(trial, images, wanted)] if step == wanted.steps[-1] else []
        for split in (*fixed_images, *final):
            yield from reader.read(split, step, moving)


class _Reader:
    """Reads a trial's model, whichever checkpoint it holds, on any split."""

    def __init__(self, trial: Trial, images: Images, folder: Folder, wanted: Wanted, known: Known) -> None:
        self._known = known
        self._trial, self._images, self._folder, self._wanted = trial, images, folder, wanted
        self.model = models.build(trial)
        self._evaluator = Evaluator(trial, self.model, wanted.eval_batch_size)

    def read(self, split: Split, step: int, moving: MovingStatistics) -> Iterator[Reading]:
        """Read phase true, then phase false under each decay, and at the end after each drill."""
        common, size = self._common(split, step), self._wanted.eval_batch_size
        batch = self._scores(split, self._evaluator.in_batches(split.x, step))
        if not np.isfinite(batch.rmse):
            # The loss of the last step is that of the weights before it: only here does it show.
            raise NotFinite(f"the outputs at step {step} are not finite; try {_cure(self._trial)}")
        self._known[split.name, b""] = batch
        yield _reading(common, True, None, batch, _NO_GAP)
        for decay, scores in self._under(split, moving):
            yield _reading(common, False, decay, scores, gap(scores, batch, size))
        if split.name == self._wanted.final:
            yield from self._faulty(split, common, moving)
            for how, decay, scores in chained(self._drilled(split, moving), self._merged(split, moving)):
                yield _reading({**common, "drill": how}, False, decay, scores, gap(scores, batch, size))

    def _under(self, split: Split, moving: MovingStatistics) -> Iterator[tuple[float, Scores]]:
        statistics = {decay: moving.at(decay) for decay in moving.decays}
        # A model without moving statistics has one and the same value at every decay: measured once.
        distinct = {content(fixed): fixed for fixed in statistics.values()}
        given = self._evaluator.with_fixed(split.x, list(distinct.values()))
        scores = {key: self._scores(split, own) for key, own in zip(distinct, given, strict=True)}
        self._known |= {(split.name, key): own for key, own in scores.items()}
        yield from ((decay, scores[content(fixed)]) for decay, fixed in statistics.items())

    def _drilled(self, split: Split, moving: MovingStatistics) -> Iterator[tuple[str, float, Scores]]:
        """Restore the model in every wanted way, and see what it then gives at inference."""
        for decay, how in product(moving.decays, self._restores):
            other = restored(how, self._trial, self.model, moving.at(decay))
            yield how, decay, self._scores(split, self._evaluator.of_another(split.x, other))

    def _merged(self, split: Split, moving: MovingStatistics) -> Iterator[tuple[str, float, Scores]]:
        """See what a checkpoint gives that keeps other statistics of its replicas than the first one's."""
        wanted = [how for how in KEPT if of_replicas(how) in self._wanted.drills]
        for decay, how in product(moving.decays, wanted):
            outputs = next(self._evaluator.with_fixed(split.x, [moving.at(decay, how)]))
            yield of_replicas(how), decay, self._scores(split, outputs)

    def _faulty(self, split: Split, common: dict, moving: MovingStatistics) -> Iterator[Reading]:
        """Read what the fault gives at inference; phase true sees the same weights and pixels as it."""
        how, decays = drill(self._wanted.fault), moving.decays
        if not (how and decays):  # without a decay there are no statistics to make it with
            return
        needed = needed_decays(self._wanted.fault, decays)
        trained = Trained(self._trial, self._images, self._folder, self._wanted, [*decays, *needed])
        patient = Patient(trained, how, decays)
        for decay, deployment in patient.deployments.items():
            scores, batch = patient.deployed(split, deployment), patient.in_batches(split)
            gaps = gap(scores, batch, self._wanted.eval_batch_size)
            yield _reading({**common, "drill": how}, False, decay, scores, gaps)

    @property
    def _restores(self) -> list[str]:
        """Drills of the restore; a fault at inference is none of them."""
        return [how for how in self._wanted.drills if how in DRILLS]

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


def _cure(trial: Trial) -> str:
    if trial.precision == "mixed_float16":
        return "train.precision=mixed_bfloat16, which reaches as far as float32"
    return "a lower train.learning_rate"


def _reading(
    common: dict, phase: bool, decay: float | None, scores: Scores, gaps: Mapping[str, Difference]
) -> Reading:
    values = {metric: getattr(scores, metric) for metric in METRICS}
    values |= {f"{metric}_gap": gaps[metric].value for metric in METRICS}
    values |= {f"{metric}_gap_se": gaps[metric].standard_error for metric in METRICS}
    return Reading(**common, phase=phase, decay=decay, **values, time_ms=time.time_ns() // 1_000_000)
