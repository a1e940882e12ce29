"""What several devices do to a trial, said; and what to choose."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bnlab.report.numbers.replicas import OTHERS
from bnlab.report.numbers.tables import VISIBLE, decay_name, number, power

LOST = 0.01
"""A variance that is off by more is worth a warning."""
PLACE = ["alike", "norm", "batch_size"]


def sentences(table: pd.DataFrame) -> list[str]:
    """Say for each task and batch size what sharing costs, what the replicas' statistics do, what to choose.

    Args:
        table: as from `numbers.replicas.shared`.
    """
    said = []
    for _, own in table.groupby(PLACE, sort=False):
        apart = own[(own["replicas"] > 1) & ~own["synchronized"]]
        said += [_sharing(own, apart), _keeping(apart), _choice(apart), _cancelling(own)]
    return [sentence for sentence in said if sentence]


def _sharing(own: pd.DataFrame, apart: pd.DataFrame) -> str:
    """What phase true pays for small parts, beside one device and synchronized replicas."""
    if apart.empty:
        return ""
    most = apart.loc[apart["replicas"].idxmax()]
    together = own["synchronized"] & (own["replicas"] == most["replicas"])
    rows = {"on one device": own[own["replicas"] == 1], "synchronized": own[together]}
    beside = [f"{number(some['rmse_true'].iloc[0])} {how}" for how, some in rows.items() if len(some)]
    instead = f" instead of {' and '.join(beside)}" if beside else ""
    return (
        f"{_place(most)}: {most['replicas']} replicas normalize {most['each']} images each; RMSE with phase "
        f"true is {number(most['rmse_true'])}{instead}."
    )


def _keeping(apart: pd.DataFrame) -> str:
    """How far the replicas' averages lie apart, and what keeping others than the first one's changes."""
    how = _other(apart)
    rows = apart[apart[f"{how}_change"].notna()]
    if rows.empty:
        return ""
    worst = rows.loc[rows[f"{how}_change"].abs().idxmax()]
    far, error = worst["replicas_apart"], worst[f"{how}_se"]
    lie = "" if np.isnan(far) else f", which lie {power(far)} squared deviations from their merge,"
    change = number(worst[f"{how}_change"], signed=True) + ("" if np.isnan(error) else f" ± {number(error)}")
    return (
        f"{_place(worst)}, decay {decay_name(worst['decay'])}: the {how} of the statistics of "
        f"{worst['replicas']} replicas{lie} gives RMSE {number(worst[how])} with phase false, {change} from "
        "the first one's."
    )


def _choice(apart: pd.DataFrame) -> str:
    """What the numbers speak for: what shows, and is beyond two standard errors over the seeds."""
    found = [part for part in (_synchronize(apart), _keep(apart)) if part]
    return f"To choose: {'; '.join(found)}." if found else ""


def _synchronize(apart: pd.DataFrame) -> str:
    """Compare phase false, synchronized and apart, where they differ most."""
    counts = apart["lost"].abs() > (2 * apart["lost_se"]).clip(lower=VISIBLE)
    if apart["lost_se"].isna().all() or not counts.any():
        return ""
    worst = apart.loc[apart.loc[counts, "lost"].abs().idxmax()]
    better = "true, or more images for each replica," if worst["lost"] > 0 else "false"
    one, other = number(worst["rmse_false"] - worst["lost"]), number(worst["rmse_false"])
    return (
        f"norm.synchronized={better} where it has {worst['each']} (RMSE with phase false: {one} "
        f"synchronized, {other} apart, at decay {decay_name(worst['decay'])})"
    )


def _keep(apart: pd.DataFrame) -> str:
    """Say which replica's statistics to keep; of one seed nobody can tell."""
    how = _other(apart)
    change, error = apart[f"{how}_change"], apart[f"{how}_se"]
    if error.isna().all():
        return ""
    counts = change.abs() > (2 * error).clip(lower=VISIBLE)
    said = [
        f"keep {what} at decay {', '.join(map(decay_name, sorted(set(apart.loc[rows, 'decay']))))}"
        for what, rows in {
            f"the {how} of the replicas' statistics": counts & (change < 0),
            "the first replica's statistics": counts & (change > 0),
        }.items()
        if rows.any()
    ]
    return "; ".join(said) or "keep any replica's statistics, for the difference does not show"


def _cancelling(own: pd.DataFrame) -> str:
    """Variances that Keras's own synchronized layers would lose here, if that would be seen."""
    off = own["cancelled"].max()
    if not off > LOST:
        return ""
    return (
        f"Keras's own synchronized layers might be off by {off:.0%} of a variance here; bring what the "
        "layers see nearer to 0."
    )


def _other(table: pd.DataFrame) -> str:
    """What is kept instead: the first that was measured."""
    return next((how for how in OTHERS if table[how].notna().any()), next(iter(OTHERS)))


def _place(row: pd.Series) -> str:
    return f"{row['alike']}, batch size {row['batch_size']}"
