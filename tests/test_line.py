"""The whole line: a command, two tiny trials, and a PDF whose numbers are the stored rows."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from pypdf import PdfReader

from bnlab import track
from bnlab.report.numbers.tables import number
from bnlab.store import Folder

URI = "sqlite:///{}/runs/mlflow.db"
# What only trains, measures and sends: explaining takes longer than both, and drawing as long again.
BARE = ("measure.explain=false", "report.pdf=false")


@pytest.fixture(scope="module")
def stored(tiny_sweep):
    store = track.connect(URI.format(tiny_sweep), "bnlab", create=False)
    return store, *track.read_sweep(store)


def folders(sweep_folder):
    return [Folder(path) for path in sorted((sweep_folder / "runs" / "trials").iterdir())]


def test_the_pdf_prints_the_stored_rows(tiny_sweep, stored):
    _, sweep, readings = stored
    pages = PdfReader(tiny_sweep / "reports" / "tiny.pdf").pages
    text = " ".join(page.extract_text() for page in pages).replace("−", "-")
    final = readings[readings["split"] == "test"]
    assert len(final) == 2 * 3
    for row in final.itertuples():
        assert number(row.rmse) in text
        assert number(row.loss) in text
    assert all(trial in text for trial in sweep.trials)


def test_a_stand_in_is_named_on_the_first_page_and_on_every_run(tiny_sweep, stored):
    store, _, readings = stored
    assert readings["stand_in"].all()
    first = PdfReader(tiny_sweep / "reports" / "tiny.pdf").pages[0].extract_text()
    assert "STAND-IN" in first
    runs = store.client.search_runs([store.experiment], "tags.`bnlab.kind` != 'sweep'")
    assert all("STAND-IN" in run.data.tags["data.source"] for run in runs)


def test_rows_in_mlflow_are_the_readings_on_disk(tiny_sweep, stored):
    _, _, readings = stored
    for folder in folders(tiny_sweep):
        own = readings[readings["trial"] == folder.identity]
        assert own["rmse"].tolist() == [reading.rmse for reading in folder.readings()]


def test_every_cell_has_a_run_with_curves_of_the_same_names(stored):
    store, _, readings = stored
    cells = store.client.search_runs([store.experiment], "tags.`bnlab.kind` = 'cell'")
    grid = {(c.data.params["norm"], c.data.params["decay"], c.data.params["phase"]) for c in cells}
    assert len(cells) == len(grid) == 2 * 2 * 2
    for cell in cells:
        history = store.client.get_metric_history(cell.info.run_id, "rmse")
        phase, decay = cell.data.params["phase"] == "true", float(cell.data.params["decay"])
        rows = readings[(readings["norm"] == cell.data.params["norm"]) & (readings["split"] == "test_probe")]
        rows = rows[rows["phase"]] if phase else rows[rows["decay"] == decay]
        assert [(point.step, point.value) for point in history] == list(
            zip(rows["step"], rows["rmse"], strict=True)
        )


def test_group_normalization_has_no_gap_by_measurement(stored):
    _, _, readings = stored
    gaps = readings[(readings["norm"] == "group") & ~readings["phase"]]["rmse_gap"]
    assert len(gaps) > 0
    assert gaps.abs().max() < 1e-6


def test_running_it_again_trains_nothing_and_sends_nothing_twice(tiny_sweep, run_line, stored, tiny):
    store, sweep, before = stored
    checkpoints = {p: p.stat().st_mtime_ns for p in tiny_sweep.rglob("*.npz")}
    kinds = "tags.`bnlab.kind` != 'sweep'"
    runs = len(store.client.search_runs([store.experiment], kinds))
    assert run_line(tiny_sweep, "-m", "name=tiny", "norm=batch,group", *tiny) == 0
    again, after = track.read_sweep(store)
    assert {p: p.stat().st_mtime_ns for p in tiny_sweep.rglob("*.npz")} == checkpoints
    assert len(store.client.search_runs([store.experiment], kinds)) == runs
    assert (sweep.trained, again.trained) == (2, 2)  # nothing new: its record is the one of before
    assert before.equals(after)


def test_a_finished_trial_is_done_whatever_another_question_left(tiny_sweep, run_line, tiny, capsys):
    [first, *_] = sorted(tiny_sweep.glob("runs/trials/*/status.json"))
    before = first.read_text()
    first.write_text('{"state": "failed", "step": 0, "steps": 20, "loss": null, "reason": "left over"}')
    assert run_line(tiny_sweep, "-m", "name=again", "norm=batch,group", "report.pdf=false", *tiny) == 0
    printed = capsys.readouterr().out
    assert printed.count(": done") == 2
    assert "left over" not in printed
    first.write_text(before)


def test_a_default_curve_needs_no_second_training(tmp_path, run_line, tiny):
    seen = []
    for points in (1, 12):
        assert run_line(tmp_path, *tiny, f"measure.points={points}", *BARE) == 0
        files = tmp_path.glob("runs/trials/*/checkpoints/*.npz")
        seen.append({path.name: path.stat().st_ino for path in files})
    assert seen[0] == seen[1]
    assert len(seen[0]) == 12


def test_separate_jobs_for_decay_and_phase_share_one_training(tiny_sweep, run_line, tiny):
    trained = {p: p.stat().st_mtime_ns for p in tiny_sweep.rglob("*.npz")}
    rest = [argument for argument in tiny if not argument.startswith("decay")]
    own = ["-m", "name=apart", "decay=0.5,0.75", "phase=true,false"]
    assert run_line(tiny_sweep, *own, *BARE, *rest) == 0
    assert {p: p.stat().st_mtime_ns for p in tiny_sweep.rglob("*.npz")} == trained
    store = track.connect(URI.format(tiny_sweep), "bnlab", create=False)
    sweep, readings = track.read_sweep(store, "apart")
    assert sweep.decays == (0.5, 0.75)
    assert set(readings["decay"].dropna()) == {0.5, 0.75}


def test_a_failing_trial_is_a_record_and_the_others_go_on(tmp_path, run_line, capsys, tiny):
    arguments = ["-m", "name=broken", "train.learning_rate=0.1,1e38", "measure.explain=false"]
    status = run_line(tmp_path, *arguments, *tiny)
    assert status == 1
    out = capsys.readouterr().out
    assert "failed: mnist batch b16 s0 learning rate 1.25e+37: the loss became" in out
    store = track.connect(URI.format(tmp_path), "bnlab", create=False)
    sweep, readings = track.read_sweep(store)
    [failure] = sweep.failures
    assert "at step" in failure.reason
    assert readings["trial"].nunique() == 1
    [run] = store.client.search_runs(
        [store.experiment], "attributes.status = 'FAILED' and tags.`bnlab.kind` = 'trial'"
    )
    assert run.data.tags["bnlab.reason"] == failure.reason
    text = " ".join(page.extract_text() for page in PdfReader(tmp_path / "reports" / "broken.pdf").pages)
    assert "the loss became" in text.replace("\n", " ")


def test_the_report_can_be_drawn_again_from_the_store_alone(tiny_sweep, tmp_path):
    from bnlab.report.__main__ import main

    arguments = ["--uri", URI.format(tiny_sweep), "--sweep", "tiny", "--out", str(tmp_path / "again.pdf")]
    assert main(arguments) == 0
    assert PdfReader(tmp_path / "again.pdf").pages[0].extract_text().startswith("bnlab")
    assert main([*arguments[:3], "nothing", *arguments[4:]]) == 2


def test_two_ways_of_measuring_one_trial_do_not_disturb_each_other(tiny_sweep, run_line, tiny):
    assert run_line(tiny_sweep, "name=other_way", "measure.batch_size=4", *BARE, *tiny) == 0
    store = track.connect(URI.format(tiny_sweep), "bnlab", create=False)
    _, first = track.read_sweep(store, "tiny")
    _, second = track.read_sweep(store, "other_way")
    assert set(first["eval_batch_size"]) == {16}
    assert set(second["eval_batch_size"]) == {4}
    assert len(first[first["norm"] == "batch"]) == len(second)


def test_a_process_of_its_own_measures_the_same(tmp_path, run_line, tiny_sweep, tiny):
    arguments = ["name=tiny", "measure.new_process=true", "report.pdf=false", *tiny]
    assert run_line(tmp_path, *arguments) == 0
    [folder] = (tmp_path / "runs" / "trials").iterdir()
    found, expected = (
        {reading.key: repr(replace(reading, time_ms=0)) for reading in Folder(path).readings()}
        for path in (folder, tiny_sweep / "runs" / "trials" / folder.name)
    )
    # Other tests may have measured more of the shared sweep.
    assert found
    assert {key: expected[key] for key in found} == found


FAULTY = [
    "-m",
    "name=ill",
    "fault=none,slow,sorted",
    "measure.remedy=[population,zero_debias]",
    "measure.attribution=batch",
    "measure.population_samples=128",
    "report.pdf=false",
]


@pytest.fixture(scope="module")
def ill(tmp_path_factory, run_line, tiny):
    """A sweep that explains gaps, with a fault at inference and one of training: its folder and store."""
    folder = tmp_path_factory.mktemp("ill")
    assert run_line(folder, *FAULTY, *tiny) == 0
    return folder, track.connect(URI.format(folder), "bnlab", create=False)


def test_a_sweep_of_faults_says_which_trial_shows_each(ill):
    folder, store = ill
    sweep, _ = track.read_sweep(store)
    trials = {own.trial().fault: own.identity for own in folders(folder)}
    assert set(trials) == {"", "sorted"}
    assert sweep.faults == (
        ("none", trials[""], ""),
        ("slow", trials[""], "slow 0.9999"),
        ("sorted", trials["sorted"], ""),
    )
    assert (sweep.samples, sweep.remedies, sweep.attribution) == (
        128,
        ("population n128", "zero_debias"),
        "batch",
    )
    assert sweep.drills == ("slow 0.9999",)


def test_clues_in_mlflow_are_those_on_disk_to_the_last_bit(ill):
    folder, store = ill
    sweep, _ = track.read_sweep(store)
    rows = track.read_clues(store, sweep)
    for own in folders(folder):
        clues, found = own.clues(), rows[rows["trial"] == own.identity]
        for name in ("kind", "name", "metric", "split", "drill", "samples"):
            assert found[name].tolist() == [getattr(clue, name) for clue in clues]
        for name in ("value", "standard_error"):
            np.testing.assert_array_equal(found[name], [getattr(clue, name) for clue in clues])
        kinds = {clue.kind for clue in clues}
        assert kinds == {
            *(f"{k} batch" for k in ("layer", "alone", "left")),
            "cause",
            "distance",
            "sign",
            "remedy",
        }
    [run] = store.client.search_runs(
        [store.experiment], "params.drill = 'slow 0.9999' and params.decay = '0.5'"
    )
    [lag] = rows[
        (rows["drill"] == "slow 0.9999")
        & (rows["decay"] == 0.5)
        & (rows["split"] == "test")
        & (rows["kind"] == "cause")
        & (rows["name"] == "lag")
        & (rows["metric"] == "rmse")
    ]["value"]
    assert run.data.metrics["part/rmse_lag"] == lag
    assert {file.path for file in store.client.list_artifacts(run.data.tags["mlflow.parentRunId"])} >= {
        "clues.csv",
        "readings.csv",
    }


def test_parts_in_the_store_add_up_to_the_gaps_in_the_store(ill):
    """Of the healthy trial, of the one with the slow average, and of the one that saw sorted batches."""
    _, store = ill
    sweep, readings = track.read_sweep(store)
    clues = track.read_clues(store, sweep)
    causes = clues[(clues["kind"] == "cause") & (clues["metric"] == "rmse") & (clues["split"] == "test")]
    parts = causes.groupby(["trial", "decay", "drill"])["value"].sum()
    gaps = readings[(readings["split"] == "test") & ~readings["phase"]].set_index(["trial", "decay", "drill"])
    assert len(parts) == len(gaps) == 2 * 2 + 2
    for key, value in parts.items():
        # Six differences of numbers below one, in float64.
        assert value == pytest.approx(gaps["rmse_gap"][key], rel=0, abs=16 * 2.0**-52)


def test_explained_once_nothing_is_trained_measured_or_sent_again(ill, run_line, tiny):
    folder, store = ill

    def state():
        names = ("*.npz", "readings.csv", "clues.csv")
        files = [path for name in names for path in (folder / "runs" / "trials").rglob(name)]
        runs = store.client.search_runs([store.experiment], "tags.`bnlab.kind` != 'sweep'")
        return (
            {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files},
            sorted((run.info.run_id, run.info.end_time, sorted(run.data.metrics.items())) for run in runs),
        )

    before = state()
    assert run_line(folder, *FAULTY, *tiny) == 0
    assert state() == before
    # Another remedy is measured, and what was there stays.
    more = [a.replace("zero_debias", "zero_debias,eval_norm") for a in FAULTY]
    assert run_line(folder, *more, *tiny) == 0
    after, _ = state()
    assert all(after[path] == value for path, value in before[0].items() if path.name != "clues.csv")
    for own in folders(folder):
        old = before[0][own.path / "clues.csv"][1].decode().splitlines()[1:-1]
        new = (own.path / "clues.csv").read_text().splitlines()
        assert set(old) < set(new)
        assert {clue.name for clue in own.clues() if clue.kind == "remedy"} == {
            "population n128",
            "zero_debias",
            "eval_norm",
        }


def test_a_store_of_before_there_were_clues_is_explained_without_training(
    tiny_sweep, tmp_path, run_line, tiny
):
    """A copy of it without the tables: readings and checkpoints stay as they are, and clues come."""
    shutil.copytree(tiny_sweep / "runs" / "trials", tmp_path / "runs" / "trials")
    for path in tmp_path.rglob("clues.csv"):
        path.unlink()
    kept = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.suffix == ".npz" or p.name == "readings.csv"}
    assert all(own.clues() == [] for own in folders(tmp_path))
    arguments = ["-m", "name=tiny", "norm=batch,group", "report.pdf=false"]
    assert run_line(tmp_path, *arguments, *tiny) == 0
    assert {p: p.read_bytes() for p in kept} == kept
    found = {own.trial().norm: own.clues() for own in folders(tmp_path)}
    assert found["group"] == []
    assert {clue.kind for clue in found["batch"]} == {"cause", "distance", "sign"}
