"""Stored clues, typed and whole: the numbers that explain gaps, each beside the trial that it belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bnlab.report.numbers.rows import FINALS
from bnlab.report.numbers.tables import beyond, number

NO_CLUES = pd.DataFrame()
HEALTHY = "none"
"""What the trial is called, among faults, that has none."""
Fault = tuple[str, str, str]

_TEXTS = ["trial", "task", "norm", "split", "drill", "kind", "name", "metric"]
_COUNTS = ["batch_size", "seed", "steps", "step", "eval_batch_size", "images", "samples"]
_NUMBERS = ["decay", "value", "standard_error"]
_KEY = ["trial", "split", "decay", "drill", "kind", "name", "metric"]
_SPLITS = (*FINALS, "test_probe", "train_probe")


def tidied(clues: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """One row per clue of a trial's last step, all columns there and typed, also when there are none.

    Of several evaluation batch sizes that of training is kept, else the largest; of several numbers of
    samples the largest. What is infinite is no number.

    Args:
        clues: stored ones, with their trial's columns in front.
        rows: tidy readings; tasks are called as they are there.
    """
    table = clues.reset_index(drop=True).reindex(columns=[*_TEXTS, *_COUNTS, *_NUMBERS])
    kinds: dict[str, Any] = dict.fromkeys(_TEXTS, str) | dict.fromkeys(_COUNTS, "int64")
    table = table.astype(kinds | dict.fromkeys(_NUMBERS, float))
    table = table[table["step"] == table.groupby("trial")["step"].transform("max")]
    order = table.assign(foreign=table["eval_batch_size"] != table["batch_size"])
    kept = order.sort_values(["foreign", "eval_batch_size", "samples"], ascending=[True, False, False])
    table = table.loc[kept.drop_duplicates(_KEY).index.sort_values()].reset_index(drop=True)
    called = rows.drop_duplicates("trial").set_index("trial")["task"]
    finite = {name: table[name].where(np.isfinite(table[name])) for name in ("value", "standard_error")}
    return table.assign(task=table["trial"].map(called).fillna(table["task"]), **finite)


def brief(clues: pd.DataFrame) -> pd.DataFrame:
    """What tells clues apart, and their numbers to six digits: a table that is handed round."""
    table = clues[["task", "norm", "batch_size", "seed", *_KEY[1:], "value", "standard_error"]]
    return table.assign(**{name: table[name].map("{:.6g}".format) for name in ("value", "standard_error")})


def trained_with(faults: Iterable[Fault]) -> set[str]:
    """The trials that were trained with a fault."""
    return {trial for fault, trial, drill in faults if fault != HEALTHY and not drill}


def plain(clues: pd.DataFrame, faults: Iterable[Fault]) -> pd.DataFrame:
    """The clues of models that nobody put a fault into."""
    return clues[(clues["drill"] == "") & ~clues["trial"].isin(trained_with(faults))]


def one_split(clues: pd.DataFrame) -> pd.DataFrame:
    """Of a clue that was found on several splits the one on the split that is read whole, else on a probe."""
    place = clues["split"].map({split: at for at, split in enumerate(_SPLITS)}).fillna(len(_SPLITS))
    key = [name for name in _KEY if name != "split"]
    kept = clues.assign(place=place).sort_values("place", kind="stable").drop_duplicates(key)
    return clues.loc[kept.index.sort_values()]


def over_seeds(rows: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """The mean of `value` over the seeds, and what it is worth.

    Returns:
        Columns of `keys`, in the order of the rows; `value`, `sd` (NaN for one seed), `se` (sd / sqrt(n), for
        one seed its own `standard_error`), `seeds` (n) and `beyond` (|value| > 2 se and rounding).

    """
    grouped = rows.groupby(list(keys), sort=False)
    seeds, spread = grouped["value"].count(), grouped["value"].std()
    error = (spread / np.sqrt(seeds)).where(seeds > 1, grouped["standard_error"].mean())
    mean = grouped["value"].mean()
    known = {"value": mean, "sd": spread, "se": error, "seeds": seeds, "beyond": beyond(mean, error)}
    return pd.DataFrame(known).reset_index()


def percent(share: float) -> str:
    """A share as people read it.

    >>> percent(0.984), percent(-0.2), percent(-0.001), percent(float("nan"))
    ('98 %', '-20 %', '0 %', '-')
    """
    return "-" if np.isnan(share) else f"{number(100 * share, decimals=0)} %"
