"""A trained model as it comes to inference, with all that is known of it: what gaps are explained of."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from bnlab import models
from bnlab.measure.deployments import Deployment, deployed
from bnlab.measure.evaluate import Known, content
from bnlab.measure.populations import Populations
from bnlab.measure.splits import Split
from bnlab.measure.trained import Layers, Trained
from bnlab.records import Clue
from bnlab.science.scores import Scores

NAN = float("nan")


class Patient:
    """A trained model that comes to inference in one way, at several decays; nothing is evaluated twice.

    Args:
        trained: the model, its tape, its data.
        drill: the fault at inference, or empty.
        decays: of the moving statistics.
        known: scores of this very model that were taken before.
    """

    def __init__(
        self, trained: Trained, drill: str, decays: Sequence[float], known: Known | None = None
    ) -> None:
        """Bring the model to inference at each decay."""
        self.trained, self.drill = trained, drill
        self.deployments = {decay: deployed(trained, decay, drill) for decay in decays}
        [self._evaluator, *_] = [own.evaluator for own in self.deployments.values()]
        self.populations = Populations(trained, self._evaluator)
        self._pixels: dict[str, np.ndarray] = {}
        self._scores: Known = dict(known or {})

    @property
    def layers(self) -> list[str]:
        """Names of the normalization layers, in the model's order."""
        return self._evaluator.layers

    @property
    def size(self) -> int:
        """Images that share their statistics in phase true."""
        return self.trained.wanted.eval_batch_size

    def pixels(self, split: Split) -> np.ndarray:
        """Take the images of a split as they come to inference."""
        if split.name not in self._pixels:
            [one, *_] = self.deployments.values()
            self._pixels[split.name] = one.pixels(split)
        return self._pixels[split.name]

    def population_of(self, split: Split) -> Layers:
        """Population statistics of a split; the training split's are those of the training data."""
        if self.is_fed(split):
            return self.populations.training
        return self.populations.of(split.name, self.pixels(split))

    def is_fed(self, split: Split) -> bool:
        """Whether a split is of the data that training is fed: then nothing is shifted."""
        return split.name.startswith("train") and self.trained.trial.fault != "two_sources"

    def under(self, split: Split, sets: Sequence[Layers]) -> list[Scores]:
        """Score a split under each of several fixed statistics."""
        keys = [(split.name, content(own)) for own in sets]
        new = {key: own for key, own in zip(keys, sets, strict=True) if key not in self._scores}
        given = self._evaluator.with_fixed(self.pixels(split), list(new.values()))
        for key, outputs in zip(new, given, strict=True):
            self._scores[key] = self.judged(split, outputs)
        return [self._scores[key] for key in keys]

    def in_batches(self, split: Split) -> Scores:
        """Score a split with phase true."""
        key = (split.name, b"")
        if key not in self._scores:
            outputs = self._evaluator.in_batches(self.pixels(split), self.trained.step)
            self._scores[key] = self.judged(split, outputs)
        return self._scores[key]

    def blended(self, split: Split, fixed: Layers, weights: np.ndarray, each: bool = False) -> list[Scores]:
        """Score a split under fixed statistics mixed with those of each batch, or of each image."""
        given = self._evaluator.blended(self.pixels(split), fixed, weights, each)
        return [self.judged(split, outputs) for outputs in given]

    def deployed(self, split: Split, deployment: Deployment) -> Scores:
        """Score what comes out at inference."""
        if deployment.outputs is None:
            return self.under(split, [deployment.moving])[0]
        return self.judged(split, deployment.outputs(self.pixels(split)))

    def judged(self, split: Split, outputs: np.ndarray) -> Scores:
        """Score outputs for a split's images."""
        return models.GOALS[self.trained.trial.model].scores(outputs, split.x, split.y)

    def clue(
        self,
        split: Split,
        decay: float | None,
        kind: str,
        name: str,
        metric: str,
        value: float,
        error: float = NAN,
    ) -> Clue:
        """Write down one number."""
        return Clue(
            step=self.trained.step,
            split=split.name,
            decay=decay,
            drill=self.drill,
            kind=kind,
            name=name,
            metric=metric,
            value=float(value),
            standard_error=float(error),
            eval_batch_size=self.size,
            images=len(split.x),
            samples=self.trained.wanted.samples,
            time_ms=time.time_ns() // 1_000_000,
        )
