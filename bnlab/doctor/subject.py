"""A model under examination: evaluated under any statistics, and given back exactly as it came."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from bnlab.science.moments import Moments, merged
from bnlab.science.probe import Note, named_layers, own_statistics, probe
from bnlab.science.sources import Batch, Blend, Statistics

Tensor: TypeAlias = Any
Structure: TypeAlias = Any  # an array, or a nest of arrays with one length
Layers: TypeAlias = Mapping[str, Moments]
# Samples per graph call, and bytes of the widest normalized activation of one.
_CALL, _BYTES = 256, 2**28


class Subject:
    """A built model and the ways to evaluate it; use it in a `with` block, which puts everything back.

    Args:
        model: any Keras model that can be called on `x`.
        x: a few inputs, to see what its layers look like.
        batch_size: samples that share their statistics in phase true.
    """

    def __init__(self, model: keras.Model, x: Structure, batch_size: int) -> None:
        """Look at every layer once; the model is built by that where it was not."""
        self.model, self.batch_size = model, batch_size
        self._kept: list[tuple[Any, np.ndarray]] = []
        self._compiled: dict[tuple, Callable[..., Any]] = {}
        with self._unchanged():
            self.shapes = self._look(take(x, slice(0, 2)))
        self.named = {key: layer for key, layer in named_layers(model).items() if layer.trainable}
        self.epsilons = {key: layer.epsilon for key, layer in self.named.items()}

    def __enter__(self) -> Subject:
        """Remember every variable."""
        self._kept = [(variable, np.array(variable)) for variable in self.model.variables]
        return self

    def __exit__(self, *_: object) -> None:
        """Put back those that an evaluation changed: random states, or statistics of a leaking phase."""
        self.put_back()

    @property
    def layers(self) -> list[str]:
        """Keys of the normalization layers that have two phases, in the model's order."""
        return list(self.named)

    @property
    def calls(self) -> dict[str, int]:
        """How often one pass calls each layer."""
        return {key: len(self.shapes.get(key, ())) for key in self.named}

    @property
    def together(self) -> int:
        """Samples that may be one batch without filling the memory."""
        sizes = [4 * math.prod(shape[1:]) for shapes in self.shapes.values() for shape in shapes]
        return max(self.batch_size, _BYTES // max([1, *sizes]))

    @contextmanager
    def of_epsilon(self, epsilon: float) -> Iterator[None]:
        """Let every layer add another epsilon while inside."""
        kept, own = self._compiled, {layer: layer.epsilon for layer in self.named.values()}
        self._compiled = {}
        try:
            for layer in own:
                layer.epsilon = epsilon
            yield
        finally:
            self._compiled = kept
            for layer, before in own.items():
                layer.epsilon = before

    def own(self) -> Layers:
        """Read the moving statistics that the layers hold."""
        return {key: Moments(*own) for key, own in own_statistics(self.model).items()}

    def put_back(self) -> list[str]:
        """Assign what every variable held; return the paths of those that had changed."""
        changed = [(v, old) for v, old in self._kept if not np.array_equal(np.array(v), old, equal_nan=True)]
        for variable, old in changed:
            variable.assign(old)
        return [variable.path for variable, _ in changed]

    def fixed(self, x: Structure, statistics: Layers) -> list[np.ndarray]:
        """Compute outputs with every sample normalized by the same statistics."""
        given = {key: tuple(tf.constant(part, tf.float32) for part in statistics[key]) for key in self.named}
        return self._outputs("fixed", x, given, lambda given, _: given)

    def in_batches(self, x: Structure, size: int | None = None) -> list[np.ndarray]:
        """Compute outputs with phase true, dropout and the like left off."""
        size = size or self.batch_size
        return self._outputs(("batch", size), x, (), lambda _, count: Batch(count // size), size)

    def blended(self, x: Structure, statistics: Layers, row: np.ndarray) -> list[np.ndarray]:
        """Compute outputs with the layers that a row marks by 1 on batch statistics, others on fixed ones."""
        given = {key: tuple(tf.constant(part, tf.float32) for part in statistics[key]) for key in self.named}
        weight = {
            key: tf.constant(share, tf.float32) for key, share in zip(self.named, row.tolist(), strict=True)
        }
        size = self.batch_size
        return self._outputs(
            "blend", x, (given, weight), lambda given, count: Blend(given[0], given[1], count // size), size
        )

    def moments(self, x: Structure, size: int, stochastic: bool = False, corrected: bool = True) -> Layers:
        """Note the moments of every batch: layer -> (batches, channels), one call after another.

        Args:
            x: inputs; what does not fill a batch is left out.
            size: samples in a batch.
            stochastic: dropout, noise and augmentation layers are on, as in training.
            corrected: batch renormalization corrects batches towards the averages that it keeps.
        """
        noted = self._noted(x, size, stochastic, corrected)
        return {
            key: Moments(*(np.concatenate(own) for own in zip(*notes.values(), strict=True)))
            for key, notes in noted.items()
        }

    def by_call(self, x: Structure, size: int) -> dict[str, list[Moments]]:
        """Note the moments of every batch for each call of a layer by itself."""
        noted = self._noted(x, size, stochastic=False, corrected=True)
        return {key: [Moments(*notes[call]) for call in sorted(notes)] for key, notes in noted.items()}

    def population(self, x: Structure, stochastic: bool = False) -> Layers:
        """Compute population statistics: all samples are one batch, so earlier layers have theirs already.

        More samples than the memory holds are several large batches, whose moments are merged. Nothing is
        corrected towards averages that may be wrong.
        """
        size = min(length(x), self.together)
        seen = self.moments(x, size, stochastic, corrected=False)
        return {key: merged(own) for key, own in seen.items()}

    def as_it_is(self, x: Structure, **phase: bool) -> list[np.ndarray]:
        """Call the model as its owner does, on all samples at once, eagerly."""
        return [np.asarray(part, np.float32) for part in tree.flatten(self.model(x, **phase))]

    def output_differences(self, x: Structure, statistics: Layers) -> dict[str, float]:
        """Compare each layer's outputs between the phases: RMS difference over their deviation."""
        with self._unchanged():
            kinds: list[Statistics] = [
                {k: (own.mean, own.variance) for k, own in statistics.items()},
                Batch(1),
            ]
            one, other = (self._activations(take(x, slice(0, self.batch_size)), kind) for kind in kinds)
        return {key: _relative(one[key], other[key]) for key in self.named if key in one}

    def _outputs(
        self, kind: Hashable, x: Structure, values: Structure, make: Callable, size: int = 1
    ) -> list[np.ndarray]:
        def run(part: Structure, values: Any) -> list[Tensor]:  # noqa: ANN401
            with probe(self.model, make(values, _length_of(part))):
                return tree.flatten(self.model(part, training=False))

        call = size * -(-min(_CALL, self.together, length(x)) // size)
        parts = [self._run(kind, run, part, values) for part in _parts(x, call)]
        return [np.concatenate(own)[: length(x)] for own in zip(*parts, strict=True)]

    def _noted(
        self, x: Structure, size: int, stochastic: bool, corrected: bool
    ) -> dict[str, dict[int, tuple]]:
        clip = None if corrected else (1.0, 0.0)

        def run(part: Structure, _: Any) -> dict[str, dict[int, tuple]]:  # noqa: ANN401
            notes, count = list[Note](), _length_of(part)
            # A batch that stands for a population: float32 sums of all its values would lose digits.
            whole = count == size and size > _CALL
            kind = Batch(parts=size, clip=clip) if whole else Batch(count // size, clip=clip)
            with probe(self.model, kind, notes):
                self.model(part, training=stochastic)
            return {
                key: {n.call: (n.mean, n.variance) for n in notes if n.layer == key} for key in self.named
            }

        call = size * max(1, min(_CALL, self.together) // size)
        count = length(x) // size * size
        parts = [
            self._run(
                ("note", size, stochastic, clip), run, take(x, slice(first, min(first + call, count))), ()
            )
            for first in range(0, count, call)
        ]
        return {key: _joined([part[key] for part in parts]) for key in self.named if parts[0][key]}

    def _run(self, kind: Any, run: Callable, x: Structure, values: Any) -> Any:  # noqa: ANN401
        """Run compiled, or eagerly where a model's code cannot be; random layers draw the same each time."""
        key = (kind, _length_of(x))
        self.put_back()
        if key not in self._compiled:
            # A partial: TensorFlow warns of one function that is traced again and again.
            self._compiled[key] = tf.function(partial(run))
        try:
            given = self._compiled[key](tree.map_structure(tf.constant, x), values)
        except (NotImplementedError, TypeError, AttributeError, tf.errors.OperatorNotAllowedInGraphError):
            self._compiled[key] = run
            given = run(x, values)
        return tree.map_structure(np.asarray, given)

    def _look(self, x: Structure) -> dict[str, list[tuple[int, ...]]]:
        shapes: dict[str, list[tuple[int, ...]]] = {}
        with _recorded(self.model, lambda key, inputs, _: shapes.setdefault(key, []).append(inputs.shape)):
            self.model(x, training=False)
        return shapes

    def _activations(self, x: Structure, statistics: Statistics) -> dict[str, np.ndarray]:
        seen: dict[str, np.ndarray] = {}
        with (
            probe(self.model, statistics),
            _recorded(self.model, lambda key, _, y: seen.update({key: np.asarray(y)})),
        ):
            self.model(x, training=False)
        return seen

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        kept = [(variable, np.array(variable)) for variable in self.model.variables]
        try:
            yield
        finally:
            for variable, old in kept:
                variable.assign(old)


def length(x: Structure) -> int:
    """Count the samples of an input."""
    return len(tree.flatten(x)[0])


def take(x: Structure, which: Any) -> Structure:  # noqa: ANN401
    """Take samples of every array of a structure."""
    return tree.map_structure(lambda part: part[which], x)


def joined(parts: Sequence[Structure]) -> Structure:
    """Put samples of several structures together."""
    return tree.map_structure(lambda *own: np.concatenate(own), *parts)


@contextmanager
def _recorded(model: keras.Model, note: Callable[[str, Any, Any], object]) -> Iterator[None]:
    """Hear of every call of a normalization layer, in whatever way it is done at present."""
    layers = named_layers(model)
    kept = {key: vars(layer).get("call") for key, layer in layers.items()}

    def hearing(key: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def heard(inputs: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
            y = call(inputs, *args, **kwargs)
            note(key, inputs, y)
            return y

        return heard

    for key, layer in layers.items():
        layer.call = hearing(key, layer.call)
    try:
        yield
    finally:
        for key, layer in layers.items():
            if kept[key] is None:
                del layer.call
            else:
                layer.call = kept[key]


def _parts(x: Structure, size: int) -> Iterator[Structure]:
    """Cut samples into calls of one size; the last is filled by beginning again at the first."""
    count = length(x)
    for numbers in (np.arange(-(-count // size) * size) % count).reshape(-1, size):
        yield take(x, numbers)


def _length_of(x: Structure) -> int:
    return tree.flatten(x)[0].shape[0]


def _joined(parts: Sequence[Mapping[int, tuple]]) -> dict[int, tuple]:
    return {
        call: tuple(np.concatenate([part[call][i] for part in parts]) for i in (0, 1)) for call in parts[0]
    }


def _relative(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one.astype(np.float64), other.astype(np.float64)
    spread = other.std()
    return float(np.sqrt(np.mean((one - other) ** 2)) / spread) if spread > 0 else math.nan
