"""Statistics are a value: what a normalization layer is to normalize by, wherever it comes from.

The batch's own (phase true), fixed ones (phase false, and every remedy), or a mixture of both, each layer
for itself. `bnlab.science.probe` makes a model use them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Tensor: TypeAlias = Any
NormLayer: TypeAlias = Any  # keras.layers.BatchNormalization, which has no types


@dataclass(frozen=True)
class Batch:
    """Statistics of the batch itself (phase true), as in training.

    Attributes:
        groups: equal consecutive parts of a call, each normalized by its own statistics; 1 takes the whole
            call as one batch. Parts are counted, not images: a layer may see several frames of each.
        clip: bounds (r_max, d_max) of batch renormalization; None takes the layer's own.
        update: let the averages that batch renormalization trains with take note of the batch.
        parts: equal consecutive parts whose moments are merged in float64, for a batch so large that it
            stands for a population: layer by layer, each on inputs that are normalized so already.
        fused: let one operation of TensorFlow's do what Keras does in ten, forth and back, where it can: one
            float32 batch, channels last, no renormalization, no GPU. It takes a fifth off a step's time.
        synchronized: take the moments of all replicas' parts together, where a distribution strategy runs
            several (`bnlab.science.synchronized`); there are no masks then.
    """

    groups: int = 1
    clip: tuple[Tensor, Tensor] | None = None
    update: bool = False
    parts: int = 1
    fused: bool = False
    synchronized: bool = False

    def __post_init__(self) -> None:
        """Refuse parts of several batches, which would be merged across them, and groups across replicas."""
        if self.groups > 1 and self.parts > 1:
            raise ValueError(f"parts are of one batch, got groups={self.groups} and parts={self.parts}")
        if self.synchronized and (self.groups > 1 or self.parts > 1):
            raise ValueError(
                "a synchronized batch is one group in one part on every replica, got "
                f"groups={self.groups} and parts={self.parts}"
            )


# layer -> (mean, variance), each (channels,): phase false, or any other fixed statistics. A layer's key is
# its name, where no other layer has it (`bnlab.science.probe.named_layers`).
Fixed: TypeAlias = Mapping[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Blend:
    """Fixed statistics mixed with a batch's own, as those of a mixture of both distributions.

        mean = (1 - w) m + w m_B,   variance = (1 - w) v + w v_B + w (1 - w) (m - m_B)^2

    With w = 0 they are the fixed ones, with w = 1 the batch's own, each layer for itself; in between they are
    the mixture of E[x] and E[x^2] of Summers & Dinneen, arXiv 1906.03548 ("inference example weighing"),
    without its cancellation.

    Attributes:
        fixed: layer -> (mean, variance).
        weight: layer -> w in [0, 1].
        groups: as of `Batch`; as many groups as images mix in each image's own moments.
    """

    fixed: Fixed
    weight: Mapping[str, Tensor]
    groups: int = 1


Statistics: TypeAlias = Batch | Fixed | Blend
