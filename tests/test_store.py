"""What is written is read back to the last bit, and a reader never sees a part of it."""

import json
import math
import threading
from dataclasses import asdict, fields, replace

import numpy as np
import pytest

from bnlab.files import replacing, write_json
from bnlab.records import Reading, Trial
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
