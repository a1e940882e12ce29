"""`python -m experiments.scale STORE --trials N`: make a SYNTHETIC sweep and measure what follows training.

Each part runs in a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from pathlib import Path

from experiments.scale.parts import PARTS, Clock

HERE = Path(__file__).parent
COLUMNS = ("version", "trials", "clues", "part", "what", "seconds", "cpu_seconds", "peak_mib", "mib", "count")


def main() -> None:
    """Measure by command line."""
    options = _parser().parse_args()
    if len(options.parts) > 1:
        for part in options.parts:
            _in_a_process(part, options)
        return
    [part], clock = options.parts, Clock(options.trials)
    try:
        PARTS[part](options.store.absolute() / str(options.trials), options.trials, options.clues, clock)
    finally:
        _write(options, clock)


def _in_a_process(part: str, options: argparse.Namespace) -> None:
    command = [sys.executable, "-m", "experiments.scale", str(options.store), "--parts", part]
    command += ["--trials", str(options.trials), "--csv", str(options.csv), "--version", options.version]
    subprocess.run(command + ["--clues"] * options.clues, check=False)


def _write(options: argparse.Namespace, clock: Clock) -> None:
    """Add rows to the CSV, and print them."""
    fresh = not options.csv.exists()
    with options.csv.open("a", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if fresh:
            table.writeheader()
        for row in clock.rows:
            shown = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in row.items()}
            table.writerow({"version": options.version, "clues": options.clues, **shown})
            print(*(f"{key} {value}" for key, value in shown.items()), sep="; ", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.scale", description=__doc__.split("\n\n")[0])
    parser.add_argument("store", type=Path, help="where the synthetic stores go")
    parser.add_argument("--trials", type=int, default=100, help="a multiple of 100 (default 100)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    parser.add_argument("--clues", action="store_true", help="split gaps into causes, as by default")
    parser.add_argument("--csv", type=Path, default=HERE / "scale.csv", help="rows are added to this file")
    parser.add_argument("--version", default="now", help="what the rows are marked with")
    return parser


if __name__ == "__main__":
    main()
