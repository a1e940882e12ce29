"""Run a command and watch its processes: wall time, CPU time, peak memory of each (Linux)."""

from __future__ import annotations

import io
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from experiments.throughput.contender import ROOT

_LOOK_SECONDS = 0.5
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Observed:
    """What a command took.

    Attributes:
        seconds: wall time.
        cpu_s: CPU time of the command and of all processes that it started.
        parent_mib, child_mib: peak resident memory of the command, and of the largest process below it.
        status: its exit status.
        output: what it printed, on both streams.
    """

    seconds: float
    cpu_s: float
    parent_mib: float
    child_mib: float
    status: int
    output: str


def observe(command: Sequence[str], surroundings: Mapping[str, str] | None = None) -> Observed:
    """Run a command in the root of the repository and watch it."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(surroundings or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    watch = _Watch(process.pid)
    with process.stdout or nullcontext(io.StringIO()) as stream:
        output = stream.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    watch.stop()
    # Processes that nobody waited for are in the second sum only.
    cpu = max(usage.ru_utime + usage.ru_stime, sum(watch.cpu.values()))
    below = [mib for pid, mib in watch.peaks.items() if pid != process.pid]
    peak = watch.peaks.get(process.pid, 0.0)
    return Observed(seconds, cpu, peak, max(below, default=0.0), process.returncode, output)


@dataclass
class _Watch:
    """Looks at a process and all below it, twice a second: process id -> CPU seconds, peak MiB."""

    root: int
    cpu: dict[int, float] = field(default_factory=dict)
    peaks: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            for pid in _tree(self.root):
                try:
                    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                    self.cpu[pid] = (int(times[11]) + int(times[12])) / _TICKS
                    self.peaks[pid] = memory(pid)["VmHWM"]
                except (OSError, KeyError, IndexError):
                    continue  # it has ended meanwhile


def memory(pid: int | str = "self") -> dict[str, float]:
    """Read a process's memory in MiB: `VmRSS` now, `VmHWM` at its peak."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    pairs = (line.split(":") for line in lines if line.startswith(("VmRSS", "VmHWM")))
    return {name: int(value.split()[0]) / 1024 for name, value in pairs}


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            below = children.read_text().split()
        except OSError:
            continue
        for child in below:
            yield from _tree(int(child))
