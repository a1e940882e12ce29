"""How many replicas a machine has devices for."""

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
    monkeypatch.setattr(machine, "_gpus", lambda: found)
    machine.check_replicas("gpu", found)
    with pytest.raises(SettingsError, match=rf"^device\.replicas must not exceed {said}, got {found + 1}$"):
        machine.check_replicas("gpu", found + 1)
