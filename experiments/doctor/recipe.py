"""A recipe: all that one training needs to know, drawn from what the set, the name and the seed allow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import numpy as np


@dataclass(frozen=True)
class Recipe:
    """How one model is built, fed and trained.

    Attributes:
        set: `tune` or `judge`.
        architecture: a key of `architectures.ARCHITECTURES`.
        seed: of the draw, the weights and the order.
        data: `mnist` or `cifar10`.
        task: `ints`, `one_hot`, `logits`, `logits_one_hot` or `shape`, a regressor.
        scaling: a key of `images.SCALINGS`.
        first, samples: the slice of the training images.
        width, depth: of the network.
        momentum, epsilon, renorm: of its normalization layers.
        optimizer, rate, schedule: `cosine` or `constant`; weight decay as the optimizer takes it.
        batch_size, steps: of training.
        dropout: rate of the architecture's own dropout; before_norm: of one right before each normalization.
        normalizer: `batch`, `group` (every second one) or `always_batch`.
        norm_dtype: of the normalization layers, None for the network's own.
        inside: `translation` or `noise`, a layer at the front that acts in training; `resizing`.
    """

    set: str
    architecture: str
    seed: int
    data: str
    task: str
    scaling: str
    first: int
    samples: int
    width: int
    depth: int
    momentum: float
    epsilon: float
    optimizer: str
    rate: float
    batch_size: int
    steps: int
    schedule: str = "cosine"
    weight_decay: float | None = None
    dropout: float = 0.0
    before_norm: float = 0.0
    normalizer: str = "batch"
    norm_dtype: str | None = None
    inside: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        return (28, 28, 1) if self.data == "mnist" else (16, 16, 3)

    @property
    def regression(self) -> bool:
        """Whether outputs are numbers, not classes."""
        return self.task == "shape"

    def but(self, **changes: Any) -> Recipe:  # noqa: ANN401
        """Give the same recipe with some settings changed."""
        return replace(self, **changes)


CHOICES: dict[str, dict[str, tuple]] = {
    "tune": {
        "width": (8, 12),
        "depth": (3,),
        "momentum": (0.9, 0.95),
        "epsilon": (1e-3, 1e-4),
        "optimizer": ("adam", "sgd"),
        "batch_size": (32, 64),
        "steps": (240, 300),
        "samples": (4000, 6000),
        "scaling": ("unit", "standardized"),
    },
    "judge": {
        "width": (10, 14),
        "depth": (2, 4),
        "momentum": (0.9, 0.93, 0.96),
        "epsilon": (1e-3, 2e-4, 1e-5),
        "optimizer": ("adam", "nesterov", "rmsprop"),
        "batch_size": (24, 48, 96),
        "steps": (260, 340),
        "samples": (5000, 8000),
        "scaling": ("unit", "signed", "standardized"),
    },
}
RATES = {"adam": 6e-3, "sgd": 0.1, "nesterov": 0.08, "rmsprop": 3e-3}
TASKS = ("ints", "one_hot", "logits", "logits_one_hot", "ints", "logits", "shape")
# The sets draw from images that do not overlap.
FIRST = {"tune": (0, 6000, 12000), "judge": (20000, 28000, 36000, 42000)}


def generator(*words: object) -> np.random.Generator:
    """Random numbers that depend on the words alone."""
    return np.random.default_rng(crc32("/".join(map(str, words)).encode()))


def draw(name: str, architecture: str, training: str, seed: int) -> Recipe:
    """Draw a recipe for one training of an architecture.

    Args:
        name: of the set.
        architecture: a key of `architectures.ARCHITECTURES`.
        training: its name; another name draws other numbers.
        seed: 0, 1, ...
    """
    random = generator(name, architecture, training, seed)
    drawn = {key: random.choice(values).item() for key, values in CHOICES[name].items()}
    data = str(random.choice(["mnist", "cifar10"]))
    task = str(random.choice(TASKS))
    # On these small colour images only classes are learnt in so few steps.
    task = "ints" if task == "shape" and data == "cifar10" else task
    return Recipe(
        set=name,
        architecture=architecture,
        seed=seed,
        data=data,
        task=task,
        first=int(random.choice(FIRST[name])),
        rate=RATES[drawn["optimizer"]],
        # A regressor is not healthy under more: dropout changes the variances that it was trained with.
        dropout=(0.1 if task == "shape" else 0.2) if architecture == "dropout" else 0.0,
        **drawn,
    )
