"""Each layer's part of a gap, measured by putting layers on the statistics of the batch or the population."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from bnlab.measure.patient import Patient
from bnlab.measure.splits import Split
from bnlab.measure.trained import Layers
from bnlab.records import Clue
from bnlab.science.attribution import attribute
from bnlab.science.gap import Difference
from bnlab.science.scores import Scores


def layers(patient: Patient, split: Split, target: str) -> Iterator[Clue]:
    """Find each layer's part at every decay.

    Args:
        patient: the model as it comes to inference; its moving statistics are what layers are taken off.
        split: a probe; every image is evaluated some four times per layer.
        target: `batch`, or `population` (of the training data).
    """
    for decay, deployment in patient.deployments.items():

        def intervene(rows: np.ndarray, moving: Layers = deployment.moving) -> Sequence[Scores]:
            if target == "batch":
                return patient.blended(split, moving, rows)
            return patient.under(split, [_chosen(patient, moving, row) for row in rows])

        found = attribute(intervene, patient.layers, patient.size)
        parts = [(f"layer {target}", "all", found.whole)]
        for own in found.layers:
            parts += [
                (f"{kind} {target}", own.layer, part)
                for kind, part in (("layer", own.part), ("alone", own.alone), ("left", own.left))
            ]
        for kind, name, part in parts:
            yield from _clues(patient, split, decay, kind, name, part)


def _chosen(patient: Patient, moving: Layers, row: np.ndarray) -> Layers:
    right = patient.populations.training
    return {layer: (right if put else moving)[layer] for layer, put in zip(patient.layers, row, strict=True)}


def _clues(
    patient: Patient, split: Split, decay: float, kind: str, name: str, part: dict[str, Difference]
) -> Iterator[Clue]:
    for metric, (value, error) in part.items():
        yield patient.clue(split, decay, kind, name, metric, value, error)
