"""Every damaged or hostile input ends in one line, soon: nothing in it runs, nothing wrong goes for right."""

import resource
import signal
from contextlib import contextmanager

import numpy as np
import pytest

from bnlab.data import DataError
from bnlab.data.decode import decode_batch, decode_idx, decode_npz, read_members
from tests.faults import data_files
from tests.faults.corpus import MIB, PLANTED
from tests.faults.data_files import LABELS, MEMBERS, PIXELS, PLANES

SECONDS = 10
"""Far more than any case takes, on a busy machine; a hang or a bomb takes longer."""
MEMORY = 400 * MIB
"""What a decoder may need at most: no case has more than a MiB of content, bombs have a GiB."""


@contextmanager
def soon():
    """Stop what takes too long."""

    def stop(*_):
        raise TimeoutError(f"not done after {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def problem(case, read, same, errors):
    """What is wrong with the way in which a case ends; empty when it is refused in one line, or harmless."""
    try:
        with soon():
            result = read(case.content)
    except errors as error:
        line = str(error)
        fine = "\n" not in line and line.startswith("the file: ") and len(line) < 1000
        return "" if fine else f"{case.name}: says {line!r}"
    except Exception as error:
        return f"{case.name}: raises {type(error).__name__}: {error}"
    if not case.harmless:
        return f"{case.name}: is accepted"
    return "" if same(result) else f"{case.name}: another result"


DECODERS = {
    "idx": (
        data_files.SOUND_IDX,
        data_files.idx_cases,
        lambda content: decode_idx(content, PIXELS.shape, "the file"),
        lambda found: np.array_equal(found, PIXELS),
    ),
    "batch": (
        data_files.SOUND_BATCH,
        data_files.batch_cases,
        lambda content: decode_batch(content, 2, "the file"),
        lambda found: (
            np.array_equal(found[0], PLANES.reshape(2, 3, 32, 32).transpose(0, 2, 3, 1))
            and found[1].tolist() == LABELS
        ),
    ),
    "npz": (
        data_files.SOUND_NPZ,
        data_files.npz_cases,
        lambda content: decode_npz(content, {"x": PIXELS.shape, "y": (7,)}, "the file"),
        lambda found: np.array_equal(found["x"], PIXELS) and np.array_equal(found["y"], PIXELS[0, 0]),
    ),
    "tar": (
        data_files.SOUND_TAR,
        data_files.tar_cases,
        lambda content: read_members(content, MEMBERS, "the file"),
        lambda found: found == MEMBERS,
    ),
}


@pytest.mark.parametrize("kind", DECODERS)
def test_damaged_images_are_refused(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sound, cases, read, same = DECODERS[kind]
    assert same(read(sound))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    problems = [problem(case, read, same, DataError) for case in cases()]
    assert [found for found in problems if found] == []
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MEMORY
    assert not (tmp_path / PLANTED).exists()
