"""How many replicas a machine has devices for; what a process that trains does not load."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from bnlab import machine
from bnlab.settings import SettingsError


def test_a_cpu_is_divided_into_sixteen():
    machine.check_replicas("cpu", 16)
    with pytest.raises(SettingsError, match=r"must not exceed the 16 logical devices of the CPU, got 17$"):
        machine.check_replicas("cpu", 17)
    assert len(machine.tensorflow().config.list_logical_devices("CPU")) == machine.CPU_DEVICES


@pytest.mark.parametrize(("found", "said"), [(1, "the 1 GPU found here"), (2, "the 2 GPUs found here")])
def test_no_more_replicas_than_gpus(monkeypatch, found, said):
    monkeypatch.setattr(machine, "gpus", lambda: found)
    machine.check_replicas("gpu", found)
    with pytest.raises(SettingsError, match=rf"^device\.replicas must not exceed {said}, got {found + 1}$"):
        machine.check_replicas("gpu", found + 1)


def test_what_training_does_not_use_is_not_loaded_with_keras_and_can_be_later():
    code = """
import sys
from bnlab import machine
machine.tensorflow()
assert not {"matplotlib", "pandas", "sklearn"} & set(sys.modules), "loaded"
import matplotlib, pandas, sklearn
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_packages_are_hidden_from_one_thread_alone():
    unseen = machine._Unseen("hidden")
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'hidden'$"):
        unseen.find_spec("hidden")
    assert unseen.find_spec("other") is None
    with ThreadPoolExecutor(1) as other:
        assert other.submit(unseen.find_spec, "hidden").result() is None
