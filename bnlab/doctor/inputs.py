"""Inputs that are not the training data: blank and random ones, and the same samples scaled another way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from keras import tree

from bnlab.doctor.chart import Chart, Split
from bnlab.doctor.harm import Harm, harm
from bnlab.doctor.subject import Layers, Structure, length, take
from bnlab.science.mixtures import apart
from bnlab.science.moments import Moments

# Samples on which a scaling is tried.
_SAMPLES = 256
# Input channels that may have offsets of their own.
_CHANNELS = 4
_COLOURS, _TINY = 3, 1e-12
# Inputs that vary by less than this share of the training data's are blank.
_BLANK = 0.1
_SEED = 20_203


Change: TypeAlias = Callable[[np.ndarray], np.ndarray]


class Restored(NamedTuple):
    """A change of the inputs that makes them fit moving statistics, and how much of the distance goes."""

    name: str
    change: Change
    explained: float


def dummies(chart: Chart) -> dict[str, Layers]:
    """Statistics that a batch of blank or random inputs gives, with phase true."""
    rng = np.random.default_rng(_SEED)
    return _under(
        chart,
        {
            "zeros": np.zeros_like,
            "ones": np.ones_like,
            "normal noise": lambda x: rng.normal(size=x.shape).astype(x.dtype),
            "uniform noise": lambda x: rng.uniform(size=x.shape).astype(x.dtype),
        },
    )


def other_sources(chart: Chart) -> dict[str, Layers]:
    """Statistics that a batch of another kind gives, such as noise in the range of the inputs."""
    rng = np.random.default_rng(_SEED)
    return _under(
        chart,
        {
            "noise": lambda x: rng.uniform(x.min(), x.max(), x.shape).astype(x.dtype),
            "normal noise": lambda x: rng.normal(size=x.shape).astype(x.dtype),
            "inputs turned round": lambda x: x.max() + x.min() - x,
            "inputs in another order of pixels": lambda x: rng.permuted(
                x.reshape(len(x), -1), axis=1
            ).reshape(x.shape),
        },
    )


def _under(chart: Chart, kinds: dict[str, Change]) -> dict[str, Layers]:
    some = take(chart.x, slice(0, chart.size))
    return {name: _one_batch(chart, tree.map_structure(make, some)) for name, make in kinds.items()}


def restored(chart: Chart, x: Structure, seen: Layers, wanted: Layers) -> Restored | None:
    """Find a change of inputs that gives them other statistics; None where there is not one array of values.

    Args:
        chart: of the model.
        x: inputs, some of which are tried.
        seen: their statistics.
        wanted: what they should be.
    """
    if len(tree.flatten(x)) > 1 or not np.issubdtype(np.asarray(tree.flatten(x)[0]).dtype, np.floating):
        return None
    few = _few(chart, x)
    whole = apart(wanted, seen, chart.subject.epsilons)
    tried = [
        Restored(name, change, 1 - _left(chart, change(few).astype(few.dtype), wanted) / whole)
        for name, change in (*_changes(few), *_affine(chart, few, seen, wanted))
    ]
    return max(tried, key=lambda own: own.explained)


def in_turn(chart: Chart) -> tuple[str, Layers] | None:
    """Find a change of every other batch that moving statistics, half of each, speak of; its statistics.

    None where `restored` gives none, or one that leaves inputs blank: that is a dummy pass.
    """
    other = {key: _other_half(own, chart.fed[key]) for key, own in chart.moving.items()}
    if (best := restored(chart, chart.x, chart.fed, other)) is None:
        return None
    few = _few(chart, chart.x)
    x = best.change(few).astype(few.dtype)
    return (best.name, _fed(chart, x)) if x.std() > _BLANK * few.std() else None


def _other_half(average: Moments, half: Moments) -> Moments:
    return Moments(2 * average.mean - half.mean, np.maximum(2 * average.variance - half.variance, 0.0))


def _few(chart: Chart, x: Structure) -> np.ndarray:
    """Take some inputs in whole batches."""
    return np.asarray(take(x, slice(0, max(1, min(_SAMPLES, length(x)) // chart.size) * chart.size)))


def changed(chart: Chart, split: Split, change: Restored, statistics: Layers) -> Harm:
    """Say how much better a split does under fixed statistics with its inputs changed."""
    outputs = chart.subject.fixed(
        change.change(np.asarray(split.x)).astype(np.asarray(split.x).dtype), statistics
    )
    return harm(chart.under(split, statistics), chart.scorer(split).scores(outputs))


def shifted(chart: Chart) -> list[str]:
    """Say how test inputs differ from training inputs, in mean and deviation."""
    assert chart.test is not None
    said = []
    for one, other in zip(tree.flatten(chart.train.x), tree.flatten(chart.test.x), strict=True):
        a, b = (np.asarray(part, np.float64) for part in (one, other))
        said.append(
            f"test inputs have mean {b.mean():.3g} and deviation {b.std():.3g}, training inputs "
            f"{a.mean():.3g} and {a.std():.3g}"
        )
    return said


def _changes(x: np.ndarray) -> Iterator[tuple[str, Change]]:
    top, axes = max(float(x.max()), _TINY), tuple(range(x.ndim - 1))
    mean, spread = float(x.mean()), max(float(x.std()), _TINY)
    yield "inputs divided by 255", lambda x: x / 255
    yield "inputs times 255", lambda x: x * 255
    yield "inputs mapped from [0, 1] to [-1, 1]", lambda x: x * 2 - 1
    yield "inputs mapped from [-1, 1] to [0, 1]", lambda x: (x + 1) / 2
    yield "inputs mapped from [0, 255] to [-1, 1]", lambda x: x / 127.5 - 1
    yield "inputs mapped from [-1, 1] to [0, 255]", lambda x: (x + 1) * 127.5
    yield f"inputs turned round ({top:.3g} - x)", lambda x: top - x
    yield "the sign of inputs turned round", lambda x: -x
    yield f"inputs less {mean:.3g}, over {spread:.3g}", lambda x: (x - mean) / spread
    if x.ndim > 2 and x.shape[-1] == _COLOURS:
        means, spreads = x.mean(axes), np.maximum(x.std(axes), _TINY)
        yield "colours in the other order", lambda x: x[..., ::-1]
        yield "each colour less its mean, over its deviation", lambda x: (x - means) / spreads


def _affine(chart: Chart, x: np.ndarray, before: Layers, wanted: Layers) -> Iterator[tuple[str, Change]]:
    """Fit x -> scale x + offset to the first layer, which sees a linear map of them if nothing bends it.

    One scale, found from the variances; an offset for each input channel, found from the means.
    """
    first = chart.subject.layers[0]
    held, seen = wanted[first], before[first]
    alive = (seen.variance > 1e-6) & (held.variance > 1e-6)
    if not alive.any():
        return
    size = float(np.exp(np.median(np.log(held.variance[alive] / seen.variance[alive])) / 2))
    weight = 1 / np.sqrt(held.variance[alive])
    zero, responses = _responses(chart, x)
    for scale in (size, -size):
        aim = held.mean - zero - scale * (seen.mean - zero)
        offsets, *_ = np.linalg.lstsq(responses[alive] * weight[:, None], aim[alive] * weight, rcond=None)
        said = ", ".join(f"{offset:+.3g}" for offset in offsets)
        yield f"inputs times {scale:.3g}, {said}", partial(_line, scale=scale, offsets=offsets)


def _line(x: np.ndarray, scale: float, offsets: np.ndarray) -> np.ndarray:
    return (x * scale + offsets).astype(x.dtype)


def _responses(chart: Chart, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of the first layer under zeros, and what a one in each input channel adds: (channels, inputs)."""
    zero = _first(chart, np.zeros_like(x[: chart.size]))
    channels = x.shape[-1] if x.ndim > 2 and x.shape[-1] <= _CHANNELS else 1
    ones = np.eye(channels, dtype=x.dtype) if channels > 1 else np.ones((1, 1), x.dtype)
    given = [_first(chart, np.broadcast_to(one, x[: chart.size].shape).copy()) for one in ones]
    return zero, np.stack(given, axis=1) - zero[:, None]


def _first(chart: Chart, x: np.ndarray) -> np.ndarray:
    return chart.subject.moments(x, length(x))[chart.subject.layers[0]].mean[0]


def _left(chart: Chart, x: np.ndarray, wanted: Layers) -> float:
    return apart(wanted, _fed(chart, x), chart.subject.epsilons)


def _fed(chart: Chart, x: np.ndarray) -> Layers:
    return chart.average(chart.subject.moments(x, min(chart.size, length(x)), stochastic=True))


def _one_batch(chart: Chart, x: Any) -> Layers:  # noqa: ANN401
    seen = chart.subject.moments(x, length(x), stochastic=True)
    return {key: Moments(own.mean.mean(0), own.variance.mean(0)) for key, own in seen.items()}
