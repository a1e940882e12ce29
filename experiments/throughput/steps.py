"""Training steps per second: bnlab against Keras `fit` and a PyTorch loop, in interleaved rounds."""

from __future__ import annotations

import math
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from bnlab.settings import SettingsError
from experiments.throughput import material
from experiments.throughput.contender import Contender, ContenderError
from experiments.throughput.rounds import enough, turns
from experiments.throughput.tables import tell


class Entry(NamedTuple):
    """A contender: the module that serves it, and its setting."""

    module: str
    setting: dict[str, Any]


EXECUTIONS = [8, 32, 128]
FIT, JIT = "Keras fit", "Keras fit, jit"
FIT_MANY, JIT_MANY = f"{FIT}, many", f"{JIT}, many"
OURS = {True: "bnlab xla=true", False: "bnlab xla=false"}
ENTRIES = {name: Entry("bnlab_loop", {"xla": xla}) for xla, name in OURS.items()}
ENTRIES |= {
    FIT: Entry("keras_loop", {"jit": False, "steps_per_execution": [1]}),
    FIT_MANY: Entry("keras_loop", {"jit": False, "steps_per_execution": EXECUTIONS}),
    JIT: Entry("keras_loop", {"jit": True, "steps_per_execution": [1]}),
    JIT_MANY: Entry("keras_loop", {"jit": True, "steps_per_execution": EXECUTIONS}),
}
for _compiled, _last in product((False, True), (False, True)):
    _name = ("torch.compile" if _compiled else "PyTorch") + (", channels last" if _last else "")
    ENTRIES[_name] = Entry("torch_loop", {"compile": _compiled, "channels_last": _last})
# Relative differences of losses that rounding explains: of the first step, and after two updates.
FIRST_LOSS, LATER_LOSS = 1e-4, 2e-2
_TRIAL_SECONDS = 0.2


class Different(Exception):
    """Two contenders do not train the same network; the message says how it shows."""


def measure(options: Namespace) -> Iterator[dict]:
    """Let all contenders race at every task and batch size; yield a row per turn."""
    with tempfile.TemporaryDirectory() as folder, _started(options, Path(folder)) as contenders:
        if not contenders:
            raise SettingsError(
                f"--contenders must name one that can run, got {options.contenders}; "
                f"known are {', '.join(ENTRIES)}, and those of PyTorch need --torch"
            )
        for task, size in product(options.tasks, options.batch_sizes):
            place = Path(folder) / f"{task}-{size}"
            trial = material.write(place, task, size)
            if task == options.tasks[0] and size == options.batch_sizes[0]:
                tell("warming up: what a process does only once is not part of a first call")
                _built({name: c for name, c in contenders.items() if "compile" not in name}, place)
            race = _built(contenders, place)
            check(race)
            common = {"task": task, "batch_size": size, "table_xla": trial.xla}
            common["default_steps"] = default_steps(task, size)
            for row in _raced(contenders, race, size, options):
                yield {**common, **row}


def default_steps(task: str, batch_size: int) -> int:
    """Count the steps of a default run."""
    return material.default_job(f"task={task}", f"batch_size={batch_size}", "device=cpu").trial.steps


def check(race: dict[str, dict]) -> None:
    """Check that all contenders have equally many parameters and, on equal batches, equal losses.

    Raises:
        Different: they do not.
    """
    first, *others = race
    for name in others:
        mine, yours = race[first], race[name]
        if mine["parameters"] != yours["parameters"]:
            raise Different(f"{name} has {yours['parameters']} parameters, {first} {mine['parameters']}")
        bounds = [FIRST_LOSS] + [LATER_LOSS] * (len(mine["losses"]) - 1)
        for step, (a, b, bound) in enumerate(zip(mine["losses"], yours["losses"], bounds, strict=True), 1):
            if not math.isclose(a, b, rel_tol=bound):
                raise Different(f"{name} has loss {b} at step {step}, {first} {a}")


@contextmanager
def _started(options: Namespace, folder: Path) -> Iterator[dict[str, Contender]]:
    """Start every contender that can be had."""
    if not options.torch:
        tell("no PyTorch rows: --torch PYTHON names an interpreter with torch and numpy (pip install torch)")
    contenders: dict[str, Contender] = {}
    try:
        for name in options.contenders or ENTRIES:
            peer = ENTRIES[name].module == "torch_loop"
            if python := options.torch if peer else sys.executable:
                command = [python, "-m", f"experiments.throughput.{ENTRIES[name].module}"]
                contenders[name] = Contender(name, command, folder)
        yield contenders
    finally:
        for contender in contenders.values():
            contender.close()


def _built(contenders: dict[str, Contender], place: Path) -> dict[str, dict]:
    """Have all contenders build: ours alone, the others two at a time; one that cannot is left out."""
    race: dict[str, dict] = {}

    def build(name: str) -> None:
        setting = dict(ENTRIES[name].setting)
        if name == JIT_MANY and FIT_MANY in race:
            setting["steps_per_execution"] = [race[FIT_MANY]["chosen"]]
        try:
            race[name] = contenders[name].build(place, setting)
            tell(f"{place.name}: {name}: first step after {race[name]['first_s']:.1f} s")
        except ContenderError as error:
            tell(f"left out: {error}")

    for group, workers in _groups(list(contenders)):
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(build, group))
    return {name: race[name] for name in contenders if name in race}


def _groups(names: list[str]) -> Iterator[tuple[Sequence[str], int]]:
    """Order the builds: ours by themselves; the slowest early; last the one that needs another's choice."""
    ours = [name for name in names if name in OURS.values()]
    last = [name for name in names if name == JIT_MANY]
    rest = [name for name in names if name not in ours + last]
    yield ours, 1
    yield sorted(rest, key=lambda name: "compile" not in name), 2
    yield last, 1


def _raced(
    contenders: dict[str, Contender], race: dict[str, dict], size: int, options: Namespace
) -> Iterator[dict]:
    steps = {name: _steps(contenders[name], race[name], size, options.seconds) for name in race}
    for number in range(options.rounds):
        for turn, name in enumerate(turns(list(race), number)):
            facts = {key: race[name][key] for key in ("chosen", "parameters", "first_s")}
            row = {"contender": name, **facts, "first_loss": race[name]["losses"][0]}
            seconds = contenders[name].seconds(steps[name])
            yield {**row, "round": number, "turn": turn, "steps": steps[name], "seconds": seconds}


def _steps(contender: Contender, facts: dict, size: int, wanted: float) -> int:
    """Choose a contender's steps per round, by trying."""
    steps, most, multiple = 1, material.IMAGES // size, int(facts["chosen"] or 1)
    while (seconds := contender.seconds(steps)) < _TRIAL_SECONDS and steps < most:
        steps = min(most, 4 * steps)
    return enough(seconds, steps, wanted, most, multiple)
