"""What many tests share: one TensorFlow set-up, and one tiny sweep run through the whole line."""

import os
import sys

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import pytest

TINY = [
    "data.download=false",
    "train.samples=320",
    "batch_size=16",
    "decay=[0.5,0.9]",
    "measure.points=4",
    "measure.images=64",
]


@pytest.fixture(scope="session")
def tiny():
    """Settings of a trial that takes a second, on stand-in data."""
    return TINY


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """The runtime of this process starts once; every test that trains uses these settings."""
    from bnlab import machine

    machine.configure("cpu", threads=1)


@pytest.fixture(scope="session")
def run_line():
    """Run a command line in this process, in a folder: returns the exit status."""

    def run(folder, *arguments):
        from hydra import main

        from bnlab import compose, job, sweep

        application = main(str(compose.config_folder()), compose.CONFIG, version_base="1.3")(job.run)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
            patch.delenv("BNLAB_DATA", raising=False)
            patch.setenv("HYDRA_FULL_ERROR", "1")
            patch.setattr(sys, "argv", ["bnlab", *arguments])
            return sweep.run(list(arguments), application)

    return run


@pytest.fixture(scope="session")
def tiny_sweep(tmp_path_factory, run_line):
    """A sweep of two trials on stand-in digits, from the command line to the PDF: its folder."""
    folder = tmp_path_factory.mktemp("tiny")
    assert run_line(folder, "-m", "name=tiny", "norm=batch,group", *TINY) == 0
    return folder
