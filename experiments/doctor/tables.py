"""How good the doctor is: `python -m experiments.doctor.tables FILE.csv` prints the tables of the page."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

CALLED = {
    "nan_statistics": "not_finite",
    "partly_restored": "not_restored",
    "test_preprocessing": "preprocessing",
    "train_preprocessing": "preprocessing",
    "weights_averaged": "weights_changed",
}
"""What the doctor calls a fault of the corpus, where it has another name."""
SOUND = ("resizing",)
"""Cases of a fault that `predict` is not touched by: only a bare call of the model is, which a note tells."""
_WELL = ("healthy", "nothing to examine")


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """Add to each row whether the verdict is right, and the cause first or among the first two."""
    table = table.fillna({"first": "", "second": "", "verdict": ""})
    table["fault"] = table["fault"].mask(table["what"].isin(SOUND), "none")
    cause = table["fault"].map(lambda fault: CALLED.get(fault, fault))
    return table.assign(
        cause=cause,
        sick=table["verdict"] == "sick",
        is_first=table["first"] == cause,
        in_two=(table["first"] == cause) | (table["second"] == cause),
    )


def by_fault(table: pd.DataFrame) -> pd.DataFrame:
    """Count for each fault: models, called sick, cause first, within two, median share closed."""
    sick = table[table["fault"] != "none"]
    found = sick.groupby("fault").agg(
        models=("model", "size"),
        sick=("sick", "sum"),
        first=("is_first", "sum"),
        two=("in_two", "sum"),
        closed=("closed", "median"),
        mended=("closed", "count"),
    )
    return found.reset_index()


def by_recipe(table: pd.DataFrame) -> pd.DataFrame:
    """Count for each healthy recipe: models, called healthy, called sick."""
    healthy = table[table["fault"] == "none"]
    found = healthy.assign(well=healthy["verdict"].isin(_WELL)).groupby("what")
    return found.agg(models=("model", "size"), healthy=("well", "sum"), sick=("sick", "sum")).reset_index()


def confusion(table: pd.DataFrame) -> pd.DataFrame:
    """Count what was called what: truth in rows, the first cause in columns."""
    called = table["first"].where(table["sick"], "(healthy)").replace("", "(none)")
    return pd.crosstab(table["cause"], called)


def summary(table: pd.DataFrame) -> list[str]:
    """Say how the targets are met."""
    sick, healthy = table[table["fault"] != "none"], table[table["fault"] == "none"]
    closed = sick["closed"].dropna()
    return [
        f"{len(sick)} sick models: called sick {sick['sick'].mean():.1%}, the right cause first "
        f"{sick['is_first'].mean():.1%}, within the first two {sick['in_two'].mean():.1%}",
        f"{len(healthy)} healthy models: called sick {healthy['sick'].mean():.1%}",
        f"{len(closed)} gaps that a remedy was written against: median share closed {closed.median():.0%}, "
        f"at least 80 % in {(closed >= 0.8).mean():.0%}",
        f"{table['seconds'].median():.1f} s per model at the median, {table['seconds'].max():.1f} s at most",
    ]


def main() -> None:
    """Print all tables."""
    table = judged(pd.read_csv(Path(sys.argv[1])))
    print("\n".join(summary(table)), "\n")
    for part in (by_fault(table), by_recipe(table), confusion(table).reset_index()):
        print(part.to_string(index=False), "\n")
    missed = table[
        (table["fault"] != "none") & ~table["is_first"] | (table["fault"] == "none") & table["sick"]
    ]
    print(missed[["model", "fault", "verdict", "first", "second"]].to_string(index=False))


if __name__ == "__main__":
    main()
