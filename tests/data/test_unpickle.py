"""A pickle builds arrays and containers; whatever else it asks for is refused before it is made."""

import os
import pickle
import struct

import numpy as np
import pytest

from bnlab.data import DataError
from bnlab.data.unpickle import unpickle


class Command:
    """A planted call, as an attacker would pickle it."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_back(protocol):
    value = {b"labels": [6, 9], "text": "abc", b"name": b"batch\xff", "numbers": (1, -2.5, None, True)}
    if protocol < 3:
        value.pop(b"name"), value.pop(b"labels")  # bytes of these protocols have their own test below
    assert unpickle(pickle.dumps(value, protocol), "batch") == value


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_byte_arrays_come_back(protocol):
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    back = unpickle(pickle.dumps({b"data": array}, protocol), "batch")[b"data"]
    assert (back.dtype, back.shape) == (np.uint8, (2, 3))
    np.testing.assert_array_equal(back, array)


def test_an_array_from_python_2_comes_back():
    """The opcodes of the published batches: old module name, dtype with integers for align and copy."""
    state = b"(K\1K\1K\2\x86cnumpy\ndtype\nU\2u1K\0K\1\x87R(K\3U\1|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\1b\x87R" + state + b"\x89U\2\7\10tb"
    )
    np.testing.assert_array_equal(unpickle(b"\x80\2" + array + b".", "batch"), [[7, 8]])


def test_numpys_own_dtype_survives_a_hostile_state():
    state = b"(K\3U\1>NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb."
    unpickle(b"\x80\2cnumpy\ndtype\nU\2u1K\0K\0\x87R" + state, "batch")
    assert np.dtype("u1").byteorder == "|"
    assert np.dtype("u1") == np.uint8


def test_a_planted_command_is_refused_and_not_run(tmp_path):
    witness = tmp_path / "witness"
    data = pickle.dumps({b"data": Command(os.system, f"echo run > {witness}")})
    with pytest.raises(DataError, match=r"^batch: the pickle asks for (posix|nt)\.system, which no"):
        unpickle(data, "batch")
    assert not witness.exists()


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(Command(eval, "1")),
        pickle.dumps(Command(getattr, 1, "real")),
        pickle.dumps(np.load),
        b"cbuiltins\nexec\n.",
        b"cnumpy\nload\n.",
        b"\x80\4\x8c\5numpy\x8c\14ndarray.dump\x93.",
        b"\x80\2\x82\1.",
        b"Pname\n.",
    ],
)
def test_no_other_name_is_allowed(data):
    with pytest.raises(DataError, match=r"^batch: (the pickle asks for|not a sound pickle)"):
        unpickle(data, "batch")


def test_only_bytes_fill_arrays():
    with pytest.raises(DataError, match="only bytes"):
        unpickle(pickle.dumps(np.array([None, 1], object), 2), "batch")
    with pytest.raises(DataError, match="'f8'"):
        unpickle(pickle.dumps(np.zeros(2), 2), "batch")


def test_text_is_encoded_as_latin1_only():
    assert unpickle(pickle.dumps(b"\xff\0", 2), "batch") == b"\xff\0"
    with pytest.raises(DataError, match="'punycode'"):
        unpickle(b"\x80\2c_codecs\nencode\nX\1\0\0\0aX\10\0\0\0punycode\x86R.", "batch")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        b"\x80\2}",
        pickle.dumps({b"labels": list(range(99))})[:-20],
        b"\x80\2" + b"(" * 99 + b".",
    ],
)
def test_damage_is_one_line(data):
    with pytest.raises(DataError, match=r"^batch: not a sound pickle \(\w+\)$"):
        unpickle(data, "batch")


def test_a_claimed_length_allocates_nothing():
    with pytest.raises(DataError, match="not a sound pickle"):
        unpickle(b"\x80\4\x8e" + struct.pack("<Q", 2**62) + b"x.", "batch")
