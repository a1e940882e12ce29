"""The command: what it writes, how it ends, and that every error is one line."""

import json

import keras
import numpy as np
import pytest

from bnlab.doctor.__main__ import main
from bnlab.doctor.schema import as_text, schema
from bnlab.science.probe import put_statistics
from tests.doctor.networks import data_of, dense, mixture_of_start
from tests.doctor.test_schema import faults

FEW = ["--samples", "128"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A sick model, a healthy one, one without normalization, and their data."""
    folder = tmp_path_factory.mktemp("command")
    model = dense()
    data, population = data_of(model, 512, 256)
    np.savez(
        folder / "data.npz",
        x_train=data.x_train,
        y_train=data.y_train,
        x_test=data.x_test,
        y_test=data.y_test,
    )
    np.save(folder / "inputs.npy", data.x_train)
    np.savez(folder / "narrow.npz", x_train=data.x_train[:, :5])
    np.savez(folder / "labels.npz", x_train=data.x_train, y_train=data.y_train + 7)
    put_statistics(model, population)
    model.save(folder / "healthy.keras")
    put_statistics(model, mixture_of_start(population, 0.8))
    model.save(folder / "sick.keras")
    plain = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)], name="plain")
    plain.save(folder / "plain.keras")
    return folder


@pytest.fixture
def run(folder, capsys, monkeypatch):
    """Run the command in the folder: exit status, and lines of stdout and stderr."""
    monkeypatch.chdir(folder)

    def ran(*words):
        status = main(list(map(str, words)))
        out, error = capsys.readouterr()
        return status, out, error

    return ran


def test_a_sick_model_as_json(run):
    status, out, error = run("sick.keras", "--data", "data.npz", *FEW, "--json")
    own = json.loads(out)
    assert faults(own, schema(), schema()) == []
    assert (status, own["status"], own["verdict"], error) == (1, 1, "sick", "")
    assert own["causes"][0]["name"] == "not_arrived"
    assert own["command"] == "bnlab-doctor sick.keras --data data.npz --samples 128 --mend sick-mended.keras"
    assert own["versions"]["keras"] == keras.__version__
    assert own["model"]["format"] == "keras"


def test_a_healthy_model(run, folder):
    status, out, error = run("healthy.keras", "--data", "data.npz", *FEW, "--json", "told.json")
    assert (status, error) == (0, "")
    assert "HEALTHY: moving statistics do as well: test accuracy" in " ".join(out.split())
    own = json.loads((folder / "told.json").read_text())
    assert faults(own, schema(), schema()) == []
    assert (own["verdict"], own["command"]) == ("healthy", "")


@pytest.mark.parametrize("spoilt", ["weights", "statistics"])
def test_numbers_that_are_none(run, folder, tmp_path, spoilt):
    model = keras.saving.load_model(folder / "healthy.keras")
    one = model.get_layer("one")
    (one.gamma if spoilt == "weights" else one.moving_mean).assign(np.full(8, np.nan))
    model.save(tmp_path / "spoilt.keras")
    mended = tmp_path / "mended.keras"
    words = [tmp_path / "spoilt.keras", "--data", "data.npz", *FEW, "--mend", mended]
    status, out, _ = run(*words, "--json")
    own = json.loads(out)
    assert (status, own["verdict"], mended.exists()) == (1, "sick", spoilt == "statistics")
    assert own["causes"][0]["name"] == {"weights": "weights_not_finite", "statistics": "not_finite"}[spoilt]
    shares = {one["closed"] for one in own["remedies"] if one["name"] == "population"}
    assert shares == (set() if spoilt == "weights" else {1.0})


def test_nothing_to_examine(run):
    status, out, error = run("plain.keras", "--data", "inputs.npy")
    assert (status, error) == (0, "")
    assert "plain has no batch normalization layers" in " ".join(out.split())


def test_inputs_alone(run):
    status, out, _ = run("sick.keras", "--data", "inputs.npy", *FEW, "--batch-size", "16", "--json")
    own = json.loads(out)
    assert (status, own["data"]["labels"], own["data"]["batch_size"]) == (1, False, 16)
    assert "--batch-size 16 --samples 128 --mend" in own["command"]


def test_a_model_is_mended_and_measured_again(run, folder, tmp_path):
    out = tmp_path / "mended.keras"
    status, told, error = run("sick.keras", "--data", "data.npz", *FEW, "--mend", out, "--json")
    assert (status, error) == (1, "")
    own = json.loads(told)["mended"]
    assert own["path"] == str(out)
    before, after = (
        {(gap["split"], gap["metric"]): gap for gap in own[when]} for when in ("before", "after")
    )
    assert list(before) == list(after)
    for split in ("train", "test"):
        assert abs(after[split, "rmse"]["gap"]) < 0.3 * before[split, "rmse"]["gap"]
        assert after[split, "rmse"]["batch"] == before[split, "rmse"]["batch"]
    mended, sick = (keras.saving.load_model(path) for path in (out, folder / "sick.keras"))
    for one, other in zip(mended.trainable_variables, sick.trainable_variables, strict=True):
        assert np.array_equal(one, other)
    assert not np.array_equal(mended.get_layer("one").moving_mean, sick.get_layer("one").moving_mean)
    assert run(out, "--data", "data.npz", *FEW, "--json")[0] == 0, "it is healthy now"


@pytest.fixture
def refused(run):
    """Run the command: the one line that refuses, and that nothing else was said."""

    def ran(*words):
        status, out, error = run(*words)
        assert (status, out) == (2, "")
        assert error.startswith("bnlab: ")
        assert error.count("\n") == 1
        return error.removeprefix("bnlab: ").removesuffix("\n")

    return ran


def test_a_healthy_model_is_not_mended_and_its_page_says_so(run, tmp_path):
    out = tmp_path / "mended.keras"
    status, page, error = run("healthy.keras", "--data", "data.npz", *FEW, "--mend", out)
    assert (status, error) == (0, "")
    assert "not mended: the verdict is healthy, and nothing is written" in " ".join(page.split())
    assert not out.exists()


def test_a_mended_file_is_not_its_own_source(refused, folder):
    line = refused("sick.keras", "--data", "data.npz", *FEW, "--mend", folder / "sick.keras")
    assert line.startswith("--mend must name another file than the model, got ")


def test_a_remedy_that_was_not_tried(refused, tmp_path):
    out = tmp_path / "mended.keras"
    line = refused("sick.keras", "--data", "data.npz", *FEW, "--mend", out, "--remedy", "prayer")
    assert line.startswith("--remedy must be one that was tried (population, ")
    assert line.endswith("), got prayer")
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["sick.keras"],
            "a model and its data are needed: bnlab-doctor MODEL.keras --data data.npz",
        ),
        ([], "a model and its data are needed"),
        (["sick.keras", "--data", "none.npz"], "none.npz must be a file, and there is none; check the path"),
        (["none.keras", "--data", "data.npz"], "none.keras must be a .keras, .h5 or .weights.h5 file"),
        (["data.npz", "--data", "data.npz"], "data.npz must be a .keras, .h5 or .weights.h5 file"),
        (
            ["sick.keras", "--data", "narrow.npz"],
            "x_train must have shape (n, 6) for this model, got (512, 5)",
        ),
        (["sick.keras", "--data", "labels.npz"], "labels must fit outputs of shape (n, 3)"),
        (["sick.keras", "--data", "nonsense"], "--data must be a .npz or .npy file"),
        (
            ["sick.keras", "--data", "data.npz", "--mend", "out.h5"],
            "the file to write must end in .keras, got out.h5",
        ),
        (
            ["sick.keras", "--data", "data.npz", "--remedy", "population"],
            "--remedy says what --mend OUT.keras writes, and --mend is not given",
        ),
        (["sick.keras", "--data", "data.npz", "--custom", "x"], "--custom must be module:name"),
        (["sick.keras", "--data", "data.npz", "--track", "nowhere://x"], ""),
        (["sick.keras", "--data", "data.npz", "--samples", "64", "--json", "data.npz/x.json"], ""),
        (
            ["sick.keras", "--data", "data.npz", "--samples", "64", "--mend", "data.npz/x.keras"],
            "the file to",
        ),
    ],
    ids=lambda own: " ".join(own) if isinstance(own, list) else "",
)
def test_every_error_is_one_line(run, words, said):
    status, _, error = run(*words)
    assert status == 2
    assert error.startswith(f"bnlab: {said}")
    assert error.count("\n") == 1
    assert "Traceback" not in error


@pytest.mark.parametrize("words", [["--samples", "0"], ["--batch-size", "-3"], ["--no-such-flag"]])
def test_a_flag_that_is_wrong_is_told_with_the_usage(run, capsys, words):
    with pytest.raises(SystemExit) as caught:
        run("sick.keras", "--data", "data.npz", *words)
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err.splitlines()[-1]


def test_the_schema_alone(run):
    assert run("--schema") == (0, as_text(), "")


def test_a_pdf_and_a_track(run, folder, tmp_path):
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/track.db"
    words = ["--pdf", tmp_path / "told.pdf", "--track", uri]
    status, _, error = run("sick.keras", "--data", "data.npz", *FEW, *words)
    assert (status, error) == (1, "")
    assert (tmp_path / "told.pdf").read_bytes()[:5] == b"%PDF-"
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("bnlab doctor")
    [logged] = client.search_runs([experiment.experiment_id])
    assert logged.data.tags["bnlab.kind"] == "diagnosis"
    assert "told.pdf" in [own.path for own in client.list_artifacts(logged.info.run_id)]
