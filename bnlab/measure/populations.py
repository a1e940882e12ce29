"""Statistics estimated anew at fixed weights: of fresh training batches, of the training data, of a split."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from bnlab.data.feed import WINDOW
from bnlab.data.order import shuffled
from bnlab.measure.evaluate import Evaluator
from bnlab.measure.trained import Layers, Trained
from bnlab.science.moments import Moments, averaged
from bnlab.science.probe import normalization_layers

# Disjoint parts of a sample: how far their estimates differ tells how sure that of the whole is.
PARTS = 4


class Populations:
    """Statistics of one set of weights, estimated once and kept.

    Args:
        trained: the trial, whose next batches are the sample.
        evaluator: of the weights.
    """

    def __init__(self, trained: Trained, evaluator: Evaluator) -> None:
        """Estimate nothing yet."""
        self._trained, self._evaluator = trained, evaluator
        self._size = trained.batch_size
        epsilons = {n.name: n.epsilon if n.renorm else None for n in normalization_layers(trained.model)}
        self._epsilons = {layer: epsilons[layer] for layer in evaluator.layers}
        self._splits: dict[str, list[Layers]] = {}

    @cached_property
    def fed(self) -> np.ndarray:
        """Images that the next steps would be fed, in batches; a whole number of them in each part."""
        samples, trial = self._trained.wanted.samples, self._trained.trial
        if trial.fault == "sorted":  # parts are alike only if each has whole windows, and so every class
            windows = PARTS * WINDOW * trial.batch_size
            samples = -(-samples // windows) * windows
        images = self._trained.fed(samples)
        batches = len(images) // self._size // PARTS * PARTS
        return images[: batches * self._size]

    @cached_property
    def batches(self) -> Layers:
        """Moments of every batch of `fed`, with phase true."""
        return self.moments_of(self.fed, self._size)

    def in_batches(self, samples: int, size: int) -> Layers:
        """Moments of so many training images in batches of a size, with phase true; measured anew."""
        images = self._sample(samples, mixed=size != self._size)
        return self.moments_of(images[: max(1, len(images) // size) * size], size)

    def moments_of(self, images: np.ndarray, size: int) -> Layers:
        """Moments of every batch of images, with phase true."""
        return self._evaluator.moments(images, size, self._trained.step)

    def population(self, samples: int) -> Layers:
        """Population statistics of so many training images, layer by layer; measured anew."""
        return self._evaluator.population(self._sample(samples))

    def estimated(self, pixels: np.ndarray) -> Layers:
        """Population statistics of images; of too many, of a sample."""
        return self._evaluator.population(self._some(pixels))

    def average(self, batches: Mapping[str, Moments]) -> Layers:
        """Say what a moving average of batches' moments comes to."""
        return {layer: averaged(own, self._epsilons[layer]) for layer, own in batches.items()}

    @cached_property
    def means(self) -> Layers:
        """Mean moments of fresh batches: what the moving average would come to if weights rested."""
        return self.average(self.batches)

    @cached_property
    def training(self) -> Layers:
        """Population statistics of the training data, layer by layer."""
        return self._evaluator.population(self.fed)

    @cached_property
    def means_of_parts(self) -> list[Layers]:
        """Mean moments of each part of the sample."""
        parts = [
            {
                layer: Moments(*(np.array_split(own, PARTS)[part] for own in moments))
                for layer, moments in self.batches.items()
            }
            for part in range(PARTS)
        ]
        return [self.average(part) for part in parts]

    @cached_property
    def training_of_parts(self) -> list[Layers]:
        """Population statistics of each part of the sample."""
        return [self._evaluator.population(part) for part in np.split(self.fed, PARTS)]

    def of(self, name: str, pixels: np.ndarray) -> Layers:
        """Population statistics of evaluated images, which are kept by a name."""
        return self._of(name, pixels)[0]

    def of_parts(self, name: str, pixels: np.ndarray) -> list[Layers]:
        """Population statistics of each part of evaluated images; nothing where there are too few."""
        return self._of(name, pixels)[1:]

    def _of(self, name: str, pixels: np.ndarray) -> list[Layers]:
        if name not in self._splits:
            sample = self._some(pixels)
            equal = sample[: len(sample) // PARTS * PARTS]
            parts = np.split(equal, PARTS) if len(equal) else []
            self._splits[name] = [self._evaluator.population(part) for part in (sample, *parts)]
        return self._splits[name]

    def _some(self, pixels: np.ndarray) -> np.ndarray:
        return pixels[shuffled(np.arange(len(pixels)))[: self._trained.wanted.samples]]

    def _sample(self, samples: int, mixed: bool = False) -> np.ndarray:
        """Take images as training is fed; for batches of another size than training's in a random order."""
        images = self._trained.fed(samples)
        order = shuffled(np.arange(len(images))) if mixed else np.arange(len(images))
        return images[order[:samples]]
