"""The finding in words: the largest gap, where phase false wins, what the control says, how far it goes."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from bnlab.report.numbers.arrival import UNKNOWN, Layers, counted
from bnlab.report.numbers.best import best, swept
from bnlab.report.numbers.rows import CONTROLS, moving, normalization, ordinary
from bnlab.report.numbers.tables import ROUNDING, cells, decay_name, gaps, number, power
from bnlab.report.words.arrived import faster, follows
from bnlab.report.words.best_decay import named
from bnlab.report.words.constant import unlearned
from bnlab.report.words.phrases import Sentences, gap, verb
from bnlab.report.words.symptoms import shown

SEED_WORDS = {1: "One seed", 2: "Two seeds"}


@dataclass(frozen=True)
class Finding(Sentences):
    """What a sweep found, as sentences; one that has nothing to say is empty."""

    best: str = ""
    largest: str = ""
    lag: str = ""
    follows: str = ""
    better: str = ""
    drills: str = ""
    broken: str = ""
    unlearned: str = ""
    control: str = ""
    reach: str = ""
    stand_in: str = ""


def finding(readings: pd.DataFrame, layers: Layers = UNKNOWN) -> Finding:
    """The numbers of `gaps`, said in sentences; only gaps beyond two standard errors are named as found.

    Args:
        readings: stored rows.
        layers: of each trial, as the sweep knows them; each is else taken to be updated once per step.
    """
    stand_in = stand_ins(readings)
    missing = _missing(readings)
    if missing:
        return Finding(largest=missing, stand_in=stand_in)
    table = gaps(readings)
    every, controls = counted(readings, layers), table[table["norm"].isin(CONTROLS)]
    found = every[every["rmse_beyond"]]
    return Finding(
        best=named(best(table)) if swept(table) else "",
        largest=_alone(moving(table)) if every.empty else _largest(every, found),
        lag="" if found.empty else _lag(found.iloc[0]),
        follows="" if found.empty else _follows(every, found.iloc[0]),
        better=_better(every, found),
        drills=_drills(readings),
        broken=_broken(table),
        unlearned=unlearned(cells(readings)),
        control=_control(controls),
        reach=_reach(every),
        stand_in=stand_in,
    )


def _missing(readings: pd.DataFrame) -> str:
    table = cells(readings)
    if table.empty:
        return "No trial has a final reading: there is nothing to compare."
    if table["phase"].all():
        return "Only phase true was measured: there is no gap to look for."
    if table.loc[~table["phase"], "rmse_gap"].isna().all():
        return "Phase false was measured without phase true: there is no gap to look for."
    return ""


def _alone(table: pd.DataFrame) -> str:
    if table["rmse_gap"].isna().all():
        return "No normalization with moving statistics was measured: there is no gap to look for."
    return "No trial with moving statistics has learned enough for its gap to count."


def _largest(counted: pd.DataFrame, found: pd.DataFrame) -> str:
    if found.empty:
        return f"No gap is beyond two standard errors: the largest, for {gap(counted, counted.iloc[0])}."
    worst = found.iloc[0]
    accuracy = ""
    if pd.notna(worst["accuracy_gap"]):
        accuracy = f" Accuracy: {number(worst['accuracy_true'])} and {number(worst['accuracy_false'])}."
    return f"The gap is largest for {gap(counted, worst)}.{accuracy}"


def _lag(worst: pd.Series) -> str:
    """A moving average keeps decay^n of its start after n updates: named once it exceeds 5 %."""
    if worst["rmse_gap"] < 0 or not worst["share"] > 0.05:
        return ""
    decay, updates = decay_name(worst["decay"]), int(worst["updates"] * worst["steps"])
    share = f"{number(worst['share'], 2)} of its start ({decay}^{updates})"
    return f"That moving average had not arrived: after {worst['steps']} steps it still held {share}."


def _follows(counted: pd.DataFrame, worst: pd.Series) -> str:
    """What a faster average says about the largest gap, where one was measured."""
    alone = worst["rmse_gap"] < 0 or pd.isna(worst["share"]) or faster(counted, worst).empty
    return "" if alone else follows(counted, worst)


def _better(counted: pd.DataFrame, found: pd.DataFrame) -> str:
    if found.empty:
        return ""
    wins = found[found["rmse_gap"] < 0]
    count = f"Of {len(counted)} gaps {len(found)} {verb(found, 'is', 'are')} beyond two standard errors"
    if len(wins) in (0, len(found)):
        each = "all with" if len(found) > 1 else "with"
        return f"{count}, {each} phase false {'worse' if wins.empty else 'better'}."
    best = gap(counted, wins.iloc[0])
    return f"{count}; in {len(wins)} of these phase false is better, most of all for {best}."


def _drills(readings: pd.DataFrame) -> str:
    """The worst that a restore did; the page of the drills has the others."""
    symptoms = shown(readings).symptoms
    return f"Restore drills: {symptoms[0]}" if symptoms else ""


def _broken(table: pd.DataFrame) -> str:
    count = int(table["rmse_gap"].isna().sum())
    return f"{count} of {len(table)} gaps are unknown: a value was missing or not a number." if count else ""


def _control(controls: pd.DataFrame) -> str:
    sizes = controls["rmse_gap"].abs()
    if sizes.isna().all():
        return ""
    norms = ", ".join(map(normalization, sorted(controls["norm"].unique())))
    verdict = f"below {power(ROUNDING)} as expected"
    if sizes.max() >= ROUNDING:
        verdict = f"although less than {power(ROUNDING)} was expected: distrust the other gaps"
    largest = power(sizes.max())
    return f"Control without moving statistics ({norms}): largest |gap| {largest}, {verdict}."


def _reach(counted: pd.DataFrame) -> str:
    if counted.empty:
        return ""
    fewest, most = counted["seeds"].min(), counted["seeds"].max()
    if most < 3:
        runs = "this run" if most == 1 else "these runs"
        return f"{SEED_WORDS[most]}: this speaks of {runs} only."
    seeds = f"{most} seeds" if fewest == most else f"{fewest} to {most} seeds"
    return f"Means over {seeds}; ± is one standard error over the seeds."


def stand_ins(readings: pd.DataFrame) -> str:
    """Which tasks ran on made-up pixels, in one sentence; empty when none did."""
    rows = ordinary(readings)
    tasks = sorted(rows.loc[rows["stand_in"], "task"].unique())
    if not tasks:
        return ""
    if len(tasks) == rows["task"].nunique():
        return "Only stand-in data were used: these numbers try the tool and say nothing about real images."
    return f"Stand-in data were used for {', '.join(tasks)}: those numbers say nothing about real images."
