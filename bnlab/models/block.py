"""The block that every network here is made of: convolution -> normalization -> ReLU."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

from keras import initializers, layers, regularizers

from bnlab.science.norms import NORMS

Tensor: TypeAlias = Any
_CONVOLUTIONS = {False: layers.Conv2D, True: layers.Conv2DTranspose}


class Block(Protocol):
    """`conv_norm_relu` with everything settled that is the same in all blocks of a network."""

    def __call__(self, x: Tensor, filters: int, name: str, **changes: Any) -> Tensor:  # noqa: ANN401
        """Add a block."""


def conv_norm_relu(
    x: Tensor,
    filters: int,
    name: str,
    norm: str = "batch",
    options: Mapping[str, Any] = MappingProxyType({}),
    *,
    kernel: int = 3,
    stride: int = 1,
    padding: str = "same",
    transposed: bool = False,
    relu: bool = True,
    freeze: bool = False,
    bias: bool | None = None,
    deviation: float | None = None,
    weight_decay: float = 0.0,
) -> Tensor:
    """Convolve, normalize, and keep what is positive: layers `<name>_conv`, `<name>_norm`, `<name>_relu`.

    Args:
        x: (images, height, width, channels).
        filters: the convolution's; batch normalization has as many scales, shifts, means and variances.
        name: of the block.
        norm, options: a key of `bnlab.science.norms.NORMS`, and its options.
        kernel, stride, padding: the convolution's; padding is `same` or `valid`.
        transposed: a stride makes the image larger instead of smaller.
        relu: False ends with the normalization, as the second half of a residual block does.
        freeze: kernel, bias, scale, shift and statistics stay as they are.
        bias: of the convolution; None gives one only where no normalization follows, which would remove it.
        deviation: of the initial kernel, normal around 0; None takes He et al.'s sqrt(2 / inputs).
        weight_decay: adds weight_decay * sum(kernel^2) to the training loss.
    """
    normal = "he_normal" if deviation is None else initializers.RandomNormal(stddev=deviation)
    convolution = _CONVOLUTIONS[transposed](
        filters,
        kernel,
        strides=stride,
        padding=padding,
        use_bias=norm == "none" if bias is None else bias,
        kernel_initializer=normal,
        kernel_regularizer=regularizers.L2(weight_decay) if weight_decay else None,
        name=f"{name}_conv",
    )
    normalization = NORMS[norm](f"{name}_norm", **options)
    convolution.trainable = normalization.trainable = not freeze
    x = normalization(convolution(x))
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x
