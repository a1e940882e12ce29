"""Readings become cells, gaps and curves: every number that a report or a terminal shows is made here."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

METRICS = ("rmse", "accuracy", "loss")
CELL = ["task", "norm", "batch_size", "decay", "phase", "seed"]
POINT = ["task", "norm", "batch_size", "decay"]
CONTROLS = frozenset({"group", "layer", "instance", "none"})
"""Normalizations without moving statistics: their gap must be rounding and nothing else."""
ROUNDING = 1e-6
"""A gap up to this size is float32 rounding, whatever its standard error."""

_GAPS = [f"{metric}_gap" for metric in METRICS]
_ERRORS = [f"{gap}_se" for gap in _GAPS]
_TEXTS = ["trial", "task", "norm", "source", "split"]
_FLAGS = ["stand_in", "phase"]
_COUNTS = ["batch_size", "seed", "steps", "step", "samples_seen", "eval_batch_size", "images"]
_NUMBERS = ["decay", *METRICS, *_GAPS, *_ERRORS]


def tidy(readings: pd.DataFrame) -> pd.DataFrame:
    """One row per reading, all columns there and typed, also when nothing was read.

    Of several evaluation batch sizes the training batch size is kept, else the largest: a cell has one value.
    Trials that share task, norm, batch size and seed are told apart by their identity in the task's name.
    """
    rows = readings.reindex(columns=[*_TEXTS, *_FLAGS, *_COUNTS, *_NUMBERS])
    kinds: dict[str, Any] = dict.fromkeys(_TEXTS, str)
    kinds |= dict.fromkeys(_FLAGS, bool) | dict.fromkeys(_COUNTS, "int64") | dict.fromkeys(_NUMBERS, float)
    rows = rows.astype(kinds)
    rows["decay"] = rows["decay"].mask(rows["phase"])
    foreign = rows["eval_batch_size"] != rows["batch_size"]
    order = rows.assign(_foreign=foreign, _size=-rows["eval_batch_size"])
    kept = order.sort_values(["_foreign", "_size"], kind="stable").drop_duplicates(
        ["trial", "step", "split", "phase", "decay"]
    )
    return _told_apart(rows.loc[kept.index.sort_values()].reset_index(drop=True))


def _told_apart(rows: pd.DataFrame) -> pd.DataFrame:
    shared = rows.groupby(["task", "norm", "batch_size", "seed"])["trial"].transform("nunique") > 1
    return rows.assign(task=rows["task"].where(~shared, rows["task"] + " " + rows["trial"].str[:6]))


def cells(readings: pd.DataFrame, decays: Sequence[float] = ()) -> pd.DataFrame:
    """One row per cell, with the final reading of the whole test set.

    A phase-true value is the same for all decays of its trial, so it is repeated for each of them.

    Args:
        readings: stored rows.
        decays: the decays of trials that have phase-true rows only; without any, their decay is NaN.

    Returns:
        Columns of `CELL`, the metrics, their gaps and standard errors, and `trial`, `steps`, `images`.

    """
    rows = tidy(readings)
    rows = rows[(rows["split"] == "test") & (rows["step"] == rows.groupby("trial")["step"].transform("max"))]
    own = rows[~rows["phase"]].groupby("trial")["decay"].agg(list).to_dict()
    asked = list(decays) or [math.nan]
    spread = [
        own.get(trial, asked) if phase else [decay]
        for trial, phase, decay in zip(rows["trial"], rows["phase"], rows["decay"], strict=True)
    ]
    rows = rows.assign(decay=pd.Series(spread, index=rows.index, dtype=object)).explode("decay")
    rows = rows.astype({"decay": float})[[*CELL, *METRICS, *_GAPS, *_ERRORS, "trial", "steps", "images"]]
    order = ["task", "norm", "batch_size", "decay", "seed", "phase"]
    return rows.sort_values(order, ascending=[True] * 5 + [False], ignore_index=True)


def gaps(readings: pd.DataFrame) -> pd.DataFrame:
    """One row per task, norm, batch size and decay: the gap over all its seeds, worst |RMSE gap| first.

    With two or more seeds the standard error is the seeds' own, sd / sqrt(n); with one seed it is the
    paired one over images.

    Returns:
        Columns of `POINT`, `seeds` (n), `steps`, and for each metric m: `m_true`, `m_false`, `m_gap` (means
        over seeds), `m_gap_sd` (spread, NaN for one seed), `m_gap_se`, `m_beyond` (|gap| > 2 of these).

    """
    table = cells(readings)
    false = table[~table["phase"]].rename(columns={metric: f"{metric}_false" for metric in METRICS})
    true = table[table["phase"]].set_index([*POINT, "seed"])[list(METRICS)].add_suffix("_true")
    pairs = false.join(true, on=[*POINT, "seed"])
    for metric in METRICS:  # phase true not stored, but its gap was: the value follows
        known = pairs[f"{metric}_false"] - pairs[f"{metric}_gap"]
        pairs[f"{metric}_true"] = pairs[f"{metric}_true"].fillna(known)
    grouped = pairs.groupby(POINT)
    parts = [grouped["seed"].nunique().rename("seeds"), grouped["steps"].max()]
    parts += [_over_seeds(grouped, metric) for metric in METRICS]
    points = pd.concat(parts, axis=1).reset_index()
    worst = points["rmse_gap"].abs().sort_values(ascending=False, kind="stable").index
    return points.loc[worst].reset_index(drop=True)


def _over_seeds(pairs: pd.api.typing.DataFrameGroupBy, metric: str) -> pd.DataFrame:
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
    table = cells(readings, decays)
    return _moments(table, ["task", "norm", "batch_size", "phase", "decay"])


def curves(readings: pd.DataFrame) -> pd.DataFrame:
    """One row per probe, task, norm, batch size, phase, decay and step: RMSE over the seeds.

    Phase-true rows keep decay NaN: one curve serves all decays.
    """
    rows = tidy(readings)
    probes = rows[rows["split"].isin(["test_probe", "train_probe"])]
    return _moments(probes, ["split", "task", "norm", "batch_size", "phase", "decay", "step"])


def _moments(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    grouped = rows.groupby(keys, dropna=False)["rmse"]
    return grouped.agg(rmse="mean", sd="std", seeds="count").reset_index()


def number(value: float, decimals: int = 4, signed: bool = False) -> str:
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
