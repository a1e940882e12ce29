"""Rows to CSV and back, and to Markdown."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

_BEGAN = time.monotonic()


def write(path: Path, rows: Sequence[dict]) -> pd.DataFrame:
    """Write rows as CSV; return them as they will be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, index=False, lineterminator="\n", float_format="%.6g")
    return read(path)


def read(path: Path) -> pd.DataFrame:
    """Read rows back."""
    return pd.read_csv(path, keep_default_na=True)


def markdown(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write a table.

    >>> print(markdown(["a", "b"], [[1, "x"]]))
    | a | b |
    | --- | --- |
    | 1 | x |
    """
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def tell(text: str) -> None:
    """Say on stderr how far it is."""
    print(f"[{time.monotonic() - _BEGAN:5.0f} s] {text}", file=sys.stderr, flush=True)
