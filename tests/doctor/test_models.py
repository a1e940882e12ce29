"""Models in all their forms: what is read, what is refused, and that no code of a file runs."""

import importlib
import io
import json
import re
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import Input, Sequential, layers

from bnlab.doctor.models import open_any
from bnlab.kerasfile import KerasFileError
from tests.faults import corpus, model_files

RATE = float(np.float32(0.01))
COMPILED = {"optimizer": "Adam", "loss": "mse", "iterations": 4, "learning_rate": RATE}
STORED = {"optimizer": None, "loss": None, "iterations": 4, "learning_rate": RATE}
NOTHING = {"optimizer": None, "loss": None, "iterations": None, "learning_rate": None}
OWN = {"keras_version": keras.__version__}
UNSAID = {"keras_version": None}


@pytest.mark.parametrize(
    ("name", "form", "facts", "builder"),
    [
        ("model.keras", "keras", COMPILED | OWN, None),
        ("model.keras", "keras", COMPILED | OWN, "build"),
        ("model.h5", "h5", COMPILED | OWN, None),
        ("model.h5", "h5", COMPILED | OWN, "build"),
        ("model.weights.h5", "weights.h5", STORED | UNSAID, "build"),
        ("named", "checkpoint", STORED | UNSAID, "build"),
        ("named.index", "checkpoint", STORED | UNSAID, "build"),
        ("root", "checkpoint", STORED | UNSAID, "build"),
        ("other", "checkpoint", STORED | UNSAID, "build"),
        ("exported", "savedmodel", NOTHING | UNSAID, "build"),
        ("saved", "savedmodel", STORED | UNSAID, "build"),
    ],
)
def test_every_form_gives_the_same_weights_and_what_it_says_of_training(
    trained, folder, module, name, form, facts, builder
):
    opened = open_any(folder / name, builder=builder and f"{module}:{builder}")
    for own, wanted in zip(opened.model.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(own, wanted)
    assert opened.facts == facts | {"format": form}


def error_of(path, **options):
    """The one line that refuses a file."""
    with pytest.raises(KerasFileError) as caught:
        open_any(path, **options)
    line = str(caught.value)
    assert line.isprintable()
    assert len(line) < 1000
    return line


@pytest.mark.parametrize("name", ["model.weights.h5", "named", "exported"])
def test_weights_alone_need_a_builder(trained, folder, name):
    line = error_of(folder / name)
    assert line.endswith("; give the function that builds its model with --builder module:function")


def test_a_model_that_is_built_by_its_first_call_takes_an_example(trained, folder, module):
    builder = f"{module}:build_open"
    assert "must return a built model; call it" in error_of(folder / "named", builder=builder)
    opened = open_any(folder / "model.weights.h5", builder=builder, example=np.ones((3, 6, 6, 3), np.float32))
    np.testing.assert_array_equal(opened.model.get_weights()[4], trained.get_weights()[4])


@pytest.mark.parametrize("name", ["model.weights.h5", "model.h5", "named", "exported"])
def test_weights_of_another_model_are_refused(trained, folder, module, name):
    line = error_of(folder / name, builder=f"{module}:build_other")
    assert line.startswith(f"{folder / name} cannot be opened as a Keras model: ")


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("build", "--builder must be module:name, such as my_models:build, got build"),
        ("no_such_module:build", "--builder no_such_module:build: no_such_module cannot be imported: "),
        ("{}:nothing", "--builder {}:nothing: module {} has no nothing; check the name"),
        ("{}:number", "--builder {}:number must return a Keras model, got a int"),
        ("{}:failing", "--builder {}:failing fails: RuntimeError: no such luck"),
    ],
)
def test_a_builder_that_is_none_is_refused(trained, folder, module, word, wanted):
    line = error_of(folder / "named", builder=word.replace("{}", module))
    assert line.startswith(wanted.replace("{}", module))


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_class_of_theirs_is_let_through_by_its_name_and_no_other(module, tmp_path, suffix):
    own = importlib.import_module(module)
    path = tmp_path / f"model.{suffix}"
    model = Sequential([Input((3,)), own.MyBlock(), layers.Dense(2, activation=own.double)])
    model.layers[0].norm.moving_mean.assign([1.0, 2.0, 3.0])
    model.save(path)
    asks = f"{path} cannot be opened as a Keras model: it asks for "
    block = "my_package>MyBlock, which is not Keras's; give its class with --custom module:MyBlock"
    assert error_of(path) == asks + block
    activation = "double, which is not Keras's; give it with --custom module:double"
    assert error_of(path, custom=[f"{module}:MyBlock"]) == asks + activation
    opened = open_any(path, custom=[f"{module}:MyBlock", f"{module}:double"])
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_array_equal(opened.model(x), model(x))


def test_a_module_of_the_current_folder_is_found(trained, folder, module, tmp_path, monkeypatch):
    (tmp_path / "doctored_here.py").write_text(f"from {module} import build")
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    monkeypatch.chdir(tmp_path)
    opened = open_any(folder / "root", builder="doctored_here:build")
    np.testing.assert_array_equal(opened.model.get_weights()[0], trained.get_weights()[0])


def test_steps_of_the_oldest_optimizers_are_found(trained, folder, tmp_path):
    def change(file):
        del file["optimizer_weights"]
        file["optimizer_weights/training/Adam/iter:0"] = 17

    facts = open_any(rewritten(folder / "model.h5", tmp_path / "model.h5", change)).facts
    assert (facts["iterations"], facts["learning_rate"]) == (17, RATE)


def test_custom_must_name_a_class_or_function(trained, folder):
    assert error_of(folder / "model.keras", custom=["math:pi"]) == (
        "--custom math:pi must be a class or a function, got a float"
    )


def test_a_loss_of_theirs_is_not_needed(trained, folder, tmp_path):
    def change(parts):
        config = json.loads(parts["config.json"])
        config["compile_config"]["loss"] = {"module": "own", "class_name": "MyLoss", "config": {}}
        parts["config.json"] = json.dumps(config).encode()

    path = repacked(folder / "model.keras", tmp_path / "model.keras", change)
    assert open_any(path).facts["loss"] == "MyLoss"


def repacked(source, path, change=lambda parts: None, compression=zipfile.ZIP_STORED):
    """Pack an archive again, its parts changed in place."""
    with zipfile.ZipFile(source) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def test_a_compressed_archive_is_opened_and_a_bomb_is_not(trained, folder, tmp_path):
    path = repacked(folder / "model.keras", tmp_path / "model.keras", compression=zipfile.ZIP_DEFLATED)
    np.testing.assert_array_equal(open_any(path).model.get_weights()[0], trained.get_weights()[0])
    bomb = repacked(path, path, lambda parts: parts.update({"assets/x": bytes(2**20)}), zipfile.ZIP_DEFLATED)
    assert "its part assets/x must unpack to 200 times its size at most" in error_of(bomb)
    repacked(folder / "model.keras", path, compression=zipfile.ZIP_LZMA)
    assert "must be stored or deflated" in error_of(path)


def rewritten(source, path, change):
    """Copy an HDF5 file, changed in place."""
    path.write_bytes(source.read_bytes())
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def with_layer(layer):
    def change(file):
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"].append(layer)
        file.attrs["model_config"] = json.dumps(config)

    return change


def hostile(planted):
    code = model_files.planted(f"touch {planted}")
    listed = code["config"]["value"]
    parts = dict(zip(("code", "defaults", "closure"), listed, strict=True))
    dumped = {"class_name": "__lambda__", "config": parts}
    nested = {"class_name": "Lambda", "config": {"function": listed, "function_type": "lambda"}}
    return {
        "a Lambda": with_layer({"class_name": "Lambda", "config": {"function": dumped}}),
        "an old Lambda": with_layer(nested),
        "a nested Lambda": with_layer({"class_name": "TimeDistributed", "config": {"layer": nested}}),
        "a Lambda of a module": with_layer(
            {"module": "keras.layers", "class_name": "Lambda", "config": {"function": code}}
        ),
        "a SavedModel layer": with_layer({"class_name": "TFSMLayer", "config": {"filepath": "."}}),
        "a call": with_layer(
            {"module": "os", "class_name": "system", "config": {"command": f"touch {planted}"}}
        ),
        "a file as words": with_layer(
            {"class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}}
        ),
        "an external link": lambda file: linked(file, h5py.ExternalLink("elsewhere.h5", "x")),
        "a soft link": lambda file: linked(file, h5py.SoftLink("/model_weights")),
        "external storage": lambda file: file.create_dataset(
            "model_weights/more", (4,), "f4", external=[("/etc/passwd", 0, 16)]
        ),
        "a claim": lambda file: file.create_dataset("more", (2**31,), "f4", chunks=(1024,)),
        "no JSON": lambda file: file.attrs.modify("model_config", "{"),
        "a number": lambda file: file.attrs.create("model_config", 3),
        "no weights": lambda file: file.__delitem__("model_weights"),
        "huge": with_layer({"class_name": "Dense", "config": {"units": 2**31}}),
    }


def linked(file, link):
    del file["model_weights/norm"]
    file["model_weights/norm"] = link


@pytest.mark.parametrize("name", hostile("x"))
def test_a_hostile_older_model_is_refused_before_its_code_runs(trained, folder, tmp_path, name):
    planted = tmp_path / "it_ran"
    path = rewritten(folder / "model.h5", tmp_path / "model.h5", hostile(planted)[name])
    line = error_of(path)
    assert not planted.exists()
    if "Lambda" in name:
        assert "it holds a Lambda, a function of its own, which would have to run; write the function" in line
        assert line.endswith("or give a function that builds it with --builder module:function")
    if name == "no weights":
        assert line.endswith("it lacks 'model_weights'")
    if "link" in name:
        assert "its weights norm are a link to another place" in line


def test_an_older_model_with_a_layer_of_keras_more_is_opened(trained, folder, tmp_path):
    """So that the tests above cannot pass because the file was changed at all."""
    change = with_layer({"class_name": "ReLU", "config": {"name": "more"}})
    model = open_any(rewritten(folder / "model.h5", tmp_path / "model.h5", change)).model
    assert [layer.name for layer in model.layers][-1] == "more"


def test_the_planted_code_would_run_if_it_were_let(trained, folder, tmp_path):
    """So that the tests above cannot pass because the code is broken."""
    planted = tmp_path / "it_ran"
    code = model_files.planted(f"touch {planted}")["config"]["value"]
    keras.src.utils.python_utils.func_load(code[0], code[1], code[2])(3)
    assert planted.exists()


@pytest.mark.parametrize("name", ["model.weights.h5", "model.h5"])
@pytest.mark.parametrize("damage", ["link", "storage"])
def test_weights_in_other_files_are_refused(trained, folder, module, tmp_path, name, damage):
    def change(file):
        if damage == "link":
            file["more"] = h5py.ExternalLink("elsewhere.h5", "x")
        else:
            file.create_dataset("more", (4,), "f4", external=[("/etc/passwd", 0, 16)])

    path = rewritten(folder / name, tmp_path / name, change)
    assert re.search("link to another place|in another file", error_of(path, builder=f"{module}:build"))


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.hdf5", "m.weights.h5", "m.index", "m.txt", "m"])
@pytest.mark.parametrize("content", [None, b"", b"text", b"PK\3\4", b"\x89HDF\r\n\x1a\n"])
def test_what_is_no_model_is_refused(module, tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    assert str(path) in error_of(path, builder=f"{module}:build")
    assert str(path) in error_of(path)


def test_folders_and_torn_files_are_refused(trained, folder, module, tmp_path):
    assert error_of(tmp_path).endswith("and it is a folder without saved_model.pb")
    for name in ("model.keras", "model.h5", "model.weights.h5"):
        content = (folder / name).read_bytes()
        for number, cut in enumerate(corpus.cuts(content, 5).values()):
            path = tmp_path / f"{number}.{name}"
            if cut != content:
                path.write_bytes(cut)
                error_of(path, builder=f"{module}:build" if "weights" in name else None)
    stream = io.BytesIO((folder / "named.data-00000-of-00001").read_bytes()[:100])
    (tmp_path / "torn.data-00000-of-00001").write_bytes(stream.getvalue())
    (tmp_path / "torn.index").write_bytes((folder / "named.index").read_bytes())
    error_of(tmp_path / "torn", builder=f"{module}:build")


def test_the_rate_of_a_schedule_is_the_one_after_its_steps(tmp_path):
    model = Sequential([Input((2,)), layers.Dense(1)])
    rate = keras.optimizers.schedules.CosineDecay(0.1, 4)
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), keras.losses.MeanSquaredError())
    model.fit(np.ones((4, 2)), np.ones((4, 1)), batch_size=2, verbose=0)
    model.save(tmp_path / "model.keras")
    facts = open_any(tmp_path / "model.keras").facts
    # Half of the cosine after two steps of four.
    assert facts["learning_rate"] == pytest.approx(0.05, rel=1e-6)
    assert (facts["iterations"], facts["optimizer"], facts["loss"]) == (2, "SGD", "MeanSquaredError")
