"""A real MLflow server in a subprocess, to be killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import requests

_START_SECONDS = 90


class Server:
    """Serves one database on one port, whenever it runs.

    Args:
        folder: gets the database, the artifacts and the log.
        backend: the address of another database.
    """

    def __init__(self, folder: Path, backend: str = "") -> None:
        """Choose a port that is free now."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.uri, self.database = f"http://127.0.0.1:{self._port}", folder / "server.db"
        self._backend = backend or f"sqlite:///{self.database}"
        self._folder, self._process = folder, None

    def start(self) -> Server:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
        command += ["--port", str(self._port), "--backend-store-uri", self._backend]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        # Its job runners are processes of their own, each as slow to start as the server; nothing uses them.
        own = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self._folder / "server.log").open("ab") as log:
            # A group of its own: the server has children.
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **own}
            )
        end = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert time.monotonic() < end, (self._folder / "server.log").read_text()
            time.sleep(0.2)
        return self

    def kill(self) -> None:
        """End it and its children with -9, whatever they are doing."""
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.uri}/health", timeout=2).ok
        except requests.RequestException:
            return False
