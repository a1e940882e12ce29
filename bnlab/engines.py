"""Engines that run trials elsewhere: what one of them needs is checked before anything starts.

An engine is a launcher of Hydra's, chosen by `hydra/launcher=`. It is known here by its config alone: no
engine is imported before it launches, and none needs to be installed that is not chosen. What only Ray can
tell of a cluster, it is asked in a process of its own.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bnlab import machine
from bnlab.errors import said
from bnlab.settings import Settings, SettingsError

_REACH_SECONDS, _ANSWER_SECONDS = 5.0, 12.0
_LOCAL, _ADDRESS = "local", "hydra.launcher.ray.init.address="
# Plugin -> the extra that brings it.
_EXTRAS = {"hydra_submitit_launcher": "slurm", "hydra_ray_launcher": "ray"}
# Keys of engines that are amounts -> the least that can be had; null is left to the engine.
_LEAST: Mapping[str, float] = {
    "ray.init.num_cpus": 1,
    "ray.remote.num_cpus": 0,
    "ray.remote.num_gpus": 0,
    "ray.remote.memory": 1,
    "ray.remote.max_retries": -1,
    "timeout_min": 1,
    "cpus_per_task": 1,
    "gpus_per_node": 0,
    "tasks_per_node": 1,
    "mem_gb": 1,
    "nodes": 1,
    "array_parallelism": 1,
    "max_num_timeout": 0,
}
# File systems in one machine's memory, or of one container.
_ALONE = ("tmpfs", "ramfs", "overlay", "squashfs")
# Where Ray writes the address of the cluster that it started last on this machine.
_CURRENT = Path("/tmp/ray/ray_current_cluster")
# Joins a cluster as Ray does; tells of nothing but a cluster's own refusal, last.
_JOIN = """
import sys
from ray._raylet import GcsClient
try:
    GcsClient(address=sys.argv[1]).internal_kv_get(b"CLUSTER_METADATA", b"cluster", timeout=5)
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


@dataclass(frozen=True)
class Engine:
    """A launcher, as chosen and configured.

    Attributes:
        choice: the value of `hydra/launcher`.
        config: its keys.
    """

    choice: str = "basic"
    config: Mapping[str, Any] | None = None

    @property
    def plugin(self) -> str:
        """The package that it comes from; empty for Hydra's own."""
        target = str((self.config or {}).get("_target_", ""))
        return target.split(".")[1] if target.startswith("hydra_plugins.") else ""

    @property
    def slurm(self) -> bool:
        """Whether it submits to Slurm."""
        return str((self.config or {}).get("_target_", "")).endswith("SlurmLauncher")

    @property
    def address(self) -> str | None:
        """The address of the Ray cluster that it joins; None where it joins none."""
        if self.plugin != "hydra_ray_launcher":
            return None
        init = ((self.config or {}).get("ray") or {}).get("init") or {}
        address = str(init.get("address") or "auto")  # so Ray understands null
        return None if address == _LOCAL else address

    @property
    def elsewhere(self) -> bool:
        """Whether other hosts may run trials."""
        return self.slurm or self.address is not None


def check(engine: Engine, settings: Settings) -> None:
    """Refuse an engine that cannot run, or that would run trials where their results are lost.

    Raises:
        SettingsError: one line: what is missing, and what to install or to set.
    """
    name = f"hydra/launcher={engine.choice}"
    extra = _EXTRAS.get(engine.plugin)
    if extra and find_spec(f"hydra_plugins.{engine.plugin}") is None:
        raise SettingsError(f"{name} is not installed; pip install 'bnlab[{extra}]'")
    _check_amounts(engine)
    _check_room(engine)
    if engine.slurm and shutil.which("sbatch") is None:
        raise SettingsError(
            f"{name} needs Slurm's sbatch, and none is on the PATH; run it where jobs are submitted, or take "
            "hydra/launcher=joblib"
        )
    if engine.address is not None:
        _reach(engine.address)
    if engine.elsewhere:
        _check_shared(name, settings)
    if engine.address is not None:
        _join(engine.address)


def _check_amounts(engine: Engine) -> None:
    """Refuse resources that no engine has; each would say so after its start, and in its own way."""
    for key, least in _LEAST.items():
        value: Any = engine.config if engine.plugin else None
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
            raise SettingsError(f"hydra.launcher.{key} must be a number, {least:g} at least, got {value}")


def _check_room(engine: Engine) -> None:
    """Refuse a trial that asks for more than a cluster of this machine has: Ray waits without a word."""
    if engine.plugin != "hydra_ray_launcher" or engine.address is not None:
        return
    ray: Any = (engine.config or {}).get("ray") or {}
    asked, given = ray.get("remote") or {}, ray.get("init") or {}
    cores = given.get("num_cpus") or machine.cores()
    if (wanted := asked.get("num_cpus") or 0) > cores:
        raise SettingsError(
            f"hydra.launcher.ray.remote.num_cpus must not exceed the {cores:g} cores of a cluster on this "
            f"machine, got {wanted:g}; lower it (by default it is train.threads), or give ray.init.num_cpus"
        )
    if (wanted := asked.get("num_gpus") or 0) and wanted > (found := machine.gpus()):
        raise SettingsError(
            "hydra.launcher.ray.remote.num_gpus must not exceed the GPUs of this machine, of which there are "
            f"{found}, got {wanted:g}"
        )


def _check_shared(name: str, settings: Settings) -> None:
    """Refuse what only this host could see or decide."""
    if settings.tracking_uri.startswith("sqlite:"):
        raise SettingsError(
            f"{name} cannot go with {settings.tracking_uri}: on a file system that several hosts write to, "
            "SQLite's locks do not hold; give track.uri=http://HOST:PORT of an MLflow server"
        )
    if (kind := file_system(settings.folder)) in _ALONE:
        raise SettingsError(
            f"store={settings.folder} lies on {kind}, which other hosts do not see, and {name} runs trials "
            "on them; give store=FOLDER on a shared file system"
        )
    if settings.device.name == "auto":
        raise SettingsError(
            f"device=auto asks this machine, and {name} trains on others; give device=cpu or device=gpu"
        )


def file_system(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """Name the kind of file system that a folder lies on, or will; nothing where the system does not tell.

    Args:
        folder: absolute; it need not exist.
        mounts: a line for each mounted file system: source, place, kind, ...
    """
    try:
        rows = [line.split()[1:3] for line in mounts.read_text().splitlines()]
    except OSError:
        return ""
    real = folder.resolve()
    kinds = {Path(place): kind for place, kind in rows}  # what is mounted later hides what was
    return next((kinds[place] for place in (real, *real.parents) if place in kinds), "")


def _reach(address: str) -> None:
    """Refuse a Ray cluster that does not answer, in seconds instead of Ray's minutes."""
    key, found = _ADDRESS + address, _found(address)
    if not found:
        raise SettingsError(
            f"{key}: no Ray cluster runs here; start one (ray start --head), or give HOST:6379"
        )
    host, _, port = found.rpartition("//")[2].rpartition(":")
    if not (host and port.isdecimal()):
        raise SettingsError(f"{key} must be local, auto or HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = str(getattr(error, "strerror", None) or error)
        raise SettingsError(
            f"{key} cannot be reached: {reason}; start the cluster (ray start --head), or mend the address"
        ) from None


def _join(address: str) -> None:
    """Refuse what answers but is no Ray cluster, or one that would not have this command."""
    key, found = _ADDRESS + address, _found(address)
    if "://" in found:  # a proxy of Ray's, which speaks otherwise
        return
    try:
        done = subprocess.run(
            [sys.executable, "-c", _JOIN, found],
            capture_output=True,
            text=True,
            check=False,
            timeout=_ANSWER_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise SettingsError(
            f"{key} answers, but not as the head of a Ray cluster does; give the HOST:PORT that "
            "`ray start --head` named"
        ) from None
    kind, _, reason = (done.stderr.strip().splitlines() or [""])[-1].partition(": ")
    if kind == "AuthenticationError":
        raise SettingsError(
            f"{key} asks for a token, and was given none or a wrong one; set RAY_AUTH_MODE=token and the "
            "RAY_AUTH_TOKEN that the cluster was started with"
        )
    if kind == "RpcError":
        raise SettingsError(
            f"{key} cannot be joined: {said(reason)}; start the cluster anew, or mend the address"
        )


def _found(address: str) -> str:
    """Find the cluster that Ray itself would join."""
    if address != "auto":
        return address
    if given := os.environ.get("RAY_ADDRESS"):
        return given
    return _CURRENT.read_text().strip() if _CURRENT.exists() else ""
