"""What a restore can lose: the numbers of the drills, each against the intact restore of the same weights."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from bnlab.report.numbers.replicas import OTHERS
from bnlab.report.numbers.rows import METRICS, final, natural, tidy
from bnlab.report.numbers.tables import POINT, over_seeds

MEANINGS = {
    "intact": "everything restored: the control",
    "text": "statistics lost, then imported from text files",
    "not_saved": "statistics not in the checkpoint",
    "overwritten": "statistics overwritten by initial values",
    "not_run": "assignment built but never run",
    "renamed": "restored by name into a model whose normalization layers are named otherwise",
    "other_epsilon": "restored into a model with another epsilon (1e-5)",
}
"""What each drill does, in the order in which they are told; an unknown one comes last, by its name."""


def restores(readings: pd.DataFrame, faults: Iterable[tuple[str, str, str]]) -> pd.DataFrame:
    """Tidy readings without those of faults at inference and of other replicas, which are no restores.

    Args:
        readings: stored rows.
        faults: (fault, trial, drill), as a sweep knows them.
    """
    rows = sound(readings, faults)
    return rows[~rows["drill"].isin(OTHERS.values())].reset_index(drop=True)


def sound(readings: pd.DataFrame, faults: Iterable[tuple[str, str, str]]) -> pd.DataFrame:
    """Tidy readings without those of faults at inference; arguments as of `restores`."""
    rows = tidy(readings)
    return rows[~rows["drill"].isin({drill for _, _, drill in faults if drill})].reset_index(drop=True)


def drilled(readings: pd.DataFrame) -> pd.DataFrame:
    """One row per task, norm, batch size, decay and drill: what phase false gives after the restore.

    Returns:
        Columns of `POINT`, `drill`, those of `tables.over_seeds`, and `change`: its RMSE minus that of the
        intact restore (of the ordinary reading where no restore was the control).

    """
    rows = final(tidy(readings))
    rows = rows[~rows["phase"]].join(_reference(rows), on=["trial", "decay"])
    drills = rows[rows["drill"] != ""]
    true = {f"{metric}_true": drills[metric] - drills[f"{metric}_gap"] for metric in METRICS}
    false = {f"{metric}_false": drills[metric] for metric in METRICS}
    pairs = drills.assign(**true, **false, change=drills["rmse"] - drills["intact"])
    grouped = pairs.groupby([*POINT, "drill"])
    parts = [over_seeds(grouped, metric) for metric in METRICS]
    table = pd.concat([grouped["change"].mean(), *parts], axis=1).reset_index()
    return table.sort_values([*POINT, "drill"], key=_told, ignore_index=True)


def _reference(rows: pd.DataFrame) -> pd.Series:
    """RMSE with phase false of each trial and decay when all was restored."""
    known = rows[~rows["phase"] & rows["drill"].isin(["", "intact"])].sort_values("drill")
    last = known.drop_duplicates(["trial", "decay"], keep="last")
    return last.set_index(["trial", "decay"])["rmse"].rename("intact")


def _told(column: pd.Series) -> pd.Series:
    order = {drill: f"{at:02d}" for at, drill in enumerate(MEANINGS)}
    return column.map(lambda drill: order.get(drill, drill)) if column.name == "drill" else natural(column)
