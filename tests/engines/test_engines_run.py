"""The same sweep on each engine, with a worker killed in it, against one server with PostgreSQL behind it."""

import os
import signal
import threading
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from bnlab.store import Folder
from tests.engines.postgres import Postgres, missing
from tests.faults.process import Process
from tests.faults.server import Server

TRIALS = 8
# Launcher -> the plugin that brings it, its options, what a worker with a trial is called.
ENGINES = {
    "ray": ("hydra_ray_launcher", ["hydra.launcher.ray.init.num_cpus=2"], "ray::_run_job"),
    "submitit_local": ("hydra_submitit_launcher", [], "submitit.core._submit"),
}
POINTS = """
select t.value, c.value, m.key, m.step, m.value
from metrics m join runs r using (run_uuid) join experiments e using (experiment_id)
join tags t on t.run_uuid = r.run_uuid and t.key = 'bnlab.trial'
left join tags c on c.run_uuid = r.run_uuid and c.key = 'bnlab.cell'
where e.name = %s and r.lifecycle_stage = 'active'
"""
RUNS = """
select coalesce(max(case when t.key = 'bnlab.kind' then t.value end), ''), r.status
from runs r join tags t using (run_uuid) join experiments e using (experiment_id)
where e.name = %s and r.lifecycle_stage = 'active' group by r.run_uuid, r.status
"""


def installed(plugin):
    return find_spec("hydra_plugins") is not None and find_spec(f"hydra_plugins.{plugin}") is not None


pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=missing() or "here"),
    pytest.mark.skipif(find_spec("psycopg2") is None, reason="psycopg2 is not installed"),
    pytest.mark.skipif(
        not any(installed(own[0]) for own in ENGINES.values()), reason="no engine is installed"
    ),
]


@pytest.fixture(scope="module")
def postgres():
    one = Postgres()
    try:
        yield one.start()
    finally:
        one.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory, postgres):
    one = Server(tmp_path_factory.mktemp("server"), postgres.uri)
    try:
        yield one.start()
    finally:
        one.kill()


@pytest.fixture(scope="module")
def line(tiny, server):
    seeds = ",".join(map(str, range(TRIALS)))
    own = ["-m", "name=engines", f"seed={seeds}", "measure.explain=false", "report.pdf=false"]
    return [*own, f"track.uri={server.uri}", *tiny, "train.samples=128", "decay=[0.9]", "measure.points=2"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory, run_line, line):
    """The readings of the basic launcher, in this process."""
    folder = tmp_path_factory.mktemp("basic")
    assert run_line(folder, *line, "track.experiment=basic") == 0
    return readings(folder)


def readings(folder):
    """Every reading of a store, but for the time of day."""
    trials = [Folder(path) for path in (folder / "runs" / "trials").iterdir()]
    return {own.identity: repr([replace(row, time_ms=0) for row in own.readings()]) for own in trials}


def held(postgres, experiment):
    """What the database holds: runs by kind and status, and points, each with how often it is there."""
    import psycopg2

    with closing(psycopg2.connect(postgres.address)) as database, database.cursor() as rows:
        rows.execute(POINTS, (experiment,))
        points = Counter(rows.fetchall())
        rows.execute(RUNS, (experiment,))
        return Counter(rows.fetchall()), points


def workers(folder, name):
    """List the processes that work on a trial of a folder's sweep: the sweep's file is in their variables."""
    mark = f"BNLAB_SWEEP={folder}/".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            named = name.encode() in (entry / "cmdline").read_bytes()
            if named and mark in (entry / "environ").read_bytes():
                yield int(entry.name)


def kill_one(folder, name, victims):
    """Kill a worker with -9 as soon as a trial is under way."""
    end = time.monotonic() + 120
    while not victims and time.monotonic() < end:
        time.sleep(0.05)
        begun = any('"training"' in path.read_text() for path in folder.glob("runs/trials/*/status.json"))
        if begun and (found := list(workers(folder, name))):
            os.kill(found[0], signal.SIGKILL)
            victims.append(found[0])


@pytest.mark.parametrize("launcher", ENGINES)
def test_an_engine_that_loses_a_worker_ends_with_the_same_bits(
    launcher, tmp_path, line, alone, postgres, monkeypatch
):
    plugin, options, name = ENGINES[launcher]
    if not installed(plugin):
        pytest.skip(f"{plugin} is not installed")
    monkeypatch.delenv("BNLAB_DATA", raising=False)  # all trials here are of stand-ins
    victims = []
    thread = threading.Thread(target=kill_one, args=(tmp_path, name, victims), daemon=True)
    command = ["-m", "bnlab", *line, f"track.experiment={launcher}", f"hydra/launcher={launcher}", *options]
    with Process(command, tmp_path) as process:
        thread.start()
        status = process.wait(240)
        thread.join(timeout=1)
        assert (status, len(victims)) == (0, 1), process.said
    assert readings(tmp_path) == alone
    runs, points = held(postgres, launcher)
    assert (runs, points) == held(postgres, "basic")
    assert runs == {("trial", "FINISHED"): TRIALS, ("cell", "FINISHED"): 2 * TRIALS, ("sweep", "FINISHED"): 1}
    assert set(points.values()) == {1}
