"""What a long tape holds in memory, as a table."""

from __future__ import annotations

import pandas as pd

from experiments.throughput.tables import markdown

_MIB = 2**20


def tables(rows: pd.DataFrame) -> str:
    """Write the table: from the first note to the last, beside what the tape itself takes."""
    lines = []
    for kind, own in rows.groupby("kind", sort=False):
        first, last = own.iloc[0], own.iloc[-1]
        tape = last["tape_bytes"] * (last["at"] - first["at"]) / _MIB
        # Of the peak: what a process takes before, to trace its step, is given back and used again.
        grown = last["peak_mib"] - first["peak_mib"]
        lines.append(
            [
                {"train": "training", "write": "gathering and writing"}[str(kind)],
                f"{first['at']:,.0f} to {last['at']:,.0f}",
                f"{last['tape_bytes']:,.0f}",
                f"{tape:.0f}",
                f"{grown:.0f}",
                f"{grown / tape:.1f}" if tape else "-",
                f"{last['peak_mib']:.0f}",
            ]
        )
    columns = [
        "",
        "steps",
        "bytes a step",
        "tape, MiB",
        "growth of the peak, MiB",
        "times the tape",
        "peak, MiB",
    ]
    return markdown(columns, lines)
