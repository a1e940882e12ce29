"""The layering rule: who may import whom, read from the code."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import bnlab

ROOT = Path(bnlab.__file__).parent
LAYERS = [
    {"science"},
    {"settings", "records", "naming", "errors", "files", "stop", "tables"},
    {"store", "data"},
    {"models", "checkpoint", "machine", "kerasfile", "text"},
    {"plan", "train", "measure", "track", "report"},
    {
        "__main__",
        "compose",
        "job",
        "engines",
        "launch",
        "sweep",
        "watch",
        "progress",
        "closing",
        "courier",
        "delivery",
        "notes",
        "outcome",
        "sync",
        "export",
        "fold",
        "statistics",
        "doctor",
    },
]
# Two nouns of the plan are what training and measuring are asked for.
ALLOWED = {
    ("measure", "plan"),
    ("settings", "errors"),
    ("settings", "records"),
    ("naming", "records"),
    ("tables", "records"),
}
ONLY = {
    "mlflow": {"track"},
    "matplotlib": {"report"},
    "typst": {"report"},
    "hydra": {"__main__", "compose", "launch"},
}
WITHOUT_TENSORFLOW = {
    "settings",
    "records",
    "store",
    "plan",
    "track",
    "report",
    "data",
    "compose",
    "sweep",
    "sync",
}


# What the doctor shows with, and its door; what it examines with works without them, in a notebook too.
SHOWING = {"__main__.py", "page.py", "watch.py"}


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        room = path.relative_to(ROOT).with_suffix("").parts[0]
        yield path, room


def name(value):
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else ""


def imports(path, top_only=False):
    tree = ast.parse(path.read_text())
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def level(room):
    return next(number for number, rooms in enumerate(LAYERS) if room in rooms)


@pytest.mark.parametrize(("path", "room"), [m for m in modules() if m[1] != "__init__"], ids=name)
def test_a_room_imports_only_lower_rooms(path, room):
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "bnlab" or parts[1] in (room, "__version__"):
            continue
        line = level(room) == len(LAYERS) - 1 or path.name == "__main__.py"
        lower = level(parts[1]) < level(room)
        assert line or lower or (room, parts[1]) in ALLOWED, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", sorted((ROOT / "doctor").glob("*.py")), ids=name)
def test_an_examination_knows_nothing_of_how_it_is_shown(path):
    rooms = {name.split(".")[1] for name in imports(path) if name.startswith("bnlab.")}
    assert path.name in SHOWING or not rooms & {"report", "track"}


@pytest.mark.parametrize("library", sorted(ONLY))
def test_a_library_is_known_to_one_room_only(library):
    users = {room for path, room in modules() if any(n.split(".")[0] == library for n in imports(path))}
    assert users <= ONLY[library]


@pytest.mark.parametrize("room", sorted(WITHOUT_TENSORFLOW))
def test_rooms_of_the_door_import_no_tensorflow(room):
    target = f"bnlab.{room}"
    code = f"import sys, {target}; sys.exit(bool({{'tensorflow', 'keras'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_door_imports_nothing_slow():
    slow = "{'tensorflow', 'keras', 'mlflow', 'pandas', 'matplotlib', 'sklearn'}"
    code = f"import sys, bnlab.__main__, bnlab.sweep; sys.exit(bool({slow} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("lower", "higher"), [("numbers", {"words", "pictures"}), ("words", {"pictures"})])
def test_what_a_report_states_does_not_know_how_it_is_said_or_shown(lower, higher):
    for path in (ROOT / "report" / lower).glob("*.py"):
        used = {name.split(".")[2] for name in imports(path) if name.startswith("bnlab.report.")}
        assert not used & higher, path.name
