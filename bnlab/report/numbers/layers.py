"""Which layers a gap comes from: each one's part and share, and how far its statistics lie off."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from bnlab.records import TARGETS
from bnlab.report.numbers.clues import one_split
from bnlab.report.numbers.rows import natural
from bnlab.report.numbers.tables import beyond

RUN = ["task", "norm", "batch_size", "seed", "decay", "trial", "target"]
WAYS = ("layer", "alone", "left")
DISTANCES = ("mean_shift", "log_variance", "kl", "worst_kl", "worst_channel")
WHOLE = "all"
"""The name under which the whole gap stands among its layers."""
GAP, DIFFERENCE = "the gap", "the difference to population statistics"


def layers(clues: pd.DataFrame) -> pd.DataFrame:
    """One row per trial, decay, target and layer whose part was measured, in the order of the model.

    No share is known where the whole gap is within two standard errors of it.

    Args:
        clues: tidy ones of one way to come to inference.

    Returns:
        Columns of `RUN`, `layer`; for each of `WAYS` its part of the RMSE gap and `_se`; the `DISTANCES`;
        `gap` (the sum of the layers' parts: see `whole`), `gap_se`, `counts` (its shares are known), `share`,
        `share_se` (the whole is taken as known).

    """
    rows = _attributed(clues)
    distances = _distances(clues)
    known = [name for name in RUN if name != "target"] + ["layer"]
    table = rows.merge(distances, on=known, how="left")
    whole = table[table["layer"] == WHOLE].set_index(RUN)["layer_se"].rename("gap_se")
    table = table[table["layer"] != WHOLE]
    gap = table.groupby(RUN)["layer_part"].transform(lambda parts: parts.sum(skipna=False))
    table = table.assign(gap=gap).join(whole, on=RUN)
    counts = beyond(table["gap"], table["gap_se"])
    share = (table["layer_part"] / table["gap"]).where(counts)
    error = (table["layer_se"] / table["gap"].abs()).where(counts)
    table = table.assign(counts=counts, share=share, share_se=error, place=_places(table, clues))
    return table.sort_values([*RUN, "place"], key=natural, ignore_index=True).drop(columns="place")


def whole(targets: Iterable[str]) -> str:
    """What the parts of layers add up to: the gap, but where they are taken to population statistics.

    >>> whole(["batch"]), whole(["population"])
    ('the gap', 'the difference to population statistics')
    """
    known = set(targets)
    names = [GAP] * (known != {"population"}) + [DIFFERENCE] * ("population" in known)
    return ", or ".join(names)


def _attributed(clues: pd.DataFrame) -> pd.DataFrame:
    """The parts of each layer, side by side."""
    kinds = {f"{way} {target}": (way, target) for way in WAYS for target in TARGETS}
    rows = one_split(clues[clues["kind"].isin(kinds) & (clues["metric"] == "rmse")])
    rows = rows.assign(
        way=[kinds[kind][0] for kind in rows["kind"]], target=[kinds[kind][1] for kind in rows["kind"]]
    ).rename(columns={"name": "layer"})
    keys = [*RUN, "layer"]
    table = rows[keys].drop_duplicates()
    for way in WAYS:
        own = rows[rows["way"] == way][[*keys, "value", "standard_error"]]
        own = own.rename(columns={"value": f"{way}_part", "standard_error": f"{way}_se"})
        table = table.merge(own, on=keys, how="left")
    return table


def _distances(clues: pd.DataFrame) -> pd.DataFrame:
    rows = one_split(clues[(clues["kind"] == "distance") & clues["metric"].isin(DISTANCES)])
    keys = [name for name in RUN if name != "target"] + ["layer"]
    rows = rows.rename(columns={"name": "layer"})
    table = rows[keys].drop_duplicates()
    for metric in DISTANCES:
        own = rows[rows["metric"] == metric][[*keys, "value"]].rename(columns={"value": metric})
        table = table.merge(own, on=keys, how="left")
    return table


def _places(table: pd.DataFrame, clues: pd.DataFrame) -> list[int]:
    """Where each layer stands in its model: the order of its trial's clues."""
    rows = clues[clues["kind"].str.startswith("layer ") | (clues["kind"] == "distance")]
    first = rows[rows["name"] != WHOLE].drop_duplicates(["trial", "name"])
    order = {key: at for at, key in enumerate(zip(first["trial"], first["name"], strict=True))}
    return [order.get(key, 0) for key in zip(table["trial"], table["layer"], strict=True)]


def runs(table: pd.DataFrame) -> list[pd.DataFrame]:
    """The layers of each trial, decay and target, together."""
    return [own for _, own in table.groupby(RUN, sort=False, dropna=False)]
