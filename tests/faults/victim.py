"""`python -m bnlab`, which kills itself at the N-th call of a function that it did not write.

    python -m tests.faults.victim POINT N -- <arguments of bnlab>
    python -m tests.faults.victim count 0 -- <arguments of bnlab>

The second kills nothing; the last line that it prints is JSON: the calls of each target.

Only functions of libraries are wrapped, never bnlab's own: those may change their names.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import io
import json
import os
import random
import runpy
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

Function: TypeAlias = Callable[..., Any]

_CLIENT = "mlflow.tracking.client"
_GRAPH = "tensorflow.python.eager.polymorphic_function.polymorphic_function"
_TIMER_SECONDS = 0.03
# Name -> the module that holds it, the path of attributes there. `pathlib` calls the functions of `os`.
TARGETS = {
    "savez": ("numpy", "savez"),
    "fsync": ("os", "fsync"),
    "replace": ("os", "replace"),
    "rename": ("os", "rename"),
    "unlink": ("os", "unlink"),
    "mkdir": ("os", "mkdir"),
    "create_experiment": (_CLIENT, "MlflowClient.create_experiment"),
    "create_run": (_CLIENT, "MlflowClient.create_run"),
    "log_batch": (_CLIENT, "MlflowClient.log_batch"),
    "log_text": (_CLIENT, "MlflowClient.log_text"),
    "log_artifacts": (_CLIENT, "MlflowClient.log_artifacts"),
    "set_tag": (_CLIENT, "MlflowClient.set_tag"),
    "set_terminated": (_CLIENT, "MlflowClient.set_terminated"),
    "delete_tag": (_CLIENT, "MlflowClient.delete_tag"),
    "commit": ("sqlalchemy.engine.default", "DefaultDialect.do_commit"),
    "execute": ("sqlalchemy.engine.default", "DefaultDialect.do_execute"),
    "compile": ("typst", "compile"),
    "decompress": ("zlib", "decompressobj"),
    "load": ("numpy", "load"),
    "build": ("keras.src.models.functional", "Functional.__init__"),
    "trace": (_GRAPH, "Function.get_concrete_function"),
    "graph": (_GRAPH, "Function.__call__"),
}
_FURTHER = {"savez": ("half", "during"), "log_batch": ("half",), "commit": ("during",), "graph": ("during",)}
# "savez:half" and so on -> (target, when).
POINTS = {
    f"{name}:{when}": (name, when)
    for name in TARGETS
    for when in ("before", "after", *_FURTHER.get(name, ()))
}


def die() -> None:
    """End this process as the kernel ends one when memory runs out: nothing of it runs any more."""
    os.kill(os.getpid(), signal.SIGKILL)


def before(original: Function, *args: Any, **kwargs: Any) -> Any:
    """Die instead of the call."""
    die()


def after(original: Function, *args: Any, **kwargs: Any) -> Any:
    """Die when the call has returned."""
    original(*args, **kwargs)
    die()


def during(original: Function, *args: Any, **kwargs: Any) -> Any:
    """Die a few milliseconds after the call began; when it is shorter, soon after it."""
    threading.Timer(random.uniform(0, _TIMER_SECONDS), die).start()
    return original(*args, **kwargs)


def half(original: Function, *args: Any, **kwargs: Any) -> Any:
    """Die when half of what the call is to write is written."""
    _HALVES[original.__name__](original, *args, **kwargs)
    die()


def _half_savez(original: Function, file: Any, *args: Any, **kwargs: Any) -> None:
    whole = io.BytesIO()
    original(whole, *args, **kwargs)
    part = whole.getvalue()[: len(whole.getvalue()) // 2]
    if not hasattr(file, "write"):
        Path(file).write_bytes(part)
        return
    file.write(part)
    file.flush()


def _half_log_batch(
    original: Function, client: Any, run_id: str, metrics: Sequence[Any] = (), *args: Any, **own: Any
) -> None:
    original(client, run_id, metrics[: len(metrics) // 2], *args, **own)


_HALVES = {"savez": _half_savez, "log_batch": _half_log_batch}


class Trap:
    """Counts the calls of every target, and dies at one of them.

    Args:
        name: of the target to die at; no other name dies.
        number: of its call, from 1.
        die_at: what is done instead of that call.
    """

    def __init__(self, name: str = "", number: int = 0, die_at: Function = before) -> None:
        self.calls: Counter[str] = Counter(dict.fromkeys(TARGETS, 0))
        self._name, self._number, self._die_at = name, number, die_at
        self._lock = threading.Lock()

    def around(self, name: str, original: Function) -> Function:
        """Wrap a target."""

        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                self.calls[name] += 1
                mine = name == self._name and self.calls[name] == self._number
            return self._die_at(original, *args, **kwargs) if mine else original(*args, **kwargs)

        return call

    def set(self, module: ModuleType) -> None:
        """Wrap every target that a module holds."""
        for name, (home, path) in TARGETS.items():
            if home == module.__name__:
                *owners, last = path.split(".")
                owner = functools.reduce(getattr, owners, module)
                setattr(owner, last, self.around(name, getattr(owner, last)))


class OnImport(importlib.abc.MetaPathFinder):
    """Sets a trap in a module right after it was imported: importing it earlier would change the program."""

    def __init__(self, trap: Trap) -> None:
        self._trap, self._open = trap, {home for home, _ in TARGETS.values()}
        for home in self._open & sys.modules.keys():
            trap.set(sys.modules[home])
        self._open -= sys.modules.keys()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Find the module as everybody does, and have its loader set the trap."""
        if name not in self._open:
            return None
        self._open.remove(name)
        spec = importlib.util.find_spec(name)
        if spec and spec.loader:
            spec.loader.exec_module = self._then_set(spec.loader.exec_module)  # type: ignore[method-assign]
        return spec

    def _then_set(self, execute: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
        def exec_module(module: ModuleType) -> None:
            execute(module)
            self._trap.set(module)

        return exec_module


def main(arguments: Sequence[str]) -> None:
    """Run bnlab with a trap set."""
    point, number, _, *own = arguments
    name, when = POINTS.get(point, ("", "before"))
    random.seed(f"{point} {number}")
    trap = Trap(name, int(number), globals()[when])
    sys.meta_path.insert(0, OnImport(trap))
    sys.argv = ["bnlab", *own]
    try:
        runpy.run_module("bnlab", run_name="__main__", alter_sys=True)
    finally:
        if point == "count":
            print(json.dumps(trap.calls), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
