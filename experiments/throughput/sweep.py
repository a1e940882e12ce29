"""The default sweep against the usual way: a fresh Keras model per cell, `compile`, `fit`, evaluation."""

from __future__ import annotations

import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import pandas as pd

from experiments.throughput import tables
from experiments.throughput.contender import ONE_THREAD, Contender
from experiments.throughput.material import default_job
from experiments.throughput.observe import observe
from experiments.throughput.serve import Setting
from experiments.throughput.steps import FIT, FIT_MANY, JIT, JIT_MANY
from experiments.throughput.steps_tables import default_run
from experiments.throughput.tables import tell

# The cells that are measured are at this decay; the others of their trial cost the same.
DECAY = 0.9
# Where nothing has been measured.
_SETTING: Setting = {"steps_per_execution": 32, "jit": False}


# Of a cell, with evaluation compiled by hand.
PARTS = ("build", "fit", "evaluate")


class Arrangement(NamedTuple):
    """How many processes do cells side by side, with how many threads each; 0: TensorFlow's choice."""

    processes: int
    threads: int


ARRANGEMENTS = {"one": Arrangement(1, 0), "two": Arrangement(2, 1)}


class Cell(NamedTuple):
    """A cell of the default sweep, but for its decay."""

    batch_size: int
    task: str
    norm: str
    phase: bool

    def overrides(self, options: Namespace) -> list[str]:
        """Say what a command line says of it."""
        own = [f"task={self.task}", f"norm={self.norm}", f"batch_size={self.batch_size}", "device=cpu"]
        return [*own, f"store={options.store}", *options.override]


def measure(options: Namespace) -> Iterator[dict]:
    """Run ours, the usual way's sample, and ours again."""
    yield _ours(options, 0)
    cells = [
        Cell(*values) for values in product(options.batch_sizes, options.tasks, options.norms, (True, False))
    ]
    half = [cell for cell in cells if cell.norm == options.norms[0]] if len(options.arrangement) > 1 else []
    rows: list[dict] = []
    for name in options.arrangement if half else ():
        rows += _usual(name, half, options)
    best = faster(pd.DataFrame(rows)) if half else options.arrangement[0]
    rows += _usual(best, [cell for cell in cells if cell not in half], options)
    for row in rows:
        # Looked up here, in one thread: settings are composed one at a time.
        yield {**row, "our_rmse": _our_rmse(row, options)} if row["kind"] == "cell" else row
    for number in range(1, options.ours):
        yield _ours(options, number)


def faster(rows: pd.DataFrame) -> str:
    """Name the arrangement that did the same cells in less time, had its processes shared them evenly."""
    cells = rows[rows["kind"] == "cell"]
    seconds = cells["seconds"].groupby(cells["arrangement"]).sum()
    return str(min(seconds.index, key=lambda name: seconds[name] / ARRANGEMENTS[str(name)].processes))


def fit_setting(path: Path, task: str, batch_size: int) -> Setting:
    """Choose how `fit` runs: as the part `steps` found it fastest over a default run, compiling included."""
    if not path.exists():
        return _SETTING
    rows = tables.read(path)
    race = rows[(rows["task"] == task) & (rows["batch_size"] == batch_size)]
    names = [name for name in (FIT, FIT_MANY, JIT, JIT_MANY) if (race["contender"] == name).any()]
    if not names:
        return _SETTING
    race = race.assign(pace=race["steps"] / race["seconds"])
    best = min(names, key=lambda name: default_run(race, name))
    chosen = race[race["contender"] == best]["chosen"].iloc[0]
    return {"steps_per_execution": int(chosen), "jit": best in (JIT, JIT_MANY)}


def _ours(options: Namespace, number: int) -> dict:
    command = [
        sys.executable,
        "-m",
        "bnlab",
        "+experiment=phase_sweep",
        "train.fresh=true",
        f"store={options.store}",
    ]
    command += [f"report.folder={options.store}", *_grid(options), *options.override]
    tell(f"ours, run {number + 1}: {' '.join(command[1:])}")
    seen = observe(command)
    if seen.status:
        raise RuntimeError(f"the sweep ended with status {seen.status}:\n{seen.output}")
    tell(f"ours: {seen.seconds:.0f} s, {seen.cpu_s:.0f} CPU-seconds")
    memory = {"parent_mib": seen.parent_mib, "worker_mib": seen.child_mib}
    return {"kind": "ours", "round": number, "seconds": seen.seconds, "cpu_s": seen.cpu_s, **memory}


def _grid(options: Namespace) -> list[str]:
    axes = {"batch_size": options.batch_sizes, "task": options.tasks, "norm": options.norms}
    return [f"{axis}={','.join(map(str, values))}" for axis, values in axes.items()]


def _usual(name: str, cells: Sequence[Cell], options: Namespace) -> list[dict]:
    """Do cells in an arrangement; whoever is free takes the next one, longest first."""
    rows: list[dict] = []
    with _workers(ARRANGEMENTS[name], rows) as workers:
        free: SimpleQueue[Contender] = SimpleQueue()
        for worker in workers:
            free.put(worker)

        def do(cell: Cell) -> dict:
            worker = free.get()
            try:
                return _cell(worker, cell, options)
            finally:
                free.put(worker)

        with ThreadPoolExecutor(len(workers)) as pool:
            rows += pool.map(do, cells)
    return [{**row, "arrangement": name} for row in rows]


@contextmanager
def _workers(arrangement: Arrangement, rows: list[dict]) -> Iterator[list[Contender]]:
    """Start the processes of an arrangement; what starting takes becomes a row."""
    surroundings = ONE_THREAD if arrangement.threads == 1 else {}
    with tempfile.TemporaryDirectory() as folder:
        began, workers = time.perf_counter(), []
        try:
            for number in range(arrangement.processes):
                command = [sys.executable, "-m", "experiments.throughput.usual_way", str(arrangement.threads)]
                workers.append(Contender(f"usual way {number}", command, Path(folder), surroundings))
            cpu = sum(worker.ask({})["cpu_s"] for worker in workers)
            rows.append({"kind": "start", "seconds": time.perf_counter() - began, "cpu_s": cpu})
            yield workers
        finally:
            for worker in workers:
                worker.close()


def _cell(worker: Contender, cell: Cell, options: Namespace) -> dict:
    setting = fit_setting(options.steps_csv, cell.task, cell.batch_size)
    question = {"overrides": cell.overrides(options), "phase": cell.phase, "decay": DECAY, "setting": setting}
    found = worker.ask(question)
    seconds, cpu = (sum(found[f"{part}_{kind}"] for part in PARTS) for kind in ("s", "cpu_s"))
    tell(f"usual way: {cell.task} {cell.norm} b{cell.batch_size} phase {cell.phase}: {seconds:.1f} s")
    return {"kind": "cell", **cell._asdict(), **setting, "seconds": seconds, "cpu_s": cpu, **found}


def _our_rmse(row: dict, options: Namespace) -> float:
    """Look up what our sweep measured of the same cell."""
    cell = Cell(**{name: row[name] for name in Cell._fields})
    folder, decay = default_job(*cell.overrides(options)).folder, None if cell.phase else DECAY
    wanted = (reading for reading in folder.readings() if (reading.split, reading.decay) == ("test", decay))
    return next((reading.rmse for reading in wanted), float("nan"))
