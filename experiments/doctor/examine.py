"""Examine every model of a corpus: `python -m experiments.doctor.examine CORPUS --csv FILE`.

The doctor is given what a user has: the model's file and the data. It is not told the batch size, the
optimizer's history beyond the file, or what was done.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

FIELDS = (
    "model", "architecture", "fault", "what", "seed", "verdict", "first", "confidence", "second", "third",
    "remedy", "closed", "moving", "batch", "seconds",
)  # fmt: skip
# Models that one process examines: TensorFlow keeps something of each.
_EACH = 30


def examine(folder: Path) -> dict[str, Any]:
    """Examine one model; a row of what was found beside the truth."""
    import keras

    from bnlab.doctor.data import read
    from bnlab.doctor.examination import examined
    from bnlab.doctor.fitting import fits
    from bnlab.doctor.models import open_any

    keras.backend.clear_session()
    truth = json.loads((folder / "truth.json").read_text())
    data = read(str(folder / "data.npz"))
    custom = [truth["custom"]] if truth["custom"] else []
    model, facts = open_any(folder / "model.keras", custom)
    found = examined(model, fits(data, model), facts=facts)
    return _row(folder, truth, found)


def _row(folder: Path, truth: dict[str, Any], found: Any) -> dict[str, Any]:  # noqa: ANN401
    diagnosis = found.diagnosis
    names = [cause.name for cause in diagnosis.causes] + [""] * 3
    closed = [own.closed for own in diagnosis.remedies if own.name == found.best and own.split == "test"]
    gaps = [own for own in diagnosis.gaps if own.split == "test" and own.metric == "rmse"]
    return {
        "model": folder.name,
        **{key: truth[key] for key in ("architecture", "fault", "what", "seed")},
        "verdict": diagnosis.verdict,
        "first": names[0],
        "confidence": round(diagnosis.causes[0].confidence, 4) if diagnosis.causes else "",
        "second": names[1],
        "third": names[2],
        "remedy": found.best or "",
        "closed": round(closed[0], 4) if closed and closed[0] is not None else "",
        "moving": round(gaps[0].moving, 5) if gaps else "",
        "batch": round(gaps[0].batch, 5) if gaps else "",
        "seconds": round(diagnosis.seconds, 1),
    }


def _tried(folder: str) -> dict[str, Any]:
    """Examine one model in a process of many; a failure is a row too."""
    try:
        return examine(Path(folder))
    except Exception as error:
        truth = json.loads((Path(folder) / "truth.json").read_text())
        row = {key: truth[key] for key in ("architecture", "fault", "what", "seed")}
        return {"model": Path(folder).name, **row, "verdict": f"error: {type(error).__name__}: {error}"[:200]}


def run(corpus: Path, table: Path, only: str, jobs: int) -> None:
    """Examine what is not in the table yet, and add it there line by line."""
    known = {row["model"] for row in _rows(table)} if table.exists() else set()
    folders = [
        path.parent for path in sorted(corpus.glob(f"{only}/truth.json")) if path.parent.name not in known
    ]
    with table.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, restval="")
        if not known:
            writer.writeheader()
        for row in _examined(folders, jobs):
            writer.writerow(row)
            file.flush()
            print(f"{row['model']}: {row['fault']} -> {row['verdict']} {row.get('first', '')}", flush=True)


def _examined(folders: list[Path], jobs: int) -> Iterator[dict[str, Any]]:
    """Examine models side by side, in processes that are new after a while."""
    context, each = multiprocessing.get_context("spawn"), _EACH * jobs
    for first in range(0, len(folders), each):
        with ProcessPoolExecutor(jobs, context) as pool:
            yield from pool.map(_tried, map(str, folders[first : first + each]))


def _rows(table: Path) -> Iterator[dict[str, str]]:
    with table.open(newline="") as file:
        yield from csv.DictReader(file)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--only", default="*", help="pattern of folder names")
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
    run(given.corpus, given.csv, given.only, given.jobs)


if __name__ == "__main__":
    main()
