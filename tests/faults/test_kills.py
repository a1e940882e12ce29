"""Sweeps are killed seven times, and nothing is lost; and the comparison would see it if it were."""

import csv
import random
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest

from tests.faults.chain import Chain, difference, line, undisturbed
from tests.faults.facts import strays
from tests.faults.shots import JOBLIB, AtPoint, AtTime, Interrupt

SHOTS = {
    "points": [
        AtPoint("execute:before", 729),  # MLflow makes its tables
        AtPoint("savez:half", 9),  # a checkpoint of the first trial
        AtPoint("log_batch:half", 2),  # the first cell's curves
        AtPoint("compile:before", 1),  # the report
    ],
    "times": [
        AtTime(random.Random(0).uniform(5, 9), "group", JOBLIB),
        Interrupt(random.Random(1).uniform(5, 9), JOBLIB),
        AtTime(random.Random(2).uniform(5, 9), "worker", JOBLIB),
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sweeps")


@pytest.fixture(scope="module")
def runs(folder):
    """The undisturbed sweep, and what came of the chains: two commands at a time, as there are two cores."""
    own = line("adam", 6400)
    with ThreadPoolExecutor(2) as pool:
        reference = pool.submit(undisturbed, own, folder / "undisturbed")
        chains = {
            name: pool.submit(Chain(own, folder / name).run, shots, lambda: reference.result().facts)
            for name, shots in SHOTS.items()
        }
        return reference.result(), {name: chain.result() for name, chain in chains.items()}


@pytest.fixture(scope="module")
def expected(runs):
    return runs[0].facts


@pytest.fixture(params=SHOTS)
def outcome(runs, request):
    return runs[1][request.param]


def test_a_killed_sweep_leaves_what_an_undisturbed_one_leaves(outcome):
    assert not outcome.unfinished, outcome.complaints
    assert outcome.difference.lost == ()
    assert outcome.difference.doubled == ()
    assert outcome.difference.differing == ()


def test_it_takes_a_kill_as_it_should(outcome):
    assert outcome.complaints == []
    assert outcome.orphans == 0


def test_no_temporary_files_stay(outcome):
    assert outcome.strays == ()


def test_the_shots_hit(runs):
    hit = [shot for outcome in runs[1].values() for shot in outcome.hit]
    assert set(SHOTS["points"]) <= set(hit)
    assert len(hit) >= 6


def test_a_sweep_comes_to_every_target_but_those_of_a_repaired_failure(runs):
    assert {name for name, calls in runs[0].calls.items() if not calls} <= {"rename", "delete_tag"}


@pytest.fixture
def copy(runs, folder, tmp_path):
    return shutil.copytree(folder / "undisturbed", tmp_path / "copy")


def test_a_sweep_equals_itself(copy, expected):
    assert {place[0] for place in expected} == {
        *("checkpoint", "array", "reading", "run", "param", "point", "artifact", "report")
    }
    assert not difference(expected, copy)
    assert strays(copy) == []


def count(found):
    return len(found.lost), len(found.doubled), len(found.differing)


def checkpoint(copy):
    return sorted(copy.glob("runs/trials/*/checkpoints/*.npz"))[5]


def rewritten(path, change):
    with np.load(path) as archive:
        arrays = change({name: archive[name] for name in archive.files})
    np.savez(path, allow_pickle=False, **arrays)


def one_bit(arrays):
    name = next(name for name in arrays if name.endswith("kernel"))
    flipped = arrays[name].copy()
    flipped.reshape(-1).view(np.uint8)[7] ^= 1
    return {**arrays, name: flipped}


def fewer(arrays):
    return {name: array for name, array in arrays.items() if name != "losses"}


@pytest.mark.parametrize(("change", "seen"), [(one_bit, (0, 0, 1)), (fewer, (1, 0, 0)), (dict, (0, 0, 0))])
def test_one_bit_of_a_checkpoint_is_seen(copy, expected, change, seen):
    rewritten(checkpoint(copy), change)
    assert count(difference(expected, copy)) == seen


def test_a_torn_checkpoint_is_seen(copy, expected):
    path = checkpoint(copy)
    path.write_bytes(path.read_bytes()[:-100])
    found = difference(expected, copy)
    assert len(found.lost) > 20
    assert [text for text in found.differing if "cannot be read" in text]


def test_a_checkpoint_more_or_less_is_seen(copy, expected):
    path = checkpoint(copy)
    path.rename(path.with_name("00000099.npz"))
    found = difference(expected, copy)
    assert len(found.lost) == len(found.doubled) > 20


TRIAL = "(SELECT run_uuid FROM tags WHERE key = 'bnlab.kind' AND value = 'trial' LIMIT 1)"
SWEEP = TRIAL.replace("'trial'", "'sweep'")
ONE_POINT = f"run_uuid = {TRIAL} AND key = 'training_loss' AND step = (SELECT MAX(step) FROM metrics)"
ANOTHER = "SELECT key, {value}, timestamp + 1, run_uuid, step, is_nan FROM metrics"
COLUMNS = "(key, value, timestamp, run_uuid, step, is_nan)"
CHANGES = {
    "a point twice": (
        f"INSERT INTO metrics {COLUMNS} {ANOTHER.format(value='value')} WHERE {ONE_POINT}",
        (0, 1, 0),
    ),
    "a point missing": (f"DELETE FROM metrics WHERE {ONE_POINT}", (1, 0, 0)),
    "a point otherwise": (f"UPDATE metrics SET value = value + 1e-15 WHERE {ONE_POINT}", (0, 0, 1)),
    "a later time": (f"UPDATE metrics SET timestamp = timestamp + 5 WHERE {ONE_POINT}", (0, 0, 0)),
    "another parameter": (
        f"UPDATE params SET value = '9' WHERE run_uuid = {TRIAL} AND key = 'seed'",
        (0, 0, 1),
    ),
    "a parameter missing": (f"DELETE FROM params WHERE run_uuid = {TRIAL} AND key = 'seed'", (1, 0, 0)),
    "a run that still runs": (f"UPDATE runs SET status = 'RUNNING' WHERE run_uuid = {SWEEP}", (0, 0, 1)),
    "a sweep without its run": (
        f"UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = {SWEEP}",
        (2, 0, 0),
    ),
    "a run more": (
        "INSERT INTO runs (run_uuid, status, lifecycle_stage) VALUES ('new', 'RUNNING', 'active')",
        (0, 1, 0),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_point_and_a_run_are_counted(copy, expected, name):
    statement, seen = CHANGES[name]
    with closing(sqlite3.connect(copy / "runs" / "mlflow.db")) as database, database:
        assert database.execute(statement).rowcount == 1
    assert count(difference(expected, copy)) == seen


def table(copy, change):
    path = sorted(copy.glob("runs/trials/*/readings.csv"))[0]
    with path.open() as file:
        rows = list(csv.DictReader(file))
    with path.open("w") as file:
        file.write("# a comment\n")
        out = csv.DictWriter(file, list(rows[0]))
        out.writeheader()
        out.writerows(change(rows))


def later(rows):
    return [{**row, "time_ms": "7"} for row in rows]


def other(rows):
    return [{**rows[0], "rmse": "0.5"}, *rows[1:]]


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (later, (0, 0, 0)),
        (other, (0, 0, 1)),
        (lambda rows: rows[1:], (1, 0, 0)),
        (lambda rows: [*rows, rows[0]], (0, 1, 0)),
    ],
)
def test_readings_are_compared_but_for_the_time_of_day(copy, expected, change, seen):
    table(copy, change)
    assert count(difference(expected, copy)) == seen


def test_a_torn_report_is_seen(copy, expected):
    [path] = copy.glob("reports/*.pdf")
    path.write_bytes(path.read_bytes()[:-2000])
    assert count(difference(expected, copy)) == (0, 0, 1)
    path.unlink()
    assert count(difference(expected, copy)) == (1, 0, 0)


def test_what_was_not_delivered_is_lost(copy, expected):
    (copy / "runs" / "undelivered").mkdir(exist_ok=True)
    assert not difference(expected, copy)
    (copy / "runs" / "undelivered" / "trial").write_text("points")
    assert count(difference(expected, copy)) == (1, 0, 0)


def test_temporary_files_are_seen(copy):
    path = checkpoint(copy)
    path.with_name(f".{path.name}.123.456").touch()
    assert len(strays(copy)) == 1
