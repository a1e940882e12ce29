"""What a tracking store does not take waits on disk, and arrives once."""

import json
import shutil
from collections import Counter

import pytest
from pypdf import PdfReader

from bnlab import sync, track
from bnlab.delivery import unpack, waiting
from bnlab.store import Folder, Status

URI = "sqlite:///{}/runs/mlflow.db"


class Gone(Exception):
    """What a client raises when its server is."""


@pytest.fixture
def answers(monkeypatch):
    """Let the tracking store answer only so many times; a list to be filled with True for each of them."""
    own, left = track.connect, []

    def connect(*arguments, **options):
        if not left or not left.pop():
            raise track.TrackingError("track.uri cannot be used: connection refused")
        return own(*arguments, **options)

    monkeypatch.setattr(track, "connect", connect)
    return left


def points(folder):
    """Everything that a store holds: (kind, trial, cell, key, step, value) -> how often; and statuses."""
    store = track.connect(URI.format(folder), "bnlab", create=False)
    found, statuses = Counter(), Counter()
    for run in store.client.search_runs([store.experiment]):
        kind, trial, cell = (run.data.tags.get(f"bnlab.{key}", "") for key in ("kind", "trial", "cell"))
        statuses[kind, run.info.status] += 1
        for key in run.data.metrics:
            for point in store.client.get_metric_history(run.info.run_id, key):
                found[kind, trial, cell, key, point.step, point.value] += 1
    return found, statuses


def without(folder, run_line, tiny, *arguments):
    return run_line(folder, "-m", "name=tiny", "norm=batch,group", *tiny, *arguments)


def test_without_its_server_a_sweep_trains_reports_and_says_what_waits(
    tmp_path, run_line, tiny, answers, tiny_sweep, capsys, monkeypatch
):
    answers.append(True)  # before training, and never again
    assert without(tmp_path, run_line, tiny) == 1
    printed = capsys.readouterr().out
    [parcel] = waiting(tmp_path / "runs")
    assert f"undelivered: {parcel}: track.uri cannot be used: connection refused" in printed
    assert f"python -m bnlab.sync --store {tmp_path}/runs" in printed
    text, expected = (
        PdfReader(folder / "reports" / "tiny.pdf").pages[1].extract_text()
        for folder in (tmp_path, tiny_sweep)
    )
    assert text == expected

    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert sync.main([]) == 0
    assert "delivered: 2 trials of tiny" in capsys.readouterr().out
    assert waiting(tmp_path / "runs") == []
    assert sync.main([]) == 0
    assert "nothing waits in runs" in capsys.readouterr().out
    found, statuses = points(tmp_path)
    # 2 norms x 2 decays x 2 phases; nothing of it twice.
    assert statuses == {("trial", "FINISHED"): 2, ("cell", "FINISHED"): 8, ("sweep", "FINISHED"): 1}
    assert set(found.values()) == {1}


def test_a_store_that_need_not_answer_yet(tmp_path, run_line, tiny, already_trained, answers, capsys):
    already_trained(tmp_path, "batch", "group")
    assert without(tmp_path, run_line, tiny) == 2
    assert "track.later=true trains now and delivers later" in capsys.readouterr().err
    assert without(tmp_path, run_line, tiny, "track.later=true", "report.pdf=false") == 1
    answers += [True] * 9
    # The same command delivers what it finds trained, and its own record replaces the one that waited.
    assert without(tmp_path, run_line, tiny, "track.later=true", "report.pdf=false") == 0
    assert waiting(tmp_path / "runs") == []
    answers.append(True)
    _, statuses = points(tmp_path)
    assert statuses["sweep", "FINISHED"] == 1


def test_what_waits_of_another_sweep_is_delivered_with_the_next(
    tmp_path, run_line, tiny, already_trained, answers
):
    already_trained(tmp_path, "batch")
    arguments = ["track.later=true", "report.pdf=false", *tiny]
    assert run_line(tmp_path, "name=one", *arguments) == 1
    answers += [True] * 9
    assert run_line(tmp_path, "name=two", *arguments) == 0
    store = track.connect(URI.format(tmp_path), "bnlab", create=False)
    sweeps = store.client.search_runs([store.experiment], "tags.`bnlab.kind` = 'sweep'")
    assert {run.data.tags["bnlab.sweep"] for run in sweeps} == {"one", "two"}
    # By their own times, whenever they arrived: the latest is the one that began last.
    answers.append(True)
    assert track.read_sweep(store)[0].name == "two"


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda text: text[:100], "cannot be read"),
        (lambda text: "[]", "cannot be read"),
        (
            lambda text: text.replace('"trials": {\n  "', '"trials": {\n  "../'),
            "^[0-9a-f]{12}$",
        ),
    ],
)
def test_a_damaged_parcel_is_one_line(
    tmp_path, run_line, tiny, already_trained, answers, capsys, harm, message
):
    already_trained(tmp_path, "batch")
    assert run_line(tmp_path, "track.later=true", "report.pdf=false", *tiny) == 1
    [parcel] = waiting(tmp_path / "runs")
    parcel.write_text(harm(parcel.read_text()))
    capsys.readouterr()
    assert sync.main(["--store", str(tmp_path / "runs")]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"bnlab: {parcel} ")
    assert message in line


def test_a_folder_that_is_no_store_is_refused(tmp_path, capsys):
    assert sync.main(["--store", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == f"bnlab: --store must be the folder of a store, got {tmp_path}/none\n"


def test_measured_and_trained_again_nothing_is_sent_twice(tmp_path, run_line, tiny, already_trained):
    """More decays later, readings that were lost, a run that was left open, a training from the beginning."""
    already_trained(tmp_path, "batch")
    common = ["report.pdf=false", *tiny]
    assert run_line(tmp_path, *common) == 0
    before, _ = points(tmp_path)
    [trial] = (tmp_path / "runs" / "trials").iterdir()
    for arguments in ([], ["decay=[0.5,0.9,0.95]"], [], ["train.fresh=true"]):
        if not arguments:
            (trial / "readings.csv").write_text("torn")
        assert run_line(tmp_path, *common, *arguments) == 0
        found, statuses = points(tmp_path)
        assert set(found.values()) == {1}
        assert before.keys() <= found.keys()
        assert statuses.keys() == {("trial", "FINISHED"), ("cell", "FINISHED"), ("sweep", "FINISHED")}
        assert statuses["trial", "FINISHED"] == 1
    assert sorted(Folder(trial).damaged()) == []


def test_a_run_left_open_is_taken_up(tmp_path, run_line, tiny, already_trained):
    already_trained(tmp_path, "batch")
    common = ["report.pdf=false", *tiny]
    assert run_line(tmp_path, *common) == 0
    expected = points(tmp_path)
    store = track.connect(URI.format(tmp_path), "bnlab", create=False)
    for run in store.client.search_runs([store.experiment]):
        store.client.update_run(run.info.run_id, status="RUNNING")
    assert run_line(tmp_path, *common) == 0
    assert points(tmp_path) == expected


def test_a_parcel_comes_back_equal(tmp_path, run_line, tiny, already_trained, answers):
    already_trained(tmp_path, "batch")
    assert run_line(tmp_path, "track.later=true", "report.pdf=false", *tiny) == 1
    [path] = waiting(tmp_path / "runs")
    parcel = unpack(path)
    [[identity, asked]] = parcel.trials.items()
    assert parcel.sweep.trials == (identity,)
    assert parcel.sweep.measured == {identity: asked.way}
    assert asked.cells == ((False, 0.5, ""), (False, 0.9, ""), (True, 0.5, ""), (True, 0.9, ""))
    assert parcel.uri == URI.format(tmp_path)
    assert json.loads(path.read_text())["uri"] == "sqlite:///{store}/mlflow.db"


def test_a_trial_that_lost_its_readings_holds_up_no_other(
    tmp_path, run_line, tiny, already_trained, answers, capsys
):
    already_trained(tmp_path, "batch", "group")
    assert without(tmp_path, run_line, tiny, "track.later=true", "report.pdf=false") == 1
    first, _ = sorted((tmp_path / "runs" / "trials").iterdir())
    (first / "readings.csv").unlink()
    answers += [True] * 9
    capsys.readouterr()
    assert sync.main(["--store", str(tmp_path / "runs")]) == 1
    message = f"{first} has no readings any more; the command of its sweep makes it again"
    assert message in capsys.readouterr().err
    _, statuses = points(tmp_path)
    assert statuses["trial", "FINISHED"] == 1
    assert without(tmp_path, run_line, tiny, "track.later=true", "report.pdf=false") == 0
    found, statuses = points(tmp_path)
    assert statuses == {("trial", "FINISHED"): 2, ("cell", "FINISHED"): 8, ("sweep", "FINISHED"): 1}
    assert set(found.values()) == {1}


def test_a_copied_store_is_refused_before_it_writes_into_the_original(
    tmp_path, run_line, tiny, already_trained, capsys
):
    already_trained(tmp_path, "batch")
    common = ["report.pdf=false", *tiny]
    assert run_line(tmp_path, *common) == 0
    shutil.copytree(tmp_path / "runs", tmp_path / "copy")
    capsys.readouterr()
    assert run_line(tmp_path, *common, "store=copy") == 2
    [line] = capsys.readouterr().err.splitlines()
    place = f"file://{tmp_path}/runs/artifacts"
    assert f"it was copied or moved, and keeps its artifacts in {place}; rename it" in line
    shutil.copytree(tmp_path / "runs" / "trials", tmp_path / "other" / "trials")
    assert run_line(tmp_path, *common, "store=other") == 0


def test_a_parcel_of_a_copied_store_goes_to_the_copy(tmp_path, run_line, tiny, already_trained, answers):
    already_trained(tmp_path, "batch")
    assert run_line(tmp_path, "track.later=true", "report.pdf=false", *tiny) == 1
    shutil.copytree(tmp_path / "runs", tmp_path / "copy")
    answers += [True] * 9
    assert sync.main(["--store", str(tmp_path / "copy")]) == 0
    assert (tmp_path / "copy" / "mlflow.db").exists()
    assert not (tmp_path / "runs" / "mlflow.db").exists()


def test_a_run_whose_making_was_not_answered_is_no_double(
    tmp_path, run_line, tiny, already_trained, monkeypatch
):
    """As MLflow does it by itself where a server made the run, and the answer was lost."""
    already_trained(tmp_path, "batch")
    from mlflow.tracking import MlflowClient

    own, lost = MlflowClient.create_run, []

    def create_run(self, *arguments, **options):
        if len(lost) < 3:  # the trial and two cells of it
            lost.append(own(self, *arguments, **options))
        return own(self, *arguments, **options)

    monkeypatch.setattr(MlflowClient, "create_run", create_run)
    assert run_line(tmp_path, "report.pdf=false", *tiny) == 0
    assert len(lost) == 3
    _, statuses = points(tmp_path)
    assert statuses == {("trial", "FINISHED"): 1, ("cell", "FINISHED"): 4, ("sweep", "FINISHED"): 1}


def test_a_failure_that_was_mended_since_is_not_sent(tmp_path, run_line, tiny, answers):
    arguments = ["track.later=true", "report.pdf=false", *tiny]
    assert run_line(tmp_path, *arguments, "train.learning_rate=1e38") == 1
    [trial] = (tmp_path / "runs" / "trials").iterdir()
    Folder(trial).write_status(Status("done"))
    answers += [True] * 9
    assert sync.main(["--store", str(tmp_path / "runs")]) == 0
    _, statuses = points(tmp_path)
    assert statuses == {("sweep", "FAILED"): 1}


def test_odd_things_among_the_parcels_are_passed_over(tmp_path, run_line, tiny, already_trained, capsys):
    already_trained(tmp_path, "batch")
    (tmp_path / "runs" / "undelivered" / "x.json").mkdir(parents=True)
    assert run_line(tmp_path, "report.pdf=false", *tiny) == 0
    capsys.readouterr()
    assert sync.main(["--store", str(tmp_path / "runs")]) == 1
    assert "Is a directory" in capsys.readouterr().err
