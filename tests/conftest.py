"""What many tests share: one TensorFlow set-up, and one tiny sweep run through the whole line."""

import gc
import os
import shutil
import sys
from importlib import import_module

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import numpy as np
import pytest

from bnlab.data import Images
from bnlab.records import Trial
from bnlab.store import Folder

# Importing and tracing make objects that stay, by the hundred thousand; Keras collects by itself.
gc.set_threshold(100_000, 10, 10)

TINY = [
    "data.download=false",
    "train.samples=320",
    "batch_size=16",
    "decay=[0.5,0.9]",
    "measure.points=4",
    "measure.images=64",
]

# Those that start processes of their own lie between those that keep to one.
LONGEST = (
    "test_engines_run",
    *("test_kills", "test_variants", "test_report_pdf", "test_tracking_server", "test_notes", "test_launch"),
    *("test_line", "test_resources", "test_at_once", "test_delivery", "test_resume", "test_compose"),
)


def pytest_collection_modifyitems(items):
    """The longest files come first, so that none is left to run alone at the end."""
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="session")
def images():
    """200 + 60 images of noise; 48 of the 180 to train on are seen in six steps of eight."""
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (260, 28, 28, 1), np.uint8), rng.integers(0, 10, 260)
    return Images(pixels[:200], labels[:200], pixels[200:], labels[200:])


@pytest.fixture(scope="session")
def trial():
    return Trial(
        task="mnist",
        data="mnist",
        fingerprint="noise",
        model="convnet",
        widths=(4, 8),
        norm="batch",
        options=(("center", True), ("epsilon", 1e-3), ("scale", True)),
        batch_size=8,
        seed=0,
        steps=6,
        optimizer="sgd",
        learning_rate=0.1,
        momentum=0.9,
        schedule="cosine",
        device="cpu",
        threads=1,
        xla=False,
    )


@pytest.fixture(scope="session")
def tiny():
    """Settings of a trial that takes a second, on stand-in data."""
    return TINY


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """The runtime of this process starts once; every test that trains uses these settings."""
    from bnlab import machine

    machine.configure("cpu", threads=1)


@pytest.fixture(scope="module", autouse=True)
def _settled(_one_thread):
    """What a file finds loaded stays: the collector need not look through MLflow with every model built."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _one_database(tmp_path_factory):
    """MLflow makes its tables in a second and more: once here, and copied wherever a store begins."""
    module = import_module("bnlab.track.connect")  # the room's own name is that of its function
    make, empty = module._make, tmp_path_factory.mktemp("database") / "empty.db"

    def copied(path):
        if not empty.exists():
            make(empty)
        shutil.copy(empty, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_make", copied)
        yield


@pytest.fixture(scope="session")
def run_line():
    """Run a command line in this process, in a folder: returns the exit status."""

    def run(folder, *arguments):
        from bnlab import sweep

        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
            patch.delenv("BNLAB_DATA", raising=False)
            patch.setattr(sys, "argv", ["bnlab", *arguments])
            return sweep.run(list(arguments))

    return run


@pytest.fixture(scope="session")
def _swept(tmp_path_factory, run_line):
    """The tiny sweep, and its trials as they were before any test asked more of them."""
    folder, trials = tmp_path_factory.mktemp("tiny"), tmp_path_factory.mktemp("trained") / "trials"
    assert run_line(folder, "-m", "name=tiny", "norm=batch,group", *TINY) == 0
    shutil.copytree(folder / "runs" / "trials", trials)
    return folder, trials


@pytest.fixture(scope="session")
def tiny_sweep(_swept):
    """A sweep of two trials on stand-in digits, from the command line to the PDF: its folder."""
    return _swept[0]


@pytest.fixture(scope="session")
def already_trained(_swept):
    """Lay trials of the tiny sweep into a folder, trained and measured: what follows is not about that."""

    def lay(folder, *norms):
        for path in _swept[1].iterdir():
            if Folder(path).trial().norm in norms:
                shutil.copytree(path, folder / "runs" / "trials" / path.name)

    return lay
