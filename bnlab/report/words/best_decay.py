"""The best decays, said: which they are, what does as well, and what the usual ones cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bnlab.report.numbers.best import at_decay, best
from bnlab.report.numbers.rows import normalization
from bnlab.report.numbers.tables import decay_name, number
from bnlab.report.words.phrases import listed

DEFAULTS = {0.9: "PyTorch's default", 0.99: "Keras's default"}
"""Decays that people get without asking."""
NAMED, TOLD, HEADED = 6, 4, 2
"""As many batch sizes as a sentence may name; tasks and norms that have a sentence; those in the headline."""


def named(found: pd.DataFrame) -> str:
    """The best decays of all trials in one sentence; nothing without any.

    Args:
        found: as from `best`.
    """
    groups = _groups(found)
    parts = [f"{_called(own)} {_decays(own)}" for own in groups[:HEADED]]
    more = f"; {len(groups) - HEADED} more have a page" if len(groups) > HEADED else ""
    return f"The best decay by RMSE: {'; '.join(parts)}{more}." if parts else ""


def sentences(gaps: pd.DataFrame) -> list[str]:
    """For each task and norm: its best decays with what does as well, and what the usual ones cost."""
    return [
        f"{_called(own)}: the best decay is {_decays(own, ranges=True)}.{_usual(gaps, own)}"
        for own in _groups(best(gaps))[:TOLD]
    ]


def _groups(found: pd.DataFrame) -> list[pd.DataFrame]:
    return [own for _, own in found.groupby(["task", "norm"], sort=False)]


def _called(own: pd.DataFrame) -> str:
    task, norm = own["task"].iloc[0], own["norm"].iloc[0]
    return task if norm == "batch" else f"{task} with {normalization(norm)}"


def _decays(own: pd.DataFrame, ranges: bool = False) -> str:
    """The best decay at each batch size, perhaps with the range around it."""
    first, *rest = [f"{_decay(row, ranges)} at {{}}{row.batch_size}" for row in own.head(NAMED).itertuples()]
    more = [f"{len(own) - NAMED} more"] * (len(own) > NAMED)
    return listed([first.format("batch size "), *(text.format("") for text in rest), *more])


def _decay(row: Any, ranges: bool) -> str:  # noqa: ANN401
    notes = [near(row.fastest, row.slowest)] * ranges + ["the end of those measured"] * row.at_end
    return decay_name(row.decay) + (f" ({', '.join(notes)})" if notes else "")


def near(fastest: float, slowest: float) -> str:
    """The range of decays that do as well as the best.

    >>> near(0.9, 0.99), near(0.9, 0.9), near(float("nan"), float("nan"))
    ('0.9 to 0.99', 'no other', 'range unknown')
    """
    if np.isnan(fastest):
        return "range unknown"
    return "no other" if fastest == slowest else f"{decay_name(fastest)} to {decay_name(slowest)}"


def _usual(gaps: pd.DataFrame, own: pd.DataFrame) -> str:
    """What the defaults cost, each where it costs most."""
    parts = []
    for decay, whose in DEFAULTS.items():
        cost = at_decay(gaps, own, decay, "rmse_false") - own["value"]
        if cost.notna().any():
            most, size = number(cost.max()), own.loc[cost.idxmax(), "batch_size"]
            parts.append(f"{decay_name(decay)} ({whose}) costs up to {most} of RMSE, at batch size {size}")
    return f" {'; '.join(parts)}." if parts else ""
