"""Which layers, in words: the layer with the largest share of each gap, and gaps too small to share out."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bnlab.report.numbers.clues import percent
from bnlab.report.numbers.layers import runs, whole
from bnlab.report.numbers.tables import number
from bnlab.report.words.phrases import place

NAMED = 3
"""As many trials as have a sentence of their own."""


def sentences(table: pd.DataFrame) -> list[str]:
    """Of the largest gaps the layer that has most of each; then those that cannot be shared out.

    Args:
        table: as from `numbers.layers.layers`.
    """
    known = [own for own in runs(table) if own["layer_part"].notna().any()]
    shared = sorted((own for own in known if own["counts"].all()), key=lambda own: -abs(own["gap"].iloc[0]))
    return [_leader(table, own) for own in shared[:NAMED]] + _small(
        [own for own in known if not own["counts"].all()]
    )


def called(among: pd.DataFrame, row: pd.Series) -> str:
    """The trial, decay and target of a layer; the seed and the target only where several were measured."""
    seed = f", seed {row['seed']}" if len(among["seed"].unique()) > 1 else ""
    target = f", to {row['target']} statistics" if len(among["target"].unique()) > 1 and row["target"] else ""
    return f"{place(among, row)}{seed}{target}"


def _leader(table: pd.DataFrame, own: pd.DataFrame) -> str:
    first = own.loc[own["share"].idxmax()]
    share = f"{percent(first['share'])} ± {percent(first['share_se'])}"
    size = f"{number(first['gap'], signed=True)} ± {number(first['gap_se'])}"
    return (
        f"For {called(table, first)}, {first['layer']} has {share} of {whole([first['target']])}, {size}: "
        f"the most of {len(own)} layers."
    )


def _small(tables: Sequence[pd.DataFrame]) -> list[str]:
    """Trials whose gap may be nothing: a share of nothing says nothing."""
    if not tables:
        return []
    every = pd.concat(tables)
    named = [called(every, own.iloc[0]) for own in tables]
    more = [f"{len(named) - 2 * NAMED} more"] * (len(named) > 2 * NAMED)
    where = "; ".join([*named[: 2 * NAMED], *more])
    return [f"No shares where {whole(every['target'])} is within two standard errors of 0: {where}."]
