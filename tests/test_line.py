"""The whole line: a command, two tiny trials, and a PDF whose numbers are the stored rows."""

from dataclasses import replace

import pytest
from pypdf import PdfReader

from bnlab import track
from bnlab.report.numbers.tables import number
from bnlab.store import Folder

URI = "sqlite:///{}/runs/mlflow.db"


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
        assert run_line(tmp_path, *tiny, f"measure.points={points}", "report.pdf=false") == 0
        files = tmp_path.glob("runs/trials/*/checkpoints/*.npz")
        seen.append({path.name: path.stat().st_ino for path in files})
    assert seen[0] == seen[1]
    assert len(seen[0]) == 12


def test_separate_jobs_for_decay_and_phase_share_one_training(tiny_sweep, run_line, tiny):
    trained = {p: p.stat().st_mtime_ns for p in tiny_sweep.rglob("*.npz")}
    rest = [argument for argument in tiny if not argument.startswith("decay")]
    assert run_line(tiny_sweep, "-m", "name=apart", "decay=0.5,0.75", "phase=true,false", *rest) == 0
    assert {p: p.stat().st_mtime_ns for p in tiny_sweep.rglob("*.npz")} == trained
    store = track.connect(URI.format(tiny_sweep), "bnlab", create=False)
    sweep, readings = track.read_sweep(store, "apart")
    assert sweep.decays == (0.5, 0.75)
    assert set(readings["decay"].dropna()) == {0.5, 0.75}


def test_a_failing_trial_is_a_record_and_the_others_go_on(tmp_path, run_line, capsys, tiny):
    arguments = ["-m", "name=broken", "train.learning_rate=0.1,1e38"]
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
    assert run_line(tiny_sweep, "name=other_way", "measure.batch_size=4", *tiny) == 0
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
