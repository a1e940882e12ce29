"""Open somebody's model, in any form that Keras has had, and what its file says of its training.

A file that describes its model is looked through before Keras sees it. One that does not, has weights only: a
function of theirs builds the model, and the weights go into it.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bnlab.doctor.facts import Facts, facts, of_archive, of_checkpoint, of_older, of_weights
from bnlab.doctor.named import NamedError, call, fetch
from bnlab.doctor.restoring import restore
from bnlab.kerasfile import (
    KerasFileError,
    check_classes,
    check_links,
    check_sizes,
    open_model,
    read_parts,
    refusal,
)

if TYPE_CHECKING:
    import h5py
    import keras

FORMS = "a .keras, .h5 or .weights.h5 file, a TensorFlow checkpoint, or a SavedModel folder"


class Opened(NamedTuple):
    """A model, without optimizer and loss, and what its file says of its training."""

    model: keras.Model
    facts: Facts


Build = Callable[[], Any] | None


def open_any(
    path: Path, custom: Sequence[str] = (), builder: str | None = None, example: object = None
) -> Opened:
    """Open a model file of any form.

    Args:
        path: `<name>.keras`, `<name>.h5` or `.hdf5`, `<name>.weights.h5`, the prefix of a TensorFlow
            checkpoint, or a SavedModel folder.
        custom: classes and functions that the file may ask for beyond Keras's own, each `module:name`.
        builder: `module:function` that builds the model, whose weights alone are then read from the file.
        example: inputs to call a model on that the builder leaves unbuilt.

    Raises:
        KerasFileError: there is no model, it cannot be opened, or something is missing to open it.
    """
    read = _reader(path)
    try:
        own = {name: value for word in custom for name, value in _custom(word)}
        return read(path, own, None if builder is None else lambda: _built(builder, example))
    except NamedError as error:
        raise KerasFileError(str(error)) from None
    except KerasFileError:
        raise
    except Exception as error:  # the file may hold anything, and Keras raises whatever it stumbles on
        raise refusal(path, error, advise=True) from None


def _reader(path: Path) -> Callable[[Path, Mapping[str, object], Build], Opened]:
    """Tell the form of a file by its name and what lies there."""
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return _saved_model
        raise KerasFileError(f"{path} must be {FORMS}, and it is a folder without saved_model.pb")
    if path.is_file() and path.suffix == ".keras":
        return _archive
    if path.is_file() and path.suffix in (".h5", ".hdf5"):
        return _weights if path.name.endswith(".weights.h5") else _older
    if (path.suffix == ".index" and path.is_file()) or Path(f"{path}.index").is_file():
        return _checkpoint
    there = "it is none of these" if path.is_file() else "there is no such file"
    raise KerasFileError(f"{path} must be {FORMS}, and {there}")


def _custom(word: str) -> Iterator[tuple[str, object]]:
    """List the names that a file may have for what a word names."""
    value = fetch(word, "--custom")
    if not callable(value):
        raise NamedError(f"--custom {word} must be a class or a function, got a {type(value).__name__}")
    yield word.partition(":")[2], value
    yield getattr(value, "__name__", word.partition(":")[2]), value


def _built(builder: str, example: object) -> keras.Model:
    """Build a model by a function of theirs, and its variables by calling it."""
    import keras

    model = call(builder, "--builder")
    if not isinstance(model, keras.Model):
        raise NamedError(f"--builder {builder} must return a Keras model, got a {type(model).__name__}")
    if not model.built and example is not None:
        model(keras.tree.map_structure(lambda part: part[:1], example), training=False)
    if not model.built:
        raise NamedError(
            f"--builder {builder} must return a built model; call it on an example in the function"
        )
    return model


def _needed(path: Path, build: Build, what: str) -> keras.Model:
    if build is None:
        raise KerasFileError(
            f"{path} is {what}; give the function that builds its model with --builder module:function"
        )
    return build()


def _archive(path: Path, custom: Mapping[str, object], build: Build) -> Opened:
    model = open_model(path, custom) if build is None else None
    config, weights = read_parts(path)
    with _looked_through(io.BytesIO(weights), len(weights)) as file, zipfile.ZipFile(path) as archive:
        model = model if build is None else _loaded(file, path, build())
        return Opened(model, of_archive(archive, config, file))


def _weights(path: Path, _: Mapping[str, object], build: Build) -> Opened:
    with _looked_through(path, path.stat().st_size) as file:
        model = _needed(path, build, "weights without their layers")
        model = _loaded(file, path, model)
        older = "layer_names" in file.attrs
        own = of_older(file, "weights.h5") if older else facts("weights.h5", None, None, *of_weights(file))
    return Opened(model, own)


def _older(path: Path, custom: Mapping[str, object], build: Build) -> Opened:
    """Open a whole model of the older form, `.h5`, or its weights."""
    with _looked_through(path, path.stat().st_size) as file:
        own = of_older(file, "h5")
        if build is not None or "model_config" not in file.attrs:
            model = _needed(path, build, "weights without their layers")
            return Opened(_loaded(file, path, model), own)
        admitted = _check_older(file, path.stat().st_size, custom)
    import keras

    return Opened(keras.saving.load_model(path, admitted, compile=False, safe_mode=True), own)


def _looked_through(place: Any, stored: int) -> h5py.File:  # noqa: ANN401
    """Open an HDF5 file that has nothing in other files."""
    import h5py

    try:
        file = h5py.File(place, "r")
    except OSError:
        raise ValueError("it is no HDF5 file, or a torn one") from None
    try:
        check_links(file, stored)
    except Exception:
        file.close()
        raise
    return file


def _check_older(file: h5py.File, stored: int, custom: Mapping[str, object]) -> dict[str, object]:
    """Look through an older model: what of `custom` it asks for."""
    from keras.src.legacy.saving import saving_options, saving_utils

    text = file.attrs["model_config"]
    admitted = check_classes(json.loads(text), custom)

    def make() -> keras.Model:
        with saving_options.keras_option_scope(use_legacy_config=True), _safe():
            return saving_utils.model_from_config(json.loads(text), admitted)

    check_sizes(make, stored, admitted)
    return admitted


def _safe() -> Any:  # noqa: ANN401
    from keras.src.saving.serialization_lib import SafeModeScope

    return SafeModeScope(True)


def _loaded(file: h5py.File, path: Path, model: keras.Model) -> keras.Model:
    """Put the weights of a file into a model, whichever Keras wrote them."""
    from keras.src.legacy.saving import legacy_h5_format
    from keras.src.saving import saving_lib

    whole = file.get("model_weights", file)
    if "layer_names" in whole.attrs or "layer_names0" in whole.attrs:
        legacy_h5_format.load_weights_from_hdf5_group(whole, model)
        return model
    if not path.name.endswith((".keras", ".weights.h5")):
        raise ValueError(
            "it holds no model and no weights of the older form; newer ones are .weights.h5 files"
        )
    skipped = [model.optimizer] if getattr(model, "optimizer", None) else []
    saving_lib.load_weights_only(model, path, objects_to_skip=skipped)
    return model


def _checkpoint(path: Path, _: Mapping[str, object], build: Build) -> Opened:
    prefix = path.with_suffix("") if path.suffix == ".index" else path
    model = _needed(path, build, "a TensorFlow checkpoint, weights without their layers")
    return Opened(restore(str(prefix), model), of_checkpoint(str(prefix), "checkpoint"))


def _saved_model(path: Path, _: Mapping[str, object], build: Build) -> Opened:
    model = _needed(path, build, "a SavedModel, a graph without layers that could be examined")
    prefix = str(path / "variables" / "variables")
    return Opened(restore(prefix, model), of_checkpoint(prefix, "savedmodel"))
