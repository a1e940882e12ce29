"""Put the variables of a TensorFlow checkpoint into a model, and make sure that all of them arrived.

TensorFlow restores what it finds, under the names that whoever wrote the checkpoint gave, and is silent about
the rest. So every variable first gets a value that no training leaves, and what still has it afterwards was
not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

_MARK = 12345
_EXPORTED = "variables"


class RestoreError(Exception):
    """A checkpoint lacks variables of a model; the message is one line."""


def restore(prefix: str, model: keras.Model) -> keras.Model:
    """Restore a model's variables, under whichever name the checkpoint has the model.

    Args:
        prefix: of `<prefix>.index`.
        model: built; its variables change, whether or not the checkpoint has all of them.

    Raises:
        RestoreError: the checkpoint lacks a variable of the model.
    """
    left: list[str] = []
    for view in _views(prefix, model):
        missing = _missing(prefix, view, model)
        if not missing:
            return model
        left = missing if not left or len(missing) < len(left) else left
    raise RestoreError(
        f"it lacks {len(left)} of {len(model.weights)} variables of the model, such as {left[0]}; "
        "the builder must build the model that was saved"
    )


def _views(prefix: str, model: keras.Model) -> Iterator[Any]:
    """List the ways that a model may lie in a checkpoint: under a name, as its root, or as exported."""
    import tensorflow as tf

    names = dict.fromkeys(name.partition("/")[0] for name, _ in tf.train.list_variables(prefix))
    for name in sorted(set(names) & {"model"}) + sorted(set(names) - {"model", _EXPORTED}):
        if name.isidentifier() and not name.startswith("_"):
            yield tf.train.Checkpoint(**{name: model})
    yield tf.train.Checkpoint(model)
    if _EXPORTED in names:
        yield tf.train.Checkpoint(**{_EXPORTED: [variable.value for variable in model.variables]})


def _missing(prefix: str, view: Any, model: keras.Model) -> list[str]:  # noqa: ANN401
    """Restore by one view; list the variables that it does not reach."""
    marked = [variable for variable in model.weights if np.dtype(variable.dtype).itemsize > 1]
    for variable in marked:
        variable.assign(np.full(variable.shape, _MARK))
    marks = [np.array(variable) for variable in marked]
    try:
        view.restore(prefix).expect_partial()
    except ValueError:  # a shape that is not the model's
        return [variable.path for variable in marked]
    pairs = zip(marked, marks, strict=True)
    return [own.path for own, mark in pairs if mark.size and np.array_equal(np.array(own), mark)]
