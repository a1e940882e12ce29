"""The machine: what it is, whether it has a GPU, and TensorFlow set up on it before it starts."""

from __future__ import annotations

import gc
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from importlib.abc import MetaPathFinder
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from bnlab.settings import SettingsError

# Replicas that a CPU can be divided into. Every process has so many devices: their number, as that of the
# threads, cannot change once the runtime has started, and one process may train trials of several numbers.
CPU_DEVICES = 16
_QUERY = "import tensorflow as tf; print(len(tf.config.list_physical_devices('GPU')))"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the start-up notices of TensorFlow's native part from the user; an error still shows them.

    They are written to the process's stderr before any log level counts, so the stream is set aside.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as notices:
        os.dup2(notices.fileno(), 2)
        try:
            yield
        except Exception:
            notices.seek(0)
            os.write(kept, notices.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the collector away from an import: nothing of it is garbage, and a fifth of the time was its."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


class _Unseen(MetaPathFinder):
    """Hides packages from the imports of one thread; other threads find them, and so does this one later."""

    def __init__(self, *names: str) -> None:
        self._names, self._thread = names, threading.get_ident()

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Say that there is none, or leave the question to others."""
        if name in self._names and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@contextmanager
def _without_luxuries() -> Iterator[None]:
    """Keep Keras from loading what it uses where it is there, and is not used here.

    Of its import's 3.6 CPU-seconds these packages took 1.3, in every process that trains.
    """
    unseen = _Unseen("matplotlib", "pandas", "sklearn")
    sys.meta_path.insert(0, unseen)
    try:
        yield
    finally:
        sys.meta_path.remove(unseen)


def resolve(name: str) -> str:
    """Turn `auto`, `cpu` or `gpu` into the `cpu` or `gpu` that this machine trains on.

    Raises:
        SettingsError: a GPU is asked for and TensorFlow finds none.
    """
    if name == "cpu":
        return "cpu"
    if gpus():
        return "gpu"
    if name == "gpu":
        raise SettingsError(
            "device=gpu needs a GPU that TensorFlow can use, and it finds none; install the driver and "
            "`pip install 'bnlab[gpu]'`, or run with device=auto"
        )
    return "cpu"


def check_replicas(device: str, replicas: int) -> None:
    """Refuse more replicas than there are devices.

    Args:
        device: `cpu`, which is divided into logical devices, or `gpu`.
        replicas: that a trial is spread over.

    Raises:
        SettingsError: there are too few.
    """
    most = CPU_DEVICES if device == "cpu" else gpus()
    if replicas > most:
        what = "logical devices of the CPU" if device == "cpu" else f"GPU{'s' if most > 1 else ''} found here"
        raise SettingsError(f"device.replicas must not exceed the {most} {what}, got {replicas}")


def configure(device: str, threads: int) -> None:
    """Set TensorFlow's threads and devices for a trial, before its runtime starts.

    Raises:
        SettingsError: the runtime of this process has already started with other ones.
    """
    config = tensorflow().config
    try:
        config.threading.set_intra_op_parallelism_threads(threads)
        config.threading.set_inter_op_parallelism_threads(threads)
        if device == "cpu":
            config.set_visible_devices([], "GPU")
            [cpu] = config.list_physical_devices("CPU")
            parts = [config.LogicalDeviceConfiguration() for _ in range(CPU_DEVICES)]
            config.set_logical_device_configuration(cpu, parts)
        else:
            config.experimental.enable_op_determinism()
    except RuntimeError:
        raise SettingsError(
            f"train.threads={threads} on {device} cannot follow another setting in one process; "
            "run it by itself"
        ) from None


@lru_cache
def tensorflow(whole: bool = False) -> ModuleType:
    """Import TensorFlow and Keras, once, without their notices.

    Args:
        whole: with all that Keras can use, for somebody else's code that runs here too.
    """
    with _quiet(), _uncollected(), nullcontext() if whole else _without_luxuries():
        import keras  # noqa: F401
        import tensorflow as tf

    # What an import leaves behind stays for ever: walking it took a quarter second per model that is built.
    gc.freeze()
    return tf


def versions() -> dict[str, str]:
    """Name the versions of what computes, stores and draws."""
    packages = (
        "bnlab",
        "tensorflow",
        "keras",
        "numpy",
        "hydra-core",
        "mlflow",
        "pandas",
        "matplotlib",
        "typst",
    )
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def environment() -> dict[str, str]:
    """Name what a trial runs on, as far as it changes rounding."""
    packages = {f"version.{name}": version(name) for name in ("bnlab", "tensorflow", "keras", "numpy")}
    return packages | {"cpu": _cpu(), "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default")}


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, str]:
    """Describe this machine for a person."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}"
    return {"processor": _cpu(), "cores": str(cores()), "memory": f"{memory:.0f} GiB", "system": system}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


@lru_cache
def gpus() -> int:
    """Count GPUs in a process of its own, so that this one stays small; none without NVIDIA's driver."""
    if not (Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi")):
        return 0
    answer = subprocess.run([sys.executable, "-c", _QUERY], capture_output=True, text=True, check=False)
    return int(answer.stdout.strip() or 0) if answer.returncode == 0 else 0
