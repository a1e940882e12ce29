"""A stored sweep may come from a server that anybody writes to: it is drawn, or refused in one line."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bnlab.report.__main__ import main
from bnlab.science.histogram import Histogram, LayerHistogram
from bnlab.tables import histograms_table
from tests.faults import endings, stored_sweeps
from tests.faults.stored_sweeps import HISTOGRAMS, READINGS, SWEEP

COUNTED = [
    LayerHistogram(step, "norm", kind, Histogram(0.0, 1.0, (1, 2, 3), 0.6, 0.2))
    for step in (1, 20)
    for kind in ("weights", "activations")
]


@pytest.fixture(scope="module")
def stored(run_line, tiny, already_trained, tmp_path_factory):
    """A stored sweep that tests may damage, with a table of histograms: its folder."""
    folder = tmp_path_factory.mktemp("stored")
    already_trained(folder, "batch", "group")
    assert run_line(folder, "-m", "name=tiny", "norm=batch,group", "report.pdf=false", *tiny) == 0
    found(folder, READINGS).with_name(HISTOGRAMS).write_text(histograms_table(COUNTED))
    return folder


def found(folder, name):
    """One artifact of this name; always the same one."""
    return min((folder / "runs" / "artifacts").rglob(name))


def draw(folder, *more):
    return main(["--uri", f"sqlite:///{folder}/runs/mlflow.db", "--histograms", *more])


def put(path, content):
    """Put something in a file's place; None is a folder."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.mkdir() if content is None else path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "cases"),
    [
        (SWEEP, stored_sweeps.sweep_cases),
        (READINGS, stored_sweeps.reading_cases),
        (HISTOGRAMS, stored_sweeps.histogram_cases),
    ],
)
def test_damaged_files_of_a_sweep_are_refused(stored, name, cases, tmp_path, monkeypatch, capsys):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path = found(stored, name)
    sound = path.read_bytes()
    problems = []
    for case in cases(sound):
        capsys.readouterr()

        def run(content):
            put(path, content)
            return draw(stored)

        problems.append(endings.of_command(case, run, bool, capsys))
    put(path, sound)
    assert "\n".join(filter(None, problems)) == ""
    assert [path.name for path in tmp_path.rglob("*")] == ["here"]


def test_damaged_rows_of_a_sweep_are_refused(stored, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    problems = []
    for number, case in enumerate(stored_sweeps.row_cases()):
        capsys.readouterr()
        database = shutil.copy(stored / "runs" / "mlflow.db", tmp_path / f"{number}.db")

        def run(change, database=database):
            with closing(sqlite3.connect(database)) as base, base:
                base.execute(*change)
            return main(["--uri", f"sqlite:///{database}"])

        problems.append(endings.of_command(case, run, bool, capsys))
    assert "\n".join(filter(None, problems)) == ""


def test_a_sound_sweep_is_drawn_under_its_name(stored, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert draw(stored) == 0
    assert capsys.readouterr().out.split() == [str(Path("reports") / "tiny.pdf")]
    assert [path.name for path in tmp_path.rglob("*")] == ["reports", "tiny.pdf"]
