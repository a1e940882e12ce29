"""The mended file: which bytes differ from the source's, and what the model in it computes."""

import importlib
import io
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import Input, Sequential, layers

from bnlab.doctor import rewrite as room
from bnlab.doctor.models import open_any
from bnlab.doctor.rewrite import rewrite
from bnlab.kerasfile import KerasFileError, open_model
from bnlab.science.probe import put_statistics

NEW = {"norm": (np.float32([1, -2, 3, 0.5]), np.float32([4, 0.25, 1e-5, 7]))}
X = np.random.default_rng(5).normal(size=(8, 6, 6, 3)).astype(np.float32)


def members(path):
    """All of an archive but its weights' numbers: name -> what is known of it and its content."""
    with zipfile.ZipFile(path) as archive:
        return {
            info.filename: (info.date_time, info.compress_type, info.external_attr, archive.read(info))
            for info in archive.infolist()
        }


def datasets(path):
    """Every dataset of an archive's weights: name -> (type, shape, bytes)."""
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        found = {}
        file.visititems(lambda name, part: found.update({name: part}))
        return {
            name: (str(part.dtype), part.shape, part[()].tobytes())
            for name, part in found.items()
            if isinstance(part, h5py.Dataset)
        }


def differing(one, other):
    assert list(one) == list(other)
    return [name for name in one if one[name] != other[name]]


def under(model, statistics):
    """Outputs of a model whose statistics are replaced."""
    put_statistics(model, statistics)
    return np.array(model(X, training=False))


@pytest.fixture
def source(trained, folder):
    return folder / "model.keras"


def test_only_the_statistics_differ(source, tmp_path):
    out, model = tmp_path / "out.keras", open_model(source)
    before = model.get_weights()
    assert rewrite(source, out, model, NEW) is None
    old, new = members(source), members(out)
    assert differing(old, new) == ["model.weights.h5"]
    assert [each[:3] for each in old.values()] == [each[:3] for each in new.values()]
    place = "layers/batch_normalization/vars"
    assert differing(datasets(source), datasets(out)) == [f"{place}/2", f"{place}/3"]
    assert datasets(out)[f"{place}/2"] == ("float32", (4,), NEW["norm"][0].tobytes())
    assert datasets(out)[f"{place}/3"] == ("float32", (4,), NEW["norm"][1].tobytes())
    assert len([name for name in datasets(out) if name.startswith("optimizer/vars/")]) == 14
    for own, wanted in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(own, wanted)
    np.testing.assert_array_equal(open_model(out)(X), under(model, NEW))


def test_the_optimizer_goes_on_as_it_was(source, tmp_path):
    rewrite(source, tmp_path / "out.keras", open_model(source), NEW)
    old, new = (keras.saving.load_model(path).optimizer for path in (source, tmp_path / "out.keras"))
    assert int(new.iterations) == 4
    for own, wanted in zip(new.variables, old.variables, strict=True):
        np.testing.assert_array_equal(own, wanted)


def test_the_source_itself_may_be_mended(source, tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(source.read_bytes())
    model = open_model(path)
    rewrite(path, path, model, NEW)
    np.testing.assert_array_equal(open_model(path)(X), under(model, NEW))
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_compressed_stays_compressed_and_has_its_dates(source, tmp_path):
    path, out = tmp_path / "model.keras", tmp_path / "out.keras"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as archive:
        archive.comment = b"mine"
        for name in reversed(old.namelist()):
            info = zipfile.ZipInfo(name, (2001, 2, 3, 4, 5, 6))
            info.compress_type = zipfile.ZIP_DEFLATED if "json" in name else zipfile.ZIP_STORED
            archive.writestr(info, old.read(name))
    rewrite(path, out, open_model(path), NEW)
    assert differing(members(path), members(out)) == ["model.weights.h5"]
    date = (2001, 2, 3, 4, 5, 6)
    assert [each[:2] for each in members(out).values()] == [(date, 0), (date, 8), (date, 8)]
    with zipfile.ZipFile(out) as archive:
        assert archive.comment == b"mine"


def test_layers_are_told_apart_and_those_not_named_keep_theirs(tmp_path):
    names = [f"norm{number}" for number in range(4)]
    inner = Sequential([Input((3,)), layers.BatchNormalization(name=names[2], scale=False)], name="inner")
    first = layers.BatchNormalization(name=names[0]), layers.BatchNormalization(name=names[1], center=False)
    model = Sequential(
        [Input((3,)), *first, inner, layers.BatchNormalization(name=names[3], trainable=False)]
    )
    model.save(tmp_path / "model.keras")
    model = open_model(tmp_path / "model.keras")
    new = {
        name: (np.full(3, number, np.float32), np.full(3, number + 0.5, np.float32))
        for number, name in enumerate(names)
        if number != 1
    }
    rewrite(tmp_path / "model.keras", tmp_path / "out.keras", model, new)
    found = {
        layer.name: (float(layer.moving_mean[0]), float(layer.moving_variance[2]))
        for layer in open_model(tmp_path / "out.keras")._flatten_layers()
        if isinstance(layer, layers.BatchNormalization)
    }
    assert found == {"norm0": (0.0, 0.5), "norm1": (0.0, 1.0), "norm2": (2.0, 2.5), "norm3": (3.0, 3.5)}


def test_batch_renormalization_keeps_the_averages_that_it_trains_with(tmp_path):
    model = Sequential([Input((6, 6, 3)), layers.BatchNormalization(name="norm", renorm=True, epsilon=0.25)])
    for variable in model.variables:
        variable.assign(np.random.default_rng(1).uniform(0.5, 1.5, variable.shape))
    model.save(tmp_path / "model.keras")
    model = open_model(tmp_path / "model.keras")
    new = {"norm": (np.float32([1, 2, 3]), np.float32([2, 6, 12]))}
    rewrite(tmp_path / "model.keras", tmp_path / "out.keras", model, new)
    # gamma, beta, moving mean, variance and deviation, then renorm's own mean and deviation.
    place = "layers/batch_normalization/vars"
    changed = differing(datasets(tmp_path / "model.keras"), datasets(tmp_path / "out.keras"))
    assert changed == [f"{place}/{number}" for number in (2, 3, 4)]
    layer = open_model(tmp_path / "out.keras").layers[0]
    np.testing.assert_array_equal(layer.moving_stddev, [1.5, 2.5, 3.5])
    np.testing.assert_array_equal(open_model(tmp_path / "out.keras")(X), under(model, new))
    # One step of training at share 1 of the old gives the new variance back: it is made from the deviation.
    layer.momentum = 1.0
    layer(X, training=True)
    np.testing.assert_array_equal(layer.moving_variance, [2, 6, 12])


def test_a_layer_within_a_class_of_theirs_is_found(module, tmp_path):
    own = importlib.import_module(module)
    Sequential([Input((3,)), own.MyBlock(), layers.Dense(2)]).save(tmp_path / "model.keras")
    model = open_any(tmp_path / "model.keras", custom=[f"{module}:MyBlock"]).model
    new = np.float32([1, 2, 3]), np.float32([2, 6, 12])
    [norm] = [layer for layer in model._flatten_layers() if isinstance(layer, layers.BatchNormalization)]
    rewrite(tmp_path / "model.keras", tmp_path / "out.keras", model, {norm.name: new})
    changed = differing(datasets(tmp_path / "model.keras"), datasets(tmp_path / "out.keras"))
    assert changed == [f"layers/my_block/norm/vars/{number}" for number in (2, 3)]


@pytest.mark.parametrize("policy", ["float16", "bfloat16", "mixed_float16"])
def test_statistics_of_fewer_bits_are_written_too(tmp_path, policy):
    with_policy = layers.BatchNormalization(name="norm", dtype=policy)
    Sequential([Input((3,)), with_policy]).save(tmp_path / "model.keras")
    model = open_model(tmp_path / "model.keras")
    new = {"norm": (np.float32([1, 2, 3]), np.float32([2, 6, 12]))}
    rewrite(tmp_path / "model.keras", tmp_path / "out.keras", model, new)
    layer = open_model(tmp_path / "out.keras").layers[0]
    np.testing.assert_array_equal(np.float32(layer.moving_variance), [2, 6, 12])


@pytest.mark.parametrize("name", ["model.h5", "model.weights.h5", "named"])
def test_from_other_forms_a_whole_model_is_made_without_its_optimizer(
    trained, folder, module, tmp_path, name
):
    path, out = folder / name, tmp_path / "out.keras"
    model = open_any(path, builder=None if name == "model.h5" else f"{module}:build").model
    model.compile("sgd", "mse")
    before = model.get_weights()
    note = rewrite(path, out, model, NEW)
    assert note == f"{out} is made anew from {name}: a whole model in Keras's own form, without its optimizer"
    assert not [place for place in datasets(out) if place.startswith("optimizer")]
    assert not keras.saving.load_model(out).compiled
    assert model.compiled
    assert model.optimizer is not None
    for own, wanted in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(own, wanted)
    np.testing.assert_array_equal(open_model(out)(X), under(model, NEW))


def test_another_models_file_is_refused_and_nothing_is_written(source, tmp_path):
    out, model = tmp_path / "out.keras", open_model(source)
    model.get_layer("norm").moving_mean.assign([9.0, 9.0, 9.0, 9.0])
    with pytest.raises(KerasFileError, match="vars/2 must be the model's own statistics; open it again"):
        rewrite(source, out, model, NEW)
    assert not out.exists()
    np.testing.assert_array_equal(model.get_layer("norm").moving_mean, [9.0, 9.0, 9.0, 9.0])


def test_a_failure_leaves_the_model_and_the_old_file(source, tmp_path, monkeypatch):
    out, model = tmp_path / "out.keras", open_model(source)
    out.write_bytes(b"old")
    before = model.get_weights()

    def failing(_):
        raise ValueError("no such luck")

    monkeypatch.setattr(room, "_saved", failing)
    with pytest.raises(KerasFileError, match="no such luck"):
        rewrite(source, out, model, NEW)
    for own, wanted in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(own, wanted)
    assert out.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [out]


def test_the_place_and_the_layers_are_checked(source, tmp_path):
    model = open_model(source)
    with pytest.raises(KerasFileError, match=r"must end in \.keras, got .*out\.h5"):
        rewrite(source, tmp_path / "out.h5", model, NEW)
    with pytest.raises(KeyError, match="nothing"):
        rewrite(source, tmp_path / "out.keras", model, {"nothing": NEW["norm"]})
