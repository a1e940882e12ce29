"""Tables as a person reads them: every number a string, with the side that its column keeps to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from bnlab.records import Failure, Sweep
from bnlab.report.numbers.rows import base, called, natural
from bnlab.report.numbers.tables import POINT, beyond, decay_name, number, typeset

MARK, FOUND = "•", "> 2 se"
LINES = 1000
"""More lines than these nobody reads on paper: a table ends there, and says so."""
TRIAL = {
    "task": "task",
    "norm": "norm",
    "batch size": "batch_size",
    "seed": "seed",
    "steps": "steps",
    "samples": "samples_seen",
    "eval. batch": "eval_batch_size",
}
"""The columns of the table of trials, and the fact of a reading or failure that each shows."""


def cells(table: pd.DataFrame) -> dict[str, Any]:
    """All cells, line by line; what plays no part in this sweep has no column."""
    found = beyond(table["rmse_gap"], table["rmse_gap_se"]) & table["learned"]
    columns = point(table) | {
        "seed": table["seed"].astype(str),
        "phase": table["phase"].map({True: "true", False: "false"}),
        "RMSE": table["rmse"].map(value),
        "accuracy": table["accuracy"].map(value),
        "loss": table["loss"].map(value),
        "RMSE gap": table["rmse_gap"].map(signed).mask(table["phase"], ""),
        "± se": table["rmse_gap_se"].map(value).mask(table["phase"], ""),
        FOUND: found.map({True: MARK, False: ""}),
    }
    idle = [] if len(table["seed"].unique()) > 1 else ["seed"]
    idle += ["accuracy"] if table["accuracy"].isna().all() else []
    idle += ["RMSE gap", "± se", FOUND] if table["phase"].all() else []
    columns = {name: column for name, column in columns.items() if name not in idle}
    return sheet(columns, ["task", "norm", "phase"], groups(table))


def means(gaps: pd.DataFrame) -> dict[str, Any]:
    """The gaps over the seeds, in the order of the cells."""
    table = gaps.sort_values(POINT, key=natural)
    columns = point(table) | {
        "seeds": table["seeds"].astype(str),
        "RMSE true": table["rmse_true"].map(value),
        "RMSE false": table["rmse_false"].map(value),
        "mean gap": table["rmse_gap"].map(signed),
        "spread": table["rmse_gap_sd"].map(value),
        "± se": table["rmse_gap_se"].map(value),
        FOUND: table["rmse_beyond"].map({True: MARK, False: ""}),
    }
    return sheet(columns, ["task", "norm"], groups(table))


def point(table: pd.DataFrame) -> dict[str, pd.Series]:
    """The columns that say where a number stands."""
    sizes, decays = table["batch_size"].astype(str), table["decay"].map(decay_name)
    return {"task": table["task"], "norm": table["norm"], "batch size": sizes, "decay": decays}


def groups(table: pd.DataFrame) -> pd.Series:
    """Lines of one task, norm and batch size stand together."""
    return table["task"] + "\n" + table["norm"] + "\n" + table["batch_size"].astype(str)


def tasks(cells: pd.DataFrame) -> dict[str, Any]:
    """What knowing nothing gets in each task, and what the best trial does with phase true."""
    known = cells[cells["constant_rmse"].notna()]
    known = known.assign(name=known["task"].map(base), true=known["of_constant"] * known["constant_rmse"])
    table = known.groupby("name").agg(
        accuracy=("accuracy", "max"),
        images=("images", "max"),
        constant=("constant_rmse", "mean"),
        true=("true", "min"),
    )
    columns = {
        "task": table.index.to_series(),
        "kind": table["accuracy"].isna().map({True: "regressor", False: "classifier"}),
        "images": table["images"].map("{:,}".format),
        "RMSE of a constant": table["constant"].map(value),
        "lowest with phase true": table["true"].map(value),
        "share": (100 * table["true"] / table["constant"]).map("{:.0f} %".format),
    }
    return sheet(columns, ["task", "kind"], table["images"])


def trials(sweep: Sweep, rows: pd.DataFrame) -> dict[str, Any]:
    """All trials of a sweep, finished or not."""
    read = rows.sort_values("step", kind="stable").drop_duplicates("trial", keep="last").set_index("trial")
    failed = {failure.trial: failure for failure in sweep.failures}
    lines = []
    for trial in dict.fromkeys([*sweep.trials, *read.index, *failed]):
        source = read.loc[trial] if trial in read.index else failed.get(trial)
        state = "failed" if trial in failed else "no readings" if source is None else "finished"
        lines.append([trial, *(_fact(source, fact) for fact in TRIAL.values()), state])
    table = pd.DataFrame(lines, columns=["trial", *TRIAL, "state"], dtype=str)
    table = table.sort_values(["task", "norm", "batch size", "seed"], key=natural, ignore_index=True)
    return sheet(dict(table.items()), ["trial", "task", "norm", "state"], table["task"] + table["norm"])


def _fact(source: pd.Series | Failure | None, fact: str) -> str:
    if isinstance(source, Failure) and fact == "task":
        return called(source.task, source.variant)
    return str(getattr(source, fact, "–"))


def sheet(columns: Mapping[str, pd.Series], left: Iterable[str], groups: pd.Series) -> dict[str, Any]:
    """A table as strings; `breaks` are the rows above which a light rule is drawn, `more` those left out."""
    more, groups = max(0, len(groups) - LINES), groups.iloc[:LINES]
    columns = {name: column.iloc[:LINES] for name, column in columns.items()}
    changed = groups.ne(groups.shift()).to_numpy()
    return {
        "head": list(columns),
        "align": ["center" if name == FOUND else "left" if name in left else "right" for name in columns],
        "rows": [list(row) for row in zip(*columns.values(), strict=True)],
        "breaks": [at for at in range(1, len(groups)) if changed[at]],
        "more": f"{more:,}" if more else "",
    }


def value(amount: float) -> str:
    """A number of a table."""
    return typeset(number(amount))


def signed(amount: float) -> str:
    """A number of a table, whose sign matters."""
    return typeset(number(amount, signed=True))
