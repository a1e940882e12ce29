"""The networks, by name: one table, one file per family, normalization chosen by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import keras

from bnlab.data import DATASETS
from bnlab.models.autoencoder import autoencoder
from bnlab.models.block import Block, conv_norm_relu
from bnlab.models.convnet import convnet, convnet_5x5
from bnlab.models.goals import GOALS, Goal, network_inputs
from bnlab.models.resnet import resnet20
from bnlab.models.sequence import sequence
from bnlab.records import Trial

__all__ = ["GOALS", "MODELS", "Goal", "build", "build_in", "network_inputs"]

_Builder = Callable[[Trial, Block, Mapping[str, Any]], keras.Model]


def _classifier(network: Callable[..., keras.Model]) -> _Builder:
    def built(trial: Trial, block: Block, own: Mapping[str, Any]) -> keras.Model:
        data = DATASETS[trial.data]
        return network(data.shape, data.classes, trial.widths, block, **own)

    return built


MODELS: Mapping[str, _Builder] = {
    "convnet": _classifier(convnet),
    "convnet_5x5": _classifier(convnet_5x5),
    "resnet20": _classifier(resnet20),
    "autoencoder": lambda trial, block, own: autoencoder(DATASETS[trial.data].shape, trial.widths, block),
    "sequence": lambda trial, block, own: sequence(
        DATASETS[trial.data].shape, own["frames"], trial.widths, block
    ),
}
# Details of a trial that are the network's; the others are those of its blocks.
_OWN = ("dropout", "frames")


def build(trial: Trial, **norm_options: float) -> keras.Model:
    """Build a trial's network with the initial weights of its seed.

    Args:
        trial: names the network, its widths, its details, its normalizer and seed.
        norm_options: added to the normalizer's own, such as a `momentum` for an exported model.

    Returns:
        A built model; `network_inputs` makes what it takes, `GOALS[trial.model]` says what it gives.
    """
    return build_in(nullcontext(), trial, **norm_options)


def build_in(scope: AbstractContextManager, trial: Trial, /, **norm_options: float) -> keras.Model:
    """Build a trial's network, as `build`, with its variables in a scope, as of a distribution strategy."""
    # Names count up within a process; a restore finds variables by name, so each model starts afresh.
    keras.backend.clear_session()
    keras.utils.set_random_seed(trial.seed)
    details: dict[str, Any] = dict(trial.details)
    own = {name: details.pop(name) for name in _OWN if name in details}
    block = partial(
        conv_norm_relu, norm=trial.norm, options={**dict(trial.options), **norm_options}, **details
    )
    with scope, _precision(trial.precision):  # entered here: a session that is cleared forgets them
        return MODELS[trial.model](trial, block, own)


@contextmanager
def _precision(policy: str) -> Iterator[None]:
    """Let layers that are made inside compute in a precision; nothing outside does.

    Weights and moving statistics are float32 under every policy, and so are the layers that end a network.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
