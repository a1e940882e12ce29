"""A model's outputs in both phases, measured between steps of its training without a trace left behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from bnlab.doctor.sample import Sample
from bnlab.doctor.subject import Structure, Tensor, take
from bnlab.science.probe import Note, named_layers, probe
from bnlab.science.sources import Batch


class Phases(NamedTuple):
    """Outputs for one sample, a list of arrays each.

    Attributes:
        true: with batch statistics.
        false: with moving statistics.
        other: with the statistics of other batches, made of the same samples.
    """

    true: list[np.ndarray]
    false: list[np.ndarray]
    other: list[np.ndarray]


class Gauge:
    """Evaluates a model on one sample: dropout and the like off, its normalization layers alone switched.

    Args:
        model: a built model.
        sample: what it is measured on.
        other: whether outputs in other batches are wanted too; they cost half as much again.
    """

    def __init__(self, model: keras.Model, sample: Sample, other: bool = False) -> None:
        self.model, self.sample = model, sample
        self.layers = {key: layer for key, layer in named_layers(model).items() if layer.trainable}
        self.calls: Counter[str] = Counter()
        self._state = _state(model)
        self._x = tree.map_structure(tf.constant, sample.x)
        # Sample i of every batch goes to one batch: nobody keeps his neighbours.
        numbers = np.arange(sample.groups * sample.size).reshape(-1, sample.size)
        self._order = numbers.T.reshape(-1) if other else None
        self._run: Callable[[Structure], Any] | None = None
        self._writes = True

    def fits(self, model: keras.Model) -> bool:
        """Whether this was made for a model as it is now; what is compiled does not follow changes."""
        return self._state == _state(model)

    def updates(self, steps: int) -> dict[str, int]:
        """Count the updates that every layer's statistics get in so many steps; it must have measured."""
        return {key: self.calls[key] * steps for key in self.layers}

    @property
    def facts(self) -> dict[str, Any]:
        """What a measurement was made of."""
        momentum = sorted({layer.momentum for layer in self.layers.values()})
        return {
            "normalization_layers": len(self.layers),
            "momentum": ", ".join(f"{own:g}" for own in momentum),
            "samples": self.sample.groups * self.sample.size,
            "batch_size": self.sample.size,
        }

    def phases(self) -> Phases:
        """Measure; variables, flags and random states are what they were."""
        if self._run is None:
            self._run = self._compiled()
        with _kept(self.model, self._writes):
            given = self._run(self._x)
        true, false, other = ([np.asarray(y) for y in part] for part in given)
        back = [] if self._order is None else [y[np.argsort(self._order)] for y in other]
        return Phases(true, false, back)

    def shapes(self) -> list[tuple[int, ...]]:
        """Tell the shapes of the outputs for the whole sample, without computing them if that can be."""
        known = [tuple(y.shape[1:]) for y in tree.flatten(getattr(self.model, "outputs", None) or [])]
        if not known or None in chain(*known):
            with _kept(self.model, everything=True):
                few = self.model(take(self._x, slice(0, 2)), training=False)
            known = [tuple(y.shape[1:]) for y in tree.flatten(few)]
        return [(self.sample.groups * self.sample.size, *shape) for shape in known]

    def _compiled(self) -> Callable[[Structure], Any]:
        if self.model.run_eagerly:
            return self._outputs
        function = tf.function(self._outputs, autograph=False).get_concrete_function(self._x)
        self._writes = _writes(function)
        return function

    def _outputs(self, x: Structure) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        notes: list[Note] = []
        with probe(self.model, Batch(self.sample.groups), notes):
            true = self._call(x)
        self.calls = Counter(note.layer for note in notes)
        return true, self._call(x), [] if self._order is None else self._regrouped(x)

    def _regrouped(self, x: Structure) -> list[Tensor]:
        mixed = tree.map_structure(lambda part: tf.gather(part, self._order), x)
        with probe(self.model, Batch(self.sample.groups)):
            return self._call(mixed)

    def _call(self, x: Structure) -> list[Tensor]:
        return [tf.cast(y, tf.float32) for y in tree.flatten(self.model(x, training=False))]


def _state(model: keras.Model) -> tuple:
    """Whatever a traced function keeps of a model."""
    return id(model), tuple((key, id(layer), layer.trainable) for key, layer in named_layers(model).items())


def _writes(function: Any) -> bool:  # noqa: ANN401
    """Whether a traced function assigns to variables: layers may count, average or draw in any phase."""
    graph = function.graph.as_graph_def()
    nodes = chain(graph.node, *(inner.node_def for inner in graph.library.function))
    return any("Assign" in node.op or "Scatter" in node.op for node in nodes)


@contextmanager
def _kept(model: keras.Model, everything: bool) -> Iterator[None]:
    """Give variables back what they held, where they may be written."""
    held = [(own, np.array(own)) for own in model.variables] if everything else []
    try:
        yield
    finally:
        for variable, old in held:
            if not np.array_equal(np.array(variable), old, equal_nan=old.dtype.kind == "f"):
                variable.assign(old)
