"""What another decay, phase, trial, worker and step cost."""

from __future__ import annotations

import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

from bnlab import machine
from bnlab.data import Images
from bnlab.plan import Wanted
from bnlab.records import Trial
from bnlab.store import Folder
from experiments.throughput import material
from experiments.throughput.contender import Contender
from experiments.throughput.observe import observe
from experiments.throughput.rounds import enough, turns
from experiments.throughput.steps import ENTRIES, OURS
from experiments.throughput.tables import tell

# A step that no trial reaches: measuring ends before the final split.
_NEVER = 10**9
# Steps that show how many make a worker's turn.
_TRIED = 100


def measure(options: Namespace) -> Iterator[dict]:
    """Measure decays and phases in this process, workers, trials and steps in others."""
    for task, size in product(options.tasks, options.batch_sizes):
        yield from _decays(task, size, options)
    for size in options.worker_batch_sizes:
        yield from _side_by_side(size, options)
    yield from _sweeps(options)
    yield from _lengths(options)


def decays(count: int) -> tuple[float, ...]:
    """List so many decays between 0.5 and 0.9999, all different.

    >>> decays(1), len(set(decays(40)))
    ((0.5,), 40)
    """
    ratio = 0.0002 ** (1 / max(1, count - 1))
    return tuple(round(1 - 0.5 * ratio**number, 6) for number in range(count))


class _Trained(NamedTuple):
    """A trained trial and how it is measured."""

    trial: Trial
    images: Images
    folder: Folder
    wanted: Wanted
    train_s: float


def _decays(task: str, size: int, options: Namespace) -> Iterator[dict]:
    """Train a trial, replay its tape and read its curves at growing numbers of decays."""
    job = material.default_job(f"task={task}", f"batch_size={size}", "device=cpu", *options.override)
    machine.configure(job.trial.device, job.trial.threads)
    from bnlab.data import load

    with tempfile.TemporaryDirectory() as place:
        folder, images = Folder(Path(place)), load(job.source)
        train_s = _trained(job.trial, images, folder, job.wanted.steps)
        tell(f"{task} b{size}: trained in {train_s:.1f} s")
        common = {"task": task, "batch_size": size, "train_s": train_s}
        done = _Trained(job.trial, images, folder, job.wanted, train_s)
        for row in (*_replays(done, options), *_curves(done, options)):
            yield {**common, **row}


def _trained(trial: Trial, images: Images, folder: Folder, steps: Sequence[int]) -> float:
    from bnlab.train import train

    began = time.perf_counter()
    train(trial, images, folder, steps, lambda step, loss: None)
    return time.perf_counter() - began


def _replays(done: _Trained, options: Namespace) -> Iterator[dict]:
    """Replay the whole tape: the matrix product, and reading the checkpoints that hold it."""
    from bnlab.checkpoint import moving_statistics

    last = done.wanted.steps[-1]
    for number, count in product(range(options.replays), options.decays):
        seconds = _timed(partial(moving_statistics, done.folder, last, decays(count)))
        yield {"kind": "replay", "decays": count, "round": number, "seconds": seconds}


def _curves(done: _Trained, options: Namespace) -> Iterator[dict]:
    """Read curves with and without the whole test set; no decays: phase true alone."""
    without = replace(done.wanted, steps=(*done.wanted.steps, _NEVER))
    for number in range(options.rounds):
        for kind, wanted in (("curve", without), ("curve and test set", done.wanted)):
            for count in (0, *(options.decays if kind == "curve" else options.whole_decays)):
                seconds = _timed(partial(_read, done, wanted, count))
                tell(f"{kind}, {count} decays: {seconds:.2f} s")
                yield {"kind": kind, "decays": count, "round": number, "seconds": seconds}


def _read(done: _Trained, wanted: Wanted, count: int) -> None:
    from bnlab.measure import measure as read

    asked = (None, *(decays(count) if count else ()))
    for _ in read(done.trial, done.images, done.folder, wanted, asked):
        pass


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _side_by_side(size: int, options: Namespace) -> Iterator[dict]:
    """Train in one process and in two at once, turn by turn."""
    with tempfile.TemporaryDirectory() as place:
        trial = material.write(Path(place), options.tasks[-1], size)
        entry = ENTRIES[OURS[trial.xla]]
        command = [sys.executable, "-m", f"experiments.throughput.{entry.module}"]
        both = [Contender(f"worker {number}", command, Path(place)) for number in (0, 1)]
        try:
            for worker in both:
                worker.build(Path(place), entry.setting)
            steps = enough(both[0].seconds(_TRIED), _TRIED, options.seconds, _NEVER)
            for number in range(options.worker_rounds):
                for who in turns(["1", "2"], number):
                    seconds = _together(both[: int(who)], steps)
                    row = {
                        "task": trial.task,
                        "workers": int(who),
                        "steps": int(who) * steps,
                        "seconds": seconds,
                    }
                    yield {"kind": "training", "batch_size": size, "round": number, **row}
        finally:
            for worker in both:
                worker.close()


def _together(workers: Sequence[Contender], steps: int) -> float:
    with ThreadPoolExecutor(len(workers)) as pool:
        return _timed(lambda: list(pool.map(lambda worker: worker.seconds(steps), workers)))


def _sweeps(options: Namespace) -> Iterator[dict]:
    """Run sweeps of a few and of more trials, with one worker and with two."""
    for trials, workers in product(options.trials, options.workers):
        seeds = ",".join(map(str, range(trials)))
        several = [f"seed={seeds}", f"train.samples={options.sweep_samples}", "hydra.mode=MULTIRUN"]
        arguments = [*several, "hydra/launcher=joblib", f"hydra.launcher.n_jobs={workers}"]
        yield {"kind": "sweep", "trials": trials, "workers": workers, **_run(arguments, options)}


def _lengths(options: Namespace) -> Iterator[dict]:
    for samples in options.samples:
        yield {"kind": "length", "steps": samples // 2, **_run([f"train.samples={samples}"], options)}


def _run(arguments: list[str], options: Namespace) -> dict:
    """Run bnlab at batch size 2, without the report."""
    with tempfile.TemporaryDirectory() as store:
        command = [sys.executable, "-m", "bnlab", *options.override, *arguments]
        seen = observe([*command, "task=mnist", "batch_size=2", f"store={store}", "report.pdf=false"])
    if seen.status:
        raise RuntimeError(f"bnlab ended with status {seen.status}:\n{seen.output}")
    tell(f"{' '.join(arguments)}: {seen.seconds:.1f} s")
    return {"task": "mnist", "batch_size": 2, "seconds": seen.seconds, "cpu_s": seen.cpu_s}
