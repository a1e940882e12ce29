"""Start-up times, as a table."""

from __future__ import annotations

import pandas as pd

from experiments.throughput.rounds import spread
from experiments.throughput.tables import markdown


def tables(rows: pd.DataFrame) -> str:
    """Write the table."""
    bare = rows[rows["what"] == "python -c pass"]["seconds"].median()
    lines = []
    for name, own in rows.groupby("what", sort=False):
        cpu = f"{own['cpu_s'].median():.2f}"
        lines.append([name, spread(list(own["seconds"])), cpu, f"{own['seconds'].median() / bare:.0f}"])
    columns = ["", "wall, s (median, lowest to highest)", "CPU, s", "times an empty Python"]
    return markdown(columns, lines)
