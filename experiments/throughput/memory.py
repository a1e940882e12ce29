"""What a long tape holds in memory; a sweep's own peaks are rows of the part `sweep`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bnlab import machine
from bnlab.checkpoint import save
from bnlab.records import Trial
from bnlab.science.tape import Column, Tape
from bnlab.store import Folder
from experiments.throughput import material
from experiments.throughput.contender import ROOT
from experiments.throughput.observe import memory
from experiments.throughput.tables import tell


def measure(options: Namespace) -> Iterator[dict]:
    """Train a little, and write a tape of full length, each in a process of its own."""
    for kind in ("train", "write"):
        steps = options.steps if kind == "train" else options.full
        for row in _child(kind, steps, options):
            yield {"kind": kind, "steps": steps, **row}


def tape_bytes(trial: Trial) -> int:
    """Compute what a step puts on tape: a mean and a variance, float32, of each normalized channel."""
    return sum(2 * column.channels * 4 for column in columns(trial))


def columns(trial: Trial) -> tuple[Column, ...]:
    """Lay out a tape of one update per layer and step."""
    from bnlab import models
    from bnlab.science.probe import switched_layers

    layers = switched_layers(models.build(trial))
    return tuple(Column(layer.name, 0, layer.moving_mean.shape[0]) for layer in layers)


def _child(kind: str, steps: int, options: Namespace) -> list[dict]:
    tell(f"{kind}, {steps} steps of {options.task} at batch size {options.batch_size}")
    job = json.dumps([kind, options.task, options.batch_size, steps])
    command = [sys.executable, "-m", "experiments.throughput.memory"]
    done = subprocess.run(command, cwd=ROOT, input=job, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def _in_training(task: str, size: int, steps: int) -> list[dict]:
    """Train with one checkpoint, at the end; note the memory whenever the trainer tells how far it is."""
    job = material.default_job(
        f"task={task}", f"batch_size={size}", f"train.samples={steps * size}", "device=cpu"
    )
    machine.configure("cpu", job.trial.threads)
    from bnlab.data import load
    from bnlab.train import train

    rows: list[dict] = []
    each, images = tape_bytes(job.trial), load(job.source)
    with tempfile.TemporaryDirectory() as place:
        train(job.trial, images, Folder(Path(place)), [steps], lambda step, loss: rows.append(_now(step)))
    return [{**row, "tape_bytes": each} for row in (*rows, _now(steps))]


def _in_writing(task: str, size: int, steps: int) -> list[dict]:
    """Gather and save a tape of so many steps, stretch by stretch as the trainer does."""
    job = material.default_job(f"task={task}", f"batch_size={size}", "device=cpu")
    machine.configure("cpu", job.trial.threads)
    from bnlab import models
    from bnlab.train.optimizer import optimizer
    from bnlab.train.resume import cuts

    model, descent = models.build(job.trial), optimizer(job.trial)
    descent.build(model.trainable_variables)
    layout, each = columns(job.trial), tape_bytes(job.trial)
    rows = [_now(0)]
    with tempfile.TemporaryDirectory() as place:
        for start, stop in cuts(0, [steps], each // 4):
            moments = np.ones((stop - start, each // 4), np.float32)
            losses = np.zeros(stop - start, np.float32)
            save(Folder(Path(place)).checkpoint(stop), model, descent, Tape(layout, moments), losses)
            rows.append(_now(stop))
    return [{**row, "tape_bytes": each} for row in rows]


def _now(step: int) -> dict:
    seen = memory()
    return {"at": step, "rss_mib": seen["VmRSS"], "peak_mib": seen["VmHWM"]}


if __name__ == "__main__":
    kind, *rest = json.loads(sys.stdin.read())
    print(json.dumps({"train": _in_training, "write": _in_writing}[kind](*rest)))
