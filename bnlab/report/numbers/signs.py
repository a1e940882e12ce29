"""The signs of a fault: which of a model's numbers differ most tellingly from those of its healthy twin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Sign:
    """One sign, faulty and healthy; `clear` counts how often the difference is what would be worth a look."""

    name: str
    value: float
    twin: float
    clear: float


WORTH = {
    "not_finite": 0.005,
    "at_start": 0.05,
    "updates_per_step": 0.25,
    "batch_dependence": 0.005,
    "spread_of_means": 0.7,
    "start_share": 0.1,
    "test_shift": 0.05,
    "kl": 0.05,
    "log_variance": 0.3,
    "mean_shift": 0.3,
}
"""The difference of each sign that is worth a look, the most specific sign first; the larger of two spreads
of means over the smaller counts by its logarithm."""
_RATIOS = frozenset({"spread_of_means"})
_PLAIN = 4.0
"""A sign that differs by so often what is worth a look is plain; among plain ones the specific ones lead."""


def telling(faulty: pd.Series, twin: pd.Series, most: int = 3) -> list[Sign]:
    """The signs that differ most from the healthy twin's; none where all are alike.

    Args:
        faulty: name -> value.
        twin: the same of the healthy one; what is missing there cannot differ, but what is no number does.
        most: as many as these.
    """
    signs = [
        _sign(name, faulty.get(name, np.nan), twin.get(name, np.nan)) for name in WORTH if name in faulty
    ]
    found = [sign for sign in signs if sign.clear >= 1]
    return sorted(found, key=lambda sign: -min(sign.clear, _PLAIN))[:most]


def _sign(name: str, value: float, twin: float) -> Sign:
    if np.isnan(twin):
        return Sign(name, value, twin, 0.0)
    if not np.isfinite(value):
        return Sign(name, value, twin, np.inf)
    apart = abs(value - twin)
    if name in _RATIOS:
        apart = abs(np.log(max(value, 1e-9) / max(twin, 1e-9)))
    return Sign(name, value, twin, float(apart / WORTH[name]))


def significant(value: float) -> str:
    """A sign in as many digits as it is worth.

    >>> significant(0.03571), significant(1.0), significant(1234567.0)
    ('0.0357', '1', '1.23e+06')
    """
    return f"{value:.3g}"
