"""Which normalizations of a model can be folded into the layer before them, and why the others cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
from keras import layers

from bnlab.science.folding import KERNELS, Layer, Pair, merged_weights

Node: TypeAlias = Any  # one call of a layer, in a graph

_NORMALIZATIONS = (
    layers.BatchNormalization,
    layers.GroupNormalization,
    layers.LayerNormalization,
    layers.RMSNormalization,
    layers.UnitNormalization,
)


class Left(NamedTuple):
    """A normalization that stays, and why."""

    name: str
    reason: str


def foldable(model: keras.Model) -> tuple[list[Pair], list[Left]]:
    """Tell which normalizations of a model can be folded, and why the others cannot.

    Args:
        model: Sequential or Functional, with nested ones; of others nothing is known but their layers.

    Returns:
        Those that can, and those that are left, in the model's order.
    """
    graphs = list({id(graph): graph for graph in _graphs(model)}.values())
    nodes = [node for graph in graphs for row in graph._nodes_by_depth.values() for node in row]
    uses = Counter(id(x) for part in (*nodes, *graphs) for x in _taken(part))
    calls: dict[int, list[Node]] = {}
    for node in nodes:
        calls.setdefault(id(node.operation), []).append(node)
    pairs, left = [], []
    for norm in _normalizations(model):
        if reason := next(_obstacles(norm, calls, uses), ""):
            left.append(Left(norm.name, reason))
        else:
            pairs.append(Pair(_before(calls[id(norm)][0]), norm))
    return pairs, left


def _obstacles(norm: Layer, calls: Mapping[int, list[Node]], uses: Counter[int]) -> Iterator[str]:
    """Give reasons not to fold; each is looked for where those before it do not hold."""
    if type(norm) is not layers.BatchNormalization:
        yield f"{type(norm).__name__} is not Keras's BatchNormalization, which alone scales by constants"
    nodes = calls.get(id(norm), [])
    if not nodes:
        yield "it is inside a layer or a model that shows no graph"
    if len(nodes) > 1:
        yield f"it is called {len(nodes)} times"
    if any(value is True for value in (*nodes[0].arguments.args[1:], *nodes[0].arguments.kwargs.values())):
        yield "it is called with training=True, which normalizes by the batch"
    layer, x = _before(nodes[0]), nodes[0].input_tensors[0]
    if type(layer) not in KERNELS:
        yield f"it follows {layer.name} ({type(layer).__name__}), no convolution or dense layer"
    if len(calls[id(layer)]) > 1:
        yield f"{layer.name} is called {len(calls[id(layer)])} times"
    if uses[id(x)] > 1:
        yield f"the output of {layer.name} is used elsewhere too"
    yield from _obstacles_within(layer, norm, len(x.shape))


def _obstacles_within(layer: Layer, norm: Layer, rank: int) -> Iterator[str]:
    if layer.activation not in (None, keras.activations.linear):
        name = getattr(layer.activation, "__name__", type(layer.activation).__name__)
        yield f"{layer.name} has an activation of its own ({name})"
    axis = 1 if getattr(layer, "data_format", "channels_last") == "channels_first" else rank - 1
    if norm.axis % rank != axis:
        yield f"its axis {norm.axis} is not the channel axis {axis} of {layer.name}"
    odd = [each for each in (layer, norm) if each.dtype_policy.name != "float32"]
    if odd:
        yield f"{odd[0].name} computes in {odd[0].dtype_policy.name}, and only float32 is folded"
    if getattr(layer, "lora_enabled", False):
        yield f"{layer.name} has a low-rank adaptation (LoRA) of its kernel"
    if not all(np.isfinite(part).all() for part in merged_weights(Pair(layer, norm))):
        yield "its scale is not finite: variance + epsilon must be positive"


def _graphs(model: keras.Model) -> Iterator[keras.Function]:
    """List a model's graph and those of the models in it."""
    graph = getattr(model, "_functional", None) if isinstance(model, keras.Sequential) else model
    if isinstance(graph, keras.Function):
        yield graph
        for layer in graph.layers:
            yield from _graphs(layer)


def _normalizations(model: keras.Model) -> Iterable[Layer]:
    return [layer for layer in model._flatten_layers() if isinstance(layer, _NORMALIZATIONS)]


def _taken(part: Any) -> Sequence[Any]:  # noqa: ANN401
    """List what a call takes in, or what a graph gives away: each is a use of a tensor."""
    return part.outputs if isinstance(part, keras.Function) else part.input_tensors


def _before(node: Node) -> Layer:
    return node.input_tensors[0]._keras_history.operation
