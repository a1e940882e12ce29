"""A command in a process group of its own, so that a signal meets it and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_POLL_SECONDS, _GONE_SECONDS = 0.02, 10.0
_WORKER = "popen_loky"  # in the command line of a worker of joblib, and of no other process


class Process:
    """A command that runs in a folder; what it says goes to a file there.

    As a context it ends with the block, and so does everything in its group. Until then it is not reaped, so
    that no other process can get its number.

    Args:
        command: Python's arguments, such as `-m bnlab ...`.
        folder: where it runs; made when it is missing.
        said: the file's name.
    """

    def __init__(self, command: Sequence[str], folder: Path, said: str = "said.txt") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._began, self._said = time.monotonic(), folder / said
        with self._said.open("wb") as file:
            self._own = subprocess.Popen(
                [sys.executable, *command],
                cwd=folder,
                env=environment(folder),
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def __enter__(self) -> Process:
        """It runs already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill what is left of it."""
        self.kill_group()
        self._own.wait()

    @property
    def said(self) -> str:
        """Everything that it wrote to stdout and stderr so far."""
        return self._said.read_text(errors="replace")

    @property
    def seconds(self) -> float:
        """How long ago it began."""
        return time.monotonic() - self._began

    @property
    def status(self) -> int | None:
        """The exit status of the command itself, -9 after a kill; None while it runs."""
        end = os.waitid(os.P_PID, self._own.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if end is None:
            return None
        return end.si_status if end.si_code == os.CLD_EXITED else -end.si_status

    def wait(self, limit: float) -> int | None:
        """Wait for its end: the status, or None when it takes longer than `limit` seconds."""
        self.until(lambda: self.status is not None, limit)
        return self.status

    def until(self, true: Callable[[], object], limit: float) -> bool:
        """Wait until something is true; tell whether it became so within `limit` seconds."""
        end = time.monotonic() + limit
        while not true():
            if time.monotonic() >= end:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def members(self) -> list[int]:
        """List the living processes of its group, itself included."""
        return list(_group(self._own.pid))

    def workers(self) -> list[int]:
        """List the processes of its group that a launcher started to run jobs."""
        return [pid for pid in self.members() if _WORKER in _command_line(pid)]

    def kill(self, pid: int | None = None) -> None:
        """Kill one process of the group and see that it is gone: itself, unless another is named."""
        victim = pid or self._own.pid
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        self.until(lambda: victim not in self.members(), _GONE_SECONDS)

    def kill_group(self) -> None:
        """Kill every process of the group and see that they are gone."""
        self.signal_group(signal.SIGKILL)
        self.until(lambda: not self.members(), _GONE_SECONDS)

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to every process of the group."""
        with suppress(ProcessLookupError):
            os.killpg(self._own.pid, number)


def environment(folder: Path) -> Mapping[str, str]:
    """Name the variables of a command: this checkout's code, and a cache inside its folder."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    own = {"PYTHONPATH": path, "XDG_CACHE_HOME": str(folder / "cache"), "MLFLOW_DISABLE_TELEMETRY": "true"}
    return {**os.environ, **own}


def _group(leader: int) -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            # After the name, which may hold anything but ends with the last bracket: state, parent, group.
            state, _, group, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(group) == leader and state not in "ZX":
                yield int(entry.name)


def _command_line(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    return ""
