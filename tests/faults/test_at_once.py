"""The same sweep started twice at the same time: every trial trained once, every point sent once."""

import os
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing

from bnlab.delivery import waiting
from bnlab.store import Folder


def points(database):
    with closing(sqlite3.connect(database)) as rows:
        command = """select r.name, m.key, m.step, m.value from metrics m join runs r using (run_uuid)"""
        return Counter(rows.execute(command).fetchall())


def test_started_twice_it_trains_once_and_sends_once(tmp_path, tiny, tiny_sweep):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    environment.pop("BNLAB_DATA", None)
    command = [sys.executable, "-m", "bnlab", "-m", "name=tiny", "norm=batch,group", *tiny]
    both = [
        subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=180)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    assert waiting(tmp_path / "runs") == []
    found = points(tmp_path / "runs" / "mlflow.db")
    assert set(found.values()) == {1}
    # The values are those of one sweep alone; others may have asked more of the shared one.
    assert found.keys() <= points(tiny_sweep / "runs" / "mlflow.db").keys()
    trained = [line for text in printed for line in text.splitlines() if line.endswith(": done")]
    assert len(trained) == 4  # both saw both
    for path in (tmp_path / "runs" / "trials").iterdir():
        assert len({reading.key for reading in Folder(path).readings()}) == len(Folder(path).readings())
