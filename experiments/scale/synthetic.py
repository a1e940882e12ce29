"""SYNTHETIC sweeps: trials that the real code plans, with readings that a formula makes up.

Nothing is trained. The numbers have the shape of real ones - an error that falls with the steps, a gap of lag
that goes as decay^steps, a gap of noise that grows as the batch shrinks - and come out the same every time.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import product
from pathlib import Path

import numpy as np

from bnlab.compose import compose
from bnlab.data import Source
from bnlab.files import seal, sealed, write_json
from bnlab.job import Job
from bnlab.plan import kept_steps, plan, wanted
from bnlab.records import Clue, Reading
from bnlab.science.decomposition import CAUSES
from bnlab.settings import Settings
from bnlab.store import Folder, Status
from bnlab.tables import clues_table, readings_table

TOLD = "SYNTHETIC: made-up numbers that measure the tool; nothing was trained"
"""What every sweep, trial and report of this kind says of itself."""
NAME = "synthetic"
TASKS, NORMS, SIZES, SEEDS = ("mnist", "cifar"), ("batch", "group"), (8, 16, 32, 64, 128), 5
"""The grid of 100 trials; more of them sweep the learning rate."""
_BEGAN_MS = 1_760_000_000_000
_CONSTANT = 0.3


def arguments(count: int, clues: bool = False) -> list[str]:
    """The command line of a sweep of so many trials; what is composed first varies slowest.

    Args:
        count: a multiple of 100.
        clues: whether gaps are split into causes, as a sweep does by default.
    """
    axes = {
        "task": TASKS,
        "norm": NORMS,
        "batch_size": SIZES,
        "train.learning_rate": rates(count),
        "seed": range(SEEDS),
    }
    swept = [f"{key}={','.join(map(str, values))}" for key, values in axes.items()]
    return ["-m", *swept, *_fixed(clues)]


def _fixed(clues: bool) -> list[str]:
    own = (f"name={NAME}", "decay=[0.5,0.9,0.99,0.999]", f"measure.explain={str(clues).lower()}")
    return [*own, "data.download=false", "device=cpu"]


def rates(count: int) -> list[float]:
    """The learning rates of a sweep of so many trials.

    >>> rates(300)
    [0.1, 0.101, 0.102]
    """
    each = len(TASKS) * len(NORMS) * len(SIZES) * SEEDS
    if count < 1 or count % each:
        raise ValueError(f"trials must be a multiple of {each}, got {count}")
    return [round(0.1 + 0.001 * at, 6) for at in range(count // each)]


def jobs(count: int, store: Path, clues: bool = False) -> list[Job]:
    """The jobs of `arguments`, planned by the real code, on data that say that they are made up.

    Only one job of each task, normalization and batch size is composed; the others differ in two values.
    """
    few = [f"{key}={','.join(map(str, own))}" for key, own in (("task", TASKS), ("norm", NORMS))]
    sizes = f"batch_size={','.join(map(str, SIZES))}"
    command = ["-m", *few, sizes, *_fixed(clues), f"store={store}", f"report.folder={store}/reports"]
    swept = product(compose(command).settings, rates(count), range(SEEDS))
    return [_job(_with(settings, rate, seed)) for settings, rate, seed in swept]


def _with(settings: Settings, rate: float, seed: int) -> Settings:
    train = settings.train.model_copy(update={"learning_rate": rate})
    return settings.model_copy(update={"train": train, "seed": seed})


def _job(settings: Settings) -> Job:
    source = Source(settings.task.data, "stand-in", None, NAME, TOLD, True, 60_000, 10_000)
    trial = plan(settings, source, "cpu")
    return Job(settings, source, trial, wanted(settings, source, trial))


def lay(job: Job) -> None:
    """Write the folder of a trial as a finished job leaves it, but for weights and tape, and not synced."""
    folder, steps = job.folder, job.trial.steps
    folder.path.mkdir(parents=True, exist_ok=True)
    record = {"trial": asdict(job.trial), "sweep": NAME, "environments": [{}], "began_ms": _BEGAN_MS}
    write_json(folder.path / "trial.json", record, sync=False)
    _lay_checkpoints(job, folder)
    (folder.path / "readings.csv").write_text(sealed(readings_table(readings(job))))
    if job.explains:
        (folder.path / "clues.csv").write_text(sealed(clues_table(clues(job))))
    folder.write_status(Status("done", steps, steps))


def _lay_checkpoints(job: Job, folder: Folder) -> None:
    """Archives that hold losses and the layout of a tape, but no weights."""
    layout = [] if job.trial.norm == "group" else [{"layer": f"norm_{at}"} for at in range(3)]
    curve, done = losses(job), 0
    for step in kept_steps(job.wanted.steps):
        path = folder.checkpoint(step)
        path.parent.mkdir(exist_ok=True)
        arrays = {
            "columns": np.array(json.dumps(layout)),
            "losses": curve[done:step],
            "moments": np.zeros(0),
            "place": np.array(f"{folder.identity}/{path.stem}"),
        }
        with path.open("w+b") as file:
            np.savez(file, allow_pickle=False, **arrays)
            seal(file)
        done = step


def losses(job: Job) -> np.ndarray:
    """The loss of every step: a fall to a floor, with noise."""
    steps = np.arange(1, job.trial.steps + 1)
    return 0.3 + 2 * steps**-0.5 + 0.05 * _draws(job, 1).standard_normal(len(steps))


def readings(job: Job) -> list[Reading]:
    """Everything that a job wants to know, made up: curves on both probes, and the end."""
    places = [*product(job.wanted.steps, ("test_probe", "train_probe")), (job.trial.steps, job.wanted.final)]
    noise = _draws(job, 0).standard_normal((len(places), 1 + len(job.wanted.decays)))
    rows = []
    for at, ((step, split), (shift, *own)) in enumerate(zip(places, noise, strict=True)):
        true = _true(job, step) + 0.002 * shift
        pairs = zip(job.wanted.decays, own, strict=True)
        rows += [_reading(job, step, split, decay, true, each, at) for decay, each in pairs]
    return rows


def _true(job: Job, step: int) -> float:
    """RMSE with phase true: it falls with the steps, and is lowest at a learning rate of 0.14."""
    size, rate = job.trial.batch_size, job.settings.train.learning_rate or 0.1
    return 0.08 + 0.01 * np.log2(size) / 7 + 0.05 * (rate - 0.14) ** 2 + 0.18 * step**-0.4


def _gap(job: Job, step: int, decay: float, noise: float) -> float:
    if job.trial.norm == "group":
        return 2e-8 * noise
    return 0.2 * decay**step - 0.1 * (1 - decay) / job.trial.batch_size**0.5 + 0.001 * noise


def _reading(
    job: Job, step: int, split: str, decay: float | None, true: float, noise: float, at: int
) -> Reading:
    gap = np.nan if decay is None else _gap(job, step, decay, noise)
    rmse, error = true if decay is None else true + gap, np.nan if decay is None else 0.001 + abs(gap) / 100
    images = {"test_probe": job.wanted.images, "train_probe": job.wanted.train_images}.get(split, 10_000)
    return Reading(
        step=step,
        samples_seen=step * job.trial.batch_size,
        split=split,
        phase=decay is None,
        decay=decay,
        eval_batch_size=job.wanted.eval_batch_size,
        images=images,
        rmse=float(rmse),
        accuracy=float(max(0.1, 1.1 - 2.5 * rmse)),
        loss=float(5 * rmse),
        rmse_gap=float(gap),
        rmse_gap_se=float(error),
        accuracy_gap=float(-2.5 * gap),
        accuracy_gap_se=float(2.5 * error),
        loss_gap=float(5 * gap),
        loss_gap_se=float(5 * error),
        time_ms=_BEGAN_MS + 1000 * at,
        constant_rmse=_CONSTANT,
    )


def clues(job: Job) -> list[Clue]:
    """The parts of every final gap, on both splits, and the signs: as many as a sweep has by default."""
    last = {(r.split, r.decay): r for r in readings(job) if r.step == job.trial.steps}
    rows = []
    for (split, decay), reading in last.items():
        if decay is None or split == "test_probe":
            continue
        for metric, gap in (("rmse", reading.rmse_gap), ("accuracy", reading.accuracy_gap)):
            rows += [_clue(job, reading, "cause", cause, metric, gap / len(CAUSES)) for cause in CAUSES]
        if split == job.wanted.final:
            rows += [_clue(job, reading, "sign", name, "", 0.1) for name in ("at_start", "kl", "mean_shift")]
    return rows


def _clue(job: Job, reading: Reading, kind: str, name: str, metric: str, value: float) -> Clue:
    own = (reading.step, reading.split, reading.decay, "", kind, name, metric, value, 0.001)
    return Clue(*own, reading.eval_batch_size, reading.images, job.wanted.samples, reading.time_ms)


def _draws(job: Job, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[int(job.folder.identity, 16), stream]))
