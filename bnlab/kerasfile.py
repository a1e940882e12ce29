"""Keras model files from anywhere: opened without running code of theirs, written whole or not at all.

A file is looked through before Keras sees it, for what Keras takes on trust: it takes the memory that a
config asks for, unpacks what is small on disk, and asks other files for what a link names.
"""

from __future__ import annotations

import io
import json
import math
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnlab.files import replacing

if TYPE_CHECKING:
    import h5py
    import keras


CONFIG, WEIGHTS, METADATA = "config.json", "model.weights.h5", "metadata.json"
# Of an archive that was packed again: what it may unpack to, in bytes, and times its size.
_MOST, _RATIO = 2**32, 200
# Layers that run what lies in another file, or in a format of its own.
_FOREIGN = {"TFSMLayer", "TorchModuleWrapper"}
# What Keras says of a name that it does not know.
_UNKNOWN = re.compile(r"(?:Could not locate (?:class|function)|Unknown [\w ]+?):? '?([\w>.]+)'?")


class KerasFileError(Exception):
    """A model file cannot be opened or written; the message is one line that names it."""


def open_model(path: Path, custom: Mapping[str, object] | None = None) -> keras.Model:
    """Open a saved model, without its optimizer and loss.

    Args:
        path: `<name>.keras`.
        custom: classes and functions beyond Keras's own that the file may ask for, by name.

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
        admitted = _check(path, custom)
        return keras.saving.load_model(path, admitted, compile=False, safe_mode=True)
    except Exception as error:  # the file may hold anything, and Keras raises whatever it stumbles on
        raise refusal(path, error, advise=custom is not None) from None


def refusal(path: Path, error: Exception, advise: bool = False) -> KerasFileError:
    """Say in one line why a file is no model.

    Args:
        path: of the file.
        error: that came of opening it.
        advise: say what gives Keras a class that it does not know.
    """
    reason = " ".join(_reason(error)[:400].split())
    if advise and (unknown := _UNKNOWN.search(reason)):
        name = unknown[1].rpartition(">")[2]
        reason = f"it asks for {unknown[1]}, which is not Keras's; give it with --custom module:{name}"
    return KerasFileError(f"{path} cannot be opened as a Keras model: {reason}")


def _reason(error: Exception) -> str:
    """Cut Keras's message down to the line that says why; at length it tells in which layer first."""
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    reason = str(error).rpartition("Exception encountered: ")[2]
    lines = [line for line in reason.splitlines() if line.strip()] or [type(error).__name__]
    return lines[1] if lines[0].endswith(":") and len(lines) > 1 else lines[0]


def _check(path: Path, custom: Mapping[str, object] | None) -> dict[str, object]:
    """Look through a model file: what of `custom` it asks for, by the names that it has for them.

    Raises:
        ValueError: something in it that Keras would not have written, or that is not Keras's.
    """
    import keras

    config, weights = read_parts(path)
    if not isinstance(config, dict) or "class_name" not in config:
        raise ValueError(f"{CONFIG} must describe a model")
    bare = config | {"compile_config": None}  # its loss and optimizer are not made
    admitted = check_classes(bare, custom)
    check_weights(weights)
    check_sizes(
        lambda: keras.saving.deserialize_keras_object(bare, admitted, safe_mode=True), len(weights), admitted
    )
    return admitted


def read_parts(path: Path) -> tuple[Any, bytes]:
    """Read config and weights of a model file, and no more than it has on disk or may unpack to.

    Raises:
        ValueError: it has other parts than a model, or damaged ones.
    """
    with zipfile.ZipFile(path) as archive:
        _check_members(archive.infolist())
        if damaged := archive.testzip():
            raise ValueError(f"its part {damaged} is damaged")
        return json.loads(archive.read(CONFIG)), archive.read(WEIGHTS)


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    names = [member.filename for member in members]
    own = [name for name in names if not name.startswith("assets/") or ".." in name]
    if len(set(names)) < len(names) or not {CONFIG, WEIGHTS} <= set(own) <= {CONFIG, WEIGHTS, METADATA}:
        raise ValueError(f"it must hold {CONFIG}, {WEIGHTS}, {METADATA} and assets, once each, got {names}")
    if (whole := sum(member.file_size for member in members)) > _MOST:
        raise ValueError(f"its parts must have {_MOST} bytes at most, got {whole}")
    for member in members:
        _check_packing(member)


def _check_packing(member: zipfile.ZipInfo) -> None:
    """Allow what Keras writes, which is not compressed, and what whoever packs it again makes of it."""
    most = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: _RATIO}.get(member.compress_type)
    if most is None:
        raise ValueError(f"its part {member.filename} must be stored or deflated")
    if member.file_size > most * member.compress_size:
        raise ValueError(
            f"its part {member.filename} must unpack to {most} times its size at most, "
            f"it claims {member.file_size} bytes of {member.compress_size}"
        )


def check_classes(config: object, custom: Mapping[str, object] | None = None) -> dict[str, object]:
    """Refuse a class or function of anything but Keras before it is looked for, which may be an import.

    Args:
        config: of a model, as JSON has it.
        custom: what else may be asked for, by name; None leaves no way to give any.

    Returns:
        What of `custom` is asked for, by the name that Keras will look for.
    """
    admitted: dict[str, object] = {}
    for own in _objects(config):
        _check_code(own, custom is not None)
        wanted = str(own.get("config") if own["class_name"] == "function" else _name(own))
        plain = wanted.rpartition(">")[2]
        if custom and plain in custom and _room(own) != "keras":
            admitted |= {wanted: custom[plain], plain: custom[plain]}
        elif not _of_keras(own, wanted):
            raise ValueError(_not_of_keras(own, wanted) + (_advice(own, plain) if custom is not None else ""))
    return admitted


def _name(own: dict[str, Any]) -> str:
    return str(own.get("registered_name") or own["class_name"])


def _room(own: dict[str, Any]) -> str:
    return str(own.get("module")).partition(".")[0]


def _of_keras(own: dict[str, Any], wanted: str) -> bool:
    """Tell by the module; Keras's own functions are said to lie in `builtins`, and older files name none."""
    unnamed = own.get("module") is None and not own.get("registered_name")
    functions = (own["class_name"], own.get("module")) == ("function", "builtins")
    return ">" not in wanted and (unnamed or functions or _room(own) == "keras")


def _not_of_keras(own: dict[str, Any], wanted: str) -> str:
    alone = ">" in wanted or own.get("module") is None
    return f"it asks for {wanted if alone else str(own['module']) + '.' + wanted}, which is not Keras's"


def _advice(own: dict[str, Any], plain: str) -> str:
    kind = "function" if own["class_name"] == "function" else "class"
    return f"; give its {kind} with --custom module:{plain}"


def _check_code(own: dict[str, Any], advise: bool) -> None:
    """Refuse what brings code of its own: a Lambda, which older files keep as a list, or a foreign file."""
    name, settings = own["class_name"], own.get("config")
    listed = (
        name == "Lambda" and isinstance(settings, dict) and not isinstance(settings.get("function"), dict)
    )
    if name == "__lambda__" or listed:
        raise ValueError(
            "it holds a Lambda, a function of its own, which would have to run; "
            "write the function as a layer's class, and save the model with that"
            + (", or give a function that builds it with --builder module:function" if advise else "")
        )
    if name in _FOREIGN:
        raise ValueError(f"it holds a {name}, which runs what is not Keras's")


def _objects(config: object) -> Iterator[dict[str, Any]]:
    """List all that a config describes by its class, however deep."""
    left = [config]
    while left:
        value = left.pop()
        if isinstance(value, dict) and "class_name" in value:
            yield value
        left += value.values() if isinstance(value, dict) else value if isinstance(value, list) else []


def check_weights(weights: bytes) -> None:
    """Refuse weights that lie elsewhere."""
    import h5py

    with h5py.File(io.BytesIO(weights), "r") as file:
        check_links(file, len(weights))


def check_links(file: h5py.File, stored: int) -> None:
    """Refuse weights that lie elsewhere: asked whether a name is there, HDF5 opens what a link leads to.

    Args:
        file: open for reading.
        stored: its bytes.
    """
    import h5py

    left, seen = [file["/"]], set()
    while left:
        group = left.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"its weights {name} are a link to another place")
            part = group[name]
            if isinstance(part, h5py.Dataset):
                _check_dataset(part, name, stored)
            if isinstance(part, h5py.Group) and part.id not in seen:
                seen.add(part.id)
                left.append(part)


def _check_dataset(part: h5py.Dataset, name: str, stored: int) -> None:
    if part.external or part.is_virtual:
        raise ValueError(f"its weights {name} lie in another file")
    if part.nbytes > stored:
        raise ValueError(f"its weights {name} claim {part.nbytes} bytes of {stored}")


def check_sizes(make: Callable[[], keras.Model], stored: int, custom: Mapping[str, object]) -> None:
    """Refuse a model that is larger than its weights, before memory is taken for it.

    Args:
        make: the model of the config; it is called where variables take no memory.
        stored: bytes of its weights.
        custom: classes that are not Keras's, which may not be able to be made like this; they are trusted.
    """
    import keras
    from keras.src.backend.common import global_state

    try:
        with keras.StatelessScope(initialize_variables=False):
            model = make()
    except Exception:
        if custom:
            return
        raise
    finally:
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
