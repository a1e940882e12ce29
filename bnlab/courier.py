"""Send finished trials beside a sweep, in a thread of its own: a server that is gone holds up nothing.

What could not be sent stays on disk, where it has been all along, and is tried again: after a pause that
grows, and when the sweep is over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from bnlab.delivery import Asked, send
from bnlab.store import Folder

if TYPE_CHECKING:
    from bnlab.track import Store

_LOOK_SECONDS, _LONGEST_PAUSE = 0.5, 60.0


class Courier:
    """A thread that sends; use it as a context around the jobs.

    Args:
        connect: reaches the tracking store, or raises.
        ready: gathers the trials that are finished, but for those that were sent.
    """

    def __init__(
        self, connect: Callable[[], Store], ready: Callable[[Collection[str]], Iterable[tuple[Folder, Asked]]]
    ) -> None:
        """Begin with nothing sent."""
        self._connect, self._ready = connect, ready
        self._store: Store | None = None
        self._sent: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Courier:
        """Begin to send."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop after the trial that is being sent; a server that does not answer is left behind."""
        self._over.set()
        self._thread.join(2.0)

    def _run(self) -> None:
        pause = _LOOK_SECONDS
        while not self._over.wait(pause):
            pause = _LOOK_SECONDS if self._round() else min(max(5.0, 2 * pause), _LONGEST_PAUSE)

    def _round(self) -> bool:
        """Send what is finished now; return whether that went well."""
        for folder, asked in self._ready(self._sent):
            if self._over.is_set():
                break
            try:
                self._store = self._store or self._connect()
                send(self._store, folder, asked)
            except Exception:  # a tracking store may fail in any way; it is told when the sweep is over
                self._store = None
                return False
            self._sent.add(folder.identity)
        return True
