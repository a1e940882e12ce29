"""What is written is read back to the last bit, and a reader never sees a part of it."""

import json
import math
import threading
from dataclasses import asdict, fields, replace

import numpy as np
import pytest

from bnlab.files import replacing, write_json
from bnlab.records import CLUES, Clue, Reading, Trial
from bnlab.store import Folder, Status, trial_folder

NAN = float("nan")
READING = Reading(
    step=7,
    samples_seen=56,
    split="test_probe",
    phase=False,
    decay=0.999,
    eval_batch_size=8,
    images=90,
    rmse=0.1 + 0.2,
    accuracy=1 / 3,
    loss=5e-324,
    rmse_gap=-1.7976931348623157e308,
    rmse_gap_se=1e-17,
    accuracy_gap=-0.0,
    accuracy_gap_se=math.pi,
    loss_gap=1.0,
    loss_gap_se=NAN,
    time_ms=1_790_000_000_123,
)
PHASE_TRUE = replace(
    READING,
    phase=True,
    decay=None,
    **{field.name: NAN for field in fields(Reading) if "_gap" in field.name},
)
CLUE = Clue(
    step=7,
    split="test",
    decay=0.1 + 0.2,
    drill="slow 0.9999",
    kind="layer population",
    name='block/norm, the "second"',
    metric="rmse",
    value=-5e-324,
    standard_error=NAN,
    eval_batch_size=8,
    images=90,
    samples=4096,
    time_ms=1_790_000_000_123,
)
FREE = replace(CLUE, decay=None, drill="", metric="", value=math.inf, standard_error=1 / 3)
TRIAL = Trial(
    task="mnist",
    data="mnist",
    fingerprint="mnist-0",
    model="convnet",
    widths=(4, 8),
    norm="group",
    options=(("center", True), ("epsilon", 1e-3), ("groups", 2)),
    batch_size=8,
    seed=2**31 - 1,
    steps=6,
    optimizer="adam",
    learning_rate=0.1 + 0.2,
    momentum=None,
    schedule="constant",
    device="cpu",
    threads=1,
    xla=True,
)


@pytest.fixture
def folder(tmp_path):
    return trial_folder(tmp_path, "0123456789ab")


def exact(reading):
    """Values with their types; NaN equals NaN, -0.0 differs from 0.0."""
    return {name: (type(value), repr(value)) for name, value in asdict(reading).items()}


def test_a_trial_lies_under_its_identity(tmp_path, folder):
    assert folder.path == tmp_path / "trials" / "0123456789ab"
    assert folder.identity == "0123456789ab"


def test_readings_come_back_to_the_last_bit(folder):
    folder.write_readings([READING, PHASE_TRUE])
    assert [exact(reading) for reading in folder.readings()] == [exact(READING), exact(PHASE_TRUE)]


@pytest.mark.parametrize("value", [0.0, 1e-3, 2 / 3, 1e300, math.inf, float(np.float32(0.1))])
def test_any_float_comes_back(folder, value):
    folder.write_readings([replace(READING, rmse=value)])
    assert repr(folder.readings()[0].rmse) == repr(value)


def test_writing_readings_replaces_the_table(folder):
    folder.write_readings([READING, READING])
    folder.write_readings([PHASE_TRUE])
    assert len(folder.readings()) == 1


def test_a_trial_nobody_began_has_no_readings_and_waits(folder):
    assert folder.readings() == []
    assert folder.checkpoints() == []
    assert folder.status() == Status("waiting", 0, 0, None, "")


def test_a_trial_comes_back_equal_with_its_environment(folder):
    folder.write_trial(TRIAL, {"cpu": "a processor"})
    assert folder.trial() == TRIAL
    assert hash(folder.trial()) == hash(TRIAL)  # tuples again, not lists
    assert folder.environments() == [{"cpu": "a processor"}]


@pytest.mark.parametrize(
    "status", [Status("training", 3, 9, 0.25), Status("failed", steps=9, reason="é: lost")]
)
def test_a_status_comes_back_equal(folder, status):
    folder.write_status(status)
    assert folder.status() == status


def test_a_torn_status_is_a_trial_that_waits(folder):
    folder.write_status(Status("training"))
    (folder.path / "status.json").write_text('{"state": "trai')
    assert folder.status() == Status()


def test_checkpoints_are_listed_by_number_without_unfinished_ones(folder):
    for step in (100_000_000, 5, 12):
        with replacing(folder.checkpoint(step)) as file:
            file.write(b"x")
    (folder.path / "checkpoints" / ".00000007.npz.123.456").touch()
    assert folder.checkpoints() == [5, 12, 100_000_000]


def test_a_write_that_fails_midway_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path, "w") as file:
        raise KeyboardInterrupt(file.write("ne"))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "old"


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with replacing(path, "w") as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_concurrent_writers_leave_whole_files_only(tmp_path):
    path, seen = tmp_path / "file.json", set()
    write_json(path, [0] * 2000, sync=False)
    writers = [
        threading.Thread(target=lambda n=n: [write_json(path, [n] * 2000, sync=False) for _ in range(10)])
        for n in range(1, 5)
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        seen.add(tuple(json.loads(path.read_text())))
    for writer in writers:
        writer.join()
    assert seen <= {(n,) * 2000 for n in range(5)}
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]


def test_clearing_forgets_everything(folder):
    folder.write_readings([READING])
    with replacing(folder.checkpoint(3)) as file:
        file.write(b"x")
    with folder.alone():
        folder.clear()
        folder.clear()
    assert [path.name for path in folder.path.iterdir()] == ["lock"]
    assert Folder(folder.path).readings() == []


def test_clues_come_back_to_the_last_bit(folder):
    folder.write_clues([CLUE, FREE])
    assert [exact(clue) for clue in folder.clues()] == [exact(CLUE), exact(FREE)]


@pytest.mark.parametrize("value", [0.0, -0.0, 2 / 3, 1e300, math.inf, -math.inf, NAN, float(np.float32(0.1))])
def test_any_float_of_a_clue_comes_back(folder, value):
    folder.write_clues([replace(CLUE, value=value, standard_error=value)])
    [clue] = folder.clues()
    assert [repr(clue.value), repr(clue.standard_error)] == [repr(value)] * 2


def test_clues_of_every_kind_are_told_apart(folder):
    folder.write_clues([replace(CLUE, kind=kind) for kind in CLUES])
    assert [clue.kind for clue in folder.clues()] == list(CLUES)
    assert len({clue.key for clue in folder.clues()}) == len(CLUES)


def test_a_clue_is_replaced_by_a_new_one_of_its_key_alone():
    assert replace(CLUE, value=1.0, standard_error=2.0, time_ms=0).key == CLUE.key
    changes = {
        "step": 8,
        "split": "train",
        "decay": None,
        "drill": "",
        "kind": "alone population",
        "name": "other",
        "metric": "loss",
        "eval_batch_size": 9,
        "images": 91,
        "samples": 4097,
    }
    assert {field.name for field in fields(Clue)} == {*changes, "value", "standard_error", "time_ms"}
    assert all(replace(CLUE, **{name: value}).key != CLUE.key for name, value in changes.items())


def test_a_trial_nobody_explained_has_no_clues(folder):
    assert folder.clues() == []


def test_writing_clues_replaces_the_table_and_leaves_the_readings(folder):
    folder.write_readings([READING])
    folder.write_clues([CLUE, CLUE])
    folder.write_clues([FREE])
    assert [exact(clue) for clue in folder.clues()] == [exact(FREE)]
    assert [exact(reading) for reading in folder.readings()] == [exact(READING)]


@pytest.mark.parametrize(
    "damage",
    [
        lambda table: table[:-7],  # torn
        lambda table: table.replace(b"4096", b"4097", 1),  # a digit is another
        lambda table: table + table.splitlines(keepends=True)[1],
        lambda table: b"\xff" + table,
        lambda table: b"",
    ],
    ids=["torn", "changed", "a row too many", "no text", "empty"],
)
def test_a_damaged_table_of_clues_counts_for_nothing_and_is_set_aside(folder, damage):
    folder.write_clues([CLUE, FREE])
    path = folder.path / "clues.csv"
    path.write_bytes(damage(path.read_bytes()))
    assert folder.clues() == []
    folder.write_clues([FREE])
    assert [exact(clue) for clue in folder.clues()] == [exact(FREE)]
    assert folder.damaged() == ["clues.csv.damaged"]


def test_clearing_forgets_clues(folder):
    folder.write_clues([CLUE])
    folder.clear()
    assert folder.clues() == []


def test_a_trial_with_frozen_statistics_and_a_fault_comes_back_equal(folder):
    own = replace(TRIAL, frozen_from=4, freeze_decay=0.1 + 0.2, fault="sorted", details=(("dropout", 0.5),))
    folder.write_trial(own, {"cpu": "a processor"})
    assert folder.trial() == own


def test_a_trial_of_before_there_were_faults_comes_back(folder):
    folder.write_trial(TRIAL, {"cpu": "a processor"})
    path = folder.path / "trial.json"
    record = json.loads(path.read_text())
    for later in ("frozen_from", "freeze_decay", "fault"):
        del record["trial"][later]
    write_json(path, record)
    assert folder.trial() == TRIAL
