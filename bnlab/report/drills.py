"""What a restore can lose: the numbers of the drills, each against the intact restore of the same weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bnlab.report.phrases import both, listed, place, verb
from bnlab.report.rows import METRICS, final, moving, natural, tidy
from bnlab.report.tables import POINT, ROUNDING, number, over_seeds, power

MEANINGS = {
    "intact": "everything restored: the control",
    "text": "statistics lost, then imported from text files",
    "not_saved": "statistics not in the checkpoint",
    "overwritten": "statistics overwritten by initial values",
    "not_run": "assignment built but never run",
    "renamed": "restored by name into a model whose normalization layers are named otherwise",
    "other_epsilon": "restored into a model with another epsilon (1e-5)",
}
"""What each drill does, in the order in which they are told; an unknown one comes last, by its name."""
AGREES = 64 * 2.0**-23
"""Keras at inference and the probe round in another order: fewer than 64 roundings of numbers of size one."""


def drilled(readings: pd.DataFrame) -> pd.DataFrame:
    """One row per task, norm, batch size, decay and drill: what phase false gives after the restore.

    Returns:
        Columns of `POINT`, `drill`, those of `tables.over_seeds`, and `change`: its RMSE minus that of the
        intact restore (of the ordinary reading where no restore was the control).

    """
    rows = final(tidy(readings))
    rows = rows[~rows["phase"]].join(_reference(rows), on=["trial", "decay"])
    drills = rows[rows["drill"] != ""]
    true = {f"{metric}_true": drills[metric] - drills[f"{metric}_gap"] for metric in METRICS}
    false = {f"{metric}_false": drills[metric] for metric in METRICS}
    pairs = drills.assign(**true, **false, change=drills["rmse"] - drills["intact"])
    grouped = pairs.groupby([*POINT, "drill"])
    parts = [over_seeds(grouped, metric) for metric in METRICS]
    table = pd.concat([grouped["change"].mean(), *parts], axis=1).reset_index()
    return table.sort_values([*POINT, "drill"], key=_told, ignore_index=True)


def _reference(rows: pd.DataFrame) -> pd.Series:
    """RMSE with phase false of each trial and decay when all was restored."""
    known = rows[~rows["phase"] & rows["drill"].isin(["", "intact"])].sort_values("drill")
    last = known.drop_duplicates(["trial", "decay"], keep="last")
    return last.set_index(["trial", "decay"])["rmse"].rename("intact")


def _told(column: pd.Series) -> pd.Series:
    order = {drill: f"{at:02d}" for at, drill in enumerate(MEANINGS)}
    return column.map(lambda drill: order.get(drill, drill)) if column.name == "drill" else natural(column)


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
        said = (self.control, self.harmless, *self.symptoms, self.broken)
        return tuple(sentence for sentence in said if sentence)


def shown(readings: pd.DataFrame) -> Drills:
    """The numbers of `drilled`, said in sentences; drills that give the same numbers share one."""
    whole = drilled(readings)
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
