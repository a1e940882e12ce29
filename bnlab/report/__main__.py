"""Draw a stored sweep's report again: `python -m bnlab.report [--uri URI] [--sweep NAME]`.

Needs the tracking store and nothing else: no TensorFlow, no checkpoints, no data.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bnlab.errors import first_line, said

if TYPE_CHECKING:
    import pandas as pd

    from bnlab.records import Sweep
    from bnlab.report.pdf import Histograms


def main(arguments: list[str] | None = None) -> int:
    """Draw by command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    from bnlab import track

    uri = options.uri or f"sqlite:///{Path('runs').absolute()}/mlflow.db"
    try:
        store = track.connect(uri, options.experiment, create=False)
        with _one_line():
            sweep, readings = track.read_sweep(store, options.sweep)
            histograms = track.read_histograms(store, sweep) if options.histograms else {}
            clues = track.read_clues(store, sweep)
            _write(options, sweep, readings, histograms, clues)
    except (track.TrackingError, ReportError, OSError) as error:
        print(f"bnlab: {said(error)}", file=sys.stderr)
        return 2
    return 0


class ReportError(Exception):
    """A report cannot be made; the message is one line."""


@contextmanager
def _one_line() -> Iterator[None]:
    """Whatever stored rows bring a drawing to, a person reads one line: a server may hold anything."""
    from bnlab.track import TrackingError

    try:
        yield
    except (TrackingError, ReportError, OSError):
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)[:200]}"
        raise ReportError(f"no report can be made of what is stored: {reason}") from error


def _write(
    options: argparse.Namespace,
    sweep: Sweep,
    readings: pd.DataFrame,
    histograms: Histograms,
    clues: pd.DataFrame,
) -> None:
    from bnlab.report.pdf import write

    print(write(sweep, readings, options.out or _place(sweep.name), histograms, clues))
    if options.csv:
        _write_tables(options.csv, sweep, readings, clues)


def _place(name: str) -> Path:
    """Name a report after its sweep, which anybody may have called `../../report`."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name):
        raise ReportError(f"no file can be named after sweep {name[:80]!r}; name one with --out")
    return Path("reports") / f"{name}.pdf"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bnlab.report", description=__doc__.split("\n\n")[0])
    parser.add_argument("--uri", help="MLflow tracking address (default: the database in ./runs)")
    parser.add_argument("--experiment", default="bnlab", help="MLflow experiment (default bnlab)")
    parser.add_argument("--sweep", help="a sweep's name or run id (default: the latest)")
    parser.add_argument("--out", type=Path, help="file to write (default reports/<sweep>.pdf)")
    parser.add_argument(
        "--csv", type=Path, help="also write all cells here, restore drills and clues beside it"
    )
    parser.add_argument("--histograms", action="store_true", help="append the histograms that trials have")
    return parser


def _write_tables(path: Path, sweep: Sweep, readings: pd.DataFrame, clues: pd.DataFrame) -> None:
    from bnlab.report.numbers import drills, tables
    from bnlab.report.numbers.clues import brief

    drilled = drills.drilled(drills.sound(readings, sweep.faults))
    written = {path: tables.cells(readings, sweep.decays)}
    if len(drilled):
        written[path.with_name(f"{path.stem}-drills.csv")] = drilled
    if len(clues):
        written[path.with_name(f"{path.stem}-clues.csv")] = brief(clues)
    path.parent.mkdir(parents=True, exist_ok=True)
    for place, table in written.items():
        table.to_csv(place, index=False)
        print(place)


if __name__ == "__main__":
    sys.exit(main())
