"""The ways to stop a command: at a time, at a point of what it does, with Ctrl-C."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from tests.faults.process import Process

JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
ANSWER_SECONDS = 5.0  # within which a command must have ended after Ctrl-C
_INTERRUPTED = 130
_PATIENCE = 30.0  # after which it is killed
LIMIT = 240.0  # a command that runs longer hangs: an undisturbed one takes a tenth of it


@dataclass(frozen=True)
class Fired:
    """What a shot did.

    Attributes:
        hit: whether it stopped something; otherwise the command ended before.
        answer: seconds from Ctrl-C until no process of the command was left.
        complaints: what is wrong with how the command took it.
    """

    hit: bool
    answer: float | None = None
    complaints: tuple[str, ...] = ()


class Shot(Protocol):
    """One way to stop a command once."""

    kind: ClassVar[str]

    @property
    def name(self) -> str:
        """How and where, in a word."""

    def command(self, line: Sequence[str]) -> list[str]:
        """Make of bnlab's arguments what Python is started with."""

    def fire(self, process: Process) -> Fired:
        """Wait for the moment, and stop the command; return when it, or what was stopped of it, has ended."""


@dataclass(frozen=True)
class AtTime:
    """Kill with -9 after some seconds: the whole `group`, the `parent` alone, or one `worker` alone."""

    seconds: float
    whom: str = "group"
    launcher: tuple[str, ...] = ()
    kind: ClassVar[str] = "time"

    @property
    def name(self) -> str:
        """Whom, and when."""
        return f"{self.whom}@{self.seconds:.1f}"

    def command(self, line: Sequence[str]) -> list[str]:
        """The command itself."""
        return ["-m", "bnlab", *line, *self.launcher]

    def fire(self, process: Process) -> Fired:
        """Kill, and wait for the end of those that must end."""
        if process.wait(self.seconds) is not None:
            return Fired(hit=False)
        kill: dict[str, Callable[[Process], Fired]] = {"group": _group, "parent": _parent, "worker": _worker}
        return kill[self.whom](process)


@dataclass(frozen=True)
class AtPoint:
    """Kill with -9 at the `number`-th call that comes to a point of the victim."""

    point: str
    number: int
    kind: ClassVar[str] = "point"

    @property
    def name(self) -> str:
        """The point and the call."""
        return f"{self.point}@{self.number}"

    def command(self, line: Sequence[str]) -> list[str]:
        """The command inside the victim."""
        return ["-m", "tests.faults.victim", self.point, str(self.number), "--", *line]

    def fire(self, process: Process) -> Fired:
        """Wait for it to kill itself."""
        status = process.wait(LIMIT)
        process.kill_group()
        hung = (f"it hung for {LIMIT:.0f} s",) if status is None else ()
        return Fired(hit=status in (None, -signal.SIGKILL), complaints=hung)


@dataclass(frozen=True)
class Interrupt:
    """Press Ctrl-C after some seconds: every process of the command gets it, as from a terminal."""

    seconds: float
    launcher: tuple[str, ...] = ()
    kind: ClassVar[str] = "interrupt"

    @property
    def name(self) -> str:
        """The launcher, and when."""
        return f"{'joblib' if self.launcher else 'basic'}@{self.seconds:.1f}"

    def command(self, line: Sequence[str]) -> list[str]:
        """The command itself."""
        return ["-m", "bnlab", *line, *self.launcher]

    def fire(self, process: Process) -> Fired:
        """Interrupt, and see how soon it ends, with which status, and what it says."""
        if process.wait(self.seconds) is not None:
            return Fired(hit=False)
        pressed = process.seconds
        process.signal_group(signal.SIGINT)
        process.until(lambda: process.status is not None and not process.members(), _PATIENCE)
        answer, left, status = process.seconds - pressed, process.members(), process.status
        process.kill_group()
        return Fired(True, answer, tuple(_complaints(answer, status, left, process.said)))


def _complaints(answer: float, status: int | None, left: Sequence[int], said: str) -> list[str]:
    if status == 0:  # it was about to end anyway
        return []
    wrong = {
        f"it ended {answer:.1f} s after Ctrl-C": answer > ANSWER_SECONDS,
        f"its status after Ctrl-C was {status}": status != _INTERRUPTED,
        f"{len(left)} of its processes outlived Ctrl-C": bool(left),
        "it did not say after Ctrl-C how to go on": not re.search("resum|same command|to go on", said),
    }
    return [sentence for sentence, true in wrong.items() if true]


def _group(process: Process) -> Fired:
    process.kill_group()
    return Fired(hit=True)


def _parent(process: Process) -> Fired:
    """Leave its workers alive: the next command meets them."""
    process.kill()
    return Fired(hit=True)


def _worker(process: Process) -> Fired:
    """Kill the first worker there is; the command itself must go on to its end."""
    process.until(lambda: process.status is not None or process.workers(), LIMIT)
    if not (workers := process.workers()):
        return Fired(hit=False)
    process.kill(workers[0])
    status = process.wait(LIMIT)
    complaints = () if status == 0 else (f"its status was {status} after a worker was killed",)
    return Fired(hit=True, complaints=complaints)
