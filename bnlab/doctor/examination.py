"""Examine a model: is there a gap, where does it come from, what is its cause, what mends it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bnlab.doctor.catalogue import CATALOGUE
from bnlab.doctor.chart import Chart, Split
from bnlab.doctor.diagnosis import Cause, Diagnosis, Gap
from bnlab.doctor.findings import Findings, examine_signs
from bnlab.doctor.subject import Subject, length, take
from bnlab.doctor.suspects import Suspect, suspects
from bnlab.doctor.verdict import Complaint, complaints
from bnlab.science.gap import METRICS, gap

NONE_OF_THESE = 0.3
"""Odds of a cause that is not in the catalogue, against weights that moved away from their statistics."""


def examine(model: Any, data: Any, *, batch_size: int = 32, samples: int = 1024, facts: Mapping[str, Any] | None = None) -> Diagnosis:
    began = time.monotonic()
    with Subject(model, data.x_train, batch_size) as subject:
        chart = Chart(subject, data, samples, facts or {})
        if not subject.layers:
            return Diagnosis("nothing to examine", ("no layers",))
        found = examine_signs(chart)
        wrong = complaints(chart, found)
        named = suspects(chart, found)
        causes, unexplained = _ranked(named) if wrong else ((), 0.0)
        return Diagnosis(
            "sick" if wrong else "healthy",
            tuple(map(str, wrong)),
            gaps=tuple(own for split in chart.splits for own in _gaps(chart, split)),
            causes=causes, unexplained=unexplained,
            evidence={**vars(found), "suspects": [(s.name, s.strength, s.evidence) for s in named]},
            seconds=time.monotonic() - began,
        )


def _ranked(named: Sequence[Suspect]):
    total = sum(own.strength for own in named) + NONE_OF_THESE
    causes = tuple(
        Cause(own.name, e.title, own.strength / total, own.evidence, e.confirm, e.cure, e.mendable)
        for own in named
        if (e := CATALOGUE[own.name]) and own.strength > 0
    )
    return causes, NONE_OF_THESE / total


def _gaps(chart: Chart, split: Split):
    moving, batch = chart.under(split, chart.moving), chart.with_batch(split)
    for metric, own in gap(moving, batch, chart.size).items():
        yield Gap(split.name, metric, getattr(moving, metric), getattr(batch, metric), *map(float, own), len(split))
