"""A real tracking server may be killed in the middle of a sweep: what it holds in the end is the same."""

import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing

import pytest

from bnlab import sync
from bnlab.delivery import waiting
from tests.faults.server import Server

POINTS = """
select coalesce(max(case when t.key = 'bnlab.kind' then t.value end), '') as kind,
       max(case when t.key = 'bnlab.trial' then t.value end) as trial,
       max(case when t.key = 'bnlab.cell' then t.value end) as cell, r.status, r.run_uuid
from runs r join tags t using (run_uuid) where r.lifecycle_stage = 'active' group by r.run_uuid
"""


def held(database):
    """What a server's database holds: runs with their status, and points, each with how often it is there."""
    runs, points = Counter(), Counter()
    with closing(sqlite3.connect(database)) as rows:
        for kind, trial, cell, status, run in rows.execute(POINTS).fetchall():
            runs[kind, trial, cell, status] += 1
            own = rows.execute("select key, step, value from metrics where run_uuid = ?", (run,))
            points.update((kind, trial, cell, *point) for point in own)
    return runs, points


def arrived(database):
    """How many points there are, while the server writes them."""
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=1)) as rows:
            return rows.execute("select count(*) from metrics").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server, running."""
    one = Server(tmp_path_factory.mktemp("server")).start()
    yield one
    one.kill()


@pytest.fixture(scope="module")
def sweep(tiny):
    return ["-m", "name=served", "norm=batch,group,none", *tiny]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, run_line, sweep, already_trained):
    """What a database holds after the same sweep without a server."""
    folder = tmp_path_factory.mktemp("undisturbed")
    already_trained(folder, "batch", "group")
    assert run_line(folder, *sweep, "report.pdf=false") == 0
    return held(folder / "runs" / "mlflow.db")


def test_killed_in_the_middle_of_a_sweep_and_back_it_holds_everything_once(
    server, undisturbed, tmp_path, run_line, sweep, capsys, monkeypatch
):
    """Killed while the first trial arrives; started again when the sweep has given up."""
    died = threading.Event()

    def kill():
        while not arrived(server.database):
            time.sleep(0.005)
        server.kill()
        died.set()

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    assert run_line(tmp_path, *sweep, f"track.uri={server.uri}") == 1
    assert died.is_set()
    printed = capsys.readouterr().out
    assert printed.count(": done") == 3
    assert "undelivered: " in printed
    assert (tmp_path / "reports" / "served.pdf").exists()
    before, part = held(server.database)
    assert 0 < sum(part.values()) < sum(undisturbed[1].values())
    assert before.total() < undisturbed[0].total()

    monkeypatch.chdir(tmp_path)
    assert sync.main([]) == 1  # it is still gone
    server.start()
    assert sync.main([]) == 0
    assert waiting(tmp_path / "runs") == []
    assert held(server.database) == undisturbed
    assert sync.main([]) == 0
    assert run_line(tmp_path, *sweep, f"track.uri={server.uri}") == 0
    assert held(server.database) == undisturbed


def test_four_that_send_at_once_lose_and_double_nothing(server, tmp_path, run_line, tiny, already_trained):
    """Four sweeps in one folder, each with a trial of its own and one in common, sent by four processes."""
    already_trained(tmp_path, "batch")
    dead = [
        "track.uri=http://127.0.0.1:9",
        "track.experiment=many",
        "track.later=true",
        "measure.explain=false",
        "report.pdf=false",
        *tiny,
    ]
    for seed in (1, 2, 3, 4):
        assert run_line(tmp_path, "-m", f"name=sweep{seed}", f"seed=0,{seed}", *dead) == 1
    assert len(waiting(tmp_path / "runs")) == 4
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "runs", copy / "runs")
    assert sync.main(["--store", str(copy / "runs"), "--uri", f"sqlite:///{copy}/mlflow.db"]) == 0
    alone_runs, alone_points = held(copy / "mlflow.db")

    before_runs, before_points = held(server.database)
    command = [sys.executable, "-m", "bnlab.sync", "--store", str(tmp_path / "runs"), "--uri", server.uri]
    senders = [subprocess.Popen(command) for _ in range(4)]
    assert [sender.wait(timeout=120) for sender in senders] == [0] * 4
    assert waiting(tmp_path / "runs") == []
    runs, points = held(server.database)
    # 5 trials with 4 cells each, and 4 sweeps.
    assert alone_runs.total() == 5 * (1 + 4) + 4
    assert runs - before_runs == alone_runs
    assert points - before_points == alone_points
