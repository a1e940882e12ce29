"""What closes it, in words: the best remedy of each task, what each does, and what looks at the test."""

from __future__ import annotations

import pandas as pd

from bnlab.report.numbers.clues import percent
from bnlab.report.numbers.remedies import best
from bnlab.report.numbers.tables import decay_name, number

MEANINGS = {
    "population": "statistics estimated anew on training images, n of them, in batches of b where told",
    "zero_debias": "the start taken out of the moving average: (v − decay^n start) / (1 − decay^n)",
    "best_decay": "the moving average replayed at the decay that is best on held-out training images",
    "mixed": "moving statistics with each image's own mixed in, by as much as is best on held-out images",
    "eval_norm": "what a training batch would have on average, given that the image is in it",
    "test_statistics": "statistics of the evaluated images themselves",
}
"""What each remedy does; one that is not known is only named."""
REMARK = (
    "It looks at the very images that it is scored on (transductive): it shows what their statistics are "
    "worth, and is no remedy for images that come one by one."
)
WELL = "Phase false is nowhere worse than phase true beyond two standard errors: there is nothing to close."


def meanings(remedies: list[str]) -> list[list[str]]:
    """What the remedies of a table do, one line for each kind."""
    kinds = dict.fromkeys(name.partition(" ")[0] for name in remedies)
    return [[kind, MEANINGS.get(kind, kind)] for kind in kinds]


def told(table: pd.DataFrame) -> list[str]:
    """The best remedy of each task, that does not look at the evaluated images, and what it closes."""
    return [
        f"{row.task}: {row.remedy} closes {percent(row.closed)} of {number(row.gap, signed=True)} "
        f"at batch size {row.batch_size}, decay {decay_name(row.decay)}"
        for row in best(table).itertuples()
    ]


def sentences(table: pd.DataFrame) -> list[str]:
    """The best remedies in one sentence, and whether there was anything to close."""
    if table.empty:
        return []
    if table["closed"].isna().all():
        return [WELL]
    best_of = "; ".join(told(table))
    return (
        [f"What leaves least of the gaps that count, with the largest of them: {best_of}."] if best_of else []
    )
