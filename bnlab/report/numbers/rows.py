"""Stored rows, typed and whole: what they must hold, which are ordinary, which final, and their names."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

METRICS = ("rmse", "accuracy", "loss")
GAPS = [f"{metric}_gap" for metric in METRICS]
ERRORS = [f"{gap}_se" for gap in GAPS]
CONTROLS = frozenset({"group", "layer", "instance", "none"})
"""Normalizations without moving statistics: their gap must be rounding and nothing else."""
FINALS = {"test": "the whole test set", "train": "all images trained on"}
"""The splits that are read whole when training is over, and what a person calls them."""

_TIDY = "tidy"  # a mark that pandas hands on to every part of a frame
_TEXTS = ["trial", "task", "norm", "source", "split", "drill"]
_FLAGS = ["stand_in", "phase"]
_COUNTS = ["batch_size", "seed", "steps", "step", "samples_seen", "eval_batch_size", "images"]
_NUMBERS = ["decay", *METRICS, *GAPS, *ERRORS, "constant_rmse"]


def tidy(readings: pd.DataFrame) -> pd.DataFrame:
    """One row per reading, all columns there and typed, also when nothing was read.

    Of several evaluation batch sizes the training batch size is kept, else the largest: a cell has one value.
    Trials that share task, norm, batch size and seed are told apart by their identity in the task's name.
    Whoever takes readings tidies them; what is tidy already, or a part of it, is taken as it is.
    """
    if readings.attrs.get(_TIDY):
        return readings
    rows = readings.reset_index(drop=True).reindex(columns=[*_TEXTS, *_FLAGS, *_COUNTS, *_NUMBERS])
    rows["drill"] = rows["drill"].astype(object).fillna("")  # stored before there were drills
    kinds: dict[str, Any] = dict.fromkeys(_TEXTS, str)
    kinds |= dict.fromkeys(_FLAGS, bool) | dict.fromkeys(_COUNTS, "int64") | dict.fromkeys(_NUMBERS, float)
    rows = rows.astype(kinds)
    rows["decay"] = rows["decay"].mask(rows["phase"])
    foreign = rows["eval_batch_size"] != rows["batch_size"]
    order = rows.assign(_foreign=foreign, _size=-rows["eval_batch_size"])
    kept = order.sort_values(["_foreign", "_size"], kind="stable").drop_duplicates(
        ["trial", "step", "split", "phase", "decay", "drill"]
    )
    done = _told_apart(rows.loc[kept.index.sort_values()].reset_index(drop=True))
    done.attrs[_TIDY] = True
    return done


def _told_apart(rows: pd.DataFrame) -> pd.DataFrame:
    shared = rows.groupby(["task", "norm", "batch_size", "seed"])["trial"].transform("nunique") > 1
    return rows.assign(task=rows["task"].where(~shared, rows["task"] + " " + rows["trial"].str[:6]))


def ordinary(readings: pd.DataFrame) -> pd.DataFrame:
    """The tidy readings of checkpoints that were simply restored: all but those of drills."""
    rows = tidy(readings)
    return rows[rows["drill"] == ""].reset_index(drop=True)


def moving(table: pd.DataFrame) -> pd.DataFrame:
    """Of a table's rows those of normalizations with moving statistics."""
    return table[~table["norm"].isin(CONTROLS)]


def final(rows: pd.DataFrame) -> pd.DataFrame:
    """Of tidy rows those that were read when training was over, on the split that is read whole."""
    last = rows["step"] == rows.groupby("trial")["step"].transform("max")
    return rows[rows["split"].isin(FINALS) & last]


def final_name(table: pd.DataFrame) -> str:
    """What the final numbers of a table were read on, as a person calls it.

    >>> final_name(pd.DataFrame({"split": ["train_probe", "train"]})), final_name(pd.DataFrame())
    ('all images trained on', 'the whole test set')
    """
    splits = table["split"].unique() if "split" in table else ()
    return FINALS["train" if "train" in splits else "test"]


def called(task: str, variant: str) -> str:
    """A task's name together with what tells its trials apart.

    >>> called("mnist", "dropout 0.5"), called("mnist", "")
    ('mnist, dropout 0.5', 'mnist')
    """
    return f"{task}, {variant}" if variant else task


def natural(column: pd.Series) -> pd.Series:
    """A sort key: numbers within names stand by their size, columns of numbers stay as they are.

    >>> sorted(["steps 1600", "steps 800"], key=_padded)
    ['steps 800', 'steps 1600']
    """
    return column if pd.api.types.is_numeric_dtype(column) else column.map(_padded)


def _padded(name: str) -> str:
    return re.sub(r"\d+(\.\d+)?", lambda number: f"{float(number[0]):020.9f}", name)


def normalization(norm: str) -> str:
    """What a norm is called in a sentence.

    >>> normalization("group"), normalization("none")
    ('group normalization', 'no normalization')
    """
    return "no normalization" if norm == "none" else f"{norm} normalization"


def base(task: str) -> str:
    """A task's own name, without what tells its trials apart.

    >>> base("mnist, dropout 0.5, deviation 0.001")
    'mnist'
    """
    return task.partition(", ")[0]


def variant(task: str) -> str:
    """What tells a task's trials apart, without the task's own name.

    >>> variant("mnist, dropout 0.5, deviation 0.001"), variant("mnist")
    ('dropout 0.5, deviation 0.001', '')
    """
    return task.partition(", ")[2]
