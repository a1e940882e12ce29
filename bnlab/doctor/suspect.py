"""A suspect: a cause that some evidence speaks for, and how strongly.

A strength is odds against the plain assumption that weights have moved away from their statistics (1). A
hypothesis that says what moving statistics should be has the odds of what it explains of their squared
distance from the population, against what it leaves: R / (1 - R), at most 30, for a thirtieth is within what
weights move in any training. A fact that hardly anything else can make counts more than any fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PLAIN, MOST, FACT = 1.0, 30.0, 100.0
"""Odds of weights that moved; most that a fit can have; of a fact."""


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

    >>> odds(0.5), odds(1.0), odds(-0.2)
    (1.0, 30.0, 0.0)
    """
    return float(np.clip(explained / max(1 - explained, 1 / MOST), 0, MOST))


def some(names: Sequence[str]) -> str:
    """Name a few of many layers.

    >>> some(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
