"""What half precision does to the statistics of a network, at the same weights and on the same images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bnlab import models
from bnlab.measure.evaluate import Evaluator
from bnlab.measure.patient import Patient
from bnlab.measure.signs import apart
from bnlab.measure.splits import Split
from bnlab.measure.trained import Trained
from bnlab.records import Clue


def rounding(patient: Patient, split: Split) -> Iterator[Clue]:
    """Measure how far each layer's population statistics lie from those of a float32 copy of the network.

    Both are of the same training images: nothing differs but what is rounded - kernels, activations, and
    what earlier layers made of them. A network in float32 has none, nor a faulty one: its weights may be
    others.
    """
    if patient.trained.trial.precision == "float32" or patient.drill:
        return
    exact = patient.trained.once(("float32",), lambda: _in_float32(patient.trained))
    there = exact.population(patient.populations.fed)
    for layer, own in apart(patient, patient.populations.training, there).items():
        for metric, value in own._asdict().items():
            yield patient.clue(split, None, "rounding", layer, metric, value)


def _in_float32(trained: Trained) -> Evaluator:
    trial = replace(trained.trial, precision="float32")
    other = models.build(trial)
    for variable, source in zip(other.variables, trained.model.variables, strict=True):
        variable.assign(source)
    return Evaluator(trial, other, trained.wanted.eval_batch_size)
