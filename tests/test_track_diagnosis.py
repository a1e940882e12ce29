"""What a tracking store holds of a diagnosis."""

import json
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from bnlab import track
from tests.doctor import examples


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """One store for all: to open one takes longer than to send a diagnosis."""
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture(scope="module")
def client(uri):
    return MlflowClient(uri)


@pytest.fixture(scope="module")
def run(uri, client, tmp_path_factory):
    """The run of a diagnosis that was mended, with a file beside its JSON."""
    pdf = tmp_path_factory.mktemp("files") / "digits.pdf"
    pdf.write_bytes(b"%PDF")
    return client.get_run(track.log_diagnosis(examples.MENDED.as_dict(), uri, files=[pdf]))


def test_a_diagnosis_is_one_run_with_its_numbers(client, run):
    assert (run.info.status, run.info.run_name) == ("FINISHED", "digits")
    assert client.get_experiment(run.info.experiment_id).name == "bnlab doctor"
    assert (
        run.data.metrics.items()
        >= {
            "gap/test_rmse": 0.1443 - 0.082,
            "gap/test_rmse_se": 0.0021,
            "accuracy/test_moving": 0.82,
            "accuracy/test_batch": 0.95,
            "loss/test_moving": 0.752,
            "part/test_lag": 0.0502,
            "part/train_batch": -0.0016,
            "cause/not_arrived": 0.91,
            "cause/none_known": 0.02,
            "remedy/population_closed": 0.97,
            "remedy/population_accuracy": 0.947,
            "remedy/population_train_closed": 0.983,
            "disagreement/test": 0.158,
            "mended_accuracy/test_moving": 0.947,
            "status": 1.0,
            "seconds": 12.34,
        }.items()
    )
    assert run.data.params == {
        "layers": "3",
        "model.name": "digits",
        "model.path": "digits.keras",
        "model.parameters": "23498",
        "model.optimizer": "adam",
        "data.path": "data.npz",
        "data.shape": "[28, 28, 1]",
        "data.labels": "classes",
    }


def test_its_tags_say_the_verdict_the_first_cause_and_the_summary(run):
    tags = run.data.tags
    assert (tags["bnlab.verdict"], tags["bnlab.cause"]) == ("sick", "not_arrived")
    assert tags["version.keras"] == "3.15.1"
    note = tags["mlflow.note.content"].split("\n\n")
    assert note[:2] == ["**SICK**", "With moving statistics the test accuracy is 0.82 instead of 0.95."]
    assert "- 91 %: the moving average has not arrived\n- 6 %:" in tags["mlflow.note.content"]
    assert note[-1] == "> conv\\_3/norm is frozen: it uses moving statistics in training, too"


def test_the_files_come_back(client, run, tmp_path):
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"diagnosis.json", "digits.pdf"}
    kept = client.download_artifacts(run.info.run_id, "diagnosis.json", str(tmp_path))
    assert json.loads(Path(kept).read_text()) == examples.MENDED.as_dict()


def test_the_same_diagnosis_again_is_a_run_of_its_own(uri, run):
    again = track.log_diagnosis(examples.MENDED.as_dict(), uri)
    assert again != run.info.run_id


def test_what_is_no_number_is_no_metric(uri, client):
    lost = client.get_run(track.log_diagnosis(examples.broken().as_dict(), uri))
    assert lost.data.metrics["accuracy/test_batch"] == 0.95
    assert not {"accuracy/test_moving", "gap/test_rmse", "part/test_lag"} & set(lost.data.metrics)


@pytest.mark.parametrize("name", ["nothing", "unlabelled", "nasty"])
def test_any_diagnosis_can_be_sent(uri, client, name):
    found = examples.ALL[name].as_dict()
    sent = client.get_run(track.log_diagnosis(found, uri))
    assert sent.data.tags["bnlab.verdict"] == found["verdict"]


def test_a_store_that_is_none_is_refused_in_one_line(tmp_path):
    for uri in (f"file://{tmp_path}/runs", "sqlite:///", "http://127.0.0.1:9"):
        with pytest.raises(track.TrackingError, match="cannot be used") as refused:
            track.log_diagnosis(examples.SICK.as_dict(), uri)
        assert "\n" not in str(refused.value)


def test_a_file_that_is_missing_leaves_a_failed_run_and_one_line(uri, client, tmp_path):
    with pytest.raises(track.TrackingError, match="cannot take the diagnosis") as refused:
        track.log_diagnosis(examples.SICK.as_dict(), uri, "failing", [tmp_path / "missing.pdf"])
    assert "\n" not in str(refused.value)
    experiment = client.get_experiment_by_name("failing").experiment_id
    assert [run.info.status for run in client.search_runs([experiment])] == ["FAILED"]
