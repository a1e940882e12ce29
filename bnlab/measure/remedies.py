"""What remedies leave of a gap, on the same checkpoint and tape, and what they cost."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from bnlab import models
from bnlab.data.order import split as held_out_of
from bnlab.measure.patient import Patient
from bnlab.measure.splits import Split
from bnlab.records import Clue
from bnlab.science.gap import METRICS, gap
from bnlab.science.remedies import OF_THE_AVERAGE, Case, Cure, remedy
from bnlab.science.scores import Scores

# Held-out training images on which a remedy makes its choice.
_HELD_OUT = 1024


def remedies(patient: Patient, split: Split, names: Sequence[str]) -> Iterator[Clue]:
    """Try every remedy; one that no decay plays a part in is tried once."""
    for name in names:
        decays = list(patient.deployments)
        bound = name.split()[0] in OF_THE_AVERAGE
        for decay in decays if bound else decays[:1]:
            began = time.monotonic()
            cure = remedy(name)(case(patient, split, decay))
            seconds = time.monotonic() - began
            yield from _outcome(patient, split, decay if bound else None, name, cure, seconds)


def case(patient: Patient, split: Split, decay: float) -> Case:
    """Show a model to a remedy: functions that reach its images and its tape, and nothing else."""
    populations, deployment = patient.populations, patient.deployments[decay]
    held_out = _held_out(patient)
    return Case(
        moving=deployment.moving,
        debiased=deployment.debiased,
        batch_size=patient.trained.batch_size,
        samples=patient.trained.wanted.samples,
        in_batches=populations.in_batches,
        average=populations.average,
        population=populations.population,
        of_test=lambda: populations.estimated(patient.pixels(split)),
        replayed=patient.trained.moving,
        held_out=lambda cures: [scores.rmse for scores in _under(patient, held_out, cures)],
    )


def _outcome(
    patient: Patient, split: Split, decay: float | None, name: str, cure: Cure, seconds: float
) -> Iterator[Clue]:
    [scores], batch = _under(patient, split, [cure]), patient.in_batches(split)
    left = gap(scores, batch, patient.size)
    for metric in METRICS:
        yield patient.clue(split, decay, "remedy", name, metric, getattr(scores, metric))
        yield patient.clue(split, decay, "remedy", name, f"{metric}_gap", *left[metric])
    yield patient.clue(split, decay, "remedy", name, "seconds", seconds)


def _under(patient: Patient, split: Split, cures: Sequence[Cure]) -> list[Scores]:
    """Score a split under each cure; those that mix in each image's own moments share their statistics."""
    if not any(cure.weight for cure in cures):
        return patient.under(split, [cure.statistics for cure in cures])
    weights = np.repeat([[cure.weight] for cure in cures], len(patient.layers), axis=1)
    return patient.blended(split, cures[0].statistics, weights, each=True)


def _held_out(patient: Patient) -> Split:
    """Take training images that no trial is trained on, as they come in training."""
    images, trial = patient.trained.images, patient.trained.trial
    _, kept = held_out_of(len(images.train_x))
    some = kept[:_HELD_OUT]
    x, y = images.train_x[some], images.train_y[some]
    return Split("train held out", x, y, models.GOALS[trial.model].constant(trial, x, y))
