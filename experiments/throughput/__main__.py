"""`python -m experiments.throughput PART`: measure, write `PART.csv`, print its tables."""

from __future__ import annotations

import sys
import tempfile
from argparse import Namespace
from importlib import import_module
from pathlib import Path

from bnlab.settings import SettingsError
from experiments.throughput import tables
from experiments.throughput.options import HERE, QUICK, parser


def main() -> None:
    """Run a part."""
    options = parser().parse_args()
    if options.quick:
        vars(options).update(QUICK[options.part], store=Path(tempfile.mkdtemp()))
    out = options.out or (Path(tempfile.mkdtemp()) if options.quick else HERE)
    path = out / f"{options.part}.csv"
    if not options.table:
        _measure(options, path)
    print(import_module(f"experiments.throughput.{options.part}_tables").tables(tables.read(path)))


def _measure(options: Namespace, path: Path) -> None:
    """Measure; what was measured before something went wrong is kept."""
    rows: list[dict] = []
    try:
        for row in import_module(f"experiments.throughput.{options.part}").measure(options):
            rows.append(row)
    finally:
        if rows:
            tables.write(path, rows)
            tables.tell(f"rows: {path}")


if __name__ == "__main__":
    try:
        main()
    except (SettingsError, FileNotFoundError) as error:
        sys.exit(f"experiments.throughput: {error}")
