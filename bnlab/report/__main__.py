"""Draw a stored sweep's report again: `python -m bnlab.report [--uri URI] [--sweep NAME]`.

Needs the tracking store and nothing else: no TensorFlow, no checkpoints, no data.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from bnlab.records import Sweep


def main(arguments: list[str] | None = None) -> int:
    """Draw by command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    from bnlab import track
    from bnlab.report.pdf import write

    uri = options.uri or f"sqlite:///{Path('runs').absolute()}/mlflow.db"
    try:
        store = track.connect(uri, options.experiment, create=False)
        sweep, readings = track.read_sweep(store, options.sweep)
        histograms = track.read_histograms(store, sweep) if options.histograms else {}
        path = options.out or Path("reports") / f"{sweep.name}.pdf"
        print(write(sweep, readings, path, histograms))
        if options.csv:
            _write_tables(options.csv, sweep, readings)
    except (track.TrackingError, OSError) as error:
        print(f"bnlab: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bnlab.report", description=__doc__.split("\n\n")[0])
    parser.add_argument("--uri", help="MLflow tracking address (default: the database in ./runs)")
    parser.add_argument("--experiment", default="bnlab", help="MLflow experiment (default bnlab)")
    parser.add_argument("--sweep", help="a sweep's name or run id (default: the latest)")
    parser.add_argument("--out", type=Path, help="file to write (default reports/<sweep>.pdf)")
    parser.add_argument("--csv", type=Path, help="also write all cells here, and restore drills beside it")
    parser.add_argument("--histograms", action="store_true", help="append the histograms that trials have")
    return parser


def _write_tables(path: Path, sweep: Sweep, readings: pd.DataFrame) -> None:
    from bnlab.report.numbers import drills, rows, tables

    drilled = drills.drilled(rows.tidy(readings))
    written = {path: tables.cells(readings, sweep.decays)}
    if len(drilled):
        written[path.with_name(f"{path.stem}-drills.csv")] = drilled
    path.parent.mkdir(parents=True, exist_ok=True)
    for place, table in written.items():
        table.to_csv(place, index=False)
        print(place)


if __name__ == "__main__":
    sys.exit(main())
