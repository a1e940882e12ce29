"""What does `Watch` cost a training? `python -m experiments.doctor.watch_cost`.

The same small convolutional network is trained on MNIST with and without the callback, with its default
settings, turn by turn, on one thread; every fit compiles a fresh model, and so does the watch. Expected: a
ratio of 1.05 or less, and weights that are the same to the last bit. Wall time: about 12 s per fit.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from bnlab import machine
from bnlab.data import load, locate
from bnlab.doctor.watch import Watch
from experiments.throughput.rounds import Spread, ratio, spread, turns

_PATH = Path(__file__).with_suffix(".csv")
_WAYS = ("without", "with")
_EPOCHS = 10


class Row(NamedTuple):
    """One fit.

    Attributes:
        round, way: which.
        seconds: of the fit.
        cpu: seconds of all processors in the fit, which other work on the machine disturbs less.
        own: share of training's time that the watch says it took.
        measurements: how many it made.
        bits: sum of the bits of all weights, which tells whether two fits ended alike.
    """

    round: int
    way: str
    seconds: float
    cpu: float
    own: float
    measurements: int
    bits: int


def measure(rounds: int, seconds: float) -> Iterator[Row]:
    """Train by turns.

    Args:
        rounds: fits of either way.
        seconds: about how much of a processor's time a fit takes without the watch.
    """
    x, y = _images()
    _fit(x[:1280], y[:1280], None)
    _, cpu, _ = _fit(x[:6400], y[:6400], None)
    count = min(len(x), int(6400 * seconds / cpu))
    for number in range(rounds):
        for way in turns(_WAYS, number):
            watch = Watch(x[:count], y[:count], verbose=0) if way == "with" else None
            took, cpu, bits = _fit(x[:count], y[:count], watch)
            own = watch.budget.spent / watch.budget.training if watch else 0.0
            yield Row(number, way, took, cpu, own, len(watch.measured) if watch else 0, bits)


def told(rows: list[Row]) -> str:
    """Write the ratio of the ways, its spread, and whether they ended alike."""
    watched = [row for row in rows if row.way == "with"]
    counts = [float(row.measurements) for row in watched]
    return "\n".join(
        [
            f"wall time: {_compared(rows, 'seconds')}",
            f"processors' time: {_compared(rows, 'cpu')}",
            f"by its own clock: {_exact(spread([row.own for row in watched]))} of training's time",
            f"measurements in a fit: {spread(counts)}",
            f"weights alike: {len({row.bits for row in rows}) == 1}",
        ]
    )


def _compared(rows: list[Row], what: str) -> str:
    times = {way: {row.round: getattr(row, what) for row in rows if row.way == way} for way in _WAYS}
    without, with_ = (spread(list(times[way].values())) for way in _WAYS)
    pairs = _exact(ratio(times["with"], times["without"]))
    return f"{without} s without, {with_} s with: {with_.median / without.median:.3f}; by rounds {pairs}"


def _exact(own: Spread) -> str:
    return f"{own.median:.3f} ({own.low:.3f} to {own.high:.3f})"


def _images() -> tuple[np.ndarray, np.ndarray]:
    folder = os.environ.get("BNLAB_DATA")
    images = load(locate("mnist", Path(folder) if folder else None))
    return np.asarray(images.train_x, np.float32) / 255, np.asarray(images.train_y)


def _fit(x: np.ndarray, y: np.ndarray, watch: Watch | None) -> tuple[float, float, int]:
    keras.utils.set_random_seed(0)
    model = _network()
    began, cpu = time.perf_counter(), time.process_time()
    model.fit(x, y, batch_size=64, epochs=_EPOCHS, verbose=0, callbacks=[watch] if watch else [])
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    return took, cpu, sum(int(own.view(np.uint32).sum(dtype=np.uint64)) for own in model.get_weights())


def _network() -> keras.Model:
    model = keras.Sequential([keras.Input((28, 28, 1))])
    for width in (16, 32, 64):
        model.add(keras.layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False))
        model.add(keras.layers.BatchNormalization())
        model.add(keras.layers.ReLU())
    model.add(keras.layers.Flatten())
    model.add(keras.layers.Dropout(0.2))
    model.add(keras.layers.Dense(10))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return model


def main() -> None:
    """Measure, write the rows, print what they say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=_PATH)
    options = parser.parse_args()
    machine.configure("cpu", threads=1)
    rows = list(measure(options.rounds, options.seconds))
    with options.out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        writer.writerows(rows)
    print(told(rows))


if __name__ == "__main__":
    main()
