"""Healthy or sick: whether statistics that are known to be right would make a difference that matters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bnlab.doctor.chart import Chart, Split
from bnlab.doctor.findings import Findings, distance_of
from bnlab.doctor.harm import Harm, better, harm
from bnlab.doctor.suspect import Suspect

# An average that keeps no more than this is one batch's statistics, whatever it costs today.
_TURNED_ROUND = 0.1


class Complaint(NamedTuple):
    """Something that is wrong with a model.

    Attributes:
        what: `weights` (that are no numbers), `statistics`, `gap` (that no population explains), `inference`,
            `batches`, `unfit` (weights that do better with the start), or a suspect that harms by itself.
        split: where it is seen, or empty.
        harm: what it does; None where it is wrong whatever it does.
    """

    what: str
    split: str
    harm: Harm | None


def complaints(chart: Chart, found: Findings, named: Sequence[Suspect]) -> list[Complaint]:
    """List what is wrong; a healthy model has nothing here."""
    return [
        *_facts(chart, found),
        *_harms(chart, found),
        *(Complaint(own.name, "", None) for own in named if own.harms),
    ]


def _facts(chart: Chart, found: Findings) -> Iterator[Complaint]:
    if found.broken:
        yield Complaint("weights", "", None)
    if found.not_finite or found.negative or found.vanished:
        yield Complaint("statistics", "", None)
    if found.leaks:
        yield Complaint("inference", "", None)
    low = [layer for layer in chart.subject.named.values() if layer.momentum <= _TURNED_ROUND]
    if low and found.distance > found.one_batch / 10:
        yield Complaint("statistics", "", None)


def _harms(chart: Chart, found: Findings) -> Iterator[Complaint]:
    for split in chart.splits:
        lost = better(chart, split, chart.moving, chart.population)
        if lost.matters and not _as_good_as_a_batch(chart, split, found):
            yield Complaint("statistics", split.name, lost)
        elif chart.scorer(split).labelled and (gap := _gap(chart, split)).matters:
            yield Complaint("gap", split.name, gap)
        elif lost.inverse and found.at_start:  # better with no data's statistics than with its own
            yield Complaint("unfit", split.name, lost)
        if chart.scorer(split).labelled:
            yield from _beyond_statistics(chart, split)


def _beyond_statistics(chart: Chart, split: Split) -> Iterator[Complaint]:
    """Look at what is left when the statistics are the training data's."""
    right = chart.under(split, chart.population)
    fixed = harm(right, chart.with_batch(split), chart.size)
    # Weights that were trained with moving statistics, as in renormalization, may do well with those alone.
    if fixed.matters and _gap(chart, split).real > 1:
        yield Complaint("batches", split.name, fixed)


def _as_good_as_a_batch(chart: Chart, split: Split, found: Findings) -> bool:
    """Say whether statistics are no further off, and do no worse, than those of a training batch."""
    near = distance_of(chart, chart.population) <= found.one_batch
    return near and chart.scorer(split).labelled and _gap(chart, split).real <= 1


def _gap(chart: Chart, split: Split) -> Harm:
    return harm(chart.under(split, chart.moving), chart.with_batch(split), chart.size)
