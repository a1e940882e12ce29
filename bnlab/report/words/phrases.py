"""Parts of sentences: where a number stands, what both phases give there, and words in the right number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import pandas as pd

from bnlab.report.numbers.tables import decay_name, number


@dataclass(frozen=True)
class Sentences:
    """A record whose fields are sentences, in the order in which they are told; some may be empty."""

    @property
    def sentences(self) -> tuple[str, ...]:
        """All that is said, in order."""
        return tuple(sentence for part in fields(self) if (sentence := getattr(self, part.name)))


def place(among: pd.DataFrame, row: pd.Series) -> str:
    """Where a number stands; the norm is told only where several were measured."""
    norm = f"{row['norm']} normalization, " if len(among["norm"].unique()) > 1 else ""
    return f"{row['task']}, {norm}batch size {row['batch_size']}, decay {decay_name(row['decay'])}"


def both(row: pd.Series) -> str:
    """RMSE under both phases."""
    return f"RMSE {number(row['rmse_true'])} with phase true, {number(row['rmse_false'])} with phase false"


def gap(among: pd.DataFrame, row: pd.Series) -> str:
    """A gap, with its place, both phases and its standard error."""
    size = f"{number(row['rmse_gap'], signed=True)} ± {number(row['rmse_gap_se'])}"
    return f"{place(among, row)}: {both(row)}, a gap of {size}"


def listed(names: Sequence[str]) -> str:
    """Names in a row.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def verb(rows: Sequence[object] | pd.DataFrame, one: str, several: str) -> str:
    """The word that fits one thing or several.

    >>> verb(["a"], "is", "are"), verb(["a", "b"], "is", "are")
    ('is', 'are')
    """
    return one if len(rows) == 1 else several
