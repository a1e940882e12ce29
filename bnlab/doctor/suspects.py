"""Which causes the evidence speaks for, ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bnlab.doctor.catalogue import CATALOGUE
from bnlab.doctor.certain import FACTS
from bnlab.doctor.chart import Chart
from bnlab.doctor.diagnosis import Cause
from bnlab.doctor.findings import Findings
from bnlab.doctor.fitted import FITS
from bnlab.doctor.miscopied import COPIES
from bnlab.doctor.suspect import MOST, PLAIN, Suspect
from bnlab.errors import first_line

NONE_OF_THESE = PLAIN
"""Odds of a cause that is not in the catalogue."""
# A confidence that is not worth a line.
_LEAST = 0.001


def suspects(chart: Chart, found: Findings) -> tuple[list[Suspect], list[str]]:
    """List all suspects with their best evidence, the strongest first, and what was not looked for."""
    best, notes = dict[str, Suspect](), list[str]()
    for look in FACTS if found.broken or found.not_finite or found.negative else (*FACTS, *FITS, *COPIES):
        try:
            seen = list(look(chart, found))
        except (
            Exception
        ) as error:  # somebody's numbers may be anything; one look less is no reason to say nothing
            notes.append(f"not looked for {look.__name__.replace('_', ' ')}: {first_line(error)}")
            continue
        for own in seen:
            if own.name not in best or own.strength > best[own.name].strength:
                best[own.name] = own
    return sorted(_reconciled(best).values(), key=lambda own: -own.strength), notes


def _reconciled(best: dict[str, Suspect]) -> dict[str, Suspect]:
    """Weaken what another suspect would bring about: one of two kinds is foreign to both together."""
    if "two_sources" in best and "preprocessing" in best and best["two_sources"].strength >= MOST:
        weaker = replace(best["preprocessing"], strength=best["preprocessing"].strength / 10)
        return best | {"preprocessing": weaker}
    return best


def ranked(named: Sequence[Suspect]) -> tuple[tuple[Cause, ...], float]:
    """Turn odds into confidences: those of the causes, and that of none of them."""
    total = sum(own.strength for own in named) + NONE_OF_THESE
    causes = (_cause(own, own.strength / total) for own in named)
    return tuple(own for own in causes if own.confidence >= _LEAST), NONE_OF_THESE / total


def epsilon_of(named: Sequence[Suspect]) -> float | None:
    """Give the epsilon that the evidence speaks for, if it does."""
    return next((own.epsilon for own in named if own.harms and own.epsilon is not None), None)


def _cause(own: Suspect, confidence: float) -> Cause:
    entry = CATALOGUE[own.name]
    return Cause(own.name, entry.title, confidence, own.evidence, entry.confirm, entry.cure, entry.mendable)
