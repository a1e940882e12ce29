"""What a user's model is to do, found from its outputs and labels: how good outputs are, sample by sample.

Several outputs are scored each for itself, and their scores averaged. Without labels the outputs under
population statistics stand in: what is measured then is how far outputs lie from those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from keras import tree

from bnlab.science.scores import Scores, classifier_scores, regressor_scores

Outputs: TypeAlias = Sequence[np.ndarray]
# Sums of probabilities in half precision are this far from 1.
_ABOUT = 0.02
_TINY = 1e-7


class ScoringError(ValueError):
    """Labels do not fit a model's outputs; the message is one line."""


class Scorer:
    """Scores of outputs for one split.

    Args:
        outputs: what the model gives for the split's samples under statistics that are right.
        labels: their labels, an array for each output or one for a single output; None: there are none, and
            `outputs` are the reference.

    Attributes:
        kinds: `classes`, `yes or no`, or `values`, of each output that is scored.
        labelled: whether there are labels.
    """

    def __init__(self, outputs: Outputs, labels: Any | None) -> None:  # noqa: ANN401
        """Find out what each output is."""
        self.labelled = labels is not None
        targets = list(outputs) if labels is None else [np.asarray(part) for part in tree.flatten(labels)]
        if len(targets) != len(outputs):
            raise ScoringError(
                f"labels must be one array for each of the {len(outputs)} outputs, got {len(targets)}"
            )
        found = [_way(y, target, self.labelled) for y, target in zip(outputs, targets, strict=True)]
        self.kinds = tuple(kind for kind, _ in found)
        self._ways = [way for _, way in found]

    def scores(self, outputs: Outputs) -> Scores:
        """Score outputs of the samples, in their order."""
        own = [way(_numbers(y)) for way, y in zip(self._ways, outputs, strict=True)]
        return Scores(*(np.mean(part, axis=0) for part in zip(*map(_fields, own), strict=True)))

    def disagreement(self, one: Outputs, other: Outputs) -> float:
        """Say how far two outputs differ: share of other classes, or RMS difference over the deviation."""
        parts = zip(self.kinds, one, other, strict=True)
        return float(np.mean([_apart(kind, _numbers(a), _numbers(b)) for kind, a, b in parts]))


def _numbers(y: np.ndarray) -> np.ndarray:
    """Read outputs in float64; an infinity is no better than NaN, and warns of itself wherever it goes."""
    wide = np.asarray(y, np.float64)
    return np.where(np.isfinite(wide), wide, np.nan)


def _fields(scores: Scores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return scores.squared, scores.correct, scores.losses


def _way(
    outputs: np.ndarray, targets: np.ndarray, labelled: bool
) -> tuple[str, Callable[[np.ndarray], Scores]]:
    """Find what an output is, and how to score it."""
    classes = outputs.shape[-1] if outputs.ndim > 1 else 1
    if not labelled:
        return ("classes" if classes > 1 and _are_probabilities(outputs) else "values"), _against(targets)
    numbers = _class_numbers(outputs, targets)
    if numbers is not None and classes > 1:
        chances = _are_probabilities(outputs)
        return "classes", lambda y: _positions(classifier_scores(_logits(y, chances), numbers), len(y))
    if classes == 1 and _are_yes_or_no(outputs, targets):
        chances = bool(((outputs >= 0) & (outputs <= 1)).all())
        return "yes or no", lambda y: _binary(y, targets, chances)
    if targets.size != outputs.size:
        raise ScoringError(
            f"labels must fit outputs of shape {_open(outputs)}, as numbers of classes or as values, got "
            f"{_open(targets)}"
        )
    values = targets.reshape(outputs.shape).astype(np.float64)
    return "values", lambda y: regressor_scores(y, values)


def _class_numbers(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray | None:
    """Read labels as numbers of classes, one for each position; None where they are something else."""
    if targets.shape == outputs.shape and outputs.shape[-1] > 1:
        one_hot = ((targets >= 0) & (targets <= 1)).all() and np.allclose(targets.sum(-1), 1, atol=1e-3)
        return targets.argmax(-1).reshape(-1) if one_hot else None
    flat = targets.reshape(-1)
    whole = flat.size * outputs.shape[-1] == outputs.size and (flat == np.round(flat)).all()
    if not whole or flat.min() < 0 or flat.max() >= outputs.shape[-1]:
        return None
    return flat.astype(int)


def _are_yes_or_no(outputs: np.ndarray, targets: np.ndarray) -> bool:
    return targets.size == outputs.size and bool(np.isin(targets, (0, 1)).all())


def _are_probabilities(outputs: np.ndarray) -> bool:
    known = outputs[np.isfinite(outputs).all(axis=-1)]
    inside = (known >= -_ABOUT) & (known <= 1 + _ABOUT)
    return bool(inside.all() and np.allclose(known.sum(-1, dtype=np.float64), 1, atol=_ABOUT))


def _logits(y: np.ndarray, chances: bool) -> np.ndarray:
    flat = y.reshape(-1, y.shape[-1])
    return np.log(np.maximum(flat, _TINY)) if chances else flat


def _binary(y: np.ndarray, targets: np.ndarray, chances: bool) -> Scores:
    """Score probabilities or logits of one class against 0 and 1, as two classes."""
    flat = y.reshape(-1)
    logit = np.log(np.maximum(flat, _TINY) / np.maximum(1 - flat, _TINY)) if chances else flat
    two = np.stack([np.zeros_like(logit), logit], axis=-1)
    return _positions(classifier_scores(two, targets.reshape(-1).astype(int)), len(y))


def _positions(scores: Scores, samples: int) -> Scores:
    """Average over the positions of each sample, where every pixel or step has a class."""
    return Scores(*(part.reshape(samples, -1).mean(axis=1) for part in _fields(scores)))


def _against(reference: np.ndarray) -> Callable[[np.ndarray], Scores]:
    """Score against outputs: distances, and whether the same class is the largest."""
    fixed = _numbers(reference)

    def way(y: np.ndarray) -> Scores:
        own = regressor_scores(y, fixed)
        if fixed.ndim < 2 or fixed.shape[-1] == 1:
            return own
        same = (y.argmax(-1) == fixed.argmax(-1)).reshape(len(y), -1).mean(axis=1)
        return Scores(own.squared, same, own.losses)

    return way


def _apart(kind: str, one: np.ndarray, other: np.ndarray) -> float:
    if kind == "classes":
        return float(np.mean(one.argmax(-1) != other.argmax(-1)))
    if kind == "yes or no":
        middle = 0.5 if ((other >= 0) & (other <= 1)).all() else 0.0
        return float(np.mean((one > middle) != (other > middle)))
    return float(np.sqrt(np.mean((one - other) ** 2))) / max(float(np.std(other)), _TINY)


def _open(array: np.ndarray) -> str:
    return f"({', '.join(['n', *map(str, array.shape[1:])])})"
