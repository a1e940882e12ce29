"""Take hold of a model's normalization layers: which statistics they use, and what they saw.

Inside `probe(...)` every batch normalization layer of a model normalizes by the statistics it is given,
updates nothing, and can note the moments of what passed through it. Everything else in the model -
dropout included - follows the phase that the model is called with. Afterwards the model is as it was.

This replaces `call` on layer *instances*, so it holds in eager mode, in `tf.function` and under XLA, for
layers of any axis, precision or options, under masks, shared and nested ones. The arithmetic is Keras's own:
whole-call batch statistics and fixed statistics give its outputs bit for bit. These differ by rounding:

- `Batch.fused`, where it applies;
- `synchronized=True`, for which Keras takes E[x^2] - E[x]^2 while training, on one device too. Here the
  variance is taken around the mean, of this device's batch, and does not cancel.

A frozen layer (`trainable = False`) is left alone: Keras never gives it batch statistics, whatever the phase.
A layer of a class derived from Keras's normalizes as Keras's does; what a `call` of its own does besides is
not done. A layer that a graph calls within a loop (a cell of a recurrent layer) cannot be noted there.

A function must be traced inside to use the probe, and one traced inside keeps it. What the model itself
compiles for `fit`, `evaluate` and `predict` is compiled anew inside, and is as it was afterwards.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
from keras import ops

from bnlab.science import fused
from bnlab.science.grouping import in_groups, moments
from bnlab.science.normalize import corrections, normalize
from bnlab.science.sources import Batch, Blend, Fixed, NormLayer, Statistics, Tensor
from bnlab.science.synchronized import synchronized

_Call: TypeAlias = Callable[..., Tensor]
_Noting: TypeAlias = Callable[[Tensor, Tensor], None]
# What a model keeps of its own compilation.
_COMPILED = ("train_function", "test_function", "predict_function")
_ABSENT = object()


class Note(NamedTuple):
    """Moments that one call of one layer saw: mean and variance are (groups, channels).

    Under a mask they are those of the positions that it leaves.
    """

    layer: str
    call: int
    mean: Tensor
    variance: Tensor


def named_layers(model: keras.Model, frozen: bool = True) -> dict[str, NormLayer]:
    """Find the batch normalization layers of a model, wherever they are, in the model's order: key -> layer.

    The key is a layer's name; where several have one name, the names of what they lie in stand in front of
    it (`backbone/bn`), and where even those are the same, the second bears a number (`bn#2`). A layer that
    is used in several places is one layer.

    Args:
        model: any Keras model, built or not.
        frozen: include layers that have one phase only, as `trainable` is false. Keys are the same without.
    """
    found = list(_inside(model, (), set()))
    uses, keyed = Counter(path[-1] for path, _ in found), dict[str, NormLayer]()
    # A name that is alone is nobody else's key, whoever comes first.
    taken = {name for name, count in uses.items() if count == 1}
    for path, layer in found:
        keyed[path[-1] if uses[path[-1]] == 1 else _unused("/".join(path), taken)] = layer
    return {key: layer for key, layer in keyed.items() if frozen or layer.trainable}


def _inside(
    owner: keras.layers.Layer, above: tuple[str, ...], seen: set[int]
) -> Iterator[tuple[tuple[str, ...], NormLayer]]:
    """Walk through layers in order; Keras's own walk turns the order of nested layers round."""
    for layer in owner._layers:
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        path = (*above, layer.name)
        if isinstance(layer, keras.layers.BatchNormalization):
            yield path, layer
        yield from _inside(layer, path, seen)


def _unused(key: str, taken: set[str]) -> str:
    numbered = (f"{key}#{number}" for number in itertools.count(2))
    free = next(name for name in itertools.chain([key], numbered) if name not in taken)
    taken.add(free)
    return free


def normalization_layers(model: keras.Model) -> list[NormLayer]:
    """List the batch normalization layers of a model, nested ones included, in the model's order.

    Raises:
        ValueError: two of them have one name, so names could not tell statistics apart.
    """
    found = list(named_layers(model).values())
    names = [layer.name for layer in found]
    if len(set(names)) < len(names):
        raise ValueError(f"normalization layers must have names of their own, got {sorted(names)}")
    return found


def switched_layers(model: keras.Model) -> list[NormLayer]:
    """List the normalization layers that have two phases: all but the frozen ones."""
    return [layer for layer in normalization_layers(model) if layer.trainable]


def own_statistics(model: keras.Model) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read the moving statistics that a model's layers hold, but frozen ones: key -> (mean, variance).

    They are float32, or float64 where the layer's are; half precision is widened, as Keras does to use it.

    Raises:
        ValueError: a layer is not built, so it has none.
    """
    return {
        key: (_widened(layer.moving_mean), _widened(layer.moving_variance))
        for key, layer in _built(model).items()
    }


def _widened(variable: keras.Variable) -> np.ndarray:
    return np.array(ops.cast(variable, keras.backend.result_type(variable.dtype, "float32")))


def _built(model: keras.Model) -> dict[str, NormLayer]:
    found = named_layers(model, frozen=False)
    for key, layer in found.items():
        if layer.moving_mean is None:
            raise ValueError(f"layer {key} has no statistics yet: call the model on data first")
    return found


def put_statistics(model: keras.Model, statistics: Fixed) -> None:
    """Write moving statistics into a model's layers, as if it had been trained with them.

    Raises:
        ValueError: a layer is not built, so it has none.
        KeyError: the statistics lack a layer.
    """
    for key, layer in _built(model).items():
        mean, variance = statistics[key]
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)
        if layer.renorm:
            layer.moving_stddev.assign(np.sqrt(variance + layer.epsilon))


@contextmanager
def probe(model: keras.Model, statistics: Statistics, notes: list[Note] | None = None) -> Iterator[None]:
    """Normalize by `statistics` while inside; leave nothing behind.

    Args:
        model: any Keras model; its variables are read, never written (but see `Batch.update`).
        statistics: `Batch`, `Blend` or, for every layer that is not frozen, fixed (mean, variance).
        notes: one entry per call of a layer is appended, but with `Blend`: what it saw.

    Raises:
        KeyError: fixed statistics lack a layer.
    """
    found = named_layers(model, frozen=False)
    calls = [(layer, "call", _replacement(key, layer, statistics, notes)) for key, layer in found.items()]
    models = [layer for layer in model._flatten_layers() if isinstance(layer, keras.Model)]
    with _changed([*calls, *((one, name, None) for one in models for name in _COMPILED)]):
        yield


@contextmanager
def _changed(changes: Sequence[tuple[Any, str, Any]]) -> Iterator[None]:
    """Give objects other attributes while inside; those of the object itself come back, or go."""
    before = [(vars(owner), name, vars(owner).get(name, _ABSENT)) for owner, name, _ in changes]
    try:
        for owner, name, value in changes:
            vars(owner)[name] = value
        yield
    finally:
        for own, name, value in before:
            own.pop(name, None)
            if value is not _ABSENT:
                own[name] = value


def outputs(model: keras.Model, x: Tensor, statistics: Statistics) -> Tensor:
    """Evaluate a model under any statistics: a function of its arguments that changes none of them.

    Only normalization is switched: layers such as dropout stay off, under batch statistics too.

    Args:
        model: any Keras model.
        x: (images, ...) inputs; with `Batch(groups)` their number is a multiple of groups.
        statistics: `Batch(groups)` for phase true, fixed ones for phase false and everything else.
    """
    with probe(model, statistics):
        return model(x, training=False)


def _replacement(key: str, layer: NormLayer, statistics: Statistics, notes: list[Note] | None) -> _Call:
    noting = None if notes is None else _noting(key, notes)
    if isinstance(statistics, Batch):
        return _batch_call(layer, statistics, noting)
    if isinstance(statistics, Blend):
        return _blended_call(layer, statistics.fixed[key], statistics.weight[key], statistics.groups)
    return _fixed_call(layer, *statistics[key], noting)


def _noting(key: str, notes: list[Note]) -> _Noting:
    calls = itertools.count()
    return lambda mean, variance: notes.append(Note(key, next(calls), mean, variance))


def _fixed_call(layer: NormLayer, mean: Tensor, variance: Tensor, noting: _Noting | None) -> _Call:
    def call(inputs: Tensor, training: bool | None = None, mask: Tensor = None, **_: object) -> Tensor:
        seen = in_groups(layer, inputs, mask if noting else None, 1)
        if noting:
            # Each image is a part: what is noted here is of many at once.
            parts = inputs.shape[0] or 1 if seen.channel else 1
            noting(*map(seen.flat, moments(seen, parts)))
        return normalize(layer, seen, seen.spread(mean), seen.spread(variance))

    return call


def _batch_call(layer: NormLayer, batch: Batch, noting: _Noting | None) -> _Call:
    def call(inputs: Tensor, training: bool | None = None, mask: Tensor = None, **_: object) -> Tensor:
        if mask is None and _can_fuse(layer, batch, inputs):
            return _fused(layer, inputs, noting)
        seen = in_groups(layer, inputs, mask, batch.groups)
        mean, variance = moments(seen, batch.parts)
        if batch.synchronized:
            mean, variance = _over_replicas(layer, mask, mean, variance)
        if noting:
            noting(seen.flat(mean), seen.flat(variance))
        corrected = corrections(layer, batch, seen, mean, variance) if layer.renorm else None
        return ops.reshape(normalize(layer, seen, mean, variance, corrected), ops.shape(inputs))

    return call


def _over_replicas(
    layer: NormLayer, mask: Tensor | None, mean: Tensor, variance: Tensor
) -> tuple[Tensor, Tensor]:
    if mask is not None:
        raise ValueError(f"layer {layer.name} is masked: parts of unequal counts cannot be synchronized")
    return synchronized(mean, variance)


def _blended_call(layer: NormLayer, fixed: tuple[Tensor, Tensor], weight: Tensor, groups: int) -> _Call:
    def call(inputs: Tensor, training: bool | None = None, mask: Tensor = None, **_: object) -> Tensor:
        seen = in_groups(layer, inputs, mask, groups)
        share = ops.cast(weight, seen.x.dtype) if ops.is_tensor(weight) else weight
        mean, variance = _mixed(moments(seen), [seen.spread(part) for part in fixed], share)
        return ops.reshape(normalize(layer, seen, mean, variance), ops.shape(inputs))

    return call


def _mixed(own: tuple[Tensor, Tensor], fixed: Sequence[Tensor], weight: Tensor) -> tuple[Tensor, Tensor]:
    rest = 1 - weight
    apart = ops.square(own[0] - fixed[0])
    return (
        rest * fixed[0] + weight * own[0],
        rest * fixed[1] + weight * own[1] + rest * weight * apart,
    )


def _can_fuse(layer: NormLayer, batch: Batch, inputs: Tensor) -> bool:
    last = layer.axis in (-1, inputs.ndim - 1)
    plain = layer.compute_dtype == keras.backend.standardize_dtype(inputs.dtype) == "float32"
    alone = batch.groups == batch.parts == 1 and not batch.synchronized
    return batch.fused and alone and last and plain and not layer.renorm


def _fused(layer: NormLayer, inputs: Tensor, noting: _Noting | None) -> Tensor:
    scale = layer.gamma if layer.scale else ops.ones(inputs.shape[-1])
    offset = layer.beta if layer.center else ops.zeros(inputs.shape[-1])
    y, mean, variance = fused.normalized(inputs, scale, offset, layer.epsilon)
    if noting:
        noting(mean[None], variance[None])
    return y
