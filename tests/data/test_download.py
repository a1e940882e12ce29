"""A download comes back in time, whole and checked, or with one line that says why not."""

import hashlib
import logging
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bnlab.data import DataError, locate
from bnlab.data.download import REMOTES, Remote, fetch
from bnlab.data.forms import CHECKSUMS

CONTENT = bytes(range(256)) * 1000
PATIENCE = 0.4  # for hosts that fall silent
AMPLE = 4.0  # for all others, so that a busy machine does not fail them
DEADLINE = 5.0


class Answers(BaseHTTPRequestHandler):
    """A host whose behaviour is in the path."""

    def do_GET(self):
        self.server.requests.append(self.path)
        getattr(self, self.path.strip("/"))()

    def head(self, length):
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def whole(self):
        self.head(len(CONTENT))
        self.wfile.write(CONTENT)

    def other(self):
        self.head(5)
        self.wfile.write(b"other")

    def short(self):
        self.head(len(CONTENT))
        self.wfile.write(CONTENT[:100])

    def longer(self):
        self.head(len(CONTENT) + 1)
        self.wfile.write(CONTENT + b"!")

    def silent(self):
        self.server.closing.wait()

    def stalling(self):
        self.head(len(CONTENT))
        self.wfile.write(CONTENT[:100_000])
        self.server.closing.wait()

    def dripping(self):
        self.head(len(CONTENT))
        while not self.server.closing.wait(0.05):
            self.wfile.write(b".")

    def endless(self):
        self.send_response(200)
        self.end_headers()
        while not self.server.closing.is_set():
            self.wfile.write(CONTENT)

    def absent(self):
        self.send_error(404)

    def log_message(self, *arguments):
        pass


class Host(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """A client that leaves early is what these tests are about."""


@pytest.fixture
def host(monkeypatch):
    """A host on this machine, and the one that MNIST is downloaded from."""
    monkeypatch.setenv("NO_PROXY", "*")
    server = Host(("127.0.0.1", 0), Answers)
    server.requests, server.closing = [], threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()
    finish_downloads()


def finish_downloads():
    """Wait for the abandoned threads, so that none outlives its test."""
    for thread in threading.enumerate():
        if thread.name.startswith("download "):
            thread.join(DEADLINE)
            assert not thread.is_alive()


@pytest.fixture
def remote(host, monkeypatch):
    """Publish a path of the host as MNIST's file."""

    def publish(path, content=CONTENT):
        url = f"http://127.0.0.1:{host.server_address[1]}/{path}"
        monkeypatch.setitem(REMOTES, "mnist", Remote(url, "mnist.npz", len(CONTENT)))
        monkeypatch.setitem(CHECKSUMS, "mnist.npz", f"sha256:{hashlib.sha256(content).hexdigest()}")

    return publish


def failure(folder, timeout=AMPLE):
    """The message of a download that must fail in time and leave nothing behind."""
    start = time.monotonic()
    with pytest.raises(DataError) as caught:
        fetch("mnist", folder, timeout)
    assert time.monotonic() - start < DEADLINE
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("MNIST could not be downloaded from ")
    return message.partition(": ")[2]


def files(folder):
    return [path.name for path in folder.rglob("*")] if folder.exists() else []


def test_a_download_arrives_once_and_serves_later_runs(remote, host, cache, capfd, caplog):
    caplog.set_level(logging.DEBUG, logger="pooch")
    remote("whole")
    source = locate("mnist", None, source="real", download=True, timeout=AMPLE, verify=True)
    assert (source.kind, source.path) == ("npz", cache / "mnist.npz")
    assert source.path.read_bytes() == CONTENT
    assert locate("mnist", None, source="real", download=True) == source
    assert host.requests == ["/whole"]
    assert files(cache) == ["mnist.npz"]
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.name == "pooch"] == []


def test_two_downloads_at_once_both_succeed(remote, cache):
    remote("whole")
    errors = []

    def download():
        try:
            fetch("mnist", cache, AMPLE)
        except DataError as error:
            errors.append(error)

    threads = [threading.Thread(target=download) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert files(cache) == ["mnist.npz"]
    assert (cache / "mnist.npz").read_bytes() == CONTENT


def test_a_wrong_hash_names_both(remote, cache):
    remote("other")
    message = failure(cache)
    assert hashlib.sha256(CONTENT).hexdigest() in message
    assert hashlib.sha256(b"other").hexdigest() in message
    assert files(cache) == []


def test_a_host_that_never_answers(remote, cache):
    remote("silent")
    assert failure(cache, PATIENCE) == "no sign of life for 0.4 seconds"
    assert files(cache) == []


def test_a_transfer_that_stalls(remote, cache):
    remote("stalling")
    assert failure(cache, PATIENCE) == "no sign of life for 0.4 seconds"
    finish_downloads()
    assert files(cache) == []


def test_a_transfer_that_drips(remote, cache, monkeypatch):
    monkeypatch.setattr("bnlab.data.download.TRANSFER_SECONDS", 0.6)
    monkeypatch.setattr("bnlab.data.download.CHUNK", 1)
    remote("dripping")
    assert failure(cache, timeout=0.5) == "not done after 0.6 seconds"
    finish_downloads()
    assert files(cache) == []


@pytest.mark.parametrize("path", ["longer", "endless"])
def test_a_host_cannot_fill_the_disk(remote, cache, path):
    remote(path)
    assert failure(cache) == "the server sends more than the published 256000 bytes"
    assert files(cache) == []


def test_a_transfer_that_ends_early(remote, cache):
    remote("short")
    assert failure(cache).startswith("the connection failed (")
    assert files(cache) == []


def test_a_file_that_is_gone(remote, cache):
    remote("absent")
    assert failure(cache) == "it answered with status 404"


def test_a_port_where_nobody_listens(cache, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        monkeypatch.setitem(REMOTES, "mnist", Remote(url, "mnist.npz", 1))
        assert failure(cache) == "the connection failed (ConnectionError)"


def test_a_name_look_up_that_hangs(cache, monkeypatch):
    """Before connecting, where no time limit of the HTTP client applies."""
    release = threading.Event()

    def hang(*arguments, **options):
        release.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setitem(REMOTES, "mnist", Remote("http://host.invalid/mnist.npz", "mnist.npz", 1))
    assert failure(cache, PATIENCE) == "no sign of life for 0.4 seconds"
    release.set()
    finish_downloads()
    assert files(cache) == []


def test_a_name_that_does_not_exist(cache, monkeypatch):
    def unknown(*arguments, **options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setitem(REMOTES, "mnist", Remote("http://host.invalid/mnist.npz", "mnist.npz", 1))
    assert failure(cache) == "the connection failed (ConnectionError)"


def test_a_folder_that_cannot_be_made(remote, tmp_path):
    remote("whole")
    (tmp_path / "file").touch()
    assert "file" in failure(tmp_path / "file" / "cache")


def test_auto_falls_back_to_the_stand_in_in_time(remote, caplog):
    remote("silent")
    locate("mnist", None)  # imports scikit-learn, which may take longer than the download may
    start = time.monotonic()
    source = locate("mnist", None, download=True, timeout=PATIENCE)
    assert time.monotonic() - start < DEADLINE
    assert source.stand_in
    assert "no sign of life for 0.4 seconds; the stand-in is used" in caplog.text
