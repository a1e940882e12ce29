"""locate: which images a run will see, decided before anything large is read."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Literal

from bnlab.data.datasets import DATASETS, TITLES, DataError, Source, fingerprint
from bnlab.data.download import fetch
from bnlab.data.forms import FINGERPRINTS, FOLDERS, FORMS, Form, read
from bnlab.data.standins import STORIES, stand_in

log = logging.getLogger(__name__)


def locate(
    name: str,
    root: Path | None,
    source: Literal["auto", "real"] = "auto",
    download: bool = False,
    timeout: float = 5.0,
    verify: bool = False,
) -> Source:
    """Search the caller's folder, the user's cache, the internet if allowed, and last the embedded stand-in.

    Args:
        name: key in `DATASETS`.
        root: folder that holds the published files, itself or in their usual subfolder; None: cache only.
        source: `real` refuses the stand-in; `auto` takes it, with a logged warning if a download failed.
        download: whether a set that is nowhere on disk may be downloaded, once, into the user's cache.
        timeout: seconds that the host may stay silent: look-up and connection, every pause of the transfer.
        verify: read all files now and compare their published checksums (`load` does so in any case).

    Raises:
        DataError: an unknown name, a root that does not exist or holds only a part of the set, a wrong
            checksum, or no real data although `source` asks for them.

    """
    _check_request(name, source, timeout)
    try:
        found = _search_root(name, root) or _search(name, cache_folder())
        if found is None and download:
            found = _download(name, root, source, timeout)
    except OSError as error:
        raise DataError(
            f"{error.filename}: cannot be searched for {TITLES[name]} ({error.strerror})"
        ) from error
    if found is None:
        return _without_files(name, root, source)
    form, folder = found
    if verify:
        for file in form.files:
            read(folder / file)
    return _real_source(name, form, folder)


def cache_folder() -> Path:
    """The user's own cache, where downloads go: `$XDG_CACHE_HOME/bnlab` or the system's usual place."""
    import pooch

    return Path(pooch.os_cache("bnlab"))


def stand_in_source(name: str) -> Source:
    """The embedded set that takes the place of real data, marked as such.

    Args:
        name: key in `DATASETS`.

    >>> stand_in_source("mnist").description
    "STAND-IN for MNIST: scikit-learn's 8x8 handwritten digits scaled to 28x28 (1,437 + 360 images)"

    """
    images = stand_in(name)
    train, test = len(images.train_y), len(images.test_y)
    description = f"STAND-IN for {TITLES[name]}: {STORIES[name]} ({train:,} + {test:,} images)"
    return Source(
        name, "stand-in", None, fingerprint(f"standin-{name}", images), description, True, train, test
    )


def _check_request(name: str, source: str, timeout: float) -> None:
    if name not in DATASETS:
        raise DataError(f"unknown data set {name!r}: must be one of {', '.join(DATASETS)}")
    if source not in ("auto", "real"):
        raise DataError(f"unknown data source {source!r}: must be auto or real")
    if not 0 < timeout < math.inf:
        raise DataError(f"the download's timeout must be finite and more than 0 seconds, got {timeout}")


def _search_root(name: str, root: Path | None) -> tuple[Form, Path] | None:
    if root is None:
        return None
    try:
        # Absolute, because a job may change its working folder between here and `load`.
        root = root.expanduser().absolute()
    except RuntimeError as error:
        raise DataError(f"data root {root}: {error}; write the folder's full path") from error
    if not root.is_dir():
        state = "is not a folder" if root.exists() else "does not exist"
        raise DataError(f"data root {root} {state}: it must be the folder that holds the data files")
    found = _search(name, root)
    if found is None:
        _refuse_part(name, root)
    return found


def _search(name: str, root: Path) -> tuple[Form, Path] | None:
    for form in FORMS[name]:
        for folder in (root / below for below in FOLDERS[name]):
            if not form.missing(folder):
                return form, folder
    return None


def _refuse_part(name: str, root: Path) -> None:
    for form in FORMS[name]:
        for folder in (root / below for below in FOLDERS[name]):
            missing = form.missing(folder)
            if len(missing) < len(form.files):
                raise DataError(
                    f"{folder}: {TITLES[name]} is incomplete, all {len(form.files)} {form.words} are needed: "
                    f"add {', '.join(missing)}"
                )


def _download(name: str, root: Path | None, source: str, timeout: float) -> tuple[Form, Path] | None:
    try:
        fetch(name, cache_folder(), timeout)
    except DataError as error:
        if source == "real":
            raise DataError(f"{error}; {_advice(name, root)}") from None
        log.warning("%s; the stand-in is used", error)
    return _search(name, cache_folder())


def _without_files(name: str, root: Path | None, source: str) -> Source:
    if source == "auto":
        return stand_in_source(name)
    raise DataError(f"{TITLES[name]} was not found; {_advice(name, root)}, or allow the download")


def _advice(name: str, root: Path | None) -> str:
    places = " or ".join(str(place) for place in (root, cache_folder()) if place is not None)
    choices = " or ".join(", ".join(form.files) for form in FORMS[name])
    return f"put {choices} into {places}"


def _real_source(name: str, form: Form, folder: Path) -> Source:
    path = folder if len(form.files) > 1 else folder / form.files[0]
    train, test = DATASETS[name].train, DATASETS[name].test
    description = f"{TITLES[name]}, {train:,} + {test:,} images, {form.words}"
    return Source(name, form.kind, path, FINGERPRINTS[name], description, False, train, test)
