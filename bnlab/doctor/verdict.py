"""Healthy or sick: whether statistics that are known to be right would make a difference that matters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from bnlab.doctor.chart import Chart, Split
from bnlab.doctor.findings import Findings
from bnlab.doctor.harm import Harm, harm
from bnlab.doctor.suspects import Suspect

# An average that keeps no more than this is one batch's statistics, whatever it costs today.
_TURNED_ROUND = 0.1


class Complaint(NamedTuple):
    """Something that is wrong with a model.

    Attributes:
        what: `statistics`, `inference`, `inputs`, `batches`, `epsilon`, `statistics are right and unfit`.
        split: where it is seen, or empty.
        harm: what it does; None where it is wrong whatever it does.
    """

    what: str
    split: str
    harm: Harm | None


def complaints(chart: Chart, found: Findings, named: Sequence[Suspect]) -> list[Complaint]:
    """List what is wrong; a healthy model has nothing here."""
    return [*_facts(chart, found), *_harms(chart), *(Complaint(own.name, "", None) for own in named if own.harms)]


def _facts(chart: Chart, found: Findings) -> Iterator[Complaint]:
    if found.not_finite or found.vanished:
        yield Complaint("statistics", "", None)
    if found.leaks:
        yield Complaint("inference", "", None)
    low = [layer for layer in chart.subject.named.values() if layer.momentum <= _TURNED_ROUND]
    if low and found.distance > found.one_batch / 10:
        yield Complaint("statistics", "", None)


def _harms(chart: Chart) -> Iterator[Complaint]:
    for split in chart.splits:
        scorer = chart.scorer(split)
        if not scorer.labelled:
            yield from _moved(chart, split)
            continue
        moving, right = (chart.under(split, own) for own in (chart.moving, chart.population))
        lost = harm(moving, right)
        if lost.matters or lost.inverse:
            yield Complaint("statistics" if lost.matters else "unfit", split.name, lost)
        fixed = harm(right, chart.with_batch(split), chart.size)
        if fixed.matters:
            yield Complaint("batches", split.name, fixed)
        if split.name == "test":
            other = harm(right, chart.under(split, chart.of_test))
            if other.matters:
                yield Complaint("inputs", split.name, other)


def _moved(chart: Chart, split: Split) -> Iterator[Complaint]:
    """Without labels: predictions are moved further than a training batch moves them, and noticeably."""
    scorer = chart.scorer(split)
    right = chart.outputs(split, chart.population)
    by_moving = scorer.disagreement(chart.outputs(split, chart.moving), right)
    by_batch = scorer.disagreement(chart.in_batches(split), right)
    noticed = by_moving * np.sqrt(len(split))  # the standard error of a share is at most 1 / (2 root n): twice that
    lost = Harm("disagreement", by_moving, float("nan"), float(noticed), float(by_moving / max(by_batch, 1e-9)))
    if lost.matters:
        yield Complaint("statistics", split.name, lost)
