"""fetch: the one place that talks to the internet, and never for longer than it was given.

The time limits of an HTTP client do not cover the name look-up, which may hang for minutes. So the transfer
runs in a daemon thread that reports signs of life, and the caller leaves when the next sign is overdue.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bnlab.data.datasets import TITLES, DataError
from bnlab.data.forms import CHECKSUMS

CHUNK = 2**16
CHECKING_SECONDS = 60.0
TRANSFER_SECONDS = 1800.0


@dataclass(frozen=True)
class Remote:
    """A published file on the internet; `size` in bytes bounds what a server can make us store."""

    url: str
    file: str
    size: int


REMOTES: dict[str, Remote] = {
    "mnist": Remote(
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz", "mnist.npz", 11_490_434
    ),
    "cifar": Remote(
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "cifar-10-python.tar.gz", 170_498_071
    ),
}


def fetch(name: str, folder: Path, timeout: float) -> None:
    """Download one published file into a folder, where it appears whole and checked, or not at all.

    Two processes may do so at once: each writes a temporary file and moves it into place.

    Args:
        name: key in `REMOTES`.
        folder: where the file goes; it is made if need be.
        timeout: seconds that the host may stay silent: look-up and connection, every pause of the transfer.

    Raises:
        DataError: no answer in time, an error status, a transfer that stalls or ends early, more bytes than
            published, a wrong checksum, a folder that cannot be written.

    """
    import pooch
    import requests  # noqa: F401 imported here, before the clock starts; the thread below uses it

    pooch.get_logger().setLevel("ERROR")
    transfer = _Transfer(REMOTES[name], folder, timeout)
    threading.Thread(target=transfer.run, name=f"download {name}", daemon=True).start()
    try:
        transfer.watch()
    except Exception as error:
        reason = " ".join(_reason(error, timeout).split())
        host = urlsplit(REMOTES[name].url).netloc
        raise DataError(f"{TITLES[name]} could not be downloaded from {host}: {reason}") from error
    finally:
        transfer.abandoned.set()


class _Transfer:
    """A download in one thread, watched from another.

    `signs` carries its signs of life: a number of seconds within which the next one will come, None at the
    end, or the error that ended it.
    """

    def __init__(self, remote: Remote, folder: Path, timeout: float) -> None:
        self.remote, self.folder, self.timeout = remote, folder, timeout
        self.signs: queue.SimpleQueue[float | Exception | None] = queue.SimpleQueue()
        self.abandoned = threading.Event()

    def watch(self) -> None:
        """Return at the end of the transfer; raise what ended it, or TimeoutError if it is too slow."""
        end = time.monotonic() + TRANSFER_SECONDS
        patience = self.timeout
        while time.monotonic() < end:
            sign = self._next(patience)
            if sign is None:
                return
            if isinstance(sign, Exception):
                raise sign
            patience = sign
        raise TimeoutError(f"not done after {TRANSFER_SECONDS:g} seconds")

    def _next(self, patience: float) -> float | Exception | None:
        try:
            return self.signs.get(timeout=patience)
        except queue.Empty:
            raise TimeoutError(f"no sign of life for {patience:g} seconds") from None

    def run(self) -> None:
        """Download, and report the outcome instead of raising it: nobody would catch it in this thread."""
        try:
            self._download()
            self.signs.put(None)
        except Exception as error:
            self.signs.put(error)

    def _download(self) -> None:
        import pooch
        import requests

        # Compression on the way would change the bytes that the checksum is about.
        headers = {"Accept-Encoding": "identity"}
        url, file = self.remote.url, self.remote.file
        # The server answers before pooch makes a temporary file: a host out of reach leaves nothing behind.
        with requests.get(url, stream=True, timeout=self.timeout, headers=headers) as response:
            response.raise_for_status()
            self.signs.put(self.timeout)
            content = self._chunks(response.iter_content(CHUNK))
            pooch.retrieve(url, CHECKSUMS[file], file, self.folder, downloader=_Writer(content))

    def _chunks(self, content: Iterator[bytes]) -> Iterator[bytes]:
        received = 0
        for chunk in content:
            received += len(chunk)
            if self.abandoned.is_set():
                raise TimeoutError
            if received > self.remote.size:
                raise ValueError(f"the server sends more than the published {self.remote.size} bytes")
            self.signs.put(self.timeout)
            yield chunk
        self.signs.put(CHECKING_SECONDS)


class _Writer:
    """What pooch takes for a downloader: it writes bytes that are on their way already."""

    def __init__(self, content: Iterator[bytes]) -> None:
        self.content = content

    def __call__(self, url: str, output: str, _: object) -> None:
        with Path(output).open("wb") as stored:
            stored.writelines(self.content)


def _reason(error: Exception, timeout: float) -> str:
    import requests

    if isinstance(error, requests.Timeout):
        return f"no sign of life for {timeout:g} seconds"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"it answered with status {error.response.status_code}"
    if isinstance(error, requests.RequestException):
        return f"the connection failed ({type(error).__name__})"
    return str(error)
