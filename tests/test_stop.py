"""A signal lets what is under way be saved, in every process of a sweep, and ends the rest in time."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from omegaconf import OmegaConf

from bnlab import job, stop
from bnlab.settings import SettingsError
from bnlab.stop import Interrupt


@pytest.fixture
def left():
    """The exit statuses that a process would have been ended with."""
    return []


@pytest.fixture
def interrupt(tmp_path, left):
    return Interrupt(tmp_path / "sweeps", lambda text: None, left.append)


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch):
    monkeypatch.setattr(stop._Process, "asked", threading.Event())
    monkeypatch.setattr(stop._Process, "parent", None)


def until(condition):
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def wait():
    """Do nothing for long, as a launcher does it: in short naps."""
    for _ in range(500):
        time.sleep(0.01)


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_breaks_nothing_off_and_is_the_exit_status(interrupt, left, number, status):
    with interrupt:
        assert not stop.asked()
        send(number)
        until(stop.asked)
        until(lambda: interrupt.status)
    assert interrupt.status == status
    assert left == []
    assert not stop.asked()


def test_without_a_signal_nothing_is_asked_and_handlers_are_as_before(interrupt, tmp_path):
    before = [signal.getsignal(number) for number in stop._SIGNALS]
    with interrupt:
        assert [path.name for path in (tmp_path / "sweeps").iterdir()] == [stop.sweep()]
    assert interrupt.status == 0
    assert [signal.getsignal(number) for number in stop._SIGNALS] == before
    assert list((tmp_path / "sweeps").iterdir()) == []
    assert stop.sweep() == ""


def test_other_processes_see_it_by_the_file_that_is_gone(interrupt):
    with interrupt:
        code = "import sys; from bnlab import stop; sys.exit(stop.asked())"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
        send(signal.SIGINT)
        until(lambda: interrupt.status)
        until(lambda: subprocess.run([sys.executable, "-c", code], check=False).returncode == 1)


def test_what_does_not_end_in_time_is_left(interrupt, left, monkeypatch):
    monkeypatch.setattr(stop, "_PATIENCE_SECONDS", 0.05)
    ended = []
    with interrupt:
        send(signal.SIGINT)
        wait()
        ended.append("by itself")
    assert (interrupt.status, ended, left) == (130, [], [])


def test_what_cannot_be_broken_off_is_left(interrupt, left, monkeypatch):
    monkeypatch.setattr(stop, "_PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(stop, "_BREAKING_SECONDS", 0.05)
    monkeypatch.setattr(stop._thread, "interrupt_main", lambda: None)  # as inside a long graph call
    with interrupt:
        send(signal.SIGINT)
        until(lambda: left == [130])


def test_a_second_signal_ends_it_at_once(interrupt, left):
    began = time.monotonic()
    with interrupt:
        send(signal.SIGINT)
        until(lambda: interrupt.status)
        send(signal.SIGINT)
        wait()
    assert (interrupt.status, left) == (130, [])
    assert time.monotonic() - began < stop._PATIENCE_SECONDS


def test_a_signal_that_an_import_swallows_is_remembered(interrupt):
    before = signal.getsignal(signal.SIGINT)
    try:
        stop.remember()
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        with interrupt:
            assert stop.asked()
            assert interrupt.status == 130
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_signal_that_is_ignored_stays_so(interrupt):
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupt:
            send(signal.SIGHUP)
            time.sleep(0.05)
            assert not stop.asked()
    finally:
        signal.signal(signal.SIGHUP, before)


ORPHAN = """
import os, sys, time
from bnlab import stop
from bnlab.stop import Interrupt
from pathlib import Path
interrupt = Interrupt(Path("sweeps"), print, os._exit)
interrupt.__enter__()
if os.fork():
    time.sleep(0.5)
    os._exit(0)
stop._Process.interrupt = None
stop.listen()
with stop.working():
    while not stop.asked():
        time.sleep(0.01)
    open("saved", "w").close()
time.sleep(60)
open("idle", "w").close()
"""


def test_a_worker_whose_parent_is_gone_saves_and_ends(tmp_path):
    # Both have ended when their common output has.
    subprocess.run(
        [sys.executable, "-c", ORPHAN], cwd=tmp_path, stdout=subprocess.PIPE, timeout=20, check=True
    )
    assert {path.name for path in tmp_path.iterdir()} == {"sweeps", "saved"}


def test_a_sweep_may_outlive_the_shell_that_started_it(interrupt, monkeypatch):
    with interrupt:
        stop.listen()
        monkeypatch.setattr(os, "getppid", lambda: 1)
        assert not stop.asked()


def test_files_of_sweeps_that_were_killed_are_removed(interrupt, tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host = interrupt.sweep.rpartition(f".{os.getpid()}.")[0]
    (tmp_path / "sweeps").mkdir()
    for name in (f"{host}.{ended.pid}.0", f"{host}.1.0", f"elsewhere.{ended.pid}.0"):
        (tmp_path / "sweeps" / name).touch()
    with interrupt:
        kept = {path.name for path in (tmp_path / "sweeps").iterdir()}
    assert kept == {f"{host}.1.0", f"elsewhere.{ended.pid}.0", interrupt.sweep}


def test_an_interrupt_while_libraries_are_imported_has_the_status_of_any_other():
    code = """
import atexit, os, bnlab.__main__ as door

def run(arguments):
    atexit.register(os._exit, 7)  # a library that is confused by its own end
    raise KeyboardInterrupt

door._run = run
door.main()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 130
    assert ended.stderr == "\nbnlab: interrupted; the same command goes on where it stopped\n"


def test_a_host_that_does_not_see_the_store_says_so(tmp_path, monkeypatch):
    config = OmegaConf.create({})
    monkeypatch.setenv("BNLAB_SWEEP", str(tmp_path / "elsewhere" / "host.1.token"))
    with pytest.raises(SettingsError, match=r"elsewhere is not there on .*; give store=FOLDER"):
        job.run(config)
    assert stop.hidden() == str(tmp_path / "elsewhere")
    monkeypatch.setenv("BNLAB_SWEEP", "")  # a worker of a cluster that was told of no sweep
    assert stop.hidden() == ""
