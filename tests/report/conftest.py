"""Readings with numbers that can be followed by hand."""

import hashlib
from itertools import product

import pandas as pd
import pytest

from bnlab.records import Failure, Sweep

NAN = float("nan")
STEPS = {2: 10_000, 8: 2_500, 32: 625, 128: 156}
TRUE = {("batch", 2): 0.134, ("batch", 128): 0.112, ("group", 2): 0.100, ("group", 128): 0.172}
GAP = {
    ("batch", 2, 0.9): (-0.019, 0.001),
    ("batch", 2, 0.999): (-0.006, 0.004),
    ("batch", 128, 0.9): (0.022, 0.002),
    ("batch", 128, 0.999): (0.214, 0.003),
}

# RMSE with phase false at nine decays, lowest at 0.95, where phase true has 0.112.
VALLEY = {
    0.0: 0.2,
    0.5: 0.13,
    0.8: 0.11,
    0.9: 0.104,
    0.95: 0.1,
    0.98: 0.102,
    0.99: 0.12,
    0.999: 0.2,
    0.9999: 0.3,
}


def trial_id(*what):
    return hashlib.sha256(repr(what).encode()).hexdigest()[:12]


def one_reading(task, norm, size, seed, step, split, decay, true, gap, se):
    phase = decay is None
    step = min(step, STEPS[size])
    frame = {
        "trial": trial_id(task, norm, size, seed),
        "task": task,
        "norm": norm,
        "batch_size": size,
        "seed": seed,
        "source": f"{task}, as published",
        "stand_in": False,
        "steps": STEPS[size],
        "step": step,
        "samples_seen": step * size,
        "split": split,
        "phase": phase,
        "decay": NAN if phase else decay,
        "eval_batch_size": size,
        "images": 10_000 if split in ("test", "train") else 1_000,
        "drill": "",
        "constant_rmse": 0.3,
    }
    for metric, sign in (("rmse", 1), ("accuracy", -2), ("loss", 5)):
        base = 1 - true if metric == "accuracy" else abs(sign) * true
        frame[metric] = base if phase else base + sign * gap
        frame[f"{metric}_gap"] = NAN if phase else sign * gap
        frame[f"{metric}_gap_se"] = NAN if phase else abs(sign) * se
    return frame


def make(
    tasks=("mnist",),
    norms=("batch", "group"),
    sizes=(2, 128),
    decays=(0.9, 0.999),
    seeds=(0,),
    phases=(True, False),
    shift=0.0,
    final="test",
):
    """A sweep's rows; seed s moves each batch-normalization gap by s * shift."""
    swept = [None] if True in phases else []  # no decay: phase true
    swept += decays if False in phases else []
    rows = []
    for task, norm, size, seed in product(tasks, norms, sizes, seeds):
        true, last = TRUE.get((norm, size), 0.12), STEPS[size]
        spots = [
            (1, "train_probe"),
            (1, "test_probe"),
            (100, "test_probe"),
            (last, "test_probe"),
            (last, final),
        ]
        for (step, split), decay in product(spots, swept):
            gap, se = GAP.get((norm, size, decay), (2e-8 if norm == "group" else 0.01, 1e-9))
            gap += seed * shift * (norm == "batch")
            rows.append(one_reading(task, norm, size, seed, step, split, decay, true, gap, se))
    return pd.DataFrame(rows)


def regress(rows, constant=0.3):
    """The same rows, read from a network whose outputs are no classes."""
    blind = dict.fromkeys(["accuracy", "accuracy_gap", "accuracy_gap_se"], NAN)
    return rows.assign(**blind, constant_rmse=constant)


def curve_of(values, se=0.005, true=0.112, **settings):
    """Rows with this RMSE at each decay, with accuracy 1 - 2 RMSE."""
    rows = make(**{"norms": ("batch",), "sizes": (128,), "decays": tuple(values), **settings})
    rmse = rows["decay"].map(values).astype(float).mask(rows["phase"], true)
    gap = (rmse - true).mask(rows["phase"])
    errors = {"rmse_gap_se": se, "accuracy_gap_se": 2 * se}
    return rows.assign(rmse=rmse, accuracy=1 - 2 * rmse, rmse_gap=gap, accuracy_gap=-2 * gap, **errors)


def drill(rows, results):
    """The rows, and for each drill the final phase-false readings with the gap that it leaves them."""
    last = rows[rows["split"].isin(["test", "train"]) & ~rows["phase"]]
    parts = [rows]
    for name, gap in results.items():
        own = last["rmse_gap"] if gap is None else gap
        true = last["rmse"] - last["rmse_gap"]
        parts.append(last.assign(drill=name, rmse=true + own, rmse_gap=own))
    return pd.concat(parts, ignore_index=True)


def make_sweep(readings=None, **changes):
    trials = () if readings is None or readings.empty else tuple(readings["trial"].unique())
    failures = changes.get("failures", ())
    settings = {
        "name": "phase_sweep",
        "started": "2025-11-21T09:30:00Z",
        "seconds": 122.4,
        "command": "python -m bnlab +experiment=phase_sweep batch_size=2,128",
        "trials": (*trials, *(failure.trial for failure in failures)),
        "trained": len(trials),
        "decays": (0.9, 0.999),
        "phases": (True, False),
        "settings": {"train.samples": "20000", "task": "mnist"},
        "versions": {"keras": "3.15.1"},
        "machine": {"cpu": "2 cores"},
    }
    return Sweep(**(settings | changes))


@pytest.fixture(scope="session")
def made():
    return make


@pytest.fixture(scope="session")
def regressed():
    return regress


@pytest.fixture(scope="session")
def curve():
    return curve_of


@pytest.fixture(scope="session")
def valley():
    return VALLEY


@pytest.fixture(scope="session")
def drilled():
    return drill


@pytest.fixture(scope="session")
def swept():
    return make_sweep


@pytest.fixture(scope="session")
def readings():
    return make()


@pytest.fixture(scope="session")
def failures():
    return (
        Failure("aaaabbbbcccc", "cifar", "batch", 128, 0, "the machine ran out of memory at step 120"),
        Failure("ddddeeeeffff", "cifar", "group", 2, 0, "RMSE is not a number at step 3"),
    )
