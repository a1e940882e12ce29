"""A PostgreSQL cluster of a test's own, on a loopback port."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

_USER = "bnlab"
_KEPT = Path("/usr/lib/postgresql")


def missing() -> str:
    """Say what of it is not here; nothing when it can run."""
    programs = [name for name in ("initdb", "pg_ctl") if _program(name) is None]
    return f"PostgreSQL's {' and '.join(programs)} not found" if programs else ""


def _program(name: str) -> str | None:
    """Find one of its programs, also where Debian keeps them, off the PATH; the newest version's there."""
    kept = sorted(_KEPT.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    return shutil.which(name) or (str(kept[-1]) if kept else None)


class Postgres:
    """A database server; it runs from `start` to `stop`."""

    def __init__(self) -> None:
        """Choose a port that is free now, and a folder that its user may enter."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._folder = Path(tempfile.mkdtemp(prefix="bnlab-postgres-"))
        # It refuses to run as root.
        nobody = pwd.getpwnam("nobody")
        self._as: dict[str, Any] = {}
        if os.getuid() == 0:
            os.chown(self._folder, nobody.pw_uid, nobody.pw_gid)
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        place = f"{_USER}@127.0.0.1:{self._port}/postgres"
        self.address = f"postgresql://{place}"
        # SQLAlchemy takes the plain address for that of another driver.
        self.uri = f"postgresql+psycopg2://{place}"

    def start(self) -> Postgres:
        """Make the cluster and start it."""
        self._run("initdb", "-D", self._data, "-U", _USER, "--auth=trust", "--no-sync", "--locale=C")
        # What it holds need not survive this machine.
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -k {self._folder} -c fsync=off"
        self._run("pg_ctl", "-D", self._data, "-l", str(self._folder / "log"), "-w", "-o", options, "start")
        return self

    def stop(self) -> None:
        """Stop it, and remove everything."""
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "stop", check=False)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def _run(self, program: str, *options: str, check: bool = True) -> None:
        command = (_program(program) or program, *options)
        own = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "cwd": self._folder}
        subprocess.run(command, check=check, timeout=60, **own, **self._as)
