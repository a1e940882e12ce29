"""The arrival of the average in words: the worst ratio, a faster average, more steps, and what follows."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from bnlab.report.numbers.arrival import NOTHING, RUN, Layers, finals, ratios
from bnlab.report.numbers.rows import final_name
from bnlab.report.numbers.tables import decay_name, number, power
from bnlab.report.words.phrases import Sentences, both, listed, place

SMALL = 0.05
"""A ratio this near to 1 says that the phases agree."""
HELD = 0.01
"""An average that holds less than this share of its start has left it behind."""
VISIBLE = 0.005
"""A ratio that falls by less does not fall in the two decimals that are shown."""
NAMED = 4
_STEPS = r"(?:^|, )steps (\d+)"
_PROBES = {"train_probe": "training", "test_probe": "test"}


@dataclass(frozen=True)
class Arrival(Sentences):
    """What the ratios of both phases say about the average's lag, as sentences; some may be empty."""

    worst: str = ""
    lower: str = ""
    longer: str = ""
    follows: str = ""


def arrived(readings: pd.DataFrame, layers: Layers) -> Arrival:
    """What a faster average and more steps do to the worst ratio, and whether that speaks for lag."""
    table = finals(readings, layers)
    found = table[table["rmse_beyond"] & (table["rmse_gap"] > 0)]
    if found.empty:
        return Arrival(worst=_nowhere(table))
    worst = found.loc[found["ratio"].idxmax()]
    return Arrival(
        worst=_worst(table, worst),
        lower=_lower(faster(table, worst), worst),
        longer=_more_steps(table, worst) or _curve(ratios(readings, layers), worst),
        follows=follows(table, worst),
    )


def faster(table: pd.DataFrame, worst: pd.Series) -> pd.DataFrame:
    """The same weights under faster averages, the slowest of these first."""
    same = (table[RUN] == worst[RUN]).all(axis=1)
    return table[same & (table["decay"] < worst["decay"])].sort_values("decay", ascending=False)


def share_text(share: float) -> str:
    """A share as people read it.

    >>> share_text(0.67018), share_text(0.0000454), share_text(0.0)
    ('0.670', '4.5e-5', '<1e-6')
    """
    if share < NOTHING:
        return f"<{power(NOTHING)}"
    return number(share, 3) if share >= 0.001 else power(share)


def _held(share: float) -> str:
    return share_text(share).replace("<", "less than ")


def _ratio(row: pd.Series) -> str:
    return f"{number(row['ratio'], 2)} (share {share_text(row['share'])})"


def _nowhere(table: pd.DataFrame) -> str:
    if table.empty:
        return ""
    most = table["share"].max()
    held = f"and no average holds more than {share_text(max(most, NOTHING))} of its start"
    if most >= HELD:
        held = f"although an average still holds {_held(most)} of its start"
    return f"No gap that counts shows phase false worse by more than two standard errors, {held}."


def _worst(table: pd.DataFrame, worst: pd.Series) -> str:
    return (
        f"RMSE with phase false is {number(worst['ratio'], 2)} times that with phase true, on "
        f"{final_name(table)}, for {place(table, worst)}: after {worst['steps']:,} steps the average "
        f"still holds {_held(worst['share'])} of its start."
    )


def _lower(lower: pd.DataFrame, worst: pd.Series) -> str:
    if lower.empty:
        return ""
    shown = [f"{_ratio(row)} at decay {decay_name(row['decay'])}" for _, row in lower.head(NAMED).iterrows()]
    falls = (worst["ratio"] - lower["ratio"] >= VISIBLE).all()
    verdict = "a lower decay shrinks it" if falls else "a lower decay does not always shrink it"
    return f"On the same weights the ratio is {listed(shown)}: {verdict}."


def _more_steps(table: pd.DataFrame, worst: pd.Series) -> str:
    """The same settings, trained for longer, where the sweep asked for that."""
    steps = table["task"].str.extract(_STEPS)[0]
    rest = table["task"].str.replace(_STEPS, "", regex=True)
    alike = (table[["norm", "batch_size", "decay"]] == worst[["norm", "batch_size", "decay"]]).all(axis=1)
    own = table[alike & steps.notna() & (rest == rest[worst.name])].sort_values("steps")
    if len(own) < 2:
        return ""
    shown = [f"{_ratio(row)} after {row['steps']:,} steps" for _, row in own.iterrows()]
    falls = own["ratio"].iloc[0] - own["ratio"].iloc[-1] >= VISIBLE
    verdict = "more steps shrink it" if falls else "more steps do not shrink it"
    return f"Trained for longer with the same settings, the ratio is {listed(shown)}: {verdict}."


def _curve(table: pd.DataFrame, worst: pd.Series) -> str:
    """The same trial, earlier in its training."""
    own = table[(table[[*RUN, "decay"]] == worst[[*RUN, "decay"]]).all(axis=1) & table["ratio"].notna()]
    probes = {split: own[own["split"] == split].sort_values("step") for split in _PROBES}
    split = next((split for split, rows in probes.items() if len(rows) > 1), None)
    if split is None:
        return ""
    own = probes[split]
    peak, last = own.loc[own["ratio"].idxmax()], own.iloc[-1]
    where = f"Along its training, on {_PROBES[split]} images, the ratio"
    if peak["step"] == last["step"]:
        return f"{where} is highest at the last step, {_ratio(last)}: more steps have not shrunk it yet."
    high, low = (f"{_ratio(row)} at step {row['step']:,}" for row in (peak, last))
    falls = peak["ratio"] - last["ratio"] >= VISIBLE
    verdict = "more steps shrink it" if falls else "more steps have not shrunk it"
    return f"{where} is {high} and {low}: {verdict}."


def follows(table: pd.DataFrame, worst: pd.Series) -> str:
    """What the numbers say about the common explanation, that batch statistics are more accurate.

    Args:
        table: as from `finals`.
        worst: its row where phase false is worse.
    """
    lower, slow = faster(table, worst), decay_name(worst["decay"])
    if worst["ratio"] <= 1 + SMALL:
        return f"The phases are within {100 * SMALL:.0f} % of each other: what lag is left costs little."
    if worst["norm"] == "batch_renorm":
        return "Batch renormalization trains with averages of its own: its phase true leans on them already."
    if lower.empty and worst["share"] < NOTHING:
        known = "Nothing of the start is left; whether the average lags behind the weights is not known"
        return f"{known}, for no lower decay was measured."
    if lower.empty:
        return f"No decay below {slow} was measured on these weights: whether lag explains it is not known."
    best = lower.loc[(lower["ratio"] - 1).clip(lower=0).idxmin()]
    fast = decay_name(best["decay"])
    if best["ratio"] > 1 + SMALL and best["share"] >= HELD:
        left = _held(best["share"])
        return f"Even at decay {fast} the average still holds {left} of its start: try a lower one."
    if best["ratio"] > 1 + SMALL:
        left = f"the ratio is still {number(best['ratio'], 2)} at decay {fast}"
        return f"A faster average does not close the gap: {left}, so lag alone does not explain it."
    same = f"With decay {fast} the same weights give {both(best)}"
    same = f"{same}: batch statistics are not more accurate as such"
    if worst["share"] >= HELD:
        return f"{same}; the average at {slow} had not arrived."
    left = f"held only {_held(worst['share'])} of its start"
    return f"{same}; yet the average at {slow} {left}: that rest, or weights that moved on, parted them."
