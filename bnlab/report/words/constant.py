"""What knowing nothing gets: the trials that hardly beat the best constant predictor, in words."""

from __future__ import annotations

import pandas as pd

from bnlab.report.numbers.rows import moving
from bnlab.report.numbers.tables import LEARNED, number
from bnlab.report.words.phrases import verb

_MARGIN = f"{100 * (1 - LEARNED):.0f} %"
NAMED = 4
"""As many trials as a sentence may name."""


def unlearned(cells: pd.DataFrame) -> str:
    """Name the trials that have learned too little: regressors, whose gaps then do not count, and others."""
    trials = moving(cells).drop_duplicates("trial")
    blind = trials["accuracy"].isna()
    return " ".join(filter(None, [_regressors(trials[blind]), _classifiers(trials[~blind])]))


def _regressors(trials: pd.DataFrame) -> str:
    idle = trials[~trials["learned"]]
    if idle.empty:
        return ""
    fail = f"{verb(idle, 'does', 'do')} not beat a constant predictor by {_MARGIN} with phase true"
    kind = verb(trials, "regressor", "regressors")
    count = f"{len(idle)} of {len(trials)} {kind} with moving statistics"
    return f"{count} {fail} ({_named(idle)}): {verb(idle, 'its', 'their')} gaps do not count."


def _classifiers(trials: pd.DataFrame) -> str:
    worse = trials[trials["of_constant"] > 1]
    if worse.empty:
        return ""
    count = (
        f"{len(worse)} of {len(trials)} {verb(trials, 'classifier', 'classifiers')} with moving statistics"
    )
    fail = f"{verb(worse, 'is', 'are')} worse than a constant predictor with phase true"
    return f"{count} {fail} ({_named(worse)})."


def _named(trials: pd.DataFrame) -> str:
    """The worst few trials, each with its RMSE and the constant's."""
    worst = trials.sort_values("of_constant", ascending=False, kind="stable")
    named = [
        f"{row['task']}, {row['norm']}, batch size {row['batch_size']}, seed {row['seed']}: RMSE "
        f"{number(row['of_constant'] * row['constant_rmse'])} against {number(row['constant_rmse'])}"
        for _, row in worst.head(NAMED).iterrows()
    ]
    return "; ".join(named + [f"and {len(trials) - NAMED} more"] * (len(trials) > NAMED))
