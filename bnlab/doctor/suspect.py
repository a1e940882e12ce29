"""A suspect: a cause that some evidence speaks for, and how strongly.

A strength is odds against the plain assumption that weights have moved away from their statistics (1). A
hypothesis that says what moving statistics should be is judged by the share R of their squared distance from
the population that it explains. One fitted share explains some of anything: statistics of other weights are
too small or too large as a whole, and so is whatever they are compared with, which makes two thirds of the
distance a coincidence that is seen. So R / (1 - R) counts from 4, where a fifth is left, and rises with the
power of 3/2 (three layers or so speak for themselves); at most 100. A fact that hardly anything else can make
counts more than any fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PLAIN, MOST, FACT = 1.0, 100.0, 300.0
"""Odds of weights that moved; most that a fit can have; of a fact."""
COINCIDENCE = 4.0
"""Explained against left, where a fit is as likely as the plain assumption."""
NEARER = 1 / (1 + COINCIDENCE)
"""Share of the distance that such a fit leaves."""


@dataclass(frozen=True)
class Suspect:
    """A cause with what speaks for it.

    Attributes:
        name: a key of `bnlab.doctor.catalogue.CATALOGUE`.
        strength: odds, 0 or more.
        evidence: sentences with numbers.
        harms: it makes a model sick by itself, whatever the difference between the phases.
        epsilon: that training had, where that is the suspicion.
    """

    name: str
    strength: float
    evidence: tuple[str, ...]
    harms: bool = False
    epsilon: float | None = None


def odds(explained: float) -> float:
    """Turn the share of squared distance that is explained into odds.

    >>> odds(0.5), round(odds(0.8), 6), odds(1.0), odds(-0.2)
    (0.125, 1.0, 100.0, 0.0)
    """
    ratio = max(explained, 0.0) / max(1 - explained, 1 / MOST**2)
    return float(min((ratio / COINCIDENCE) ** 1.5, MOST))


def some(names: Sequence[str]) -> str:
    """Name a few of many layers.

    >>> some(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
