"""Damaged images: gzipped IDX files, pickled batches, npz and tar.gz archives."""

import gzip
import io
import os
import pickle
import struct
import tarfile
import zlib

import numpy as np

from tests.faults import corpus
from tests.faults.corpus import MIB, PLANTED, Member

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 6, 7), np.uint8)
PLANES = np.random.default_rng(1).integers(0, 256, (2, 3072), np.uint8)
LABELS = [3, 8]
MEMBERS = {"folder/one": PLANES.tobytes(), "folder/two": b"22" * 400}


class Planted:
    """Pickled, it is a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


CALLS = {
    "os.system": Planted(os.system, f"touch {PLANTED}"),
    "eval": Planted(eval, f"open('{PLANTED}', 'w')"),
    "exec": Planted(exec, f"open('{PLANTED}', 'w')"),
    "open": Planted(open, PLANTED, "w"),
    "__import__": Planted(__import__, "antigravity"),
}


def idx(head, more=b""):
    return gzip.compress(head + PIXELS.tobytes() + more, mtime=0)


SOUND_IDX = idx(struct.pack(">4B3I", 0, 0, 8, 3, 5, 6, 7))


def idx_cases():
    """Wrong types, counts of dimensions, and sizes from nothing to the most that a header can say."""
    heads = {
        f"{what} {value:#x}": struct.pack(">4B3I", *before, value, *after)
        for value in (0, 4, 2**31, 2**32 - 1)
        for what, before, after in (
            ("images", (0, 0, 8, 3), (6, 7)),
            ("rows", (0, 0, 8, 3, 5), (7,)),
            ("columns", (0, 0, 8, 3, 5, 6), ()),
        )
    }
    heads |= {f"type {code:#x}": struct.pack(">4B3I", 0, 0, code, 3, 5, 6, 7) for code in (0, 9, 13, 14, 255)}
    heads |= {f"{rank} dimensions": struct.pack(">4B3I", 0, 0, 8, rank, 5, 6, 7) for rank in (0, 2, 4, 255)}
    stream, checksum = corpus.zeros(1024)
    made = {name: idx(head) for name, head in heads.items()}
    made |= {
        "not packed": gzip.decompress(SOUND_IDX),
        "packed twice": gzip.compress(SOUND_IDX, mtime=0),
        "one byte more": idx(struct.pack(">4B3I", 0, 0, 8, 3, 5, 6, 7), b"x"),
        "goes on": SOUND_IDX + SOUND_IDX,
        "a GiB of zeros": corpus.gzipped(stream, checksum, 1024 * MIB),
        "a wrong checksum": SOUND_IDX[:-8] + bytes(4) + SOUND_IDX[-4:],
    }
    made |= corpus.cuts(SOUND_IDX) | corpus.blocks(SOUND_IDX, 1)
    return corpus.cases("idx", made) + corpus.cases("idx", corpus.flips(SOUND_IDX, 2), harmless=True)


SOUND_BATCH = pickle.dumps({b"batch_label": b"one", b"data": PLANES, b"labels": LABELS}, 4)


def batch_cases():
    """Pickles that call, that build other arrays, that claim lengths; damage outside of pixels and labels."""
    sound = {b"data": PLANES, b"labels": LABELS}
    made = {
        f"calls {name} {protocol}": pickle.dumps(call, protocol)
        for name, call in CALLS.items()
        for protocol in (0, 4)
    }
    made |= {
        f"a label calls {name}": pickle.dumps(sound | {b"labels": [3, call]}) for name, call in CALLS.items()
    }
    made |= {
        f"an aside calls {name}": pickle.dumps(sound | {b"more": [{b"x": call}]})
        for name, call in CALLS.items()
    }
    arrays = {
        "objects": np.array([[None] * 3072] * 2, object),
        "planted objects": np.array([CALLS["os.system"]], object),
        "floats": PLANES.astype(float),
        "columns": np.asfortranarray(PLANES),
        "a row too many": np.vstack([PLANES, PLANES[:1]]),
        "records": np.zeros(2, [("a", "u1"), ("b", "u1")]),
        "no array": PLANES.tobytes(),
    }
    made |= {name: pickle.dumps(sound | {b"data": array}, 2) for name, array in arrays.items()}
    made |= {
        f"labels {labels}": pickle.dumps(sound | {b"labels": labels})
        for labels in ([3], [3, -1], [3, 2**70], [3, 1.0], "38")
    }
    made |= _programs() | corpus.cuts(SOUND_BATCH)
    made |= {
        name: made
        for name, made in corpus.blocks(SOUND_BATCH, 3).items()
        if name not in ("zeroed", "swapped")
    }
    start = SOUND_BATCH.index(PLANES.tobytes())
    values = range(start, start + PLANES.size), range(SOUND_BATCH.index(b"labels"), len(SOUND_BATCH))
    around = sorted(set(range(len(SOUND_BATCH))).difference(*values))
    harmless = corpus.flips(SOUND_BATCH, 4, 40, around)
    return corpus.cases("batch", made) + corpus.cases("batch", harmless, harmless=True)


def _programs():
    """Opcodes that no pickler writes."""
    byte = b"cnumpy\ndtype\nU\2u1K\0K\1\x87R"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
    return {
        "a list of 2^31 places": b"\x80\2K\1r" + struct.pack("<I", 2**31 - 1) + b".",
        "a list of 10^8 places": b"\x80\2K\1p99999999\n.",
        "bytes of 2^62": b"\x80\4\x8e" + struct.pack("<Q", 2**62) + b"x.",
        "a number of 2^30 bytes": b"\x80\2\x8b" + struct.pack("<i", 2**30) + b"x.",
        "a negative length": b"\x80\2\x8b" + struct.pack("<i", -1) + b".",
        "memory as it was": b"\x80\2cnumpy\nndarray\nK\2M\0\x0c\x86U\2u1\x86R.",
        "an array of 2^40": b"\x80\2" + array + b"\x8a\6\0\0\0\0\0\1\x85U\1b\x87R.",
        "a dtype with parts": b"\x80\2"
        + byte
        + b"(K\3U\1|("
        + byte
        + b"M\xe8\3\x85tNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb.",
        "a dtype with flags": b"\x80\2"
        + array
        + b"K\0\x85U\1b\x87R(K\1K\2\x85"
        + byte
        + b"(K\4U\1|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb\x89U\2\7\7tb.",
        "deep": b"\x80\2" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".",
        "itself": b"\x80\2]q\0h\0a.",
        "an extension": b"\x80\2\x82\1.",
        "a person": b"Pname\n.",
        "nothing on the stack": b"\x80\2R.",
        "a class by two names": b"\x80\4\x8c\5numpy\x8c\14ndarray.dump\x93.",
    }


def npy(array, allow_pickle=False):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=allow_pickle)
    return stream.getvalue()


SOUND_NPZ = corpus.zipped(corpus.stored("x.npy", npy(PIXELS)), corpus.stored("y.npy", npy(PIXELS[0, 0])))


def npz_cases():
    """Objects, other types and shapes, headers that claim more or are programs, members of any name."""
    rest = corpus.stored("y.npy", npy(PIXELS[0, 0]))
    stream, checksum = corpus.zeros(1024)
    text = npy(PIXELS)
    arrays = {
        "objects": npy(np.array([CALLS["os.system"]], object), allow_pickle=True),
        "all objects": npy(np.full(PIXELS.shape, None, object), allow_pickle=True),
        "floats": npy(PIXELS.astype(np.float32)),
        "signed": npy(PIXELS.view(np.int8)),
        "another shape": npy(PIXELS[:4]),
        "transposed": npy(PIXELS.T),
        "no dimensions": npy(np.uint8(7)),
        "claims 2^31": text.replace(b"(5, 6, 7)", b"(2147483648, 6, 7)"),
        "claims less than nothing": text.replace(b"(5, 6, 7)", b"(-5, -6, 7)"),
        "a program for a header": text.replace(
            b"'descr': '|u1'", b"'descr': open('" + PLANTED.encode() + b"','w')"
        ),
        "version 9": text[:6] + b"\x09" + text[7:],
        "a header of 64 KiB": text[:8] + b"\xff\xff" + text[10:],
        "no header": PIXELS.tobytes(),
        "four bytes less": text[:-4],
    }
    made = {name: corpus.zipped(corpus.stored("x.npy", content), rest) for name, content in arrays.items()}
    sound = corpus.stored("x.npy", text)
    odd = {
        "only one": [sound],
        "none": [],
        "twice": [sound, corpus.stored("x.npy", npy(PIXELS[::-1])), rest],
        "elsewhere": [corpus.stored("../../x.npy", text), rest],
        "absolute": [corpus.stored("/x.npy", text), rest],
        "a GiB of zeros": [Member("x.npy", stream, checksum, 1024 * MIB, 8), rest],
        "a GiB that claims little": [Member("x.npy", stream, checksum, len(text), 8), rest],
        "claims 4 GiB": [sound._replace(size=2**32 - 1), rest],
        "claims nothing": [sound._replace(size=0), rest],
        "an unknown method": [sound._replace(method=77), rest],
        "a wrong checksum": [sound._replace(checksum=1), rest],
    }
    made |= {name: corpus.zipped(*members) for name, members in odd.items()}
    made |= corpus.cuts(SOUND_NPZ) | corpus.blocks(SOUND_NPZ, 5)
    return corpus.cases("npz", made) + corpus.cases("npz", corpus.flips(SOUND_NPZ, 6), harmless=True)


def tar(*entries):
    return gzip.compress(b"".join(entries) + bytes(1024), mtime=0)


SOUND_TAR = tar(*(corpus.entry(name, content) for name, content in MEMBERS.items()))


def tar_cases():
    """Links, devices, names that lead elsewhere, sizes that are not there, and bombs."""
    one, two = (corpus.entry(name, content) for name, content in MEMBERS.items())
    pixels = MEMBERS["folder/one"]
    stream, checksum = corpus.zeros(1024)
    kinds = {
        "a symlink": (tarfile.SYMTYPE, "/etc/passwd"),
        "a hard link": (tarfile.LNKTYPE, "folder/two"),
        "a link out": (tarfile.LNKTYPE, "../../etc/passwd"),
        "a character device": (tarfile.CHRTYPE, ""),
        "a block device": (tarfile.BLKTYPE, ""),
        "a pipe": (tarfile.FIFOTYPE, ""),
        "a folder": (tarfile.DIRTYPE, ""),
    }
    made = {
        name: tar(corpus.entry("folder/one", type=kind, linkname=link), two)
        for name, (kind, link) in kinds.items()
    }
    names = ("/folder/one", "../folder/one", "folder/../folder/one", "folder/one\n", "folder/ONE")
    made |= {f"named {name!r}": tar(corpus.entry(name, pixels), two) for name in names}
    sizes = (2**31, 2**40, 8**11 - 1, -1, -512, -(2**31))
    made |= {f"claims {size}": tar(corpus.entry("folder/one", pixels, size=size), two) for size in sizes}
    made |= {
        f"{what} of {size}": tar(corpus.entry("x", b"x" * 512, type=kind, size=size), one, two)
        for what, kind in (("a long name", tarfile.GNUTYPE_LONGNAME), ("a header", tarfile.XHDTYPE))
        for size in (2**30, -512)
    }
    headed = gzip.compress(corpus.entry("x", type=tarfile.XHDTYPE, size=1024 * MIB), mtime=0)
    made |= {
        "twice": tar(one, two, corpus.entry("folder/one", pixels[::-1])),
        "one only": tar(one),
        "none": tar(),
        "a tar within": gzip.compress(SOUND_TAR, mtime=0),
        "not packed": gzip.decompress(SOUND_TAR),
        "a GiB of zeros": corpus.gzipped(stream, checksum, 1024 * MIB),
        "a GiB for a header": headed + corpus.gzipped(stream, checksum, 1024 * MIB),
        "a GiB at the end": SOUND_TAR + corpus.gzipped(stream, checksum, 1024 * MIB),
        "a wrong checksum": SOUND_TAR[:-8] + bytes(4) + SOUND_TAR[-4:],
        "garbage at the end": SOUND_TAR + b"garbage",
    }
    made |= corpus.cuts(SOUND_TAR) | corpus.blocks(SOUND_TAR, 7)
    plain = bytearray(gzip.decompress(SOUND_TAR))
    plain[700] ^= 1
    flipped = zlib.compress(bytes(plain), 0, 31)
    made["a bit of the content"] = flipped[:-8] + SOUND_TAR[-8:]
    return corpus.cases("tar", made) + corpus.cases("tar", corpus.flips(SOUND_TAR, 8), harmless=True)
