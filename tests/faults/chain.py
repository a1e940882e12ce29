"""A chain: stop a sweep, start it again, stop it again, ..., let it finish, compare with an undisturbed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.faults.compare import Difference, compare
from tests.faults.facts import Facts, facts, strays, undelivered
from tests.faults.process import Process
from tests.faults.shots import LIMIT, Shot

RESUMES = 3  # times that a command may be started, undisturbed, until it ends well
_ORPHAN_SECONDS = 20.0  # in which workers must have noticed that nobody waits for them

_COMMON = """
    -m name=killed task=mnist norm=batch,group task.dropout=0.2 batch_size=16 decay=[0.5,0.9]
    measure.points=6 measure.images=64 data.download=false device=cpu
"""


def line(optimizer: str, samples: int) -> list[str]:
    """Make the sweep's arguments: two trials, a dozen checkpoints each, two decays, both phases, a report."""
    return [*_COMMON.split(), f"train={optimizer}", f"train.samples={samples}"]


@dataclass(frozen=True)
class Reference:
    """An undisturbed sweep: what it leaves, how long it takes, how often it calls each target."""

    line: Sequence[str]
    facts: Facts
    seconds: float
    calls: Mapping[str, int]


@dataclass
class Outcome:
    """What happened in a chain, and what it left.

    Attributes:
        hit: shots that stopped something.
        missed: shots before whose moment the command had ended.
        starts: of the command.
        complaints: how commands took what was done to them, where that was wrong.
        answers: seconds from each Ctrl-C until nothing of the command ran any more.
        orphans: processes that outlived a killed parent, and the last command.
        unfinished: that the sweep did not end well however often it was started.
        difference: from the undisturbed sweep; empty where it did not finish.
        strays: temporary files that nobody removed.
        seconds: of the whole chain.
    """

    hit: list[Shot] = field(default_factory=list)
    missed: list[Shot] = field(default_factory=list)
    starts: int = 0
    complaints: list[str] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    orphans: int = 0
    unfinished: bool = False
    difference: Difference = field(default_factory=Difference)
    strays: tuple[str, ...] = ()
    seconds: float = 0.0


class Chain:
    """One sweep in one folder, disturbed.

    Args:
        line: the sweep's arguments.
        folder: a fresh one.
    """

    def __init__(self, line: Sequence[str], folder: Path) -> None:
        self._line, self._folder, self._outcome = line, folder, Outcome()
        # All are kept to the end: a killed parent's workers may live on.
        self._started, self._processes = ExitStack(), list[Process]()

    def run(self, shots: Iterable[Shot], expected: Callable[[], Facts]) -> Outcome:
        """Fire shots, one per start, until none is left or the sweep has ended; let it end; compare.

        Args:
            shots: drawn one by one.
            expected: gives what an undisturbed sweep leaves; asked for at the end.
        """
        began, outcome = time.monotonic(), self._outcome
        with self._started:
            if not (any(map(self._fire, shots)) or any(self._undisturbed() for _ in range(RESUMES))):
                outcome.unfinished = True
            outcome.orphans = self._orphans()
        if not outcome.unfinished:
            outcome.difference = difference(expected(), self._folder)
        outcome.strays = tuple(strays(self._folder))
        outcome.seconds = time.monotonic() - began
        return outcome

    def _fire(self, shot: Shot) -> bool:
        """Start the command and stop it; tell whether it ended well all the same."""
        process, outcome = self._start(shot.command(self._line)), self._outcome
        fired = shot.fire(process)
        (outcome.hit if fired.hit else outcome.missed).append(shot)
        outcome.complaints += [f"{shot.name}: {text}" for text in fired.complaints]
        outcome.answers += [fired.answer] if fired.answer is not None else []
        return process.status == 0 if fired.hit else self._ended_well(process)

    def _undisturbed(self) -> bool:
        process = self._start(["-m", "bnlab", *self._line])
        if process.wait(LIMIT) is None:
            process.kill_group()
        return self._ended_well(process)

    def _start(self, command: Sequence[str]) -> Process:
        self._outcome.starts += 1
        process = Process(command, self._folder, f"said-{self._outcome.starts}.txt")
        self._processes.append(self._started.enter_context(process))
        return process

    def _ended_well(self, process: Process) -> bool:
        """Complain where a command that nothing was done to did not end with status 0."""
        if process.status != 0:
            ended = f"start {self._outcome.starts} ended by itself with status {process.status}"
            self._outcome.complaints.append(f"{ended}: {last_words(process)}")
        return process.status == 0

    def _orphans(self) -> int:
        """Count the processes that are left some time after the last command's end."""
        last = self._processes[-1]
        last.until(lambda: not any(process.members() for process in self._processes), _ORPHAN_SECONDS)
        return sum(len(process.members()) for process in self._processes)


def undisturbed(line: Sequence[str], folder: Path) -> Reference:
    """Run a sweep that nothing happens to, and count its calls of every target."""
    with Process(["-m", "tests.faults.victim", "count", "0", "--", *line], folder) as process:
        status, seconds = process.wait(LIMIT), process.seconds
    if status != 0:
        raise RuntimeError(f"the undisturbed sweep ended with status {status}: {last_words(process)}")
    return Reference(line, facts(folder), seconds, json.loads(process.said.splitlines()[-1]))


def difference(expected: Facts, folder: Path) -> Difference:
    """Compare what a folder holds; what still waits to be sent counts as lost."""
    found = compare(expected, facts(folder))
    waiting = tuple(f"{path}: not delivered" for path in undelivered(folder))
    return replace(found, lost=found.lost + waiting)


def last_words(process: Process) -> str:
    """Quote the last line that a command wrote."""
    return (process.said.strip() or "nothing said").rpartition("\n")[2][:300]
