"""The decoders take handmade files to known values, and every damaged one to one line that names the file."""

import gzip
import io
import zipfile

import numpy as np
import pytest

from bnlab.data import DataError
from bnlab.data.decode import decode_batch, decode_idx, decode_npz, read_members

PIXELS = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
PLANES = np.repeat(np.array([[10, 20, 30], [11, 21, 31]], np.uint8), 1024, axis=1)


def zipped(content):
    """The same bytes at any time of day: they are part of a test's name."""
    return gzip.compress(content, mtime=0)


def refusal(function, *arguments):
    """The message of the DataError that a call must raise: one line, beginning with the file's name."""
    with pytest.raises(DataError) as caught:
        function(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("the file: ")
    return message


def test_idx_gives_the_packed_values(pack):
    np.testing.assert_array_equal(decode_idx(pack.idx(PIXELS), (3, 2, 2), "the file"), PIXELS)


IDX_CUBE = bytes([0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 2])


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        (b"", "one whole gzip stream"),
        (b"plain text", "not a sound gzip file"),
        (zipped(IDX_CUBE + PIXELS.tobytes())[:-9], "one whole gzip stream"),
        (zipped(IDX_CUBE + PIXELS.tobytes()) + b"more", "one whole gzip stream"),
        (zipped(bytes([0, 0, 9, 3]) + IDX_CUBE[4:] + PIXELS.tobytes()), "not an IDX file of bytes"),
        (zipped(IDX_CUBE[:10]), "not an IDX file of bytes"),
        (zipped(b""), "not an IDX file of bytes"),
        (zipped(IDX_CUBE[:15] + b"\3" + PIXELS.tobytes()), r"must be \(3, 2, 2\), got \(3, 2, 3\)"),
        (zipped(IDX_CUBE + bytes(8)), r"truncated, \(3, 2, 2\) needs 12 bytes, got 8"),
        (zipped(IDX_CUBE + bytes(13)), "too long, must unpack to 28 bytes at most"),
        (zipped(bytes(10**8)), "too long, must unpack to 28 bytes at most"),
    ],
)
def test_damaged_idx_is_refused(packed, words):
    with pytest.raises(DataError, match=words):
        decode_idx(packed, (3, 2, 2), "the file")
    refusal(decode_idx, packed, (3, 2, 2), "the file")


def test_a_flipped_bit_in_idx_is_noticed(pack):
    packed = bytearray(pack.idx(PIXELS))
    packed[-10] ^= 1
    assert "incorrect data check" in refusal(decode_idx, bytes(packed), (3, 2, 2), "the file")


def test_npz_gives_the_packed_values(pack):
    data = pack.npz(x=PIXELS, y=PIXELS[:, 0, 0], other=np.zeros(3))
    arrays = decode_npz(data, {"x": (3, 2, 2), "y": (3,)}, "the file")
    assert sorted(arrays) == ["x", "y"]
    np.testing.assert_array_equal(arrays["x"], PIXELS)
    np.testing.assert_array_equal(arrays["y"], [0, 4, 8])


def test_npz_of_another_content_is_refused(pack):
    def words(**arrays):
        return refusal(decode_npz, pack.npz(**arrays), {"x": (3, 2, 2)}, "the file")

    assert "x.npy" in words(y=PIXELS)
    assert "must be uint8 of shape (3, 2, 2), got int8" in words(x=PIXELS.astype(np.int8))
    assert "got uint8 of shape (2, 2, 2)" in words(x=PIXELS[:2])
    assert "got object" in words(x=np.full((3, 2, 2), None, object))
    assert "is too long" in words(x=np.zeros(10**6, np.uint8))


def test_damaged_npz_is_refused(pack):
    data = pack.npz(x=PIXELS)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\1\0\xff\xffgarbage")
    flipped = data.replace(PIXELS.tobytes(), bytes(12))
    for damaged in (b"", b"text", data[:-30], data[30:], flipped, stream.getvalue()):
        assert "not a sound npz file" in refusal(decode_npz, damaged, {"x": (3, 2, 2)}, "the file")


def test_an_npz_header_that_claims_more_than_its_data_is_refused(pack):
    data = io.BytesIO()
    np.save(data, PIXELS)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x.npy", data.getvalue()[:-4])
    assert "not a sound npz file" in refusal(decode_npz, stream.getvalue(), {"x": (3, 2, 2)}, "the file")


def test_batch_planes_become_channels_last(pack):
    x, y = decode_batch(pack.batch(PLANES, [3, 8]), 2, "the file")
    assert (x.shape, x.dtype, y.dtype) == ((2, 32, 32, 3), np.uint8, np.int64)
    assert x.flags.c_contiguous
    np.testing.assert_array_equal(x[:, 31, 31], [[10, 20, 30], [11, 21, 31]])
    np.testing.assert_array_equal(y, [3, 8])


def test_batch_rows_run_from_left_to_right(pack):
    planes = np.zeros((1, 3072), np.uint8)
    planes[0, 2 * 1024 + 32 * 5 + 7] = 255
    x, _ = decode_batch(pack.batch(planes, [0]), 1, "the file")
    np.testing.assert_array_equal(np.argwhere(x), [[0, 5, 7, 2]])


@pytest.mark.parametrize(
    ("planes", "labels", "words"),
    [
        (PLANES[:1], [3, 8], r"data must be uint8 of shape \(2, 3072\), got uint8 of shape \(1, 3072\)"),
        (PLANES.tolist(), [3, 8], r"data must be uint8 .* got a list of 2"),
        (b"bytes", [3, 8], r"data must be uint8 .* got bytes"),
        (PLANES, [3], "labels must be 2 integers from 0 to 255, got a list of 1"),
        (PLANES, [3, -1], "labels must be 2 integers"),
        (PLANES, [3, 2**70], "labels must be 2 integers"),
        (PLANES, [3, 1.0], "labels must be 2 integers"),
        (PLANES, None, "labels must be 2 integers from 0 to 255, got NoneType"),
    ],
)
def test_a_batch_of_another_content_is_refused(pack, planes, labels, words):
    with pytest.raises(DataError, match=words):
        decode_batch(pack.batch(planes, labels), 2, "the file")


def test_a_batch_without_its_keys_is_refused():
    assert "keys data and labels, got a dict of 1" in refusal(decode_batch, b"}U\4dataK\1s.", 2, "the file")
    assert "keys data and labels, got a list of 0" in refusal(decode_batch, b"].", 2, "the file")


def test_tar_members_are_read_in_memory(pack, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    packed = pack.tar({"folder/readme": b"no", "folder/one": b"1", "folder/two": b"22"})
    found = read_members(packed, ["folder/two", "folder/one"], "the file")
    assert found == {"folder/one": b"1", "folder/two": b"22"}
    assert list(tmp_path.rglob("*")) == []


def test_damaged_tar_is_refused(pack, monkeypatch):
    packed = pack.tar({"one": b"1" * 2000})
    for damaged in (b"", b"text", zipped(b"not a tar"), packed[:700]):
        assert "not a sound tar.gz file" in refusal(read_members, damaged, ["one"], "the file")
    assert refusal(read_members, packed, ["one", "two", "three"], "the file").endswith("named three, two")
    monkeypatch.setattr("bnlab.data.decode.BATCH_FILE_LIMIT", 1999)
    assert refusal(read_members, packed, ["one"], "the file").endswith("named one")
