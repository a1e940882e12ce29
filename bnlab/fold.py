"""Fold batch normalization for inference: `python -m bnlab.fold MODEL.keras OUT.keras`.

Each batch normalization that follows a convolution or a dense layer goes into its kernel and bias. The
rest stays and is named, with the reason. The file is written only if both models agree on random inputs;
it opens with `keras.saving.load_model` where bnlab is not installed.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bnlab import machine
from bnlab.errors import first_line, said
from bnlab.kerasfile import KerasFileError, check_name, open_model, write_model

if TYPE_CHECKING:
    import keras

IMAGES = 32
# Where a shape leaves a size open, such as an image's height.
_OPEN = 32
ROUNDS = 51
# Numbers that a layer may give for the random inputs: 4 GiB of them.
_MOST = 2**30


class FoldError(Exception):
    """A model cannot be folded; the message is one line."""


class Race(NamedTuple):
    """Medians of two functions' times, in seconds, and of the ratio of neighbours, with its quartiles."""

    first: float
    second: float
    ratio: float
    low: float
    high: float


def random_inputs(model: keras.Model, images: int, seed: int = 0) -> Any:  # noqa: ANN401
    """Draw inputs of a model's shapes: standard normal numbers, or 0 and 1 where it takes integers.

    Args:
        model: any with known inputs; a size that it leaves open becomes 32.
        images: entries of the batch.
        seed: of the draw.
    """
    import keras

    rng = np.random.default_rng(seed)

    def drawn(x: Any) -> np.ndarray:  # noqa: ANN401
        shape = (images, *(size or _OPEN for size in x.shape[1:]))
        values = rng.normal(size=shape) if "float" in x.dtype else rng.integers(0, 2, shape)
        return values.astype(x.dtype)

    wanted = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    return keras.tree.map_structure(drawn, wanted)


def race(first: Callable[[], object], second: Callable[[], object], rounds: int) -> Race:
    """Time two functions turn by turn, so that a slow moment of the machine meets both.

    Whoever comes second in a turn is about 1 % faster, so they take turns at that too.

    Args:
        first, second: called once before the clock runs; each returns when its work is done.
        rounds: of both, at least 2.
    """
    first()
    second()
    times = []
    for turn in range(rounds):
        took = {work: _seconds(work) for work in ((first, second) if turn % 2 else (second, first))}
        times.append((took[first], took[second]))
    ratios = [before / after for before, after in times]
    low, ratio, high = statistics.quantiles(ratios, n=4, method="inclusive")
    before, after = (statistics.median(column) for column in zip(*times, strict=True))
    return Race(before, after, ratio, low, high)


def main(arguments: list[str] | None = None) -> int:
    """Fold by command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bnlab.fold", description=__doc__.split("\n\n")[1])
    parser.add_argument("model", metavar="MODEL.keras", type=Path, help="a saved Keras model")
    parser.add_argument("out", metavar="OUT.keras", type=Path, help="file to write")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-5,
        help="largest difference of the outputs, as a share of the largest one (default 1e-5)",
    )
    parser.add_argument("--time", action="store_true", help="time both at batch 1 and 128, on one thread")
    options = parser.parse_args(arguments)
    try:
        _write(options)
    except (FoldError, KerasFileError, OSError) as error:
        print(f"bnlab: {said(error)}", file=sys.stderr)
        return 2
    return 0


def _write(options: argparse.Namespace) -> None:
    check_name(options.out)
    machine.configure("cpu", threads=1)
    model = open_model(options.model)
    folded = _folded(model, options.model)
    share = _checked(model, folded, options.tolerance)
    write_model(folded, options.out)
    print(f"outputs differ by {share:.1e} of the largest, on {IMAGES} random inputs")
    sizes = [f"{path}: {path.stat().st_size / 1024:.0f} KiB" for path in (options.model, options.out)]
    print(f"{sizes[0]} -> {sizes[1]}, without optimizer and loss")
    if options.time:
        _print_times(model, folded)


def _folded(model: keras.Model, path: Path) -> keras.Model:
    """Fold, and say what was folded and what was left."""
    from bnlab.science.foldable import foldable
    from bnlab.science.folding import folded

    pairs, left = foldable(model)
    if not pairs and not left:
        raise FoldError(f"nothing to fold: {path} has no batch normalization")
    for name, reason in left:
        print(f"left {name}: {reason}")
    if not pairs:
        raise FoldError(f"nothing to fold: every normalization of {path} has to stay")
    print(f"folded {len(pairs)} of {len(pairs) + len(left)} normalizations")
    return folded(model, pairs)


def _checked(model: keras.Model, folded: keras.Model, tolerance: float) -> float:
    """Compare both on random inputs; a share that is not a number fails too."""
    from bnlab.science.folding import deviation

    _check_room(model)
    try:
        share = deviation(model, folded, random_inputs(model, IMAGES))
    except Exception as error:  # somebody's model, on inputs that it was not made for
        raise FoldError(f"the model cannot be checked on random inputs: {first_line(error)}") from None
    if not share <= tolerance:
        raise FoldError(
            f"outputs may differ by {tolerance:.1e} of the largest, they differ by {share:.1e}; nothing is "
            "written; --tolerance allows more"
        )
    return share


def _check_room(model: keras.Model) -> None:
    """Refuse what memory would not hold, before it is filled: a config may ask for images of any size."""
    import keras

    for layer in model._flatten_layers():
        for x in keras.tree.flatten(getattr(layer, "output", [])):
            if (count := IMAGES * math.prod(size or _OPEN for size in x.shape[1:])) > _MOST:
                raise FoldError(f"layer {layer.name} must give {_MOST:.0e} numbers at most, got {count:.0e}")


def _print_times(model: keras.Model, folded: keras.Model) -> None:
    for batch in (1, 128):
        inputs = random_inputs(model, batch)
        for xla in (False, True):
            times = race(_forward(model, inputs, xla), _forward(folded, inputs, xla), ROUNDS)
            print(
                f"batch {batch}, {'XLA' if xla else 'tf.function'}: {times.first * 1e3:.2f} ms -> "
                f"{times.second * 1e3:.2f} ms, {times.ratio:.2f} times as fast "
                f"(quartiles {times.low:.2f} to {times.high:.2f})"
            )


def _forward(model: keras.Model, inputs: Any, xla: bool) -> Callable[[], object]:  # noqa: ANN401
    import tensorflow as tf

    x = tf.nest.map_structure(tf.constant, inputs)
    compiled = tf.function(lambda x: model(x, training=False), jit_compile=xla)
    return lambda: tf.nest.map_structure(lambda y: y.numpy(), compiled(x))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
