"""The finding in words: the largest gap, where phase false wins, what the control says, how far it goes."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pandas as pd

from bnlab.report.tables import CONTROLS, ROUNDING, cells, decay_name, gaps, number, power, tidy

SEED_WORDS = {1: "One seed", 2: "Two seeds"}


@dataclass(frozen=True)
class Finding:
    """What a sweep found, as sentences; one that has nothing to say is empty."""

    largest: str = ""
    lag: str = ""
    better: str = ""
    broken: str = ""
    control: str = ""
    reach: str = ""
    stand_in: str = ""

    @property
    def sentences(self) -> tuple[str, ...]:
        """All that is said, in order of weight."""
        said = (getattr(self, part.name) for part in fields(self))
        return tuple(sentence for sentence in said if sentence)


def finding(readings: pd.DataFrame) -> Finding:
    """The numbers of `gaps`, said in sentences; only gaps beyond two standard errors are named as found."""
    stand_in = stand_ins(readings)
    missing = _missing(readings)
    if missing:
        return Finding(largest=missing, stand_in=stand_in)
    table = gaps(readings)
    controls = table["norm"].isin(CONTROLS)
    control, broken = _control(table[controls]), _broken(table)
    subjects = table[~controls & table["rmse_gap"].notna()]
    if subjects.empty:
        alone = "No normalization with moving statistics was measured: there is no gap to look for."
        return Finding(largest=alone, broken=broken, control=control, stand_in=stand_in)
    found = subjects[subjects["rmse_beyond"]]
    return Finding(
        largest=_largest(subjects, found),
        lag="" if found.empty else _lag(found.iloc[0]),
        better=_better(subjects, found),
        broken=broken,
        control=control,
        reach=_reach(subjects),
        stand_in=stand_in,
    )


def _missing(readings: pd.DataFrame) -> str:
    table = cells(readings)
    if table.empty:
        return "No trial has a final reading of the whole test set: there is nothing to compare."
    if table["phase"].all():
        return "Only phase true was measured: there is no gap to look for."
    if table.loc[~table["phase"], "rmse_gap"].isna().all():
        return "Phase false was measured without phase true: there is no gap to look for."
    return ""


def _largest(subjects: pd.DataFrame, found: pd.DataFrame) -> str:
    if found.empty:
        return f"No gap is beyond two standard errors: the largest, for {_gap(subjects, subjects.iloc[0])}."
    worst = found.iloc[0]
    accuracy = ""
    if pd.notna(worst["accuracy_gap"]):
        accuracy = f" Accuracy: {number(worst['accuracy_true'])} and {number(worst['accuracy_false'])}."
    return f"The gap is largest for {_gap(subjects, worst)}.{accuracy}"


def _gap(subjects: pd.DataFrame, row: pd.Series) -> str:
    return (
        f"{_place(subjects, row)}: RMSE {number(row['rmse_true'])} with phase true, "
        f"{number(row['rmse_false'])} with phase false, "
        f"a gap of {number(row['rmse_gap'], signed=True)} ± {number(row['rmse_gap_se'])}"
    )


def _place(subjects: pd.DataFrame, row: pd.Series) -> str:
    norm = f"{row['norm']} normalization, " if len(subjects["norm"].unique()) > 1 else ""
    return f"{row['task']}, {norm}batch size {row['batch_size']}, decay {decay_name(row['decay'])}"


def _lag(worst: pd.Series) -> str:
    """A moving average keeps decay^n of its start after n steps: named once it exceeds 5 %."""
    decay, steps = worst["decay"], worst["steps"]
    if worst["rmse_gap"] < 0 or decay**steps <= 0.05:
        return ""
    share = f"{number(decay**steps, 2)} of its start ({decay_name(decay)}^{steps})"
    return f"That moving average had not arrived: after {steps} steps it still held {share}."


def _better(subjects: pd.DataFrame, found: pd.DataFrame) -> str:
    if found.empty:
        return ""
    wins = found[found["rmse_gap"] < 0]
    count = f"Of {len(subjects)} gaps {len(found)} {_are(found)} beyond two standard errors"
    if len(wins) in (0, len(found)):
        each = "all with" if len(found) > 1 else "with"
        return f"{count}, {each} phase false {'worse' if wins.empty else 'better'}."
    best = _gap(subjects, wins.iloc[0])
    return f"{count}; in {len(wins)} of these phase false is better, most of all for {best}."


def _are(rows: pd.DataFrame) -> str:
    return "is" if len(rows) == 1 else "are"


def _broken(table: pd.DataFrame) -> str:
    count = int(table["rmse_gap"].isna().sum())
    return f"{count} of {len(table)} gaps are unknown: a value was missing or not a number." if count else ""


def _control(controls: pd.DataFrame) -> str:
    sizes = controls["rmse_gap"].abs()
    if sizes.isna().all():
        return ""
    norms = ", ".join(sorted(controls["norm"].unique()))
    verdict = f"below {power(ROUNDING)} as expected"
    if sizes.max() >= ROUNDING:
        verdict = f"although less than {power(ROUNDING)} was expected: distrust the other gaps"
    largest = power(sizes.max())
    return f"Control without moving statistics ({norms} normalization): largest |gap| {largest}, {verdict}."


def _reach(subjects: pd.DataFrame) -> str:
    fewest, most = subjects["seeds"].min(), subjects["seeds"].max()
    if most < 3:
        runs = "this run" if most == 1 else "these runs"
        return f"{SEED_WORDS[most]}: this speaks of {runs} only."
    seeds = f"{most} seeds" if fewest == most else f"{fewest} to {most} seeds"
    return f"Means over {seeds}; ± is one standard error over the seeds."


def stand_ins(readings: pd.DataFrame) -> str:
    """Which tasks ran on made-up pixels, in one sentence; empty when none did."""
    rows = tidy(readings)
    tasks = sorted(rows.loc[rows["stand_in"], "task"].unique())
    if not tasks:
        return ""
    if len(tasks) == rows["task"].nunique():
        return "Only stand-in data were used: these numbers try the tool and say nothing about real images."
    return f"Stand-in data were used for {', '.join(tasks)}: those numbers say nothing about real images."
