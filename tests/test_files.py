"""A file is whole or not there, tells when it was damaged, and an error says what is needed."""

import errno
import io
import os

import pytest

from bnlab.files import DamagedError, check_seal, explained, seal, sealed, set_aside, unsealed

# The end of a zip archive without a comment: all that a seal looks at.
ARCHIVE = b"content" * 20 + b"\0\0"


def archive(content=ARCHIVE):
    file = io.BytesIO(content)
    seal(file)
    return file.getvalue()


def test_a_sealed_archive_is_what_it_was_with_a_comment():
    whole = archive()
    assert whole[: len(ARCHIVE) - 2] == ARCHIVE[:-2]
    assert whole[len(ARCHIVE) - 2 :][:9] == b"\x47\x00sha256 "
    file = io.BytesIO(whole)
    check_seal(file)
    assert file.tell() == 0


@pytest.mark.parametrize("length", [0, 1, 50, 72, 100, len(ARCHIVE), len(ARCHIVE) + 70])
def test_a_torn_archive_is_noticed(length):
    with pytest.raises(DamagedError, match=r"^it is torn, it does not end in its checksum$"):
        check_seal(io.BytesIO(archive()[:length]))


def test_every_flipped_bit_is_noticed():
    whole = archive()
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedError):
            check_seal(io.BytesIO(bytes(flipped)))


@pytest.mark.parametrize("table", ["", "a,b\n", "a,b\n# sha256 of old\n1,2\n"])
def test_a_table_comes_back_without_its_seal(table):
    assert unsealed(sealed(table)) == table


@pytest.mark.parametrize(
    "text",
    ["", "a,b\n", sealed("a,b\n")[:-2], sealed("a,b\n") + "1,2\n", sealed("a,b\n").replace("a", "c", 1)],
)
def test_a_changed_table_is_noticed(text):
    with pytest.raises(DamagedError, match=r"its checksum"):
        unsealed(text)


def test_files_set_aside_keep_their_names_and_one_another(tmp_path):
    for content in "ab":
        (tmp_path / "x.npz").write_text(content)
        set_aside(tmp_path / "x.npz")
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert kept == {"x.npz.damaged": "a", "x.npz.damaged1": "b"}


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "MiB left); free some space, then the same command goes on"),
        (
            errno.EROFS,
            "Read-only file system; the disk must allow writing, or the store must lie elsewhere, then",
        ),
        (errno.EMFILE, "are allowed); raise the limit of open files (ulimit -n), then"),
        (errno.EIO, "Input/output error; check the disk, then"),
        (errno.ELOOP, "; mend it, then"),
    ],
)
def test_an_error_of_the_system_says_what_is_needed(tmp_path, number, words):
    assert words in explained(OSError(number, os.strerror(number)), tmp_path)
