"""A cell the usual way: a fresh Keras model, `compile`, `fit`, evaluation - as fast as plain Keras goes.

Generous to it: one process does many cells, so imports are paid once; images are float32 in memory, and
in the trial's order, before the clock starts; `fit` has no metrics to compute; nothing is saved, restored,
tracked or drawn. Evaluation is timed in two ways: by a forward pass compiled by hand, and as it is usually
written, with `evaluate` or, for the statistics of the batch, `model(x, training=True)`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from bnlab import models
from bnlab.data import Images, Source, load
from bnlab.data.order import batches, probe, trained_on
from bnlab.job import Job
from bnlab.records import Trial
from bnlab.science.scores import Scores, classifier_scores
from bnlab.train.optimizer import optimizer
from experiments.throughput.material import default_job
from experiments.throughput.serve import Setting, serve

# Images per call with phase false, where it is free: as bnlab's.
_CALL = 512


class Split(NamedTuple):
    """Images to evaluate on: float32 in [0, 1], and labels."""

    x: np.ndarray
    y: np.ndarray


class Given(NamedTuple):
    """What a cell works on: images in training order, the two probes, the whole test set."""

    training: Split
    probes: tuple[Split, ...]
    test: Split


def usual_model(trial: Trial, decay: float) -> keras.Model:
    """Build the trial's network; its batch normalization keeps its own moving average, at this decay."""
    options = {"momentum": decay} if trial.norm == "batch" else {}
    return models.build(trial, **options)


def given(job: Job) -> Given:
    """Gather what a cell of this job works on."""
    trial, images, wanted = job.trial, _images(job.source), job.wanted
    count, seen = len(images.train_x), trial.steps * trial.batch_size
    order = batches(trial.seed, count, trial.batch_size, 0, trial.steps).ravel()
    train = probe(trained_on(trial.seed, count, seen), wanted.train_images)
    test = probe(np.arange(len(images.test_x)), wanted.images)
    return Given(
        training=_split(images.train_x[order], images.train_y[order]),
        probes=(
            _split(images.train_x[train], images.train_y[train]),
            _split(images.test_x[test], images.test_y[test]),
        ),
        test=_split(images.test_x, images.test_y),
    )


def cell(job: Job, phase: bool, decay: float, setting: Setting) -> dict[str, float]:
    """Do a cell; return the seconds of its parts, its CPU seconds and its last RMSE.

    Args:
        job: its trial, curve and probes.
        phase: statistics in evaluation: the batch's own or the moving ones.
        decay: of the moving ones.
        setting: `steps_per_execution` and `jit` of `compile`.
    """
    trial, has = job.trial, given(job)
    clock = _Clock()
    with clock("build"):
        model = usual_model(trial, decay)
        model.compile(
            optimizer(trial),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            steps_per_execution=setting["steps_per_execution"],
            jit_compile=setting["jit"],
        )
        forward = tf.function(lambda x: model(x, training=phase))
    size = job.wanted.eval_batch_size if phase else _CALL
    for x, y in _segments(has.training, job.wanted.steps, trial.batch_size):
        with clock("fit"):
            model.fit(x, y, batch_size=trial.batch_size, shuffle=False, verbose=0)
        with clock("evaluate"):
            for split in has.probes:
                evaluate(forward, split, size)
    with clock("evaluate"):
        rmse = evaluate(forward, has.test, size).rmse
    written, written_cpu = as_written(model, phase, has, size, len(job.wanted.steps))
    return {**clock.parts, "written_s": written, "written_cpu_s": written_cpu, "rmse": rmse}


def evaluate(forward: Callable[[Any], Any], split: Split, size: int) -> Scores:
    """Score a model on a split, so many images at a time; the last call wraps round to the first images."""
    count = len(split.x)
    numbers = np.arange(-(-count // size) * size) % count
    outputs = [forward(split.x[part]).numpy() for part in numbers.reshape(-1, size)]
    return classifier_scores(np.concatenate(outputs)[:count], split.y)


def as_written(model: keras.Model, phase: bool, has: Given, size: int, points: int) -> tuple[float, float]:
    """Estimate the wall and CPU seconds that a cell's evaluation takes as it is usually written.

    The first probe is measured with its tracing, the second stands for all others; with the statistics of the
    batch the test set takes as long as so many probes.
    """

    def read(split: Split) -> None:
        if not phase:
            model.evaluate(split.x, split.y, batch_size=size, verbose=0)
            return
        for first in range(0, len(split.x), size):
            np.asarray(model(split.x[first : first + size], training=True))

    (first, cpu), (other, other_cpu) = (_timed(read, split) for split in has.probes)
    share = len(has.test.x) / len(has.probes[1].x)
    whole, whole_cpu = (share * other, share * other_cpu) if phase else _timed(read, has.test)
    others = 2 * points - 1
    return first + others * other + whole, cpu + others * other_cpu + whole_cpu


def _timed(read: Callable[[Split], None], split: Split) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    read(split)
    return time.perf_counter() - wall, time.process_time() - cpu


class _Clock:
    """Adds up the wall and CPU seconds spent in named blocks: `<name>_s` and `<name>_cpu_s`."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self._name, self._began, self._cpu = "", 0.0, 0.0

    def __call__(self, name: str) -> _Clock:
        self._name = name
        return self

    def __enter__(self) -> None:
        self._began, self._cpu = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        spent = time.perf_counter() - self._began, time.process_time() - self._cpu
        for name, seconds in zip((f"{self._name}_s", f"{self._name}_cpu_s"), spent, strict=True):
            self.parts[name] = self.parts.get(name, 0.0) + seconds


def _segments(training: Split, steps: tuple[int, ...], size: int) -> Iterator[Split]:
    """Cut the training images at the steps of the curve: `fit` goes on from one to the next."""
    for first, last in zip((0, *steps), steps, strict=False):
        part = slice(first * size, last * size)
        yield Split(training.x[part], training.y[part])


def _split(x: np.ndarray, y: np.ndarray) -> Split:
    return Split(x.astype(np.float32) / np.float32(255.0), y)


_kept: dict[str, Images] = {}


def _images(source: Source) -> Images:
    if source.name not in _kept:
        _kept[source.name] = load(source)
    return _kept[source.name]


_job = lru_cache(lambda overrides: default_job(*overrides))


def _answer(question: Setting) -> dict[str, float]:
    """Do a cell; a question without one only asks whether imports are over."""
    if "overrides" not in question:
        return {"cpu_s": time.process_time()}
    job = _job(tuple(question["overrides"]))
    return cell(job, question["phase"], question["decay"], question["setting"])


if __name__ == "__main__":
    threads = int(sys.argv[1])
    if threads:  # else TensorFlow's own choice: all cores
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    serve(_answer)
