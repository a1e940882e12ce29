"""The tables of cures: what each remedy closes, what training otherwise gives, and the faults, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bnlab.report.numbers.clues import percent
from bnlab.report.numbers.decays import measured, shown
from bnlab.report.numbers.faults import Exhibit
from bnlab.report.numbers.rows import called
from bnlab.report.numbers.tables import decay_name, duration, number, typeset
from bnlab.report.parts import measured as with_error
from bnlab.report.sheets import groups, sheet
from bnlab.report.words import faults as words

RUN = ["task", "norm", "batch_size"]


def remedies(table: pd.DataFrame, transductive: bool = False) -> dict[str, Any]:
    """Each remedy of each trial: the share it closes and the score under it, at each decay, and its cost."""
    table = table[table["transductive"] == transductive]
    decays = shown(measured(table)).tolist()
    lines = table.drop_duplicates([*RUN, "remedy"]).sort_values(RUN, kind="stable", ignore_index=True)
    at = [table[table["decay"] == decay].set_index([*RUN, "remedy"]) for decay in decays]
    score = _score_of(table["accuracy"])
    columns = {"remedy": lines["remedy"]}
    columns |= {
        f"closed at {decay_name(d)}": _texts(lines, own, _closed) for d, own in zip(decays, at, strict=True)
    }
    columns |= {
        f"{score} at {decay_name(d)}": _texts(lines, own, _score) for d, own in zip(decays, at, strict=True)
    }
    columns["cost"] = lines["seconds"].map(lambda seconds: "–" if np.isnan(seconds) else duration(seconds))
    found = sheet(columns, ["remedy"], groups(lines))
    starts = [0, *found["breaks"]] if len(lines) else []
    return found | {"titles": {str(row): _title(table, lines.loc[row]) for row in starts}}


def _title(table: pd.DataFrame, line: pd.Series) -> str:
    """The trial of some lines, with its gap at each decay."""
    own = table[(table[RUN] == line[RUN]).all(axis=1)].drop_duplicates("decay").sort_values("decay")
    own = own[own["decay"].isin(shown(measured(table)))]
    gaps = [f"{number(row.gap, signed=True)} at {decay_name(row.decay)}" for row in own.itertuples()]
    norm = "" if line["norm"] == "batch" else f", {line['norm']}"
    return typeset(f"{line['task']}{norm}, batch size {line['batch_size']}: RMSE gap {', '.join(gaps)}")


def _texts(lines: pd.DataFrame, own: pd.DataFrame, text: Any) -> pd.Series:  # noqa: ANN401
    keys = [tuple(row) for row in lines[[*RUN, "remedy"]].itertuples(index=False)]
    return pd.Series(
        [text(own.loc[key]) if key in own.index else "–" for key in keys], index=lines.index, dtype=object
    )


def _score_of(accuracies: pd.Series) -> str:
    """What the scores of a table are: a regressor has no accuracy, and its RMSE stands there.

    >>> _score_of(pd.Series([0.9, np.nan])), _score_of(pd.Series([np.nan]))
    ('accuracy (or RMSE)', 'RMSE')
    """
    blind = accuracies.isna()
    return "RMSE" if blind.all() else "accuracy (or RMSE)" if blind.any() else "accuracy"


def _closed(row: pd.Series) -> str:
    return typeset(_spread(percent(row["closed"]), percent(row["closed_sd"])))


def _score(row: pd.Series) -> str:
    name = "rmse" if np.isnan(row["accuracy"]) else "accuracy"
    return typeset(_spread(number(row[name]), number(row[f"{name}_sd"])))


def _spread(mean: str, spread: str) -> str:
    return mean if "-" in (mean, spread) else f"{mean} ± {spread}"


def trained(table: pd.DataFrame) -> dict[str, Any]:
    """Other norms and variants, beside batch normalization at the same decay."""
    rows = list(table.itertuples())
    own = ["" if row.variant == row.variant_batch else row.variant for row in rows]
    what = [f"{called(row.norm, more)} (trained)" for row, more in zip(rows, own, strict=True)]
    task = [called(row.base, row.variant_batch) for row in rows]
    score = _score_of(table["accuracy"])
    columns = {
        "task": pd.Series(task, index=table.index, dtype=object),
        "batch size": table["batch_size"].astype(str),
        "decay": table["decay"].map(decay_name),
        "trained otherwise": pd.Series(what, index=table.index, dtype=object),
        "its gap": _gaps(table, ""),
        "gap of batch": _gaps(table, "_batch"),
        f"its {score}": _scores(table, ""),
        f"{score} of batch": _scores(table, "_batch"),
    }
    return sheet(columns, ["task", "trained otherwise"], table["base"] + table["batch_size"].astype(str))


def _gaps(table: pd.DataFrame, side: str) -> pd.Series:
    pairs = zip(table[f"gap{side}"], table[f"gap_se{side}"], strict=True)
    return pd.Series([with_error(*pair) for pair in pairs], index=table.index, dtype=object)


def _scores(table: pd.DataFrame, side: str) -> pd.Series:
    scores = table[f"accuracy{side}"].fillna(table[f"rmse{side}"])
    return scores.map(lambda score: typeset(number(score)))


def faults(exhibits: Sequence[Exhibit]) -> dict[str, Any]:
    """Every fault in a line: its gaps, and those of its healthy twin."""
    lines = [
        [
            *(own.name, own.task, str(own.batch_size), decay_name(own.decay)),
            *(typeset(text) for gaps in own.gaps.values() for text in _beside(own, *gaps)),
            *(words.briefly(own), typeset(_share_closed(own))),
        ]
        for own in exhibits
    ]
    head = [
        "fault",
        "task",
        "batch size",
        "decay",
        "RMSE gap",
        "healthy",
        "accuracy gap",
        "healthy ",
        "cure",
        "closed",
    ]
    table = pd.DataFrame(lines, columns=head, dtype=str)
    return sheet(dict(table.items()), ["fault", "task", "cure"], table["fault"])


def guide(exhibits: Sequence[Exhibit]) -> list[dict[str, Any]]:
    """A block for each fault: its sentence, and what was seen of it in each task."""
    blocks = []
    for name in dict.fromkeys(own.name for own in exhibits):
        own = [exhibit for exhibit in exhibits if exhibit.name == name]
        told = words.FAULTS.get(own[0].fault, own[0].fault)
        blocks.append({"name": name, "told": told, "seen": [_seen(exhibit) for exhibit in own]})
    return blocks


def _beside(own: Exhibit, gap: float, twin: float) -> tuple[str, str]:
    return words.known(gap), words.known(twin) if own.twinned else "–"


def _share_closed(own: Exhibit) -> str:
    return "–" if own.idle else words.share(own.closed)


def _seen(own: Exhibit) -> dict[str, Any]:
    """What was seen of a fault: its gaps, and what tells of it where it has an effect."""
    blind = np.isnan([own.accuracy, *own.gaps["accuracy_gap"]]).all()
    accuracy = "" if blind else f", accuracy {words.beside(own, 'accuracy_gap')}"
    lines = {"gap": f"RMSE {words.beside(own, 'rmse_gap')}{accuracy}"}
    if own.idle:
        lines["effect"] = words.IDLE
    else:
        lines |= {"parts": words.parts(own), "signs": words.signs(own), "remedy": words.cure(own)}
    where = f"{own.task}, {own.norm}, batch size {own.batch_size}, decay {decay_name(own.decay)}"
    return {"where": typeset(where), "lines": [[what, typeset(text)] for what, text in lines.items()]}
