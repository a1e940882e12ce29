"""Statistics go through text and come back bit for bit; a folder with a mistake changes nothing."""

import keras
import numpy as np
import pytest
from keras import Input, Sequential, layers

from bnlab.export import exported, find
from bnlab.statistics import main
from bnlab.text import StatisticsError, as_text, export_statistics, import_statistics

NAMES = ("moving_mean", "moving_variance", "gamma", "beta")


def scrambled(model, seed):
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return model


def network(seed=1):
    """Two normalizations, one of them without gamma; `seed` sets every variable."""
    stack = [
        layers.Conv2D(3, 3, name="conv"),
        layers.BatchNormalization(name="one"),
        layers.ReLU(name="relu"),
        layers.BatchNormalization(name="two", scale=False),
    ]
    return scrambled(Sequential([Input((6, 6, 2)), *stack], name="net"), seed)


def bits(model):
    return {
        variable.path.removeprefix("net/"): np.asarray(variable).tobytes() for variable in model.variables
    }


@pytest.fixture
def folder(tmp_path):
    """The statistics of a model, as text."""
    export_statistics(network(), tmp_path / "text")
    return tmp_path / "text"


def test_each_variable_is_one_file_of_numbers(tmp_path):
    model = network()
    model.get_layer("one").gamma.assign([0.5, -1, 1 / 3])
    files = export_statistics(model, tmp_path / "text")
    assert [path.name for path in files] == [
        *(f"one.{name}.txt" for name in NAMES),
        *(f"two.{name}.txt" for name in NAMES if name != "gamma"),
    ]
    assert sorted(files) == sorted((tmp_path / "text").iterdir())
    assert (tmp_path / "text" / "one.gamma.txt").read_text() == "0.5;-1;0.333333343\n"


def test_outputs_come_back_bit_for_bit(folder):
    model, other = network(), network()
    x = np.random.default_rng(0).normal(size=(4, 6, 6, 2)).astype("float32")
    for layer in (other.get_layer("one"), other.get_layer("two")):
        for number, variable in enumerate(layer.variables, start=2):
            variable.assign(np.full(variable.shape, number))
    assert bits(other) != bits(model)
    import_statistics(other, folder)
    assert bits(other) == bits(model)
    np.testing.assert_array_equal(other(x, training=False), model(x, training=False))


EXTREME = [1e-45, 1.1754942e-38, 1.17549435e-38, 3.4028235e38, 1e38, 1 / 3, 0.1, 1 + 2**-23, 1 - 2**-24, 0.0]


def test_every_float32_survives(tmp_path):
    rng = np.random.default_rng(0)
    anything = rng.integers(0, 2**32, 3000, dtype=np.uint32).view(np.float32)
    values = np.concatenate([np.float32(EXTREME), -np.float32(EXTREME), anything[np.isfinite(anything)]])
    model = Sequential([Input((len(values),)), layers.BatchNormalization(name="norm")])
    model.layers[0].beta.assign(values)
    export_statistics(model, tmp_path)
    model.layers[0].beta.assign(np.zeros(len(values)))
    import_statistics(model, tmp_path)
    np.testing.assert_array_equal(
        np.asarray(model.layers[0].beta).view(np.uint32), np.asarray(values).view(np.uint32)
    )


def test_every_float64_survives():
    values = np.random.default_rng(0).normal(size=300) * 10.0 ** np.arange(-150, 150)
    assert [float(word) for word in as_text(values).split(";")] == values.tolist()


@pytest.mark.parametrize("content", ["1;2;3", "1;2;3;", "1;2;3;\n", " 1 ;\n2;\n3\n;\r\n", "\ufeff1;2;3e0"])
def test_people_and_other_programs_may_write_it(folder, content):
    (folder / "one.gamma.txt").write_text(content, newline="")
    (folder / ".editor.swp").write_text("hidden files are nobody's")
    model = network()
    import_statistics(model, folder)
    np.testing.assert_array_equal(model.get_layer("one").gamma, [1, 2, 3])


def test_a_name_that_no_file_can_bear_is_quoted(tmp_path):
    name = "..\\up: 100 % é"
    model = Sequential([Input((2,)), layers.BatchNormalization(name=name)])
    files = export_statistics(model, tmp_path / "text")
    assert files[0] == tmp_path / "text" / "..%5Cup%3A%20100%20%25%20%C3%A9.moving_mean.txt"
    files[0].write_text("1;2")
    import_statistics(model, tmp_path / "text")
    np.testing.assert_array_equal(model.layers[0].moving_mean, [1, 2])


def test_batch_renormalization_trains_on_with_the_imported_variance(folder):
    options = [{"name": "one"}, {"name": "two", "scale": False}]
    renorm = Sequential([Input((3,)), *(layers.BatchNormalization(renorm=True, **each) for each in options)])
    import_statistics(renorm, folder)
    for layer in renorm.layers:
        wanted = np.sqrt(np.asarray(layer.moving_variance) + np.float32(layer.epsilon))
        np.testing.assert_array_max_ulp(np.asarray(layer.moving_stddev), wanted, 1)


def rewritten(name, content):
    return lambda folder: (folder / name).write_text(content)


MISTAKES = {
    r"one\.gamma\.txt: gamma must have 3 values, got 2": rewritten("one.gamma.txt", "1;2;"),
    r"one\.gamma\.txt: gamma must have 3 values, got 4": rewritten("one.gamma.txt", "1;2;3;4"),
    r"two\.beta\.txt: beta must have 3 values, got 0": rewritten("two.beta.txt", "\n"),
    r"two\.beta\.txt: beta must be numbers separated by ';', got 'x'": rewritten("two.beta.txt", "1;x;3"),
    r"two\.beta\.txt: beta must be numbers separated by ';', got ''": rewritten("two.beta.txt", "1;;3"),
    r"two\.beta\.txt: beta must be numbers separated by ';', got '0,5'": rewritten("two.beta.txt", "0,5;1;2"),
    r"one\.moving_mean\.txt: moving_mean must be finite, .*, got nan": rewritten(
        "one.moving_mean.txt", "1;nan;3"
    ),
    r"one\.moving_mean\.txt: moving_mean must be finite, .*, got 1e39": rewritten(
        "one.moving_mean.txt", "1;2;1e39"
    ),
    r"two\.moving_variance\.txt: moving_variance must be .* not negative, got -1": rewritten(
        "two.moving_variance.txt", "0;-1;3"
    ),
    r"two\.beta\.txt: beta must have a file with 3 values, and there is none": lambda folder: (
        folder / "two.beta.txt"
    ).unlink(),
    r"two\.gamma\.txt must be named after a variable of the model, such as one\.gamma\.txt": rewritten(
        "two.gamma.txt", "1;2;3"
    ),
    r"two\.bta\.txt must be named after a variable of the model, such as two\.beta\.txt": lambda folder: (
        folder / "two.beta.txt"
    ).rename(folder / "two.bta.txt"),
}


@pytest.mark.parametrize("message", list(MISTAKES))
def test_a_mistake_is_named_and_changes_nothing(folder, message):
    MISTAKES[message](folder)
    model = network(seed=2)
    before = bits(model)
    with pytest.raises(StatisticsError, match=message):
        import_statistics(model, folder)
    assert bits(model) == before


def test_a_model_must_have_normalizations_that_names_tell_apart(tmp_path):
    with pytest.raises(StatisticsError, match="bare must have batch normalization layers, and it has none"):
        export_statistics(Sequential([Input((2,)), layers.Dense(2)], name="bare"), tmp_path)
    inner = Sequential([Input((2,)), layers.BatchNormalization(name="same")])
    with pytest.raises(StatisticsError, match="must have names of their own"):
        export_statistics(Sequential([inner, layers.BatchNormalization(name="same")]), tmp_path)
    with pytest.raises(StatisticsError, match="nowhere must be a folder of statistics"):
        import_statistics(network(), tmp_path / "nowhere")


def test_an_export_does_not_mix_with_other_files(folder):
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(StatisticsError, match=r"notes\.txt must be named after a variable of the model"):
        export_statistics(network(), folder)


def test_the_command_line_goes_there_and_back(tmp_path, capsys):
    model, other = network(), network(seed=2)
    model.save(tmp_path / "model.keras")
    other.save(tmp_path / "other.keras")
    paths = [str(tmp_path / name) for name in ("model.keras", "text", "other.keras", "out.keras")]
    assert main(["export", paths[0], paths[1]]) == 0
    assert main(["import", *paths[1:]]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{paths[1]}: 7 files",
        f"{paths[3]}: statistics of {paths[1]}",
    ]
    got, own = bits(keras.saving.load_model(paths[3])), bits(other)
    norms = {path for path in own if path.startswith(("one/", "two/"))}
    assert len(norms) == 7
    assert got == own | {path: bits(model)[path] for path in norms}


def test_the_command_line_refuses_in_one_line(folder, tmp_path, capsys):
    network().save(tmp_path / "model.keras")
    (folder / "one.beta.txt").write_text("1;2")
    out = tmp_path / "out.keras"
    lone = tmp_path / "00000001.npz"
    assert main(["import", str(folder), str(tmp_path / "model.keras"), str(out)]) == 2
    assert main(["import", str(folder), str(tmp_path / "model.keras"), "out.h5"]) == 2
    assert main(["export", str(tmp_path / "none.keras"), str(folder)]) == 2
    assert main(["export", str(lone), str(folder)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"bnlab: {folder / 'one.beta.txt'}: beta must have 3 values, got 2",
        "bnlab: the file to write must end in .keras, got out.h5",
        f"bnlab: {tmp_path / 'none.keras'} must be a saved Keras model, and there is no such file",
        f"bnlab: {lone} must be a checkpoint in its trial's folder, <trial>/checkpoints/<step>.npz, "
        "where the tape is that its moving statistics are made from",
    ]
    assert not out.exists()


@pytest.fixture(scope="module")
def trained(tiny_sweep):
    """The files of a trial with batch normalization."""
    paths = (tiny_sweep / "runs" / "trials").iterdir()
    found = (find(tiny_sweep / "runs", path.name) for path in paths)
    return next(folder for folder in found if folder.trial().norm == "batch")


def test_a_checkpoint_gives_the_statistics_of_its_exported_model(trained, tmp_path):
    step = trained.checkpoints()[1]
    assert main(["export", str(trained.checkpoint(step)), str(tmp_path / "got"), "--decay", "0.5"]) == 0
    wanted = export_statistics(exported(trained, 0.5, step), tmp_path / "wanted")
    assert len(wanted) == 12
    assert [(tmp_path / "got" / path.name).read_text() for path in wanted] == [
        path.read_text() for path in wanted
    ]


def test_a_checkpoint_whose_tape_has_a_hole_is_refused(trained, tmp_path, capsys):
    copy = tmp_path / trained.identity
    (copy / "checkpoints").mkdir(parents=True)
    (copy / "trial.json").write_bytes((trained.path / "trial.json").read_bytes())
    last = trained.checkpoint(trained.checkpoints()[-1])
    target = copy / "checkpoints" / last.name
    target.write_bytes(last.read_bytes())
    assert main(["export", str(target), str(tmp_path / "text")]) == 2
    assert f"{target} continues step" in capsys.readouterr().err
    assert not (tmp_path / "text").exists()
