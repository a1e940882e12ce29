"""Layers and models that use batch statistics in inference too: a mistake that needs a class of its own."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers


@keras.saving.register_keras_serializable("experiments.doctor")
class AlwaysBatch(layers.BatchNormalization):
    """Batch normalization that takes every call for one in training."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:  # noqa: ANN401
        """Normalize by the batch, whatever the phase."""
        return super().call(inputs, training=True, mask=mask)


@keras.saving.register_keras_serializable("experiments.doctor")
class AlwaysTraining(keras.Model):
    """A model whose own `call` forgets to hand the phase on to its normalization layers.

    Args:
        widths: channels of each convolution, or units of each dense layer.
        outputs: units of the head.
        activation: of the head.
        momentum, epsilon: of the normalization layers.
        flat: dense layers on flat inputs instead of convolutions.
    """

    def __init__(
        self,
        widths: list[int],
        outputs: int,
        activation: str | None,
        momentum: float,
        epsilon: float,
        flat: bool = False,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**options)
        self.settings = {
            "widths": list(widths),
            "outputs": outputs,
            "activation": activation,
            "momentum": momentum,
            "epsilon": epsilon,
            "flat": flat,
        }
        self.first = layers.Flatten() if flat else layers.Activation("linear")
        self.mixers = [_mixer(width, flat) for width in widths]
        self.norms = [layers.BatchNormalization(momentum=momentum, epsilon=epsilon) for _ in widths]
        self.pool = layers.Flatten()
        self.head = layers.Dense(outputs, activation=activation)

    def call(self, x: Any, training: bool | None = None) -> Any:  # noqa: ANN401
        """Give outputs that depend on the batch: `training` never reaches the layers."""
        x = self.first(x)
        for mixer, norm in zip(self.mixers, self.norms, strict=True):
            x = keras.ops.relu(norm(mixer(x), training=True))
        return self.head(self.pool(x))

    def get_config(self) -> dict[str, Any]:
        """Give what `__init__` was given."""
        return {**super().get_config(), **self.settings}


def _mixer(width: int, flat: bool) -> layers.Layer:
    if flat:
        return layers.Dense(width, use_bias=False)
    return layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False)
