"""Every damaged or hostile input ends in one line, soon: nothing in it runs, nothing wrong goes for right."""

import json
import resource
import shutil
import sys
from collections import Counter

import keras
import numpy as np
import pytest

from bnlab import fold, statistics
from bnlab.compose import compose
from bnlab.data import DataError
from bnlab.data.decode import decode_batch, decode_idx, decode_npz, read_members
from bnlab.records import Reading
from bnlab.science.histogram import Histogram, LayerHistogram
from bnlab.settings import SettingsError
from bnlab.tables import histograms_table, readings_table
from tests.faults import data_files, endings, model_files, stored_sweeps, texts
from tests.faults.corpus import MIB, PLANTED
from tests.faults.data_files import LABELS, MEMBERS, PIXELS, PLANES

MEMORY = 400 * MIB
"""What a decoder may need at most: no case has more than a MiB of content, bombs have a GiB."""


DECODERS = {
    "idx": (
        data_files.SOUND_IDX,
        data_files.idx_cases,
        lambda content: decode_idx(content, PIXELS.shape, "the file"),
        lambda found: np.array_equal(found, PIXELS),
    ),
    "batch": (
        data_files.SOUND_BATCH,
        data_files.batch_cases,
        lambda content: decode_batch(content, 2, "the file"),
        lambda found: (
            np.array_equal(found[0], PLANES.reshape(2, 3, 32, 32).transpose(0, 2, 3, 1))
            and found[1].tolist() == LABELS
        ),
    ),
    "npz": (
        data_files.SOUND_NPZ,
        data_files.npz_cases,
        lambda content: decode_npz(content, {"x": PIXELS.shape, "y": (7,)}, "the file"),
        lambda found: np.array_equal(found["x"], PIXELS) and np.array_equal(found["y"], PIXELS[0, 0]),
    ),
    "tar": (
        data_files.SOUND_TAR,
        data_files.tar_cases,
        lambda content: read_members(content, MEMBERS, "the file"),
        lambda found: found == MEMBERS,
    ),
}


@pytest.mark.parametrize("kind", DECODERS)
def test_damaged_images_are_refused(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sound, cases, read, same = DECODERS[kind]
    assert same(read(sound))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    problems = [endings.of_reading(case, read, same, DataError, "the file: ") for case in cases()]
    assert "\n".join(filter(None, problems)) == ""
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MEMORY
    assert not (tmp_path / PLANTED).exists()


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The parts of a sound Keras model."""
    return model_files.sound_parts(tmp_path_factory.mktemp("sound"))


def weights(path):
    return [value.tobytes() for value in keras.saving.load_model(path, compile=False).get_weights()]


def test_damaged_models_are_refused(parts, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model, out = tmp_path / "model.keras", tmp_path / "out.keras"

    def run(content):
        model.write_bytes(content)
        return fold.main([str(model), str(out)])

    assert run(model_files.packed(parts)) == 0
    sound = weights(out)
    problems = []
    for case in model_files.model_cases(parts):
        out.unlink(missing_ok=True)
        capsys.readouterr()
        problems.append(endings.of_command(case, run, lambda: weights(out) == sound, capsys))
    assert "\n".join(filter(None, problems)) == ""
    assert not list(tmp_path.parent.rglob(PLANTED))
    assert "antigravity" not in sys.modules


def lay(folder, files):
    """Make a folder anew: name -> content, None for a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).mkdir() if content is None else (folder / name).write_bytes(content)


def test_damaged_statistics_are_refused(parts, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder, model, out = tmp_path / "text", tmp_path / "model.keras", tmp_path / "out.keras"
    model.write_bytes(model_files.packed(parts))

    def run(files):
        lay(folder, files)
        return statistics.main(["import", str(folder), str(model), str(out)])

    assert run(texts.SOUND_STATISTICS) == 0
    sound = weights(out)
    problems = []
    for case in texts.statistics_cases():
        capsys.readouterr()
        problems.append(endings.of_command(case, run, lambda: weights(out) == sound, capsys, str(folder)))
    assert "\n".join(filter(None, problems)) == ""


@pytest.mark.parametrize("damage", ["a Lambda", "an external link", "a bit of the kernel", "no config"])
def test_statistics_are_read_from_no_damaged_model(parts, damage, tmp_path, capsys):
    [case] = [case for case in model_files.model_cases(parts) if case.name == damage]
    model = tmp_path / "model.keras"
    model.write_bytes(case.content)

    def run(_):
        return statistics.main(["export", str(model), str(tmp_path / "text")])

    assert endings.of_command(case, run, bool, capsys, str(model)) == ""
    assert not (tmp_path / "text").exists()


def test_damaged_configs_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task").mkdir()

    def read(content):
        (tmp_path / "task" / "evil.yaml").write_bytes(content)
        return compose(["--config-dir", str(tmp_path), "task=evil"]).settings

    sound = read(texts.SOUND_CONFIG)
    cases = texts.config_cases()
    problems = [endings.of_reading(case, read, sound.__eq__, SettingsError) for case in cases]
    assert "\n".join(filter(None, problems)) == ""
    assert not list(tmp_path.rglob(PLANTED))


def test_damaged_words_of_a_command_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cases = texts.override_cases()
    problems = [endings.of_reading(case, lambda word: compose([word]), bool, SettingsError) for case in cases]
    assert "\n".join(filter(None, problems)) == ""


def test_the_corpus_is_large_and_no_case_is_there_twice(parts):
    sweep = json.dumps({"name": "x", "command": "python", "trials": ["a"]}).encode()
    readings = readings_table([Reading(1, 16, "test", False, 0.5, 16, 64, *[0.5] * 9, 1)]).encode()
    counted = LayerHistogram(1, "norm", "weights", Histogram(0.0, 1.0, (1, 2, 3), 0.6, 0.2))
    every = [
        *(case for _, cases, _, _ in DECODERS.values() for case in cases()),
        *model_files.model_cases(parts),
        *texts.statistics_cases(),
        *texts.config_cases(),
        *texts.override_cases(),
        *stored_sweeps.sweep_cases(sweep),
        *stored_sweeps.reading_cases(readings),
        *stored_sweeps.histogram_cases(histograms_table([counted]).encode()),
        *stored_sweeps.row_cases(),
    ]
    distinct = {(case.kind, repr(case.content)) for case in every}
    counts = Counter(kind for kind, _ in distinct)
    print(f"{len(distinct)} damaged inputs: {dict(counts)}")
    assert len(distinct) == len(every) >= 240
    assert min(counts.values()) >= 10
    assert len(counts) == 12
