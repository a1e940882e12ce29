"""Where a gap comes from, in words: what each cause is, and the largest parts of the worst gaps."""

from __future__ import annotations

import pandas as pd

from bnlab.report.numbers.causes import largest, telling, worst
from bnlab.report.numbers.tables import DECIMALS, VISIBLE, number
from bnlab.report.words.phrases import place

MEANINGS = {
    "deployment": "what runs at inference is not the model that was trained",
    "lag": "the moving average still holds its start, mean 0 and variance 1",
    "noise": "the average is made of few or old batches: noise and staleness",
    "bias": "the mean of batch variances is not the population's variance",
    "shift": "the evaluated images are others than those trained on",
    "batch": "the batch's own statistics are noisy: what normalizing by few samples does",
}
"""What each part of the chain takes away; an unknown one is only named."""
MOST, CELLS = 3, 3
"""As many parts of a gap as a sentence names, and as many gaps as have one."""


def sentences(parts: pd.DataFrame, totals: pd.DataFrame) -> list[str]:
    """The worst gaps beyond two standard errors, each with its largest parts and the rest."""
    found = _found(totals)
    return [
        f"For {place(found, cell)}, the RMSE gap is {_gap(cell)}: {_parts(parts, cell)}."
        for _, cell in found.iterrows()
    ]


def lines(parts: pd.DataFrame, totals: pd.DataFrame) -> list[str]:
    """The same, as briefly as a terminal has it."""
    found = _found(totals)
    return [
        f"{cell['task']} {cell['norm']} b{cell['batch_size']}, {place(found, cell).rpartition(', ')[2]}: "
        f"gap {_gap(cell)}: {_parts(parts, cell)}"
        for _, cell in found.iterrows()
    ]


def _found(totals: pd.DataFrame) -> pd.DataFrame:
    table = worst(totals)
    return table[telling(table)].head(CELLS)


def _gap(cell: pd.Series) -> str:
    return f"{number(cell['value'], signed=True)} ± {number(cell['se'])}"


def _parts(parts: pd.DataFrame, cell: pd.Series) -> str:
    """The largest parts that tell, and what is left of the gap without them."""
    own = largest(parts, cell, len(parts))
    own = own[telling(own)].head(MOST)
    if own.empty:
        return "no part is beyond two standard errors"
    named = [f"{row.cause} {number(row.value, signed=True)} ± {number(row.se)}" for row in own.itertuples()]
    return ", ".join([*named, *_rest(cell["value"], own["value"])])


def _rest(whole: float, named: pd.Series) -> list[str]:
    """What the named parts leave of the whole, as they are shown: then all that is shown adds up."""
    rest = round(whole, DECIMALS) - named.round(DECIMALS).sum()
    return [f"the rest {number(rest, signed=True)}"] if abs(rest) >= VISIBLE else []
