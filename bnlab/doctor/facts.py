"""What a model's file says of its training: facts for a diagnosis, read without making an optimizer.

A fact that is not there, or not what it should be, is None: nothing here makes a model unreadable.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from bnlab.kerasfile import METADATA, check_classes

if TYPE_CHECKING:
    import h5py

Facts = dict[str, Any]
"""`format`, `keras_version`, `optimizer`, `loss`, `iterations` (int) and `learning_rate` (float), or None."""

_STEPS = re.compile(r"(^|/)(_?iterations?|iter)(:0)?$")
_RATE = re.compile(r"(^|/)_?(learning_rate|lr)(:0)?$")
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def facts(
    form: str, compiled: object = None, version: object = None, steps: object = None, rate: object = None
) -> Facts:
    """Put facts together; a learning rate that was stored goes before the one of the config.

    Args:
        form: of the file.
        compiled: what a model was compiled with: `optimizer` or `optimizer_config`, `loss`.
        version: of Keras.
        steps, rate: the optimizer's variables.
    """
    compiled = compiled if isinstance(compiled, Mapping) else {}
    optimizer = compiled.get("optimizer") or compiled.get("optimizer_config")
    count = _number(steps)
    return {
        "format": form,
        "keras_version": _text(version),
        "optimizer": _word(optimizer),
        "loss": _word(compiled.get("loss")),
        "iterations": None if count is None else int(count),
        "learning_rate": _rate(optimizer, _number(rate), count),
    }


def _number(value: Any) -> float | None:  # noqa: ANN401
    with suppress(TypeError, ValueError, OverflowError):
        return float(value) if value is not None and abs(float(value)) < 2**63 else None
    return None


def _text(value: object) -> str | None:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return text if isinstance(text, str) else None


def _word(value: object) -> str | None:
    """Name a class, a function, or several of them."""
    if isinstance(value, Mapping) and "class_name" in value:
        own = value["class_name"]
        return _text(value.get("config") if own == "function" else own)
    several = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else None
    if several is None:
        return _text(value)
    return ", ".join(filter(None, map(_word, several))) or None


def _rate(optimizer: object, stored: float | None, steps: float | None) -> float | None:
    """Find a learning rate: stored, in an optimizer's config, or its schedule's after so many steps."""
    config = optimizer.get("config") if isinstance(optimizer, Mapping) else None
    while isinstance(config, Mapping) and isinstance(config.get("inner_optimizer"), Mapping):
        config = config["inner_optimizer"].get("config")
    rate = config.get("learning_rate", config.get("lr")) if isinstance(config, Mapping) else None
    if not isinstance(rate, Mapping):
        return _number(rate) if stored is None else stored
    return _scheduled(rate, steps) if str(rate.get("module")).startswith("keras.") else None


def _scheduled(rate: Mapping[str, Any], steps: float | None) -> float | None:
    import keras

    with suppress(Exception):  # a config may hold anything
        check_classes(rate)
        return None if steps is None else float(keras.saving.deserialize_keras_object(rate)(steps))
    return None


def of_archive(archive: zipfile.ZipFile, config: object, file: h5py.File) -> Facts:
    """Read the facts of a `.keras` file.

    Args:
        archive: open for reading.
        config: of the model.
        file: its weights.
    """
    version = None
    with suppress(Exception):
        version = json.loads(archive.read(METADATA))["keras_version"]
    compiled = config.get("compile_config") if isinstance(config, Mapping) else None
    return facts("keras", compiled, version, *of_weights(file))


def of_weights(file: h5py.File) -> tuple[object, object]:
    """Read steps and learning rate from a file of Keras 3's weights; of a schedule there is no rate."""
    for place in ("optimizer/inner_optimizer/vars", "optimizer/vars"):
        with suppress(Exception):
            if place in file:
                return _scalar(file[place].get("0")), _scalar(file[place].get("1"))
    return None, None


def _scalar(dataset: Any) -> object:  # noqa: ANN401
    return dataset[()] if getattr(dataset, "shape", None) == () else None


def of_older(file: h5py.File, form: str) -> Facts:
    """Read the facts of an older whole model, or of its weights."""
    compiled = None
    with suppress(Exception):
        compiled = json.loads(file.attrs["training_config"])
    stored = dict(_older_scalars(file))
    found = [next((stored[name] for name in stored if each.search(name)), None) for each in (_STEPS, _RATE)]
    return facts(form, compiled, file.attrs.get("keras_version"), *found)


def _older_scalars(file: h5py.File) -> Iterator[tuple[str, object]]:
    """List the optimizer's single numbers by name."""
    found: list[tuple[str, object]] = []
    with suppress(Exception):
        file["optimizer_weights"].visititems(
            lambda name, part: found.append((name, part[()])) if getattr(part, "shape", None) == () else None
        )
    yield from found


def of_checkpoint(prefix: str, form: str) -> Facts:
    """Read the facts of a TensorFlow checkpoint."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(prefix)
    scalars = [name for name, shape in reader.get_variable_to_shape_map().items() if shape == []]
    owned = {name: name.removesuffix(_VALUE) for name in sorted(scalars) if name.endswith(_VALUE)}
    found = [
        next((reader.get_tensor(name) for name in owned if each.search(owned[name])), None)
        for each in (_STEPS, _RATE)
    ]
    return facts(form, None, None, *found)
