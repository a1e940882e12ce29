"""The block that every network here is made of: convolution -> normalization -> ReLU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from keras import layers

from bnlab.science.norms import NORMS

Tensor: TypeAlias = Any


def conv_norm(
    x: Tensor,
    filters: int,
    name: str,
    norm: str,
    options: Mapping[str, Any],
    stride: int = 1,
    kernel: int = 3,
) -> Tensor:
    """Convolve without a bias (the normalization would remove it) and normalize.

    Layers are named `<name>_conv` and `<name>_norm`.
    """
    initializer = "he_normal"
    x = layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer=initializer,
        name=f"{name}_conv",
    )(x)
    return NORMS[norm](f"{name}_norm", **options)(x)


def conv_norm_relu(x: Tensor, filters: int, name: str, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
    """Convolve, normalize, and keep what is positive; arguments as `conv_norm`."""
    return layers.ReLU(name=f"{name}_relu")(conv_norm(x, filters, name, *args, **kwargs))
