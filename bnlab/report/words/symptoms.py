"""What restore drills show: the controls, what changes nothing, and each symptom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bnlab.report.numbers.drills import drilled
from bnlab.report.numbers.rows import final, moving, tidy
from bnlab.report.numbers.tables import POINT, ROUNDING, number, power
from bnlab.report.words.phrases import both, listed, place, verb

AGREES = 64 * 2.0**-23
"""Keras at inference and the probe round in another order: fewer than 64 roundings of numbers of size one."""


@dataclass(frozen=True)
class Drills:
    """What the drills show, in sentences: the controls, what changes nothing, each symptom, worst first."""

    control: str = ""
    harmless: str = ""
    symptoms: tuple[str, ...] = ()
    broken: str = ""

    @property
    def sentences(self) -> tuple[str, ...]:
        """All that is said, in order."""
        parts = (self.control, self.harmless, *self.symptoms, self.broken)
        return tuple(sentence for sentence in parts if sentence)


def shown(readings: pd.DataFrame) -> Drills:
    """The numbers of `drilled`, said in sentences; drills that give the same numbers share one."""
    whole = drilled(readings)
    if whole.empty:
        return Drills()
    table = moving(whole[whole["change"].notna()])
    worst = table.assign(size=table["change"].abs()).groupby("drill", sort=False)["size"].max()
    harmless = worst[worst < ROUNDING].drop("intact", errors="ignore")
    harmful = table[table["drill"].map(worst) >= ROUNDING]
    groups = sorted(_alike(harmful), key=lambda alike: -worst[alike[0]])
    symptoms = [_symptom(table, harmful[harmful["drill"].isin(alike)], alike) for alike in groups]
    broken = list(dict.fromkeys(whole.loc[whole["rmse_false"].isna(), "drill"]))
    return Drills(_control(readings), _harmless(harmless), tuple(symptoms), _broken(broken))


def _control(readings: pd.DataFrame) -> str:
    """The intact restore must give what the model gave before it was written to a file."""
    rows = final(tidy(readings))
    false = rows[~rows["phase"]].set_index(["trial", "decay"])
    ways = {drill: false.loc[false["drill"] == drill, "rmse"] for drill in ("", "intact")}
    apart = (ways["intact"] - ways[""]).abs()
    if apart.isna().all():
        return ""
    if apart.max() < AGREES:
        return f"Control, everything restored: RMSE is off by at most {power(apart.max())}."
    return f"Control, everything restored: RMSE is off by up to {power(apart.max())}: distrust the rest."


def _harmless(worst: pd.Series) -> str:
    names = list(worst.index)
    off = f"RMSE is off by at most {power(worst.max())}"
    return f"{listed(names)} {verb(names, 'changes', 'change')} nothing: {off}." if names else ""


def _broken(names: list[str]) -> str:
    return f"{listed(names)} {verb(names, 'gives', 'give')} no finite number." if names else ""


def _alike(table: pd.DataFrame) -> list[list[str]]:
    """Drills that give the same numbers everywhere stand together."""
    values = table.pivot_table(index="drill", columns=POINT, values="rmse_false", dropna=False)
    groups: list[list[str]] = []
    for drill in dict.fromkeys(table["drill"]):
        own = next((group for group in groups if _same(values.loc[group[0]], values.loc[drill])), None)
        if own is None:
            groups.append([drill])
        else:
            own.append(drill)
    return groups


def _same(one: pd.Series, other: pd.Series) -> bool:
    return bool(np.allclose(one, other, rtol=0, atol=ROUNDING, equal_nan=True))


def _symptom(table: pd.DataFrame, own: pd.DataFrame, alike: list[str]) -> str:
    """What a group of drills does, told where it does most."""
    worst = own.loc[own["change"].abs().idxmax()]
    same = f"{listed(alike)} give the same numbers" if len(alike) > 1 else f"{alike[0]} changes RMSE"
    decays = ", whatever the decay" if _without_decay(own) else ""
    change = f"{number(worst['change'], signed=True)} from the intact restore"
    return f"{same}{decays}; most of all for {place(table, worst)}: {both(worst)} after it, {change}."


def _without_decay(own: pd.DataFrame) -> bool:
    """Tell whether a drill gives the same at all decays: then nothing of the average is left."""
    runs = own.groupby(["task", "norm", "batch_size"])
    spread = runs["rmse_false"].max() - runs["rmse_false"].min()
    return bool(runs["decay"].nunique().min() > 1 and spread.max() < ROUNDING)
