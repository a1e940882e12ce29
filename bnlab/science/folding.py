"""Fold batch normalization into the layer before it: one layer less, the same outputs with phase false.

With phase false a normalization scales and shifts each channel by constants, and a convolution can do that
itself. What is left alone is named, with the reason. Group, layer and instance normalization always are:
they scale by what each image holds, and no constant can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
from keras import layers, tree

Layer: TypeAlias = Any  # Keras has no types
_Layout: TypeAlias = Callable[[Sequence[int]], tuple[int, ...]]


def _last(shape: Sequence[int]) -> tuple[int, ...]:
    """(..., inputs, channels), which is most kernels."""
    return (shape[-1],)


def _transposed(shape: Sequence[int]) -> tuple[int, ...]:
    """(..., channels, inputs)."""
    return (shape[-2], 1)


def _depthwise(shape: Sequence[int]) -> tuple[int, ...]:
    """(..., inputs, multiplier): output channels count through both."""
    return tuple(shape[-2:])


# What can take a normalization in: the kernel that makes its output channels, and where they are in it.
KERNELS: Mapping[type, tuple[str, _Layout]] = {
    layers.Dense: ("kernel", _last),
    layers.Conv1D: ("kernel", _last),
    layers.Conv2D: ("kernel", _last),
    layers.Conv3D: ("kernel", _last),
    layers.Conv1DTranspose: ("kernel", _transposed),
    layers.Conv2DTranspose: ("kernel", _transposed),
    layers.Conv3DTranspose: ("kernel", _transposed),
    layers.DepthwiseConv1D: ("kernel", _depthwise),
    layers.DepthwiseConv2D: ("kernel", _depthwise),
    layers.SeparableConv1D: ("pointwise_kernel", _last),
    layers.SeparableConv2D: ("pointwise_kernel", _last),
}


class Pair(NamedTuple):
    """A normalization, and the convolution or dense layer that can take it in."""

    layer: Layer
    norm: Layer


def folded_weights(
    kernel: np.ndarray,
    bias: np.ndarray | float,
    mean: np.ndarray,
    variance: np.ndarray,
    gamma: np.ndarray | float,
    beta: np.ndarray | float,
    epsilon: float,
    layout: Sequence[int] = (-1,),
) -> tuple[np.ndarray, np.ndarray]:
    """Scale a kernel and move its bias, so that no normalization is needed after them.

        inv = gamma / sqrt(variance + epsilon)
        kernel' = kernel * inv
        bias' = (bias - mean) * inv + beta

    Computed in float64, rounded once.

    Args:
        kernel: (..., inputs, channels), or as `layout` says.
        bias: (channels,), 0 for none.
        mean, variance: (channels,) moving statistics.
        gamma, beta: (channels,), 1 and 0 for none.
        epsilon: what the normalization adds to the variance, >= 0.
        layout: the shape of `inv` that meets the kernel's last axes.

    Returns:
        Kernel and bias, float32; not finite where variance + epsilon <= 0.

    >>> folded_weights(np.array([[2.0, 1.0]]), 0, [1, 0], [3, 0], np.array([4, 1]), [5, 7], epsilon=1)
    (array([[4., 1.]], dtype=float32), array([3., 7.], dtype=float32))
    """
    wide = [np.asarray(part, np.float64) for part in (kernel, bias, mean, variance, gamma, beta)]
    kernel, bias, mean, variance, gamma, beta = wide
    with np.errstate(all="ignore"):  # the caller sees what is not finite
        inv = gamma / np.sqrt(variance + epsilon)
        both = kernel * inv.reshape(layout), (bias - mean) * inv + beta
        return both[0].astype(np.float32), both[1].astype(np.float32)


def folded(model: keras.Model, pairs: Iterable[Pair]) -> keras.Model:
    """Build a model again, without the normalizations that are folded.

    Names of inputs, layers and outputs stay. Layers that need no change are shared with `model`, not
    copied; `model` itself gives the outputs that it gave.

    Args:
        model: Sequential or Functional.
        pairs: what `foldable` finds in it, or some of that.
    """
    ends = {id(x._keras_history.operation) for x in model.outputs}
    new: dict[int, Layer] = {}
    for pair in pairs:
        new[id(pair.layer)] = _merged(pair)
        # An output bears the name of its layer, so something of that name has to stand there.
        new[id(pair.norm)] = layers.Identity(name=pair.norm.name) if id(pair.norm) in ends else None
    return _rebuilt(model, new)


def deviation(model: keras.Model, other: keras.Model, inputs: Any) -> float:  # noqa: ANN401
    """Measure the largest difference of two models' outputs, as a share of the largest output.

    Args:
        model: its outputs are the measure; where all of them are 0, the difference itself counts.
        inputs: what both take.

    Returns:
        Of all outputs the worst; not a number where an output is not one.
    """
    both = [tree.flatten(each(inputs, training=False)) for each in (model, other)]
    shares = []
    for wanted, got in zip(*([np.asarray(x, np.float64) for x in each] for each in both), strict=True):
        shares.append(np.abs(wanted - got).max() / (np.abs(wanted).max() or 1.0))
    return float(np.max(shares))


def merged_weights(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Compute the kernel and bias that do the work of both layers; not always finite."""
    name, layout = KERNELS[type(pair.layer)]
    kernel, norm = np.asarray(getattr(pair.layer, name)), pair.norm
    return folded_weights(
        kernel,
        np.asarray(pair.layer.bias) if pair.layer.use_bias else 0.0,
        np.asarray(norm.moving_mean),
        np.asarray(norm.moving_variance),
        np.asarray(norm.gamma) if norm.scale else 1.0,
        np.asarray(norm.beta) if norm.center else 0.0,
        norm.epsilon,
        layout(kernel.shape),
    )


def _merged(pair: Pair) -> Layer:
    """Build the layer that does the work of both, under the name of the first."""
    layer = type(pair.layer).from_config({**pair.layer.get_config(), "use_bias": True})
    layer.build_from_config(pair.layer.get_build_config())
    variables = {variable.name: variable for variable in layer.variables}
    for variable in pair.layer.variables:  # a separable convolution has a kernel that stays as it is
        variables[variable.name].assign(variable)
    for name, value in zip((KERNELS[type(layer)][0], "bias"), merged_weights(pair), strict=True):
        variables[name].assign(value)
    return layer


def _rebuilt(model: keras.Model, new: dict[int, Layer]) -> keras.Model:
    """Build a model again; `new` holds what takes a layer's place, None for nothing."""

    def successor(layer: Layer) -> Layer:
        if isinstance(layer, keras.Function | keras.Sequential) and id(layer) not in new:
            new[id(layer)] = _rebuilt(layer, new)
        return new.get(id(layer), layer)

    def call(layer: Layer, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        if layer is None or isinstance(layer, layers.Identity):
            x, *_ = (*args, *kwargs.values())  # a normalization takes a mask as well, these do not
            return x if layer is None else layer(x)
        return layer(*args, **kwargs)

    if isinstance(model, keras.Sequential):
        stack = [_copied(model.inputs[0]), *map(successor, model.layers)]
        return keras.Sequential([layer for layer in stack if layer is not None], name=model.name)
    inputs = tree.map_structure(lambda x: _copied(x).output, model.input)
    return keras.models.clone_model(model, inputs, clone_function=successor, call_function=call)


def _copied(x: Any) -> Layer:  # noqa: ANN401
    """Copy the input layer of a graph's input."""
    return layers.InputLayer.from_config(x._keras_history.operation.get_config())
