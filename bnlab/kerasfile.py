"""Keras model files from anywhere: opened without running code of theirs, written whole or not at all.

A file is looked through before Keras sees it, for what Keras takes on trust: it takes the memory that a
config asks for, unpacks what is small on disk, and asks other files for what a link names.
"""

from __future__ import annotations

import io
import json
import math
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnlab.files import replacing

if TYPE_CHECKING:
    import keras


CONFIG, WEIGHTS = "config.json", "model.weights.h5"


class KerasFileError(Exception):
    """A model file cannot be opened or written; the message is one line that names it."""


def open_model(path: Path) -> keras.Model:
    """Open a saved model of stock Keras layers, without its optimizer and loss.

    Raises:
        KerasFileError: there is no such file, or Keras cannot make a model of it.
    """
    if not path.is_file():
        there = "it is a folder" if path.is_dir() else "there is no such file"
        raise KerasFileError(f"{path} must be a saved Keras model, and {there}")
    if path.suffix != ".keras" or not zipfile.is_zipfile(path):
        raise KerasFileError(f"{path} must be a saved Keras model, and it is no .keras file")
    import keras

    try:
        _check(path)
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # the file may hold anything, and Keras raises whatever it stumbles on
        raise KerasFileError(f"{path} cannot be opened as a Keras model: {_reason(error)[:200]}") from None


def _reason(error: Exception) -> str:
    """Cut Keras's message down to the line that says why; at length it tells in which layer first."""
    reason = str(error).rpartition("Exception encountered: ")[2]
    lines = [line for line in reason.splitlines() if line.strip()] or [type(error).__name__]
    return lines[1] if lines[0].endswith(":") and len(lines) > 1 else lines[0]


def _check(path: Path) -> None:
    """Look through a model file, and read no more of it than it has on disk.

    Raises:
        ValueError: something in it that Keras would not have written, or that is not Keras's.
    """
    with zipfile.ZipFile(path) as archive:
        _check_members(archive.infolist())
        if damaged := archive.testzip():
            raise ValueError(f"its part {damaged} is damaged")
        config, weights = json.loads(archive.read(CONFIG)), archive.read(WEIGHTS)
    _check_classes(config)
    _check_links(weights)
    _check_sizes(config, len(weights))


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    names = [member.filename for member in members]
    own = [name for name in names if not name.startswith("assets/") or ".." in name]
    if len(set(names)) < len(names) or not {CONFIG, WEIGHTS} <= set(own) <= {
        CONFIG,
        WEIGHTS,
        "metadata.json",
    }:
        raise ValueError(
            f"it must hold {CONFIG}, {WEIGHTS}, metadata.json and assets, once each, got {names}"
        )
    if any((member.compress_type, member.file_size) != (0, member.compress_size) for member in members):
        raise ValueError("its parts must not be compressed; Keras writes them as they are")


def _check_classes(config: object) -> None:
    """Refuse a class or function of anything but Keras before it is looked for, which may be an import."""
    for own in _objects(config):
        name, module = own["class_name"], own.get("module")
        of_keras = str(module or "keras").partition(".")[0] == "keras"
        if not of_keras and (name, module) != ("function", "builtins"):  # the place of Keras's own functions
            what = own.get("config") if name == "function" else name
            raise ValueError(f"it asks for {module}.{what}, which is not Keras's")
        if name == "__lambda__":
            raise ValueError("it holds a Lambda, a function of its own, which would have to run")


def _objects(config: object) -> Iterator[dict[str, Any]]:
    """List all that a config describes by its class, however deep."""
    left = [config]
    while left:
        value = left.pop()
        if isinstance(value, dict) and "class_name" in value:
            yield value
        left += value.values() if isinstance(value, dict) else value if isinstance(value, list) else []


def _check_links(weights: bytes) -> None:
    """Refuse weights that lie elsewhere: asked whether a name is there, HDF5 opens what a link leads to."""
    import h5py

    with h5py.File(io.BytesIO(weights), "r") as file:
        left, seen = [file["/"]], set()
        while left:
            group = left.pop()
            for name in group:
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise ValueError(f"its weights {name} are a link to another place")
                part = group[name]
                if isinstance(part, h5py.Dataset) and (part.external or part.is_virtual):
                    raise ValueError(f"its weights {name} lie in another file")
                if isinstance(part, h5py.Dataset) and part.nbytes > len(weights):
                    raise ValueError(f"its weights {name} claim {part.nbytes} bytes of {len(weights)}")
                if isinstance(part, h5py.Group) and part.id not in seen:
                    seen.add(part.id)
                    left.append(part)


def _check_sizes(config: Any, stored: int) -> None:  # noqa: ANN401
    """Refuse a model that is larger than its weights, before memory is taken for it."""
    import keras
    from keras.src.backend.common import global_state

    if not isinstance(config, dict) or "class_name" not in config:
        raise ValueError(f"{CONFIG} must describe a model")
    with keras.StatelessScope(initialize_variables=False):
        model = keras.saving.deserialize_keras_object(config | {"compile_config": None}, safe_mode=True)
    global_state.set_global_attribute("uninitialized_variables", [])  # or the next scope would make them
    needed = sum(math.prod(weight.shape) for weight in model.weights)
    if needed > stored:  # a number has at least one byte
        raise ValueError(f"its layers have {needed} numbers, and its weights {stored} bytes")


def check_name(path: Path) -> None:
    """Check the place of a file to write, before the work that it is for.

    Raises:
        KerasFileError: it does not end in `.keras`, is a folder, or cannot lie where it is to.
    """
    if path.suffix != ".keras":
        raise KerasFileError(f"the file to write must end in .keras, got {path}")
    if path.is_dir():
        raise KerasFileError(f"the file to write must not be a folder, got {path}")
    if any(parent.exists() and not parent.is_dir() for parent in path.parents):
        raise KerasFileError(f"the file to write must lie in a folder, got {path}")


def write_model(model: keras.Model, path: Path) -> None:
    """Write a model; whoever opens the file meanwhile gets the old one or the new one, never a part.

    Raises:
        KerasFileError: the name does not end in `.keras`.
    """
    check_name(path)
    with tempfile.TemporaryDirectory() as folder, replacing(path) as file:
        whole = Path(folder) / "model.keras"
        model.save(whole)
        file.write(whole.read_bytes())
