"""He et al.'s residual network for CIFAR (arXiv 1512.03385, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import keras
from keras import layers, ops

from bnlab.models.block import Block
from bnlab.models.convnet import logits

Tensor: TypeAlias = Any
BLOCKS_PER_STAGE = 3


def resnet20(
    shape: Sequence[int], classes: int, widths: Sequence[int], block: Block, dropout: float = 0.0
) -> keras.Model:
    """Build ResNet-20: one convolution, three residual blocks per width, a global mean, a dense layer.

    With widths 16, 32, 64 it has 19 convolutions, each followed by a normalization, and 41 M
    multiply-adds per 32x32x3 image. Shortcuts are the paper's option A: no parameters.
    """
    image = keras.Input(tuple(shape), name="image")
    x = block(image, widths[0], "stem")
    for stage, width in enumerate(widths, start=1):
        for number in range(1, BLOCKS_PER_STAGE + 1):
            stride = 2 if stage > 1 and number == 1 else 1
            x = _residual(x, width, f"stage{stage}_block{number}", block, stride)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    return keras.Model(image, logits(x, classes, dropout), name="resnet20")


def _residual(x: Tensor, width: int, name: str, block: Block, stride: int) -> Tensor:
    y = block(x, width, f"{name}_a", stride=stride)
    y = block(y, width, f"{name}_b", relu=False)
    y = layers.Add(name=f"{name}_add")([_shortcut(x, width, stride, name), y])
    return layers.ReLU(name=f"{name}_relu")(y)


def _shortcut(x: Tensor, width: int, stride: int, name: str) -> Tensor:
    """Skip positions and pad channels with zeros; stock operations, so that a saved model opens anywhere."""
    if stride > 1:
        x = layers.MaxPooling2D(1, strides=stride, name=f"{name}_skip")(x)
    missing = width - x.shape[-1]
    before = missing // 2
    return ops.pad(x, ((0, 0), (0, 0), (0, 0), (before, missing - before))) if missing else x
