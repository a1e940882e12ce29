"""The chart of a model under examination: statistics estimated and outputs scored, each once.

estimated from     samples of the training data that nothing is scored on
scored on          `train`, other samples of the training data, and `test`
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bnlab.doctor.scoring import Outputs, Scorer
from bnlab.doctor.subject import Layers, Structure, Subject, length, take
from bnlab.science.moments import Moments, averaged
from bnlab.science.scores import Scores

_SEED = 20_203
# Disjoint parts of a sample: how far their estimates differ tells how sure that of the whole is.
PARTS = 4


@dataclass(frozen=True)
class Split:
    """Samples to score on."""

    name: str
    x: Structure
    y: Any | None

    def __len__(self) -> int:
        """Count the samples."""
        return length(self.x)


class Chart:
    """What is known of a model, worked out when it is asked for.

    Args:
        subject: the model.
        data: `x_train`, `y_train`, `x_test`, `y_test`, the last three None where there are none.
        samples: most samples to estimate from, and to score on.
        facts: of training, where a file told them: `iterations` among them.
    """

    def __init__(self, subject: Subject, data: Any, samples: int, facts: Mapping[str, Any]) -> None:  # noqa: ANN401
        """Draw the samples; nothing is evaluated yet."""
        self.subject, self.data, self.facts = subject, data, facts
        self.size = min(subject.batch_size, length(data.x_train))
        self.rows, scored = _drawn(length(data.x_train), samples, self.size)
        self.x = take(data.x_train, self.rows)
        self.train = _split("train", data.x_train, data.y_train, scored)
        self._outputs: dict[tuple, Outputs] = {}
        self._scorers: dict[str, Scorer] = {}

    @cached_property
    def test(self) -> Split | None:
        """The test split, a random sample of it."""
        if self.data.x_test is None:
            return None
        count = length(self.data.x_test)
        rows = np.random.default_rng(_SEED).permutation(count)[: 2 * length(self.x)]
        return _split("test", self.data.x_test, self.data.y_test, rows)

    @property
    def splits(self) -> list[Split]:
        """Those that there are; the test split last."""
        return [self.train] if self.test is None else [self.train, self.test]

    def some(self, rows: np.ndarray) -> Split:
        """Take a few of the scored training samples as a split of their own."""
        return _split(f"train {len(rows)}", self.train.x, self.train.y, rows)

    @cached_property
    def moving(self) -> Layers:
        """The statistics that the model holds."""
        return self.subject.own()

    @cached_property
    def batches(self) -> Layers:
        """Moments of batches as training sees them: dropout and augmentation layers on."""
        return self.subject.moments(self.x, self.size, stochastic=True)

    @cached_property
    def means(self) -> Layers:
        """What the moving average would come to if the weights rested: mean moments of batches."""
        return self.average(self.batches)

    @cached_property
    def fed(self) -> Layers:
        """Population statistics of the training data as training sees them."""
        return self.subject.population(self.x, stochastic=True) if self.is_stochastic else self.population

    @cached_property
    def population(self) -> Layers:
        """Population statistics of the training data as inference sees them: dropout and the like off."""
        return self.subject.population(self.x)

    @cached_property
    def is_stochastic(self) -> bool:
        """Whether layers of the model do in training what they do not do in inference."""
        few = take(self.x, slice(0, max(2, min(self.size, 16))))
        on, off = (self.subject.moments(few, length(few), stochastic=phase) for phase in (True, False))
        return any(
            not np.allclose(a, b, 1e-3, 1e-5) for key in on for a, b in zip(on[key], off[key], strict=True)
        )

    @cached_property
    def population_of_parts(self) -> list[Layers]:
        """Population statistics of each part of the sample."""
        numbers = np.array_split(np.arange(length(self.x)), PARTS)
        return [self.subject.population(take(self.x, part)) for part in numbers]

    @cached_property
    def of_test(self) -> Layers:
        """Population statistics of the test split."""
        assert self.test is not None
        return self.subject.population(take(self.test.x, slice(0, length(self.x))))

    def average(self, batches: Layers) -> Layers:
        """Say what a moving average of batches' moments comes to."""
        named = self.subject.named
        return {
            key: averaged(own, named[key].epsilon if named[key].renorm else None)
            for key, own in batches.items()
        }

    def outputs(self, split: Split, statistics: Layers) -> Outputs:
        """Outputs of a split under fixed statistics."""
        key = (split.name, content(statistics))
        if key not in self._outputs:
            self._outputs[key] = self.subject.fixed(split.x, statistics)
        return self._outputs[key]

    def in_batches(self, split: Split, size: int | None = None) -> Outputs:
        """Outputs of a split with phase true, at the size of training unless another is given."""
        key = (split.name, size or self.size)
        if key not in self._outputs:
            self._outputs[key] = self.subject.in_batches(split.x, size or self.size)
        return self._outputs[key]

    def deployed(self, split: Split, phase: Mapping[str, bool]) -> Outputs:
        """Outputs of the model called as its owner does, in batches; nothing stays changed."""
        parts = []
        for first in range(0, len(split), self.size):
            parts.append(self.subject.as_it_is(take(split.x, slice(first, first + self.size)), **phase))
            self.subject.put_back()
        return [np.concatenate(own) for own in zip(*parts, strict=True)]

    def scorer(self, split: Split) -> Scorer:
        """Scores of a split; without labels, against the outputs under population statistics."""
        if split.name not in self._scorers:
            self._scorers[split.name] = Scorer(self.outputs(split, self.population), split.y)
        return self._scorers[split.name]

    def under(self, split: Split, statistics: Layers) -> Scores:
        """Score a split under fixed statistics."""
        return self.scorer(split).scores(self.outputs(split, statistics))

    def with_batch(self, split: Split, size: int | None = None) -> Scores:
        """Score a split with phase true."""
        return self.scorer(split).scores(self.in_batches(split, size))


def content(statistics: Layers) -> bytes:
    """Name statistics by what they are in float32."""
    return b"".join(np.asarray(part, np.float32).tobytes() for own in statistics.values() for part in own)


def concatenated(layers: Mapping[str, Moments]) -> Moments:
    """Put the channels of all layers side by side."""
    return Moments(
        *(np.concatenate([np.asarray(own[i], np.float64) for own in layers.values()]) for i in (0, 1))
    )


def _drawn(count: int, samples: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows to estimate from, and others to score on; of few samples, all are both.

    Those to estimate from are a power of two of batches where there are enough, so that parts of them are
    whole batches, and calls have few sizes to be compiled for.
    """
    order = np.random.default_rng(_SEED).permutation(count)
    batches = min(samples, count // 2) // size
    if batches < PARTS:
        return order[: max(size, samples) // size * size][: count // size * size], order[:samples]
    estimated = size * 2 ** (batches.bit_length() - 1)
    return order[:estimated], order[estimated:][:samples]


def _split(name: str, x: Structure, y: Any | None, rows: np.ndarray) -> Split:  # noqa: ANN401
    return Split(name, take(x, rows), None if y is None else take(y, rows))
