"""A bench: one architecture and seed, its plain training shared among what is done after training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import keras
import numpy as np

from experiments.doctor import recipe as recipes
from experiments.doctor.phases import Scores, norms, scores
from experiments.doctor.recipe import Recipe
from experiments.doctor.training import Trained, train

Change = Callable[[np.ndarray], np.ndarray]


class Bench:
    """Makes recipes for one architecture and seed of a set; trains the plain one once.

    Args:
        set_name: `tune` or `judge`.
        architecture: a key of `architectures.ARCHITECTURES`.
        seed: 0, 1, ...
        raw: train the plain one on pixels from 0 to 255, far from what statistics start at.
    """

    def __init__(self, set_name: str, architecture: str, seed: int, raw: bool = False) -> None:
        self.set, self.architecture, self.seed, self.raw = set_name, architecture, seed, raw
        self.random = recipes.generator(set_name, architecture, seed)
        self._plain: Trained | None = None
        self._values: list[np.ndarray] = []
        self._epsilons: list[float] = []
        self._scores: Scores | None = None

    def start(self, case: str) -> None:
        """Let what a case draws depend on its name, not on the cases before it."""
        self.random = recipes.generator(self.set, self.architecture, self.seed, case)

    def recipe(self, training: str, dose: int = 0) -> Recipe:
        """Draw the recipe of a training; another dose draws other numbers."""
        name = f"{training}-{dose}" if dose else training
        return recipes.draw(self.set, self.architecture, name, self.seed)

    def plain(self) -> Trained:
        """A copy of the plain training as it was at its end, to be changed at will."""
        if self._plain is None:
            recipe = self.recipe("plain")
            self._plain = train(recipe.but(scaling="raw") if self.raw else recipe)
            self._values = [np.array(v) for v in self._variables(self._plain.model)]
        model = self._plain.model
        for variable, value in zip(self._variables(model), self._values, strict=True):
            variable.assign(value)
        for layer in norms(model):
            layer.epsilon, layer.momentum = self._plain.recipe.epsilon, self._plain.recipe.momentum
        return replace(self._plain, data=replace(self._plain.data), notes={})

    def before(self) -> Scores:
        """Scores of the plain training, nothing changed."""
        if self._scores is None:
            made = self.plain()
            self._scores = measured(made)
        return self._scores

    @staticmethod
    def instead(made: Trained, model: keras.Model) -> Trained:
        """The same with another model."""
        return replace(made, model=model)

    def changed_scaling(self, dose: int) -> tuple[str, Change]:
        """A wrong scaling of the plain training's images: its name, and the change from the right one."""
        made = self.plain()
        low, high = float(made.data.x_train.min()), float(made.data.x_train.max())
        unit = ("unit", lambda x: (x - low) / (high - low))
        raw = ("raw", lambda x: (x - low) / (high - low) * 255)
        inverted = ("inverted", lambda x: high + low - x)
        kinds: list[tuple[str, Change]] = [inverted]
        kinds += [unit] if low != 0 or high > 1 else [("signed", lambda x: x * 2 - 1)]
        kinds += [raw] if high <= 1 or low != 0 else [("signed", lambda x: x / 127.5 - 1)]
        kinds.append(("bgr", lambda x: x[..., ::-1]) if made.recipe.data == "cifar10" else inverted)
        first = recipes.generator(self.set, self.architecture, self.seed, "scaling").integers(4)
        return kinds[(int(first) + dose) % 4]

    @staticmethod
    def _variables(model: keras.Model) -> list:
        return [*model.variables, *model.optimizer.variables]


Maker = Callable[[Bench, int], Trained]


@dataclass(frozen=True)
class Case:
    """One kind of model of the corpus.

    Attributes:
        fault: its name, or none.
        what: the variant.
        make: (bench, dose) -> the model, and what goes into its file.
        doses: how many there are; the first that does enough is taken.
        sign: what says so: `gap` (phase false is worse), `reverse` (phase true is worse), `drop` (phase false
            is worse than before the fault), `population` (phase false is worse than under population
            statistics), `mates` (a sample's output depends on those beside it), `leak` (so it does
            where the call is not told its phase) or `healthy` (phase false is not worse).
    """

    fault: str
    what: str
    make: Maker
    doses: int = 1
    sign: str = "gap"


def measured(made: Trained) -> Scores:
    """Score on the file's test samples."""
    size, data = made.recipe.batch_size, made.data
    return scores(made.model, data.x_test, data.y_test, size, made.recipe.regression)
