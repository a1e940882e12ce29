"""Causes of a gap that show in the moving statistics alone, while a model trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from bnlab.science.tape import START_MEAN, START_VARIANCE

Pair = tuple[np.ndarray, np.ndarray]
# Updates after which statistics cannot be what they were at the start.
_UPDATES = 10
# An average that keeps no more than this is one batch's statistics.
_TURNED_ROUND = 0.1
# Share of the start that is left in an average that has not arrived.
_LEFT = 0.1
# Those that explain a gap by themselves.
CAUSES = frozenset({"not_finite", "never_updated", "momentum_reversed"})

_NOT_FINITE = (
    "moving statistics of {} are NaN or infinite: look for a batch with such inputs, one is enough, "
    "for an average never forgets it"
)
_NEVER_UPDATED = (
    "moving statistics of {} are still mean 0 and variance 1 after {:,} updates: call the layers with "
    "training=True in training steps, and see that their updates are kept"
)
_TURNED = (
    "momentum of {} is {:g}: Keras's is the share that is kept, such as 0.99, so these averages are little "
    "more than the last batch's statistics"
)
_NOT_ARRIVED = (
    "the moving average of {} has not arrived: {} of its start is left; train for more steps, or with a "
    "smaller momentum"
)


class Alarm(NamedTuple):
    """A cause, by its name in the doctor's catalogue, and what is said of it."""

    cause: str
    message: str


def alarms(
    layers: Mapping[str, Any], statistics: Mapping[str, Pair], updates: Mapping[str, int]
) -> Iterator[Alarm]:
    """Look for what is wrong whatever it does to the outputs.

    Args:
        layers: key -> normalization layer, those that are not frozen.
        statistics: key -> moving mean and variance.
        updates: key -> how many there should have been; 0 for a layer that the model does not call.
    """
    if broken := [key for key, own in statistics.items() if not np.isfinite(own).all()]:
        yield Alarm("not_finite", _NOT_FINITE.format(_some(broken)))
    if idle := [key for key, own in statistics.items() if updates[key] >= _UPDATES and _at_start(own)]:
        yield Alarm("never_updated", _NEVER_UPDATED.format(_some(idle), max(updates[key] for key in idle)))
    if low := {key: layer.momentum for key, layer in layers.items() if layer.momentum <= _TURNED_ROUND}:
        yield Alarm("momentum_reversed", _TURNED.format(_some(list(low)), min(low.values())))


def not_arrived(layers: Mapping[str, Any], updates: Mapping[str, int]) -> Iterator[Alarm]:
    """Look for averages that still hold much of where they began; for a model whose gap matters."""
    left = {key: layer.momentum ** updates[key] for key, layer in layers.items() if updates[key]}
    if slow := [key for key, share in left.items() if share > _LEFT]:
        worst = max(slow, key=left.__getitem__)
        power = f"{layers[worst].momentum:g}^{updates[worst]} = {left[worst]:.2g}"
        yield Alarm("not_arrived", _NOT_ARRIVED.format(_some(slow), power))


def _at_start(own: Pair) -> bool:
    return bool((own[0] == START_MEAN).all() and (own[1] == START_VARIANCE).all())


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more layers" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
