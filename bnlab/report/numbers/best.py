"""The best decay of each trial: the lowest point of a metric with phase false, and what does as well.

Found on the very images that are drawn, it describes a measurement and predicts nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bnlab.report.numbers.decays import MANY, measured
from bnlab.report.numbers.rows import moving, natural
from bnlab.report.numbers.tables import ROUNDING

RUN = ["task", "norm", "batch_size"]
SIGN = {"rmse": 1, "accuracy": -1}
"""What makes an error of a metric: lower is better."""
_COLUMNS = [*RUN, "steps", "decay", "fastest", "slowest", "at_end", "value", "gap", "gap_se"]


def swept(gaps: pd.DataFrame) -> bool:
    """Tell whether so many decays were measured that they make a curve."""
    return len(measured(moving(gaps))) > MANY


def best(gaps: pd.DataFrame, metric: str = "rmse") -> pd.DataFrame:
    """One row per task, norm and batch size: the decay at which a metric with phase false is best.

    Of equal decays the fastest is taken. Where all give the same there is no best, nor where the network has
    learned too little: then there is no row.

    Args:
        gaps: as from `tables.gaps`.
        metric: `rmse` or `accuracy`.

    Returns:
        Columns of `RUN`, `steps`, `decay`, `fastest` and `slowest` (ends of the range around it within one
        standard error, NaN if that is unknown), `at_end` (no decay beyond it was measured), and there the
        metric's `value` with phase false, its `gap` to phase true and its standard error `gap_se`.

    """
    rows = moving(gaps)
    rows = rows[rows["learned"]].sort_values([*RUN, "decay"], key=natural)
    found = [_best(own.reset_index(drop=True), metric) for _, own in rows.groupby(RUN, sort=False)]
    return pd.DataFrame([row for row in found if row], columns=_COLUMNS)


def _best(own: pd.DataFrame, metric: str) -> dict[str, Any]:
    errors = SIGN[metric] * own[f"{metric}_false"]
    known = errors[np.isfinite(errors)]
    if len(known) < 2 or known.max() - known.min() <= ROUNDING:
        return {}
    at = int(known.idxmin())
    row, error = own.loc[at], own.loc[at, f"{metric}_gap_se"]
    ends = [np.nan, np.nan] if np.isnan(error) else own["decay"].loc[[*as_good(errors, at, error)]]
    return dict(row[[*RUN, "steps", "decay"]]) | {
        **dict(zip(("fastest", "slowest"), ends, strict=True)),
        "at_end": at in known.index[[0, -1]],
        "value": row[f"{metric}_false"],
        "gap": row[f"{metric}_gap"],
        "gap_se": error,
    }


def as_good(errors: pd.Series, at: int, within: float) -> tuple[int, int]:
    """The unbroken stretch around a lowest error that is at most `within` above it: first and last place.

    Args:
        errors: in the order of the decays, counted from 0; one that is no number breaks the stretch.
        at: place of the lowest.
        within: in the unit of the errors.

    >>> as_good(pd.Series([0.3, 0.12, 0.1, 0.11, 0.2, 0.1]), 2, 0.05)
    (1, 3)
    """
    worse = np.flatnonzero(~(errors <= errors[at] + within))
    return int(max(worse[worse < at], default=-1)) + 1, int(min(worse[worse > at], default=len(errors))) - 1


def at_decay(gaps: pd.DataFrame, found: pd.DataFrame, decay: float | pd.Series, column: str) -> pd.Series:
    """A column of `gaps` at one decay, or at one for each row of `best`; NaN where it was not measured."""
    values = gaps.set_index([*RUN, "decay"])[column]
    return found[RUN].assign(decay=decay).join(values, on=[*RUN, "decay"])[column]
