"""Damaged and hostile files: what may lie where bnlab reads, made anew and the same every time."""

import io
import random
import struct
import tarfile
import zlib
from typing import NamedTuple

PLANTED = "planted"
"""The file that planted code would make in the folder where it runs."""
MIB = 2**20


class Case(NamedTuple):
    """A damaged input: what kind of file, which damage, its content; `harmless` damage may go unseen."""

    kind: str
    name: str
    content: object
    harmless: bool = False


def cases(kind, contents, harmless=False):
    """The cases of one kind, from name -> content."""
    return [Case(kind, name, content, harmless) for name, content in contents.items()]


def cuts(sound, count=8):
    """A file that ends too early, at places from its first byte to its last."""
    places = sorted({round(part * (len(sound) - 1) / (count - 1)) for part in range(count)})
    return {f"cut at {place}": sound[:place] for place in places}


def flips(sound, seed, count=10, places=None):
    """A file with one bit turned over, anywhere or at some of the places."""
    chance = random.Random(seed)
    damaged = {}
    for place in chance.sample(list(places or range(len(sound))), count):
        bit = chance.randrange(8)
        content = bytearray(sound)
        content[place] ^= 1 << bit
        damaged[f"bit {bit} of byte {place}"] = bytes(content)
    return damaged


def blocks(sound, seed):
    """A file with a stretch zeroed, two stretches swapped, one lost, one twice; and noise, text, nothing."""
    chance = random.Random(seed)
    part = len(sound) // 4
    a, b, c, d = (sound[start : start + part] for start in range(0, 4 * part, part))
    rest = sound[4 * part :]
    return {
        "zeroed": a + b + bytes(part) + d + rest,
        "swapped": a + c + b + d + rest,
        "lost": a + b + d + rest,
        "doubled": a + b + b + c + d + rest,
        "noise": chance.randbytes(len(sound)),
        "text": b"not what it is called\n" * 20,
        "zeros": bytes(len(sound)),
    }


def zeros(mib):
    """So many MiB of zeros as a raw deflate stream, made without ever having them: (stream, checksum)."""
    pack = zlib.compressobj(9, wbits=-15)
    first = pack.compress(bytes(MIB)) + pack.flush(zlib.Z_FULL_FLUSH)
    again = pack.compress(bytes(MIB)) + pack.flush(zlib.Z_FULL_FLUSH)
    checksum = 0
    for _ in range(mib):
        checksum = zlib.crc32(bytes(MIB), checksum)
    return first + again * (mib - 1) + pack.flush(), checksum


def gzipped(stream, checksum, size):
    """A gzip file around a raw deflate stream."""
    return b"\x1f\x8b\x08" + bytes(7) + stream + struct.pack("<II", checksum, size % 2**32)


class Member(NamedTuple):
    """A file in a zip archive, with whatever its header claims; `stream` is what lies there."""

    name: str
    stream: bytes
    checksum: int
    size: int
    method: int = 0


def stored(name, content):
    """A member as it should be, uncompressed."""
    return Member(name, content, zlib.crc32(content), len(content))


def zipped(*members):
    """A zip archive of members, as they are and as often as they are given."""
    data, index = io.BytesIO(), io.BytesIO()
    for member in members:
        name, start = member.name.encode(), data.tell()
        facts = struct.pack(
            "<HHHHHIIIHH",
            20,
            0,
            member.method,
            0,
            33,
            member.checksum,
            len(member.stream),
            member.size,
            len(name),
            0,
        )
        data.write(b"PK\3\4" + facts + name + member.stream)
        index.write(
            b"PK\1\2" + struct.pack("<H", 20) + facts + struct.pack("<HHHII", 0, 0, 0, 0, start) + name
        )
    end = struct.pack("<HHHHIIH", 0, 0, len(members), len(members), len(index.getvalue()), data.tell(), 0)
    return data.getvalue() + index.getvalue() + b"PK\5\6" + end


def entry(name, content=b"", **facts):
    """A file in a tar archive, with facts of its own such as a type or a size that is not its content's."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for fact, value in facts.items():
        setattr(info, fact, value)
    filled = content + bytes(-len(content) % tarfile.BLOCKSIZE)
    return info.tobuf(tarfile.GNU_FORMAT) + filled
