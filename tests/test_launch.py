"""Launching: the order of jobs, and what is launched again after a worker died."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from bnlab import launch
from bnlab.checkpoint import load
from bnlab.compose import compose
from bnlab.job import prepare
from bnlab.store import Folder, Status


@pytest.fixture
def jobs(tmp_path, tiny):
    def jobs(*arguments):
        own = ["-m", *tiny, f"store={tmp_path}", *arguments]
        return [prepare(settings) for settings in compose(own).settings]

    return jobs


def test_longest_jobs_come_first(jobs):
    both = jobs("batch_size=64,2,16", "task=mnist,cifar")
    named = [(job.trial.batch_size, job.trial.task) for job in both]
    found = [named[n] for n in launch.in_order(both, range(6))]
    assert found[0] == (2, "cifar")
    assert found[-1] == (64, "mnist")
    for task in ("mnist", "cifar"):
        assert [size for size, own in found if own == task] == [2, 16, 64]


def test_the_default_sweep_begins_with_the_longest_trials(tmp_path):
    all_jobs = [prepare(s) for s in compose(["+experiment=phase_sweep", f"store={tmp_path}"]).settings]
    first = [all_jobs[n].trial for n in launch.in_order(all_jobs, range(16))][:2]
    assert [(trial.batch_size, trial.task) for trial in first] == [(2, "cifar"), (2, "cifar")]


def test_jobs_that_share_a_trial_do_not_wait_side_by_side(jobs):
    shared = jobs("decay=0.5,0.9", "batch_size=8,16")
    found = [shared[n].folder.identity for n in launch.in_order(shared, range(4))]
    assert len(set(found[:2])) == len(set(found[2:])) == 2


class Store:
    """Stands for launcher and workers: what each launch does to the statuses of its jobs."""

    def __init__(self, jobs, script):
        self.jobs, self.script, self.launched, self.told = jobs, list(script), [], []

    def launch(self, numbers):
        self.launched.append(list(numbers))
        states = self.script.pop(0) if self.script else {}
        for number, state in states.items():
            self.jobs[number].folder.path.mkdir(parents=True, exist_ok=True)
            self.jobs[number].folder.write_status(Status(state))
        if "done" not in states.values():
            raise RuntimeError("a worker was terminated")

    def run(self):
        return launch.run(self.jobs, self.launch, self.told.append)


@pytest.fixture
def complete(monkeypatch):
    """A job is complete when its status says so."""
    done = property(lambda job: job.folder.status().state == "done")
    monkeypatch.setattr("bnlab.job.Job.complete", done)


def test_what_was_under_way_is_launched_last_and_alone(jobs, complete):
    four = Store(jobs("seed=0,1,2,3"), [{0: "training", 1: "measuring"}, dict.fromkeys((2, 3), "done")])
    four.script += [{0: "done"}, {1: "done"}]
    assert four.run() == ""
    assert four.launched == [[0, 1, 2, 3], [2, 3], [0], [1]]
    assert four.told == ["4 of 4 jobs are launched again after the launcher stopped: a worker was terminated"]


def test_trials_that_kill_their_worker_also_when_alone_have_failed(jobs, complete):
    four = Store(jobs("seed=0,1,2,3"), [{0: "training", 1: "training"}])
    four.script += [{2: "training", 3: "training"}, {0: "training"}, {1: "done"}, {2: "measuring"}]
    four.script += [{3: "done"}]
    assert four.run() == ""
    assert four.launched == [[0, 1, 2, 3], [2, 3], [0], [1], [2], [3]]
    reasons = {number: four.jobs[number].folder.status().reason for number in (0, 2)}
    assert reasons == {
        0: "its process ended twice while training, the second time alone (out of memory?); "
        "the launcher stopped: a worker was terminated",
        2: "its process ended twice while measuring, the second time alone (out of memory?); "
        "the launcher stopped: a worker was terminated",
    }


def test_a_launcher_that_twice_begins_nothing_is_not_called_again(jobs, complete):
    broken = Store(jobs("seed=0,1"), [])
    assert broken.run() == "the launcher stopped: a worker was terminated"
    assert broken.launched == [[0, 1], [0, 1]]


def test_a_worker_that_is_killed_before_it_begins_is_replaced(jobs, complete):
    two = Store(jobs("seed=0,1"), [{}, dict.fromkeys((0, 1), "done")])
    assert two.run() == ""
    assert two.launched == [[0, 1], [0, 1]]


def test_what_never_began_is_launched_again_where_others_ended(jobs, complete):
    two = Store(jobs("seed=0,1"), [{0: "done"}, {1: "done"}])
    assert two.run() == ""
    assert two.launched == [[0, 1], [1]]


def test_a_failed_trial_is_not_launched_again(jobs, complete):
    two = Store(jobs("seed=0,1"), [{0: "failed", 1: "training"}, {1: "done"}])
    assert two.run() == ""
    assert two.launched == [[0, 1], [1]]


def test_a_killed_worker_loses_nothing(tmp_path, run_line, tiny, capsys):
    """The line itself: joblib's workers, one of them killed with -9 while it trains."""
    common = ["-m", *(one for one in tiny if "samples" not in one), "train.samples=6400", "report.pdf=false"]
    common += ["name=killed", "seed=0,1,2", "measure.explain=false"]
    joblib = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    victims = []

    def kill():
        from joblib.externals.loky import reusable_executor

        while not victims:
            time.sleep(0.05)
            if any('"training"' in path.read_text() for path in tmp_path.glob("runs/trials/*/status.json")):
                victims.append(next(iter(reusable_executor._executor._processes)))
                os.kill(victims[0], signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    assert run_line(tmp_path, *common, *joblib) == 0
    thread.join(timeout=1)
    assert len(victims) == 1
    printed = capsys.readouterr().out
    assert "jobs are launched again after the launcher stopped" in printed
    assert "[3/3]" in printed
    assert run_line(tmp_path, *common, "store=alone") == 0
    packed, alone = (kept(tmp_path / store) for store in ("runs", "alone"))
    assert len(packed) > 3 * 4 * 20
    assert packed == alone


def kept(store):
    """Every array of every checkpoint of a store, and its readings but for the time of day, as bytes."""
    arrays = {}
    for path in store.glob("trials/*/checkpoints/*.npz"):
        for name, array in load(path).arrays.items():
            arrays[path.parts[-3], path.name, name] = array.tobytes()
    for path in store.glob("trials/*"):
        readings = [replace(reading, time_ms=0) for reading in Folder(path).readings()]
        arrays[path.name, "readings"] = repr(readings)
    return arrays


ONE_PROCESS = """
import sys
import bnlab.train
from bnlab import sweep

own = bnlab.train.train


def train(*arguments):
    with open("trained", "a") as file:
        file.write("once\\n")
    own(*arguments)


bnlab.train.train = train
sys.exit(sweep.run(sys.argv[1:]))
"""


def test_two_sweeps_at_once_train_their_common_trial_once(tmp_path, tiny):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    environment.pop("BNLAB_DATA", None)
    command = [sys.executable, "-c", ONE_PROCESS, "report.pdf=false", "measure.explain=false", *tiny]
    both = [
        subprocess.Popen([*command, f"name={name}", f"decay={decay}"], cwd=tmp_path, env=environment)
        for name, decay in (("one", 0.5), ("two", 0.9))
    ]
    assert [process.wait() for process in both] == [0, 0]
    assert (tmp_path / "trained").read_text() == "once\n"
    [trial] = tmp_path.glob("runs/trials/*")
    assert {reading.decay for reading in Folder(trial).readings()} == {None, 0.5, 0.9}


def test_a_worker_is_told_what_it_might_find_otherwise(tmp_path, tiny, monkeypatch):
    """Another folder, no variables, another machine: the same store, data and trial."""
    store, root = tmp_path / "o'brien and = sons", tmp_path / "data"
    root.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BNLAB_DATA", "data")
    [settings] = compose([*tiny, 'store="' + str(store.name) + '"']).settings
    job = prepare(settings)
    places, folder = launch._places(job), job.folder
    monkeypatch.chdir(root)
    monkeypatch.delenv("BNLAB_DATA")
    [told] = compose([*tiny, *places]).settings
    assert (told.folder, told.data.root, told.device.name) == (store, str(root), "cpu")
    assert prepare(told).folder == folder


def test_before_anything_is_launched_again_those_who_work_come_to_their_end(jobs, complete):
    """A launcher gives up at the first of its workers that is lost; here the other one goes on."""
    two = jobs("seed=0,1")
    launched = []
    working = threading.Event()

    def finish():
        with two[1].folder.alone():
            working.set()
            time.sleep(0.3)
            two[1].folder.write_status(Status("done"))

    def give_up(numbers):
        launched.append(list(numbers))
        if len(launched) > 1:
            two[0].folder.write_status(Status("done"))
            return
        for job in two:
            job.folder.path.mkdir(parents=True, exist_ok=True)
            job.folder.write_status(Status("training"))
        threading.Thread(target=finish, daemon=True).start()
        assert working.wait(5)
        raise RuntimeError("a worker was terminated")

    assert launch.run(two, give_up, lambda text: None) == ""
    assert launched == [[0, 1], [0]]
