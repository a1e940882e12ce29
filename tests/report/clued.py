"""Clues with numbers that can be followed by hand, beside the readings of their trials."""

import pandas as pd

NAN = float("nan")
TRIAL = ["trial", "task", "norm", "batch_size", "seed", "steps"]


def clue(row, kind, name, value, se=NAN, metric="rmse", decay=0.999, drill="", split="test"):
    """A clue of the trial that a reading is of."""
    return {
        **{column: row[column] for column in TRIAL},
        "step": row["steps"],
        "split": split,
        "decay": decay,
        "drill": drill,
        "kind": kind,
        "name": name,
        "metric": metric,
        "value": value,
        "standard_error": se,
        "eval_batch_size": row["batch_size"],
        "images": 10_000,
        "samples": 4096,
        "time_ms": 0,
    }


def causes(row, values, **where):
    return [clue(row, "cause", name, value, 0.002, **where) for name, value in values.items()]


def layers(row, values, whole_se, target="population", **where):
    """Parts of layers, in the model's order, and the whole gap."""
    own = [clue(row, f"layer {target}", name, value, 0.01, **where) for name, value in values.items()]
    return [*own, clue(row, f"layer {target}", "all", sum(values.values()), whole_se, **where)]


def remedy(row, name, left, rmse=0.1, accuracy=0.9, seconds=1.5, decay=NAN, **where):
    amounts = {"rmse_gap": left, "rmse": rmse, "accuracy": accuracy, "seconds": seconds}
    return [
        clue(row, "remedy", name, amount, metric=metric, decay=decay, **where)
        for metric, amount in amounts.items()
    ]


def signs(row, values, decay=NAN, **where):
    return [clue(row, "sign", name, value, metric="", decay=decay, **where) for name, value in values.items()]


def table(*rows):
    return pd.DataFrame([row for own in rows for row in own])


def trials(readings):
    """A reading of each trial."""
    return [row for _, row in readings.drop_duplicates("trial").iterrows()]
