"""Many decays on paper: where each stands on an axis, and which few stand for all where many have no room."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bnlab.report.numbers.tables import decay_name

MANY = 8
"""More decays than these are a curve: it is drawn whole, and elsewhere a few stand for them."""
FEW = 6
"""As many decays as have room side by side."""
ROUND, ENOUGH = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999), 4
"""The decays that people compare, and how many of them must be there to stand for the others."""


def places(decays: np.ndarray) -> np.ndarray:
    """Ten times the memory, 1 / (1 - decay), is always the same step; decay 1 stands one step further.

    >>> places(np.array([0.0, 0.9, 0.99, 1.0])).round(9).tolist()
    [-0.0, 1.0, 2.0, 3.0]
    """
    left = 1 - np.asarray(decays, dtype=float)
    finite = left[left > 0]
    return -np.log10(np.where(left > 0, left, finite.min() / 10 if len(finite) else 1.0))


def spread_out(decays: np.ndarray, most: int) -> np.ndarray:
    """At most so many decays, from the fastest to the slowest, evenly on the axis of decays."""
    if len(decays) <= most:
        return decays
    where = places(decays)
    wanted = np.linspace(where[0], where[-1], most)
    return decays[np.unique(np.abs(where - wanted[:, None]).argmin(axis=1))]


def few(decays: np.ndarray) -> np.ndarray:
    """At most `FEW` of sorted decays, both ends among them: round ones, or else evenly spread.

    >>> few(np.array([0, 0.2, 0.5, 0.8, 0.9, 0.98, 0.99, 0.998])).tolist()
    [0.0, 0.5, 0.9, 0.99, 0.998]
    """
    if len(decays) <= FEW:
        return decays
    known = np.isin(decays, ROUND)
    if known.sum() < ENOUGH:
        return spread_out(decays, FEW)
    known[[0, -1]] = True
    return spread_out(decays[known], FEW)


def measured(table: pd.DataFrame) -> np.ndarray:
    """The decays of a table with one in each row, sorted; phase true alone has none."""
    return np.sort(table["decay"].dropna().unique())


def shown(decays: Sequence[float] | np.ndarray) -> np.ndarray:
    """The decays that a page with a line or column for each of them shows: all, or a few of many."""
    known = np.sort(np.asarray(decays, dtype=float))
    return few(known) if len(known) > MANY else known


def thinned(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the decays that are `shown`; rows without a decay stay."""
    return rows[rows["decay"].isna() | rows["decay"].isin(shown(measured(rows)))].reset_index(drop=True)


def note(rows: pd.DataFrame) -> str:
    """Say which decays of a table are shown where not all are; nothing to say of a few."""
    every = measured(rows)
    if len(every) <= MANY:
        return ""
    some = [decay_name(decay) for decay in shown(every)]
    return f"{len(some)} of {len(every)} decays are shown here: {', '.join(some)}."
