"""Faults on purpose, one class each: a known mistake, and by how much it is made."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from bnlab.settings.types import Decay, Group, Positive


class Plain(Group):
    """A fault without options, or none."""

    name: Literal[
        "none",
        "not_updated",
        "not_restored",
        "phase_false",
        "hot",
        "decay_reversed",
        "sorted",
        "batch_of_one",
        "preprocessing",
        "two_sources",
        "nan_pass",
        "bessel",
        "half_precision",
    ]


class PhaseTrue(Group):
    """`fault=phase_true`: inference normalizes by whatever batch an image comes in."""

    name: Literal["phase_true"]
    batch: Positive


class Slow(Group):
    """`fault=slow`: a decay whose average does not arrive within the run."""

    name: Literal["slow"]
    decay: Decay


class Epsilon(Group):
    """`fault=epsilon`: another epsilon at inference than in training."""

    name: Literal["epsilon"]
    epsilon: Annotated[float, Field(gt=0)]


class WeightsAveraged(Group):
    """`fault=weights_averaged`: the mean of several checkpoints' weights with the last one's statistics."""

    name: Literal["weights_averaged"]
    checkpoints: Annotated[int, Field(ge=2)]


class DummyPass(Group):
    """`fault=dummy_pass`: forward passes of blank images with phase true, before the model is saved."""

    name: Literal["dummy_pass"]
    passes: Positive


Fault: TypeAlias = Plain | PhaseTrue | Slow | Epsilon | WeightsAveraged | DummyPass

HEALTHY = Plain(name="none")
# Made in training: a trial of their own. The first three are part of its identity; the others are settings
# that anybody may choose, such as a batch size of one.
TRAINED = ("phase_false", "sorted", "two_sources")
CHOSEN = ("hot", "batch_of_one")
# Made on an average of variances, which batch renormalization does not take.
OF_VARIANCES = ("dummy_pass", "nan_pass", "bessel", "half_precision")


def trained_fault(fault: Fault) -> str:
    """Name what training does wrong, where that is nothing that other settings say; else nothing."""
    return fault.name if fault.name in TRAINED else ""


def drill(fault: Fault) -> str:
    """Name a fault that is made at inference, on a healthy trial, with its option; else nothing.

    >>> drill(Slow(name="slow", decay=0.9999)), drill(Plain(name="nan_pass")), drill(Plain(name="sorted"))
    ('slow 0.9999', 'nan_pass', '')
    """
    if fault.name in ("none", *TRAINED, *CHOSEN):
        return ""
    options = [value for key, value in fault if key != "name"]
    return " ".join([fault.name, *(f"{value:.12g}" for value in options)])
