"""What closes a gap by training otherwise: other norms and variants, beside batch normalization as it is."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from bnlab.report.numbers.clues import Fault, trained_with
from bnlab.report.numbers.rows import base, natural, variant
from bnlab.report.numbers.tables import POINT, gaps

PLACE = ["base", "batch_size", "decay"]
_SHOWN = {"rmse_gap": "gap", "rmse_gap_se": "gap_se", "accuracy_false": "accuracy", "rmse_false": "rmse"}
_UNSET = ("default", "false", "none", "0")
"""Words of settings that nobody set."""


def trained(readings: pd.DataFrame, tasks: Iterable[str], faults: Iterable[Fault] = ()) -> pd.DataFrame:
    """One row per cell of another norm or variant that has batch normalization beside it.

    Another norm stands beside batch normalization of the same variant; a variant of batch normalization, or a
    norm that is alone with its variant, beside the plainest.

    Args:
        readings: tidy.
        tasks: those that are shown, without what tells their trials apart.
        faults: of the sweep; a trial that was trained with one is no remedy.

    Returns:
        Columns of `PLACE`, `norm`, `variant`, `gap`, `gap_se`, `accuracy`, `rmse`, and these of batch
        normalization with `_batch`.

    """
    rows = gaps(readings[~readings["trial"].isin(trained_with(faults))]).sort_values(POINT, key=natural)
    rows = rows.assign(base=rows["task"].map(base), variant=rows["task"].map(variant)).rename(columns=_SHOWN)
    rows = rows[rows["base"].isin(list(tasks))].reset_index(drop=True)
    pairs = [(at, _beside(rows, row)) for at, row in rows.iterrows()]
    own, beside = ([pair[side] for pair in pairs if pair[1] is not None] for side in (0, 1))
    known = ["variant", *_SHOWN.values()]
    others = rows.loc[beside, known].add_suffix("_batch").reset_index(drop=True)
    table = rows.loc[own, [*PLACE, "norm", *known]].reset_index(drop=True).join(others)
    return table.sort_values([*PLACE, "norm"], key=natural, kind="stable", ignore_index=True)


def _beside(rows: pd.DataFrame, row: pd.Series) -> int | None:
    """Find the batch normalization that a row is compared with, if there is just one; never itself."""
    batch = rows[(rows["norm"] == "batch") & (rows[PLACE] == row[PLACE]).all(axis=1)]
    same = batch[batch["variant"] == row["variant"]] if row["norm"] != "batch" else batch.iloc[:0]
    set_ = batch["variant"].map(_set)
    found = same if len(same) else batch[set_ == set_.min()]
    alone = len(found) == 1 and found.index[0] != row.name
    return int(found.index[0]) if alone else None


def _set(variant: str) -> int:
    """Count the settings of a variant that somebody set.

    >>> _set(""), _set("norm.freeze default, dropout 0.5")
    (0, 1)
    """
    return sum(part.rpartition(" ")[2] not in _UNSET for part in variant.split(", ") if part)
