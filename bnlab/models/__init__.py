"""The networks, by name: one table, one file per family, normalization chosen by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras

from bnlab.data import DATASETS
from bnlab.models.convnet import convnet
from bnlab.models.resnet import resnet20
from bnlab.records import Trial

MODELS: Mapping[str, Callable[..., keras.Model]] = {"convnet": convnet, "resnet20": resnet20}


def build(trial: Trial, **norm_options: float) -> keras.Model:
    """Build a trial's network with the initial weights of its seed.

    Args:
        trial: names the network, its widths, its normalizer and seed.
        norm_options: added to the normalizer's own, such as a `momentum` for an exported model.

    Returns:
        A built model from images (N, H, W, C), pixels in [0, 1], to logits (N, classes).
    """
    # Names count up within a process; a restore finds variables by name, so each model starts afresh.
    keras.backend.clear_session()
    keras.utils.set_random_seed(trial.seed)
    data = DATASETS[trial.data]
    options = {**dict(trial.options), **norm_options}
    return MODELS[trial.model](data.shape, data.classes, trial.widths, trial.norm, options)
