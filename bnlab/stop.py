"""Stop when asked: save what is under way, within seconds, in whatever process it runs.

Ctrl-C reaches every process of a terminal, a batch system's signal only the first one, and a process that
is killed tells nobody. So jobs look at three things between two graph calls: whether they got a signal
themselves, whether the file that stands for their sweep is gone, and whether its process is.
"""

from __future__ import annotations

import _thread
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

# Names, in the environment of all processes of a sweep, the file that lets them go on.
_VARIABLE = "BNLAB_SWEEP"
# Saving takes a second or two; what is not saved by then is as if it had been killed.
_PATIENCE_SECONDS, _BREAKING_SECONDS = 2.0, 0.5
_LOOK_SECONDS, _SAVING_SECONDS = 0.5, 10.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """Work was asked to stop; what was under way is saved."""


class _Process:
    """What this process knows: whether it is to stop, or to leave at once, and who works for whom."""

    asked = threading.Event()
    leave = False
    working = threading.Lock()
    parent: int | None = None  # of a worker, when it began
    interrupt: Interrupt | None = None


def asked() -> bool:
    """Whether work in this process is to save and stop."""
    file = os.environ.get(_VARIABLE)
    return _Process.asked.is_set() or _orphan() or bool(file and not Path(file).exists())


def hidden() -> str:
    """Name the folder of the sweep's file where this machine does not see it; nothing where it does."""
    folder = Path(os.environ.get(_VARIABLE) or os.devnull).parent
    return "" if folder.exists() else str(folder)


def listen() -> None:
    """Take signals as the wish to stop, in a process that works for a sweep of another one.

    When that one is gone, this one ends too: after the block of `working` that it is in.
    """
    if _Process.interrupt is None and _Process.parent is None:
        _Process.parent = os.getppid()
        _take_signals()
        threading.Thread(target=_end_with_parent, daemon=True).start()


def working() -> threading.Lock:
    """Name the block in which a process whose parent is gone may still save."""
    return _Process.working


def remember() -> None:
    """Raise KeyboardInterrupt at Ctrl-C, and know of it also where some library's import swallows that."""

    def handle(number: int, frame: object) -> None:
        _Process.asked.set()
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, handle)


def sweep() -> str:
    """Name the sweep that this process works for; nothing outside of one."""
    return Path(os.environ.get(_VARIABLE, "")).name


class Interrupt:
    """A block that a signal does not break off: jobs in it, in any process, save and return by themselves.

    A second signal, or some seconds, break it off; nothing that is saved depends on its end. Where even that
    cannot be - Python is inside one long call - `leave` is called.

    Args:
        folder: gets a file that stands for the sweep while it may go on.
        tell: told that it stops.
        leave: ends the process, from another thread; given the exit status.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None], leave: Callable[[int], None]) -> None:
        """Name the sweep."""
        self._file = folder / f"{_machine()}.{os.getpid()}.{uuid4().hex[:8]}"
        self._tell, self._leave = tell, leave
        self.signal, self._over = 0, threading.Event()

    @property
    def sweep(self) -> str:
        """The name of what goes on in the block, in all its processes."""
        return self._file.name

    @property
    def status(self) -> int:
        """The exit status after the first signal, 130 for Ctrl-C; 0 where there was none."""
        return 128 + self.signal if self.signal else 0

    def __enter__(self) -> Interrupt:
        """Begin to listen."""
        _remove_stale(self._file.parent)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.touch()
        os.environ[_VARIABLE] = str(self._file)
        _Process.interrupt = self
        if _Process.asked.is_set():  # before this block
            self.signal = int(signal.SIGINT)
        self._read, self._write = os.pipe()
        self._before = _take_signals(self._write)
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        """Listen no longer; what broke the block off is not raised again."""
        self._over.set()
        if self._before:
            signal.set_wakeup_fd(-1)
        os.write(self._write, b"\0")
        self._thread.join()
        _Process.leave = False  # a signal that comes late breaks nothing off
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)
        _Process.interrupt = None
        _Process.asked.clear()
        del os.environ[_VARIABLE]
        self._file.unlink(missing_ok=True)
        return bool(self.signal) and kind is KeyboardInterrupt

    def _wait(self) -> None:
        """Wait for a signal or the end of the block; runs beside it."""
        if not (first := self._heard(None)):
            return
        self.signal = first
        _Process.asked.set()
        self._file.unlink(missing_ok=True)
        self._tell("stopping; what is under way is saved first (once more: stop at once)")
        if self._heard(_PATIENCE_SECONDS) != 0:
            _Process.leave = True
            _thread.interrupt_main()
            if not self._over.wait(_BREAKING_SECONDS):
                self._leave(self.status)

    def _heard(self, seconds: float | None) -> int:
        """Wait for a signal's number, or 0 for the end of the block; -1: neither came in time."""
        ready, _, _ = select.select([self._read], [], [], seconds)
        return os.read(self._read, 1)[0] if ready else -1


def _end_with_parent() -> None:
    """End a worker that nobody waits for: idle, it would do so only after minutes."""
    while not _orphan():
        time.sleep(_LOOK_SECONDS)
    _Process.working.acquire(timeout=_SAVING_SECONDS)
    os._exit(1)


def _take_signals(wake: int | None = None) -> dict:
    """Make signals set a flag, but for those that are ignored (nohup); return the handlers of before.

    A handler runs between two instructions of Python only, and a graph call may take long. So the system
    itself also writes a signal's number into `wake`, at once.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    if wake is not None:
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, _heed) for number in heeded}


def _heed(number: int, frame: object) -> None:
    _Process.asked.set()
    if _Process.leave:
        _Process.leave = False
        raise KeyboardInterrupt


def _orphan() -> bool:
    """Whether this process works for one that is gone."""
    return _Process.parent not in (None, os.getppid()) or not _alive(sweep())


def _remove_stale(folder: Path) -> None:
    """Remove the files of this machine's sweeps that were killed."""
    for path in folder.glob("*.*.*"):
        if not _alive(path.name):
            path.unlink(missing_ok=True)


def _machine() -> str:
    """Name what numbers processes: this machine, or the container that this is."""
    try:
        return f"{socket.gethostname()}-{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return socket.gethostname()


def _alive(sweep: str) -> bool:
    """Whether the process of a sweep runs; of another machine's nobody knows better."""
    host, _, pid = Path(sweep).name.rpartition(".")[0].rpartition(".")
    if host == _machine():
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # it runs, as somebody else's
            return True
    return True
