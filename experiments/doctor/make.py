"""Make the corpus: one folder with model, data and truth for each architecture, kind and seed.

    python -m experiments.doctor.make --set tune --out FOLDER [--only PATTERN] [--jobs N]

What is there already is skipped; a model that fails is printed and the others are made.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from experiments.doctor.architectures import ARCHITECTURES
from experiments.doctor.bench import Bench, Case, measured
from experiments.doctor.faults import AFTER, EXCLUSIONS, FAULTS
from experiments.doctor.healthy import HEALTHY
from experiments.doctor.images import IN_FILE
from experiments.doctor.phases import Scores, outputs, put_population, score, worse
from experiments.doctor.training import Trained

SEEDS = {"tune": 1, "judge": 3}
ENOUGH = {True: 0.1, False: 0.03}
"""Harm that a fault must do: growth of a regressor's RMSE, accuracy lost by a classifier."""
SHARED = ("plain", "unlabelled", "re_estimated", *(c.what for c in FAULTS[:AFTER]))
# Variances of raw pixels are beyond float16: those statistics would not stall but overflow.
ON_RAW = tuple(case.what for case in FAULTS[:AFTER] if case.fault != "half_precision")


class Harmless(Exception):
    """No dose of a fault did enough, or no recipe made a healthy model."""


def plan(seeds: Sequence[int]) -> Iterator[tuple[str, int, tuple[Case, ...]]]:
    """Give what to make, so that a run cut short has each architecture and kind once.

    Yields:
        architecture, seed, and the cases that share one bench.

    """
    shared = tuple(case for case in (*HEALTHY, *FAULTS) if case.what in SHARED)
    healthy = [case for case in HEALTHY if case.what not in SHARED]
    faults = [case for case in FAULTS if case.what not in SHARED]
    turns = [case for pair in zip(faults, healthy, strict=False) for case in pair]
    turns += [*faults[len(healthy) :], *healthy[len(faults) :]]
    for seed in seeds:
        for cases in (shared, *((case,) for case in turns)):
            for architecture in ARCHITECTURES:
                yield architecture, seed, cases


def harm(case: Case, bench: Bench, made: Trained, found: Scores) -> float:
    """How much a fault does, by the sign of its case; no number, so never enough, where training diverged."""
    if not math.isfinite(found.true):
        return math.nan
    if case.sign == "drop":
        return worse(bench.before().false, found.false, found.regression)
    if case.sign == "population":
        put_population(made.model, made.data.x_train[:2000])
        return worse(measured(made).false, found.false, found.regression)
    if case.sign == "leak":
        pairs = outputs(made.model, made.data.x_test[:300], 2, training=None)
        return worse(found.false, score(pairs, made.data.y_test[:300], found.regression), found.regression)
    if case.sign == "mates":
        few = np.array(outputs(made.model, made.data.x_test[:300], 1 if made.custom else 2))
        alone = score(few, made.data.y_test[:300], found.regression)
        return worse(found.true, alone, found.regression)
    return -found.gap if case.sign == "reverse" else found.gap


def is_good(case: Case, size: float, found: Scores) -> bool:
    """Whether a fault did enough, or a healthy model has learnt something and has no gap worth the name."""
    if case.fault != "none":
        return size >= ENOUGH[found.regression]
    return size <= 0.05 if found.regression else size <= 0.01 and found.true > 0.2


def make(case: Case, bench: Bench, folder: Path) -> dict[str, Any]:
    """Make one model with the first dose that does enough, and write its folder.

    Raises:
        Harmless: none of the doses does.
    """
    sizes = []
    for dose in range(case.doses):
        bench.start(case.what)
        made = case.make(bench, dose)
        write_model(made, folder)
        found = measured(made)
        size = harm(case, bench, made, found)
        sizes.append(round(size, 3))
        if is_good(case, size, found):
            write_data(made, folder)
            return write_truth(case, bench, made, found, size, dose, folder)
    shutil.rmtree(folder)
    raise Harmless(f"harm {sizes}")


def write_model(made: Trained, folder: Path) -> None:
    """Save the model as Keras does, before scoring anything else changes it."""
    folder.mkdir(parents=True, exist_ok=True)
    made.model.save(folder / "model.keras")


def write_data(made: Trained, folder: Path) -> None:
    """Write the file's samples once for all models that share them."""
    train, test, data = IN_FILE["train"], IN_FILE["test"], made.data
    arrays = {"x_train": data.x_train[:train], "x_test": data.x_test[:test]}
    if not made.notes.get("unlabelled"):
        arrays |= {"y_train": data.y_train[:train], "y_test": data.y_test[:test]}
    key = hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays.values())).hexdigest()[
        :16
    ]
    shared = folder.parent / ".data" / f"{key}.npz"
    if not shared.exists():
        shared.parent.mkdir(exist_ok=True)
        part = shared.with_name(f"{key}.{os.getpid()}.npz")
        np.savez(part, **arrays)  # type: ignore[arg-type]
        part.replace(shared)
    (folder / "data.npz").unlink(missing_ok=True)
    (folder / "data.npz").hardlink_to(shared)


def write_truth(
    case: Case, bench: Bench, made: Trained, found: Scores, size: float, dose: int, folder: Path
) -> dict[str, Any]:
    """Write what was done and what it did; this file is last, and says that the folder is whole."""
    recipe, metric = made.recipe, "rmse" if found.regression else "accuracy"
    truth = {
        "fault": case.fault,
        "what": case.what,
        "architecture": bench.architecture,
        "seed": bench.seed,
        "set": bench.set,
        "batch_size": recipe.batch_size,
        "steps": recipe.steps,
        f"{metric}_true": _number(found.true),
        f"{metric}_false": _number(found.false),
        "harm": _number(size),
        "sign": case.sign,
        "dose": dose,
        "custom": made.custom,
        "data": recipe.data,
        "task": recipe.task,
        "scaling": recipe.scaling,
        "optimizer": recipe.optimizer,
        "momentum": recipe.momentum,
        "epsilon": recipe.epsilon,
        "notes": made.notes,
    }
    (folder / "truth.json").write_text(json.dumps(truth, indent=1))
    return truth


def _number(value: float) -> float | None:
    return round(value, 5) if math.isfinite(value) else None


def run(set_name: str, out: Path, only: str, share: tuple[int, int]) -> None:
    """Make one process's share of a set: each n-th bench."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for number, (architecture, seed, cases) in enumerate(plan(range(SEEDS[set_name]))):
        if number % share[1] != share[0]:
            continue
        left = [(case, out / f"{architecture}-{_name(case)}-{seed}") for case in cases]
        left = [(case, folder) for case, folder in left if _is_wanted(case, architecture, folder, only)]
        if not left:
            continue
        harmless = attempt(Bench(set_name, architecture, seed), left)
        again = [(case, folder) for case, folder in harmless if case.what in ON_RAW]
        if again:
            attempt(Bench(set_name, architecture, seed, raw=True), again)


def attempt(bench: Bench, cases: list[tuple[Case, Path]]) -> list[tuple[Case, Path]]:
    """Make cases that share a bench; give those that did too little."""
    keras.backend.clear_session()
    return [(case, folder) for case, folder in cases if not report(case, bench, folder)]


def _name(case: Case) -> str:
    return case.what if case.fault == "none" else f"{case.fault}.{case.what}"


def _is_wanted(case: Case, architecture: str, folder: Path, only: str) -> bool:
    excluded = (case.fault, architecture) in EXCLUSIONS or (case.what, architecture) in EXCLUSIONS
    return not excluded and fnmatch(folder.name, only) and not (folder / "truth.json").exists()


def report(case: Case, bench: Bench, folder: Path) -> bool:
    """Make one model and print a line on it, whatever happens; say whether it did enough."""
    start, enough = time.monotonic(), True
    try:
        truth = make(case, bench, folder)
        keys = ("accuracy_true", "accuracy_false", "rmse_true", "rmse_false", "harm", "dose")
        words = " ".join(f"{key} {truth[key]}" for key in keys if key in truth)
    except Harmless as error:
        words, enough = f"LEFT OUT {error}", False
    except Exception:
        words = "FAILED " + traceback.format_exc()
    print(f"{folder.name}: {words} ({time.monotonic() - start:.1f} s)", flush=True)
    return enough


def main() -> None:
    """Run the command line; with more jobs, processes of its own share the benches."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", choices=sorted(SEEDS), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="*", help="pattern of folder names")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--part", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.jobs > 1 and given.part is None:
        command = [sys.executable, "-m", "experiments.doctor.make", *sys.argv[1:], "--part"]
        parts = [subprocess.Popen([*command, str(number)]) for number in range(given.jobs)]
        sys.exit(max(part.wait() for part in parts))
    run(given.set, given.out, given.only, (given.part or 0, given.jobs))


if __name__ == "__main__":
    main()
