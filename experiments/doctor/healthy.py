"""Healthy models of as many kinds: what a doctor must not call sick."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from experiments.doctor.bench import Bench, Case
from experiments.doctor.images import samples
from experiments.doctor.phases import put_population
from experiments.doctor.recipe import Recipe
from experiments.doctor.training import Trained, train

Longer = tuple[float, float]
LONGER: tuple[Longer, ...] = ((1.0, 1.0), (1.5, 0.5), (2.0, 0.25))
"""Factors of the steps and of the rate, from dose to dose: a recipe is mended until it is healthy."""


def _dosed(recipe: Recipe, dose: int) -> Recipe:
    steps, rate = LONGER[dose]
    return recipe.but(steps=int(recipe.steps * steps), rate=recipe.rate * rate)


def _varied(name: str, change: Callable[[Recipe], dict[str, Any]]) -> Case:
    def make(bench: Bench, dose: int) -> Trained:
        recipe = bench.recipe(name)
        return train(_dosed(recipe.but(**change(recipe)), dose))

    return Case("none", name, make, len(LONGER), "healthy")


def plain(bench: Bench, dose: int) -> Trained:
    """The plain training that faults after training start from."""
    return bench.plain()


def unlabelled(bench: Bench, dose: int) -> Trained:
    """The same, to be judged without labels."""
    made = bench.plain()
    made.notes["unlabelled"] = True
    return made


def re_estimated(bench: Bench, dose: int) -> Trained:
    """Statistics that are plain means over many batches of training samples."""
    made = bench.plain()
    put_population(made.model, made.data.x_train[:2000])
    return made


def augmented(bench: Bench, dose: int) -> Trained:
    """Shifts and noise in the input pipeline; the file has the images as they are."""
    recipe = _dosed(bench.recipe("augmented"), dose)
    shift = 1 if recipe.data == "cifar10" else 2

    def augment(x: Any) -> Any:  # noqa: ANN401
        moved = ops.roll(x, np.random.default_rng(0).integers(-shift, shift + 1), axis=1)
        picked = keras.random.uniform((ops.shape(x)[0], 1, 1, 1)) < 0.5
        return ops.where(picked, x, moved) + 0.05 * keras.random.normal(ops.shape(x))

    return train(recipe, augment=augment)


def frozen_backbone(bench: Bench, dose: int) -> Trained:
    """All but the head learnt from five classes, then the head alone from the other five."""
    recipe = _dosed(bench.recipe("frozen_backbone"), dose)
    model = train(recipe, data=samples(recipe, (0, 1, 2, 3, 4))).model
    for layer in model.layers:
        layer.trainable = layer.name == "head"
    return train(recipe, data=samples(recipe, (5, 6, 7, 8, 9)), model=model)


def fine_tuned(bench: Bench, dose: int) -> Trained:
    """Learnt from five classes, then all of it at a low rate from the other five."""
    recipe = _dosed(bench.recipe("fine_tuned"), dose)
    model = train(recipe, data=samples(recipe, (0, 1, 2, 3, 4))).model
    return train(recipe.but(rate=recipe.rate / 4), data=samples(recipe, (5, 6, 7, 8, 9)), model=model)


HEALTHY: tuple[Case, ...] = (
    Case("none", "plain", plain, 1, "healthy"),
    Case("none", "unlabelled", unlabelled, 1, "healthy"),
    Case("none", "re_estimated", re_estimated, 1, "healthy"),
    Case("none", "augmented", augmented, 3, "healthy"),
    _varied("augmented_inside", lambda r: {"inside": "translation" if r.seed % 2 else "noise"}),
    _varied("few_steps", lambda r: {"steps": 90, "momentum": 0.85, "batch_size": 64}),
    Case("none", "frozen_backbone", frozen_backbone, 3, "healthy"),
    Case("none", "fine_tuned", fine_tuned, 3, "healthy"),
    _varied("cosine", lambda r: {"steps": 400, "momentum": 0.97}),
    _varied("constant_rate", lambda r: _constant()),
    _varied("small_batch", lambda r: {"batch_size": 8, "rate": r.rate / 3, "momentum": 0.98, "steps": 500}),
    _varied("large_batch", lambda r: {"batch_size": 256, "steps": 120, "momentum": 0.9}),
    _varied("weight_decay", lambda r: {"weight_decay": 1e-3}),
    _varied("group_norm_mixed", lambda r: {"normalizer": "group"}),
    _varied("dropout_mild", lambda r: {"before_norm": 0.1, "dropout": 0.15}),
)


def _constant() -> dict[str, Any]:
    return {"optimizer": "adam", "rate": 1e-3, "schedule": "constant", "momentum": 0.99, "steps": 600}
