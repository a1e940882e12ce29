"""Without room, permission or file handles a trial ends in one line; afterwards the same command goes on."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from bnlab import files, track
from bnlab.store import Folder


def kept(folder):
    """Checkpoints as bytes and readings without their time, of every trial."""
    found = {}
    for path in (folder / "runs" / "trials").iterdir():
        found |= {(path.name, p.name): p.read_bytes() for p in path.glob("checkpoints/*.npz")}
        found[path.name] = repr([replace(reading, time_ms=0) for reading in Folder(path).readings()])
    return found


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "MiB left); free some space, "),
        (errno.EMFILE, " are allowed); raise the limit of open files (ulimit -n), "),
    ],
)
def test_what_cannot_be_written_is_named_and_what_was_finished_stays(
    tmp_path, run_line, tiny, tiny_sweep, monkeypatch, capsys, number, words
):
    own, done = os.fsync, []

    def fsync(handle):
        """Fail once the first trial is trained and measured, and then always."""
        finished = [p for p in tmp_path.glob("runs/trials/*/status.json") if '"done"' in p.read_text()]
        if finished and "checkpoints" in Path(f"/proc/self/fd/{handle}").readlink().parts:
            done.append(handle)
            raise OSError(number, os.strerror(number))
        own(handle)

    monkeypatch.setattr(files.os, "fsync", fsync)
    arguments = ["-m", "name=tiny", "norm=batch,group", "measure.explain=false", "report.pdf=false", *tiny]
    assert run_line(tmp_path, *arguments) == 1
    out = capsys.readouterr().out
    [line] = [line for line in out.splitlines() if line.startswith("failed: ")]
    assert ".npz cannot be written: " in line
    assert words in line
    assert done
    assert out.count(": done") == 1

    monkeypatch.undo()
    assert run_line(tmp_path, *arguments) == 0
    found, expected = kept(tmp_path), kept(tiny_sweep)
    assert {key: found[key] for key in expected if isinstance(key, tuple)} == {
        key: value for key, value in expected.items() if isinstance(key, tuple)
    }


def test_every_failure_is_told_everywhere_and_only_those_are_tried_again(tmp_path, run_line, tiny, capsys):
    rates = "train.learning_rate=0.1,1e38,3e38"
    arguments = ["-m", "name=broken", rates, "norm=batch,group", "measure.explain=false", "report.pdf=false"]
    arguments += tiny
    assert run_line(tmp_path, *arguments) == 1
    first = capsys.readouterr().out
    assert first.count("\nfailed: ") == 4
    store = track.connect(f"sqlite:///{tmp_path}/runs/mlflow.db", "bnlab", create=False)
    sweep, readings = track.read_sweep(store)
    reasons = {failure.trial: failure.reason for failure in sweep.failures}
    assert len(reasons) == 4
    assert readings["trial"].nunique() == 2
    failed = store.client.search_runs(
        [store.experiment], "attributes.status = 'FAILED' and tags.`bnlab.kind` = 'trial'"
    )
    assert {run.data.tags["bnlab.trial"]: run.data.tags["bnlab.reason"] for run in failed} == reasons

    whole = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.npz")}
    assert run_line(tmp_path, *arguments) == 1
    again, _ = track.read_sweep(store)
    assert (sweep.trained, again.trained) == (2, 2)  # nothing new: its record is the one of before
    assert {failure.trial: failure.reason for failure in again.failures} == reasons
    finished = {p: t for p, t in whole.items() if p.parts[-3] not in reasons}
    assert finished
    assert {p: p.stat().st_mtime_ns for p in finished} == finished


def test_a_trial_under_way_elsewhere_is_not_cleared(tmp_path, run_line, tiny, already_trained, capsys):
    already_trained(tmp_path, "batch")
    assert run_line(tmp_path, "report.pdf=false", *tiny) == 0
    [trial] = (tmp_path / "runs" / "trials").iterdir()
    before = kept(tmp_path)
    with Folder(trial).alone():
        assert run_line(tmp_path, "report.pdf=false", "train.fresh=true", *tiny) == 2
    message = (
        f"bnlab: train.fresh=true clears trial {trial.name}, and another sweep works on it; wait for it\n"
    )
    assert capsys.readouterr().err == message
    assert kept(tmp_path) == before


def test_nothing_is_cleared_where_one_trial_is_under_way_elsewhere(tmp_path, run_line, tiny, already_trained):
    already_trained(tmp_path, "batch", "group")
    arguments = ["-m", "norm=batch,group", "report.pdf=false", *tiny]
    assert run_line(tmp_path, *arguments) == 0
    before = kept(tmp_path)
    _, second = sorted((tmp_path / "runs" / "trials").iterdir())
    with Folder(second).alone():
        assert run_line(tmp_path, *arguments, "train.fresh=true") == 2
    assert kept(tmp_path) == before
