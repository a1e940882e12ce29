"""Histograms through the line: made without training, in MLflow as a table and a figure, and read back."""

import shutil
from dataclasses import replace

import pytest

from bnlab import track
from bnlab.plan import curve_steps
from bnlab.science.histogram import Histogram, LayerHistogram
from bnlab.store import Folder
from bnlab.tables import histograms_table, parse_histograms

ROWS = [
    LayerHistogram(1, "block1_conv", "weights", Histogram(-0.1 - 0.2, 1 / 3, (3, 0, 12), 5e-324, 0.0, 7)),
    LayerHistogram(1, "block1_norm", "moving mean", Histogram(0.5, 0.5, (4, 0, 0), 0.5, 0.0), 0.999),
]


def checkpoints(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.npz")}


@pytest.fixture(scope="module")
def counted(tiny_sweep, tmp_path_factory, run_line, tiny):
    """Two trained and measured trials, one with moving statistics; then a sweep that asks for histograms."""
    folder = tmp_path_factory.mktemp("histograms")
    shutil.copytree(tiny_sweep / "runs" / "trials", folder / "runs" / "trials")
    trained = checkpoints(folder)
    arguments = ["-m", "name=counted", "norm=batch,group", "measure.histograms=true", "report.pdf=false"]
    arguments.append("measure.explain=false")
    assert run_line(folder, *arguments, *tiny) == 0
    assert checkpoints(folder) == trained
    return folder, lambda *more: run_line(folder, *arguments, *tiny, *more)


def opened(folder):
    store = track.connect(f"sqlite:///{folder}/runs/mlflow.db", "bnlab", create=False)
    return store, track.read_sweep(store)[0]


def test_the_table_comes_back_to_the_last_bit():
    assert parse_histograms(histograms_table(ROWS)) == ROWS


def test_a_figure_of_an_earlier_table_goes(tmp_path):
    folder = Folder(tmp_path)
    folder.write_histograms(ROWS, {"histograms-1.png": b"1", "histograms-2.png": b"2"})
    folder.write_histograms(ROWS[:1], {"histograms.png": b"3"})
    table = histograms_table(ROWS[:1]).encode()
    assert folder.histogram_files() == {"histograms.csv": table, "histograms.png": b"3"}
    assert folder.histograms() == ROWS[:1]


def test_the_artifacts_of_each_trial_are_its_files(counted):
    folder, _ = counted
    store, _ = opened(folder)
    runs = store.client.search_runs([store.experiment], "tags.`bnlab.kind` = 'trial'")
    assert len(runs) == 2
    for run in runs:
        files = Folder(folder / "runs" / "trials" / run.data.tags["bnlab.trial"]).histogram_files()
        assert set(files) == {"histograms.csv", "histograms.png"}
        for name, content in files.items():
            place = store.client.download_artifacts(run.info.run_id, name)
            with open(place, "rb") as file:  # noqa: PTH123
                assert file.read() == content


def test_histograms_read_back_are_those_on_disk(counted):
    folder, _ = counted
    store, sweep = opened(folder)
    read = track.read_histograms(store, sweep)
    assert list(read) == list(sweep.trials)
    for trial, rows in read.items():
        own = Folder(folder / "runs" / "trials" / trial)
        assert rows == own.histograms()
        assert sorted({row.step for row in rows}) == [*curve_steps(20, 4)]
        moving = {row.decay for row in rows if row.kind.startswith("moving")}
        assert moving == ({0.9} if own.trial().norm == "batch" else set())  # the slowest


def test_asking_again_makes_nothing_and_another_decay_is_added(counted):
    folder, again = counted
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("histograms*")}
    assert again() == 0
    assert all(path.stat().st_mtime_ns == made for path, made in files.items())
    assert again("decay=[0.99]") == 0
    for path in (folder / "runs" / "trials").iterdir():
        rows = Folder(path).histograms()
        moving = Folder(path).trial().norm == "batch"
        assert {row.decay for row in rows} == ({None, 0.9, 0.99} if moving else {None})
        assert len({row.key for row in rows}) == len(rows)


def test_trials_without_histograms_are_skipped(tiny_sweep):
    store = track.connect(f"sqlite:///{tiny_sweep}/runs/mlflow.db", "bnlab", create=False)
    assert track.read_histograms(store, track.read_sweep(store, "tiny")[0]) == {}


def test_a_digest_knows_the_artifacts(trial):
    bare = track.Finished(trial, "0" * 12, {}, 0, list, [], [], (1, 1, 1))
    assert replace(bare, artifacts={}).digest == bare.digest
    digests = {
        replace(bare, artifacts=files).digest
        for files in ({}, {"a": b"1"}, {"a": b"2"}, {"b": b"1"}, {"a": b"1", "b": b"1"})
    }
    assert len(digests) == 5
