"""How a trained model comes to inference: as it is, or with a fault made on purpose."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from bnlab import models
from bnlab.checkpoint import load, restore
from bnlab.measure.drills import restored
from bnlab.measure.evaluate import Evaluator
from bnlab.measure.splits import Split
from bnlab.measure.trained import Layers, Trained
from bnlab.plan import KEPT, curve_steps
from bnlab.science.averages import zero_debiased
from bnlab.science.faults import in_half_precision, never_updated, poisoned, with_bessel
from bnlab.science.moments import Moments
from bnlab.science.probe import own_statistics, switched_layers
from bnlab.science.tape import START_MEAN, START_VARIANCE
from bnlab.settings.faults import Fault

Outputs: TypeAlias = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Deployment:
    """What runs at inference, and what it is fed.

    Attributes:
        evaluator: of the weights.
        moving: the moving statistics that come along.
        debiased: the same without what they hold of their start; None where they hold nothing else.
        outputs: images -> outputs, where something else than these weights and statistics decides.
        pixels: what becomes of the images of a split.
    """

    evaluator: Evaluator
    moving: Layers
    debiased: Layers | None
    outputs: Outputs | None = None
    pixels: Callable[[Split], np.ndarray] = lambda split: split.x

    def given(self, split: Split) -> np.ndarray:
        """Compute what comes out at inference."""
        if self.outputs:
            return self.outputs(self.pixels(split))
        return next(self.evaluator.with_fixed(self.pixels(split), [self.moving]))


def deployed(trained: Trained, decay: float, drill: str = "") -> Deployment:
    """Bring a model to inference: healthy without a drill, with the job's fault otherwise."""
    healthy = Deployment(trained.evaluator, trained.moving(decay), trained.debiased(decay))
    fault = trained.wanted.fault
    return FAULTS[fault.name](trained, fault, decay, healthy) if drill else healthy


def needed_decays(fault: Fault, decays: tuple[float, ...]) -> tuple[float, ...]:
    """List the decays that a fault turns to instead of those that were meant.

    >>> from bnlab.settings.faults import Plain
    >>> needed_decays(Plain(name="decay_reversed"), (0.75, 0.5))
    (0.25, 0.5)
    """
    if fault.name == "decay_reversed":
        return tuple(_reversed(decay) for decay in decays)
    return (fault.decay,) if fault.name == "slow" else ()


def _reversed(decay: float) -> float:
    # A decay of 0 would become 1, at which nothing is ever learned.
    return min(round(1 - decay, 12), 1 - 2.0**-24)


def _not_updated(trained: Trained, fault: Fault, decay: float, healthy: Deployment) -> Deployment:
    return replace(healthy, moving=never_updated(healthy.moving), debiased=None)


def _not_restored(trained: Trained, fault: Fault, decay: float, healthy: Deployment) -> Deployment:
    other = restored("not_saved", trained.trial, trained.model, healthy.moving)
    held = {layer: Moments(*own) for layer, own in own_statistics(other).items()}
    return replace(healthy, moving=held, debiased=None)


def _phase_true(trained: Trained, fault: Any, decay: float, healthy: Deployment) -> Deployment:  # noqa: ANN401
    stuck = trained.once((fault,), lambda: Evaluator(trained.trial, trained.model, fault.batch))
    return replace(healthy, outputs=lambda pixels: stuck.in_batches(pixels, trained.step))


def _at_another_decay(trained: Trained, fault: Fault, decay: float, healthy: Deployment) -> Deployment:
    [other] = needed_decays(fault, (decay,))
    return replace(healthy, moving=trained.moving(other), debiased=trained.debiased(other))


def _preprocessing(trained: Trained, fault: Fault, decay: float, healthy: Deployment) -> Deployment:
    def scaled(split: Split) -> np.ndarray:
        """Scale test images from [0, 255] to [-255, 255]; divided by 255 they lie in [-1, 1]."""
        return split.x if split.name.startswith("train") else 2 * split.x.astype(np.float32) - 255

    return replace(healthy, pixels=scaled)


def _epsilon(trained: Trained, fault: Any, decay: float, healthy: Deployment) -> Deployment:  # noqa: ANN401
    def built() -> Evaluator:
        other = models.build(trained.trial, epsilon=fault.epsilon)
        for variable, source in zip(other.variables, trained.model.variables, strict=True):
            variable.assign(source)
        return Evaluator(trained.trial, other, trained.wanted.eval_batch_size)

    evaluator = trained.once((fault,), built)
    return replace(healthy, outputs=lambda pixels: next(evaluator.with_fixed(pixels, [healthy.moving])))


def _weights_averaged(trained: Trained, fault: Any, decay: float, healthy: Deployment) -> Deployment:  # noqa: ANN401
    def built() -> Evaluator:
        other, values = models.build(trained.trial), []
        # Those of the default curve, which every trial keeps: what else lies there, others asked for.
        kept = set(curve_steps(trained.step, KEPT)) & set(trained.folder.checkpoints())
        for step in sorted(kept)[-fault.checkpoints :]:
            restore(load(trained.folder.checkpoint(step)), other)
            values.append([np.array(variable) for variable in other.trainable_variables])
        for variable, own in zip(other.trainable_variables, zip(*values, strict=True), strict=True):
            variable.assign(np.mean(own, axis=0))
        return Evaluator(trained.trial, other, trained.wanted.eval_batch_size)

    return replace(healthy, evaluator=trained.once((fault,), built))


def _dummy_pass(trained: Trained, fault: Any, decay: float, healthy: Deployment) -> Deployment:  # noqa: ANN401
    return _after_passes(trained, healthy, decay, 0.0, fault.passes)


def _nan_pass(trained: Trained, fault: Fault, decay: float, healthy: Deployment) -> Deployment:
    return _after_passes(trained, healthy, decay, np.nan, 1)


def _after_passes(
    trained: Trained, healthy: Deployment, decay: float, value: float, passes: int
) -> Deployment:
    """Let a batch of one value pass with phase true; what the average holds of its start shrinks as well."""
    size = trained.wanted.eval_batch_size
    blank = np.full((size, *trained.images.train_x.shape[1:]), value, np.float32)
    seen = trained.evaluator.moments(blank, size, trained.step)
    moved = poisoned(healthy.moving, seen, decay, passes)
    if healthy.debiased is None:
        return replace(healthy, moving=moved)
    updates = trained.averages.updates
    cured = {
        layer: Moments(
            zero_debiased(mean, START_MEAN, decay, updates[layer] + passes),
            zero_debiased(variance, START_VARIANCE, decay, updates[layer] + passes),
        )
        for layer, (mean, variance) in moved.items()
    }
    return replace(healthy, moving=moved, debiased=cured)


def _bessel(trained: Trained, fault: Fault, decay: float, healthy: Deployment) -> Deployment:
    # The average is one of training's batches, whatever size is evaluated in.
    size = trained.batch_size * (dict(trained.trial.details).get("frames") or 1)
    counts = {
        layer.name: max(2, size * math.prod(layer.input.shape[1:-1]))
        for layer in switched_layers(trained.model)
    }
    debiased = healthy.debiased and with_bessel(healthy.debiased, counts)
    return replace(healthy, moving=with_bessel(healthy.moving, counts), debiased=debiased)


def _half_precision(trained: Trained, fault: Fault, decay: float, healthy: Deployment) -> Deployment:
    return replace(healthy, moving=in_half_precision(trained.tape(), decay))


FAULTS: Mapping[str, Callable[[Trained, Any, float, Deployment], Deployment]] = {
    "not_updated": _not_updated,
    "not_restored": _not_restored,
    "phase_true": _phase_true,
    "decay_reversed": _at_another_decay,
    "slow": _at_another_decay,
    "preprocessing": _preprocessing,
    "epsilon": _epsilon,
    "weights_averaged": _weights_averaged,
    "dummy_pass": _dummy_pass,
    "nan_pass": _nan_pass,
    "bessel": _bessel,
    "half_precision": _half_precision,
}
