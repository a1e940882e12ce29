"""Damage and other versions are told with the numbers, wherever they are shown."""

import json
from dataclasses import replace

from pypdf import PdfReader

from bnlab import track
from bnlab.notes import differences, notes
from bnlab.store import Folder

URI = "sqlite:///{}/runs/mlflow.db"


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def trial_of(folder):
    [path] = (folder / "runs" / "trials").iterdir()
    return Folder(path)


def notes_of(folder):
    store = track.connect(URI.format(folder), "bnlab", create=False)
    sweep, _ = track.read_sweep(store)
    [run, *_] = store.client.search_runs([store.experiment], "tags.`bnlab.kind` = 'sweep'")
    assert run.data.tags.get("mlflow.note.content", "") == "\n\n".join(sweep.notes)
    return sweep.notes


def test_damage_is_mended_and_told(tmp_path, run_line, tiny, already_trained, capsys):
    already_trained(tmp_path, "batch")
    assert run_line(tmp_path, "report.pdf=false", *tiny) == 0
    assert notes_of(tmp_path) == ()
    folder = trial_of(tmp_path)
    checkpoints = {p.name: p.read_bytes() for p in folder.path.glob("checkpoints/*.npz")}
    readings = [(reading.key, reading.rmse) for reading in folder.readings()]
    middle = folder.checkpoints()[4]
    flip(folder.checkpoint(middle))
    flip(folder.path / "readings.csv")
    capsys.readouterr()
    assert run_line(tmp_path, *tiny) == 0
    assert {p.name: p.read_bytes() for p in folder.path.glob("checkpoints/*.npz")} == checkpoints
    assert [(reading.key, reading.rmse) for reading in folder.readings()] == readings
    name = f"checkpoints/{middle:08d}.npz"
    expected = (
        f"mnist batch b16 s0: {name} was damaged, is set aside as {name}.damaged, and was trained again",
        "mnist batch b16 s0: readings.csv was damaged, is set aside as readings.csv.damaged, and was "
        "measured again",
    )
    assert notes_of(tmp_path) == expected
    printed = capsys.readouterr().out
    assert all(f"note: {note}" in printed for note in expected)
    text = " ".join(page.extract_text() for page in PdfReader(tmp_path / "reports" / "run.pdf").pages)
    assert "see the notes under" in " ".join(text.split())
    assert "is set aside as readings.csv.damaged" in " ".join(text.split())


def test_a_checkpoint_that_is_damaged_before_its_trial_is_sent_is_trained_again(
    tmp_path, run_line, tiny, already_trained, capsys
):
    already_trained(tmp_path, "batch")
    dead = ["track.uri=http://127.0.0.1:9", "track.later=true", "report.pdf=false", *tiny]
    assert run_line(tmp_path, *dead) == 1
    folder = trial_of(tmp_path)
    flip(folder.checkpoint(folder.checkpoints()[2]))
    capsys.readouterr()
    here = ["report.pdf=false", *tiny]
    assert run_line(tmp_path, *here) == 1
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("undelivered: ")]
    assert "its checksum does not match; the command of its sweep makes it again" in line
    assert run_line(tmp_path, *here) == 0
    store = track.connect(URI.format(tmp_path), "bnlab", create=False)
    assert len(store.client.search_runs([store.experiment], "tags.`bnlab.kind` = 'trial'")) == 1


def test_what_ran_on_other_versions_is_told(tmp_path, run_line, tiny, already_trained, capsys):
    already_trained(tmp_path, "batch")
    assert run_line(tmp_path, "report.pdf=false", *tiny) == 0
    path = trial_of(tmp_path).path / "trial.json"
    record = json.loads(path.read_text())
    now = record["environments"][0]["version.keras"]
    record["environments"][0]["version.keras"] = "3.14.0"
    path.write_text(json.dumps(record))
    assert run_line(tmp_path, "report.pdf=false", *tiny) == 0
    [note] = notes_of(tmp_path)
    alone = "1 trial was not trained and measured on this alone"
    assert note == f"{alone}: keras 3.14.0, then {now}; last digits may differ"
    assert f"note: {note}" in capsys.readouterr().out


def test_a_trial_that_goes_on_elsewhere_remembers_both_places(trial, tmp_path):
    folder = Folder(tmp_path)
    folder.write_trial(trial, {"cpu": "a"})
    folder.write_trial(trial, {"cpu": "b"})  # nothing was saved: it begins anew
    assert folder.environments() == [{"cpu": "b"}]
    folder.checkpoint(1).parent.mkdir()
    folder.checkpoint(1).touch()
    began = folder.began_ms()
    folder.write_trial(trial, {"cpu": "c"}, "another sweep")
    folder.add_environment({"cpu": "b"})
    assert folder.environments() == [{"cpu": "b"}, {"cpu": "c"}]
    assert (folder.began_ms(), folder.trained_by()) == (began, "another sweep")


def test_equal_environments_do_not_differ():
    one = {"version.numpy": "2.0", "cpu": "a"}
    assert differences([one, dict(one)]) == ""
    assert differences([one, {"version.numpy": "2.1", "cpu": "b"}]) == "numpy 2.0, then 2.1; cpu a, then b"


def test_settings_that_are_gone_or_changed_are_written_again(tmp_path, run_line, tiny, already_trained):
    already_trained(tmp_path, "batch")
    here = ["report.pdf=false", *tiny]
    assert run_line(tmp_path, *here) == 0
    folder = trial_of(tmp_path)
    path = folder.path / "trial.json"
    before = json.loads(path.read_text())["trial"]
    changed = json.dumps({"trial": {**before, "batch_size": 64}, "environments": []})
    for number, harm in enumerate(("[]", '{"trial": ', changed, None)):
        path.unlink() if harm is None else path.write_text(harm)
        assert run_line(tmp_path, *here, f"track.uri=sqlite:///{tmp_path}/{number}.db") == 0
        assert json.loads(path.read_text())["trial"] == before
    assert len(folder.damaged()) == 3
    assert run_line(tmp_path, *here) == 0
    first, *_ = notes_of(tmp_path)
    assert "trial.json was damaged, is set aside as trial.json.damaged, and was written again" in first


def test_a_checkpoint_of_another_step_or_a_missing_one_is_trained_again(
    tmp_path, run_line, tiny, already_trained
):
    already_trained(tmp_path, "batch")
    here = ["report.pdf=false", *tiny]
    assert run_line(tmp_path, *here) == 0
    here.append("measure.explain=false")
    folder = trial_of(tmp_path)
    whole = {p.name: p.read_bytes() for p in folder.path.glob("checkpoints/*.npz")}
    steps = folder.checkpoints()
    folder.checkpoint(steps[4]).write_bytes(folder.checkpoint(steps[5]).read_bytes())
    assert run_line(tmp_path, *here, "decay=[0.5,0.9,0.95]") == 0
    folder.checkpoint(steps[3]).unlink()
    assert run_line(tmp_path, *here) == 0
    assert {p.name: p.read_bytes() for p in folder.path.glob("checkpoints/*.npz")} == whole
    assert folder.damaged() == [f"checkpoints/{steps[4]:08d}.npz.damaged"]


def test_what_others_put_into_a_trial_stays(tmp_path, run_line, tiny, already_trained):
    already_trained(tmp_path, "batch")
    here = ["report.pdf=false", *tiny]
    assert run_line(tmp_path, *here) == 0
    folder = trial_of(tmp_path)
    (folder.path / ".ipynb_checkpoints").mkdir()
    (folder.path / ".readings.csv.123.456").touch()
    assert run_line(tmp_path, *here, "measure.explain=false", "decay=[0.5,0.9,0.95]") == 0
    assert [path.name for path in folder.path.glob(".*")] == [".ipynb_checkpoints"]


def test_what_float16_skipped_and_lost_is_told(trial, tmp_path, images, monkeypatch):
    """As in training's own tests: one scale skips three steps, one kernel loses statistics in step 2."""
    from bnlab.train import train

    own = replace(trial, precision="mixed_float16")
    folders = {}
    for name, scale, details in (("scaled", 2.0**21, ()), ("large", 2.0**15, (("deviation", 3000.0),))):
        monkeypatch.setattr("bnlab.train.optimizer.INITIAL_SCALE", scale)
        folders[name] = folder = Folder(tmp_path / name)
        folder.path.mkdir()
        one = replace(own, details=details)
        folder.write_trial(one, {})
        train(one, images, folder, (6,), lambda step, loss: None)
    folders["never began"] = Folder(tmp_path / "nothing")
    told = "skipped, as gradients were not finite in float16; moving statistics took note of the batches"
    assert notes(folders, {}) == (
        f"scaled: 3 steps were {told} all the same",
        f"large: 1 step was {told} all the same",
        "large: moving statistics are not finite from step 2 on, as an activation exceeded float16's 65504; "
        "the weights are",
    )
