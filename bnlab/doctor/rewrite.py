"""Write a mended model: the same file, but for the numbers of its moving statistics.

Where they stand in a file of weights is found out, not assumed: the weights are saved once with values in the
moving statistics that nothing else has, and those are looked for. The file must have the model's own numbers
there, or it is not this model's.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from bnlab.files import replacing
from bnlab.kerasfile import WEIGHTS, check_links, check_name, read_parts, refusal, write_model
from bnlab.science.probe import named_layers

if TYPE_CHECKING:
    import h5py
    import keras

Statistics: TypeAlias = Mapping[str, tuple[Any, Any]]
Values: TypeAlias = list[tuple[Any, np.ndarray]]
"""Variables, each with a value for it."""


def rewrite(source: Path, out: Path, model: keras.Model, statistics: Statistics) -> str | None:
    """Write a copy of a model's file with other moving statistics.

    Of a `.keras` file all else is kept, the optimizer's state too. From any other form, a `.keras` file is
    made. The model is afterwards as it was.

    Args:
        source: that the model was opened from; it may be `out`.
        out: `<name>.keras`, written whole or not at all.
        model: as opened.
        statistics: layer -> (mean, variance), each (channels,); a layer that is not named keeps its own.

    Returns:
        A note, where more changes than statistics.

    Raises:
        KerasFileError: `out` cannot lie there, or `source` is not this model's file.
        FileError: `out` cannot be written.
        KeyError: the model has no such layer.
    """
    check_name(out)
    values = _values(model, statistics)
    if source.suffix == ".keras":
        _write_copy(source, out, model, values)
        return None
    with _holding(values), _uncompiled(model):
        write_model(model, out)
    return f"{out} is made anew from {source.name}: a whole model in Keras's own form, without its optimizer"


def _values(model: keras.Model, statistics: Statistics) -> Values:
    """List what to write: batch renormalization infers by the variance, and averages the deviation next.

    The averages that it trains with (`renorm_mean`, `renorm_stddev`) stay: no inference reads them.
    """
    layers, found = named_layers(model), []
    for key, (mean, variance) in statistics.items():
        layer, spread = layers[key], np.asarray(variance)
        found += [(layer.moving_mean, np.asarray(mean)), (layer.moving_variance, spread)]
        if layer.renorm:
            found.append((layer.moving_stddev, np.sqrt(spread + np.float32(layer.epsilon))))
    return found


@contextmanager
def _holding(values: Values) -> Iterator[None]:
    """Give variables other values while inside."""
    before = [(variable, np.array(variable)) for variable, _ in values]
    try:
        for variable, value in values:
            variable.assign(value)
        yield
    finally:
        for variable, value in before:
            variable.assign(value)


@contextmanager
def _uncompiled(model: keras.Model) -> Iterator[None]:
    """Save a model without optimizer and loss while inside."""
    if not model.compiled:
        yield
        return
    optimizer, model.optimizer, model.compiled = model.optimizer, None, False
    try:
        yield
    finally:
        model.optimizer, model.compiled = optimizer, True


def _write_copy(source: Path, out: Path, model: keras.Model, values: Values) -> None:
    try:
        old = read_parts(source)[1]
        new = _changed(old, model, values)
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise refusal(source, error) from None
    copy = io.BytesIO()
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(copy, "w") as written:
        written.comment = archive.comment
        for member in archive.infolist():
            content = new if member.filename == WEIGHTS else archive.read(member)
            written.writestr(member, content)
    with replacing(out) as file:
        file.write(copy.getvalue())


def _changed(old: bytes, model: keras.Model, values: Values) -> bytes:
    """Put values into a file of weights, at the places of their variables.

    Raises:
        ValueError: the file does not have there what the model has.
    """
    import h5py

    places = _places(model, [variable for variable, _ in values])
    own = _saved(model)
    with _holding(values):
        wanted = _saved(model)
    changed = io.BytesIO(old)
    with _open(own) as before, _open(wanted) as after, h5py.File(changed, "r+") as file:
        check_links(file, len(old))
        for place in places:
            if place not in file or _bits(file[place]) != _bits(before[place]):
                raise ValueError(f"its {place} must be the model's own statistics; open it again")
            file[place][...] = after[place][...]
    return changed.getvalue()


def _places(model: keras.Model, variables: Sequence[Any]) -> list[str]:
    """Find where variables stand in a file of the model's weights, by values that nothing else has."""
    chance = np.random.default_rng(0)
    marks = [(variable, chance.normal(size=variable.shape)) for variable in variables]
    with _holding(marks):
        saved, wanted = _saved(model), [np.array(variable).tobytes() for variable in variables]
    held: dict[bytes, list[str]] = {}
    with _open(saved) as file:
        file.visititems(lambda name, part: held.setdefault(_bits(part), []).append(name))
    found = [held.get(bits, []) for bits in wanted]
    if any(len(names) != 1 for names in found):
        raise ValueError("the places of its statistics must be told apart; save it again with this Keras")
    return [name for [name] in found]


def _saved(model: keras.Model) -> bytes:
    """Save a model's weights, as `model.save` does."""
    with tempfile.TemporaryDirectory() as folder, _uncompiled(model):
        path = Path(folder) / "model.weights.h5"
        model.save_weights(path)
        return path.read_bytes()


def _open(content: bytes) -> h5py.File:
    import h5py

    return h5py.File(io.BytesIO(content), "r")


def _bits(part: Any) -> bytes:  # noqa: ANN401
    return part[()].tobytes() if hasattr(part, "dtype") else b""
