"""Readings become cells, gaps and curves: every number that a report or a terminal shows is made here."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from bnlab.report.numbers.rows import ERRORS, GAPS, METRICS, final, natural, ordinary

CELL = ["task", "norm", "batch_size", "decay", "phase", "seed"]
POINT = ["task", "norm", "batch_size", "decay"]
ROUNDING = 1e-6
"""A gap up to this size is float32 rounding, whatever its standard error."""
DECIMALS = 4
"""As many a number has that a person reads."""
VISIBLE = 0.5 * 10**-DECIMALS
"""What is smaller is shown as 0."""
LEARNED = 0.7
"""A regressor has learned something once its RMSE is at most this share of the best constant predictor's."""

_FRAME = ["split", "trial", "steps", "images", "constant_rmse", "of_constant", "learned"]


def cells(readings: pd.DataFrame, decays: Sequence[float] = ()) -> pd.DataFrame:
    """One row per cell, with the final reading of the split that is read whole.

    A phase-true value is the same for all decays of its trial, so it is repeated for each of them.

    Args:
        readings: stored rows.
        decays: the decays of trials that have phase-true rows only; without any, their decay is NaN.

    Returns:
        Columns of `CELL`, the metrics, their gaps and standard errors, `split`, `trial`, `steps`, `images`,
        `constant_rmse`, `of_constant` (phase true's RMSE as a share of it) and `learned` (its gaps count).

    """
    rows = _judged(final(ordinary(readings)))
    own = rows[~rows["phase"]].groupby("trial")["decay"].agg(list).to_dict()
    asked = list(decays) or [math.nan]
    spread = [
        own.get(trial, asked) if phase else [decay]
        for trial, phase, decay in zip(rows["trial"], rows["phase"], rows["decay"], strict=True)
    ]
    rows = rows.assign(decay=pd.Series(spread, index=rows.index, dtype=object)).explode("decay")
    rows = rows.astype({"decay": float})[[*CELL, *METRICS, *GAPS, *ERRORS, *_FRAME]]
    order = ["task", "norm", "batch_size", "decay", "seed", "phase"]
    ascending = [name != "phase" for name in order]
    return rows.sort_values(order, ascending=ascending, key=natural, ignore_index=True)


def _judged(rows: pd.DataFrame) -> pd.DataFrame:
    """A regressor that hardly beats a constant has learned nothing that a gap could say something of."""
    true = rows["rmse"].where(rows["phase"], rows["rmse"] - rows["rmse_gap"])
    share = true / rows["constant_rmse"]
    return rows.assign(of_constant=share, learned=~(rows["accuracy"].isna() & (share > LEARNED)))


def gaps(readings: pd.DataFrame) -> pd.DataFrame:
    """One row per task, norm, batch size and decay: the gap over all its seeds, worst |RMSE gap| first.

    With two or more seeds the standard error is the seeds' own, sd / sqrt(n); with one seed it is the
    paired one over images. Gaps that do not count stand last.

    Returns:
        Columns of `POINT`, `split`, `seeds` (n), `steps`, `learned` (by all seeds: the gap counts), and for
        each metric m: `m_true`, `m_false`, `m_gap` (means over seeds), `m_gap_sd` (spread, NaN for one
        seed), `m_gap_se`, `m_beyond` (it counts, and |gap| > 2 of these).

    """
    grouped = _paired(cells(readings)).groupby(POINT)
    parts = [grouped["seed"].nunique().rename("seeds"), grouped["steps"].max()]
    parts += [grouped["split"].first(), grouped["learned"].all()]
    parts += [over_seeds(grouped, metric) for metric in METRICS]
    points = pd.concat(parts, axis=1).reset_index()
    for metric in METRICS:
        points[f"{metric}_beyond"] &= points["learned"]
    points["_size"] = points["rmse_gap"].abs()
    worst = points.sort_values(["learned", "_size"], ascending=False, kind="stable", ignore_index=True)
    return worst.drop(columns="_size")


def _paired(table: pd.DataFrame) -> pd.DataFrame:
    """Cells with phase false, each with what phase true gave."""
    false = table[~table["phase"]].rename(columns={metric: f"{metric}_false" for metric in METRICS})
    true = table[table["phase"]].set_index([*POINT, "seed"])[list(METRICS)].add_suffix("_true")
    pairs = false.join(true, on=[*POINT, "seed"])
    for metric in METRICS:  # phase true not stored, but its gap was: the value follows
        known = pairs[f"{metric}_false"] - pairs[f"{metric}_gap"]
        pairs[f"{metric}_true"] = pairs[f"{metric}_true"].fillna(known)
    return pairs


def over_seeds(pairs: pd.api.typing.DataFrameGroupBy, metric: str) -> pd.DataFrame:
    """Both phases and the gap of a metric over the seeds: means, spread, standard error, whether it counts.

    Args:
        pairs: grouped, one row per seed, with the metric's `_true`, `_false`, `_gap` and `_gap_se`.
        metric: one of `METRICS`.
    """
    gap = pairs[f"{metric}_gap"]
    seeds = gap.count()
    spread = gap.std()
    error = (spread / np.sqrt(seeds)).where(seeds > 1, pairs[f"{metric}_gap_se"].mean())
    return pd.DataFrame(
        {
            f"{metric}_true": pairs[f"{metric}_true"].mean(),
            f"{metric}_false": pairs[f"{metric}_false"].mean(),
            f"{metric}_gap": gap.mean(),
            f"{metric}_gap_sd": spread,
            f"{metric}_gap_se": error,
            f"{metric}_beyond": beyond(gap.mean(), error),
        }
    )


def beyond(gap: pd.Series, error: pd.Series) -> pd.Series:
    """A gap counts when it exceeds two standard errors and rounding; an unknown error never counts.

    >>> beyond(pd.Series([0.3, -0.3, 0.3, 1e-7]), pd.Series([0.1, 0.1, 0.2, 0.0])).tolist()
    [True, True, False, False]
    """
    return gap.abs() > (2 * error).clip(lower=ROUNDING)


def levels(readings: pd.DataFrame, decays: Sequence[float] = ()) -> pd.DataFrame:
    """One row per task, norm, batch size, decay and phase: RMSE's mean, spread and n over the seeds."""
    return _moments(cells(readings, decays), ["split", "task", "norm", "batch_size", "phase", "decay"])


def curves(readings: pd.DataFrame) -> pd.DataFrame:
    """One row per probe, task, norm, batch size, phase, decay and step: RMSE over the seeds.

    Phase-true rows keep decay NaN: one curve serves all decays.
    """
    rows = ordinary(readings)
    probes = rows[rows["split"].isin(["test_probe", "train_probe"])]
    return _moments(probes, ["split", "task", "norm", "batch_size", "phase", "decay", "step"])


def _moments(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    grouped = rows.groupby(keys, dropna=False)
    own = grouped["rmse"].agg(rmse="mean", sd="std", seeds="count")
    return own.assign(constant_rmse=grouped["constant_rmse"].mean()).reset_index()


def number(value: float, decimals: int = DECIMALS, signed: bool = False) -> str:
    """A number as people read it: fixed decimals, no negative zero, a dash for what is not known.

    >>> number(0.21404), number(0.21404, signed=True), number(-0.00001, signed=True), number(float("nan"))
    ('0.2140', '+0.2140', '0.0000', '-')
    """
    if math.isnan(value):
        return "-"
    text = f"{value:{'+' if signed else ''}.{decimals}f}"
    return text.lstrip("+-") if re.fullmatch(r"[+-]0\.?0*", text) else text


def power(value: float) -> str:
    """A number of rounding's size, by its power of ten.

    >>> power(2.44e-9), power(1e-6), power(0.0)
    ('2.4e-9', '1e-6', '0')
    """
    return re.sub(r"e-0*", "e-", f"{value:.1e}".replace(".0e", "e")) if value else "0"


def decay_name(decay: float) -> str:
    """A decay with as many digits as it has; "any" where it plays no part.

    >>> decay_name(0.999), decay_name(0.30000000000000004), decay_name(float("nan"))
    ('0.999', '0.3', 'any')
    """
    return "any" if math.isnan(decay) else f"{decay:.10g}"


def duration(seconds: float) -> str:
    """Wall-clock time in the two largest units that matter.

    >>> duration(8.42), duration(122), duration(7384)
    ('8.4 s', '2 min 2 s', '2 h 3 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def typeset(text: str) -> str:
    """A hyphen that stands for minus becomes the minus sign, which is as wide as plus.

    >>> typeset("-0.5 to +0.5, 2-3, -")
    '−0.5 to +0.5, 2-3, –'
    """
    return re.sub(r"(?<![\w.,)-])-(?=\d)", "−", re.sub(r"(?<!\S)-(?!\S)", "–", text))
