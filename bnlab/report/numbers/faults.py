"""Known mistakes, put in on purpose: each beside its healthy twin, with what shows it and what cures it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bnlab.report.numbers.clues import HEALTHY, Fault, over_seeds
from bnlab.report.numbers.remedies import TRANSDUCTIVE, closed
from bnlab.report.numbers.rows import FINALS, base, final
from bnlab.report.numbers.signs import Sign, telling
from bnlab.report.numbers.tables import VISIBLE, beyond

CASE = ["name", "base", "norm", "batch_size"]
MOST_PARTS = 3
EFFECT = 0.0005
"""A fault that moves the RMSE gap by less has none."""
NOTHING_CLOSED = 0.005
"""A share below this is shown as 0 %."""
_GAPS = ("rmse_gap", "accuracy_gap")


@dataclass(frozen=True)
class Exhibit:
    """What one fault does to one task, at the decay where it does most.

    Attributes:
        fault, name: the fault, and its name with its option.
        task, norm, batch_size, decay: where.
        seeds: as many as were read.
        gaps: metric's gap -> (faulty, healthy twin), means over seeds; NaN where it is not a number.
        twinned: a healthy twin was read at this decay.
        accuracy: with phase false; NaN for a regressor.
        parts: cause, value, se, beyond; the largest first.
        signs: that differ most from the twin's.
        opened: there is a gap to close: above two standard errors and 0 as it is shown, or not a number.
        tried: a remedy that a person could use was measured.
        cure, closed, left: the best of these, the share of the gap that it closes (NaN where the gap is not a
            number), and what it leaves; empty where none closes anything.
        peeked: the share that is closed by looking at the evaluated images; NaN where that is not known.
    """

    fault: str
    name: str
    task: str
    norm: str
    batch_size: int
    decay: float
    seeds: int
    gaps: dict[str, tuple[float, float]]
    twinned: bool
    accuracy: float
    parts: pd.DataFrame
    signs: list[Sign]
    opened: bool
    tried: bool
    cure: str
    closed: float
    left: float
    peeked: float

    @property
    def idle(self) -> bool:
        """The fault leaves the RMSE gap as it is without it."""
        gap, twin = self.gaps["rmse_gap"]
        return self.twinned and abs(gap - twin) < EFFECT


def exhibits(faults: Iterable[Fault], readings: pd.DataFrame, clues: pd.DataFrame) -> list[Exhibit]:
    """Every fault that was read, in the order of `faults` (a sweep has them by name), one for each task.

    Args:
        faults: of the sweep.
        readings: tidy.
        clues: tidy.
    """
    table = faulty(faults, readings)
    found = []
    for _, own in table.groupby(CASE, sort=False):
        rows = own[_same(own["decay"], _most(own))]
        found.append(_exhibit(rows, clues))
    return found


def faulty(faults: Iterable[Fault], readings: pd.DataFrame) -> pd.DataFrame:
    """One row per fault, seed and decay: the gaps when training was over, and the healthy twin's.

    Returns:
        Columns of `CASE`, `fault`, `trial`, `drill`, `twin` (its trial), `seed`, `decay`, and for RMSE and
        accuracy the gap, its `_se`, and the twin's gap with `_twin`; `accuracy`; `twinned` (it has a twin).

    """
    rows = final(readings)
    rows = rows[~rows["phase"]]
    cases = _cases(list(faults), rows)
    metrics = [*_GAPS, *(f"{gap}_se" for gap in _GAPS)]
    own = cases.merge(rows[["trial", "drill", "decay", "accuracy", *metrics]], on=["trial", "drill"])
    healthy = rows[rows["drill"] == ""][["trial", "decay", *_GAPS]].rename(columns={"trial": "twin"})
    table = own.merge(healthy.assign(twinned=True), on=["twin", "decay"], how="left", suffixes=("", "_twin"))
    return table.assign(twinned=table["twinned"].eq(True))


def _cases(faults: list[Fault], rows: pd.DataFrame) -> pd.DataFrame:
    """Each fault with its trial's settings and its twin: the healthy trial of the same task and seed."""
    trials = rows.drop_duplicates("trial").set_index("trial")
    healthy = [trial for fault, trial, _ in faults if fault == HEALTHY and trial in trials.index]
    lines = []
    for fault, trial, drill in faults:
        if fault == HEALTHY or trial not in trials.index:
            continue
        own = trials.loc[trial]
        twin = trial if drill else _twin(own, trials.loc[healthy])
        name = drill or fault
        lines.append(
            [name, base(own["task"]), own["norm"], own["batch_size"], fault, trial, drill, twin, own["seed"]]
        )
    return pd.DataFrame(lines, columns=[*CASE, "fault", "trial", "drill", "twin", "seed"])


def _twin(own: pd.Series, healthy: pd.DataFrame) -> str:
    """The healthy trial of the same task and seed; of several that of the same norm and batch size."""
    same = healthy[(healthy["task"].map(base) == base(own["task"])) & (healthy["seed"] == own["seed"])]
    apart = (same["norm"] != own["norm"]).astype(int) + (same["batch_size"] != own["batch_size"])
    return str(apart.idxmin()) if len(same) else ""


def _most(own: pd.DataFrame) -> float:
    """The decay at which a fault does most; a gap that is no number is more than any."""
    change = (own["rmse_gap"] - own["rmse_gap_twin"].fillna(0)).groupby(own["decay"], dropna=False)
    size = change.agg(lambda values: values.mean(skipna=False)).abs().fillna(np.inf)
    return float(size.idxmax())


def _same(decays: pd.Series, decay: float) -> pd.Series:
    return decays.isna() if np.isnan(decay) else decays == decay


def _exhibit(rows: pd.DataFrame, clues: pd.DataFrame) -> Exhibit:
    first = rows.iloc[0]
    own = clues[_near(clues, rows, "trial") & (clues["drill"] == first["drill"])]
    twin = clues[_near(clues, rows, "twin") & (clues["drill"] == "")]
    return Exhibit(
        fault=first["fault"],
        name=first["name"],
        task=first["base"],
        norm=first["norm"],
        batch_size=int(first["batch_size"]),
        decay=float(first["decay"]),
        seeds=len(rows),
        gaps={gap: (_mean(rows[gap]), _mean(rows[f"{gap}_twin"])) for gap in _GAPS},
        twinned=bool(rows["twinned"].all()),
        accuracy=_mean(rows["accuracy"]),
        parts=_parts(own),
        signs=telling(_signs(own), _signs(twin)),
        **_cure(own, rows),
    )


def _near(clues: pd.DataFrame, rows: pd.DataFrame, side: str) -> pd.Series:
    """The clues of a fault's trials, or of their twins, at its decay or at none."""
    decay = clues["decay"].isna() | (clues["decay"] == rows["decay"].iloc[0])
    return clues["trial"].isin(rows[side]) & decay


def _mean(values: pd.Series) -> float:
    """A mean that is no number where a value is none."""
    return float(values.mean(skipna=False))


def _parts(own: pd.DataFrame) -> pd.DataFrame:
    """The largest parts of the RMSE gap; one that is no number before all others."""
    rows = own[(own["kind"] == "cause") & own["split"].isin(FINALS) & (own["metric"] == "rmse")]
    table = over_seeds(rows.rename(columns={"name": "cause"}), ["cause"])
    size = table["value"].abs().fillna(np.inf)
    known = table.loc[size.sort_values(ascending=False, kind="stable").index]
    return known[known["beyond"] | known["value"].isna()].head(MOST_PARTS)


def _signs(own: pd.DataFrame) -> pd.Series:
    rows = own[own["kind"] == "sign"]
    return rows.groupby("name", sort=False)["value"].agg(_mean)


def _cure(own: pd.DataFrame, rows: pd.DataFrame) -> dict[str, Any]:
    """Whether there is a gap to close, the remedy that leaves least of it, and what that closes."""
    known = rows[["trial", "decay"]].assign(gap=rows["rmse_gap"], gap_se=rows["rmse_gap_se"])
    table = closed(own, known)
    table = table[table["rmse_gap"].notna() & (table["closed"].notna() | table["gap"].isna())]
    means = table.groupby("remedy", sort=False)[["closed", "rmse_gap"]].mean()
    means = means if (opened := _opened(rows)) else means.iloc[:0]
    looks = means.index.isin(list(TRANSDUCTIVE))
    useful = means[~looks]
    return {
        "opened": opened,
        "tried": len(useful) > 0,
        "peeked": float(means.loc[looks, "closed"].max()),
        **_best(useful[~(_gained(useful["closed"]) < NOTHING_CLOSED)]),
    }


def _opened(rows: pd.DataFrame) -> bool:
    """Tell whether any seed has a gap to close."""
    gap = rows["rmse_gap"]
    return bool((beyond(gap, rows["rmse_gap_se"]) & (gap >= VISIBLE) | gap.isna()).any())


def _gained(closed: pd.Series) -> pd.Series:
    """The share of a gap's size that is gone: what is closed beyond the whole opens it on the other side."""
    return 1 - (1 - closed).abs()


def _best(means: pd.DataFrame) -> dict[str, Any]:
    if means.empty:
        return {"cure": "", "closed": np.nan, "left": np.nan}
    best = means["rmse_gap"].abs().idxmin()
    return {"cure": str(best), "closed": means.loc[best, "closed"], "left": means.loc[best, "rmse_gap"]}
