"""Damaged and hostile sweeps in a tracking store that others can write to."""

import csv
import io
import json

from tests.faults import corpus

SWEEP, READINGS, HISTOGRAMS = "sweep.json", "readings.csv", "histograms.csv"
MARKUP = (
    r"$\frac{1}{0}$",
    r"$\nosuchcommand",
    "#sys.inputs",
    '#panic("x")',
    '"); #read("/etc/passwd")',
    "<script>alert(1)</script>",
    "</svg>]]>-->",
    "*bold* _it_ `raw` = head",
    "@ref <label>",
    "&amp; &#0; %s {0} {}",
    "\\ \\\\ \\u{41} \\n",
    "'\"`",
    "a\tb\nc",
    "\u202egnp.exe",
    "\x00\x07\x1b[31m",
    "日本 עברית",
)
"""Names that a page, a picture or a terminal could take for something to do."""


def changed(sweep, **values):
    """The record of a sweep with some of its values changed, as JSON."""
    return json.dumps(json.loads(sweep) | values).encode()


def sweep_cases(sweep):
    """Records of a sweep: no JSON, other types, values that cannot be."""
    own = json.loads(sweep)
    texts = {
        "brace": b"{",
        "list": b"[]",
        "null": b"null",
        "number": b"1e999",
        "deep": b"[" * 10**5,
        "other bytes": sweep.replace(b"python", b"pyth\xff"),
        "two bytes a letter": sweep.decode().encode("utf-16"),
        "keys deep": b'{"a":' * 10**5 + b"1" + b"}" * 10**5,
        "folder": None,
    }
    wrong = {
        "name": (None, 7, ["x"]),
        "started": ("", "yesterday", 7, None, "9999-99-99", "0001-01-01T00:00:00+14:00"),
        "seconds": (-1, float("inf"), float("nan"), "long", None),
        "trials": (None, "abc", 7, [7], [None], ["nobody"]),
        "trained": (-1, 2.5, 10**30, "many"),
        "decays": ([2], [-1], [float("nan")], [float("inf")], ["fast"], None, 7),
        "phases": (["maybe"], 7, None),
        "measured": (None, {}, [], {own["trials"][0]: [1]}, {own["trials"][0]: ["a", "b", "c"]}),
        "layers": ([], {"x": [["a"]]}, {"x": [["a", -1]]}, {"x": [["a", 10**400]]}),
        "failures": ([7], [{}], [{"trial": "x"}], "none"),
        "settings": ([], 7, {"x": {}}),
        "variants": (7, {own["trials"][0]: 7}),
        "drills": (7, [7]),
        "final": (7, None),
        "command": (7, None),
    }
    made = {f"sweep {name}": text for name, text in texts.items()}
    made |= {
        f"{key} {str(value)[:30]}": changed(sweep, **{key: value})
        for key, values in wrong.items()
        for value in values
    }
    made |= {
        f"no {key}": json.dumps({k: v for k, v in own.items() if k != key}).encode()
        for key in ("name", "trials")
    }
    made |= corpus.cuts(sweep.rstrip(), 6)
    names = (
        "../../x",
        "/etc/x",
        "a/b",
        ".hidden",
        "",
        "x" * 300,
        'a"b',
        "a\0b",
        "a\nb",
        "~",
        "..",
        "a b",
        "$(x)",
        "-rf",
    )
    made |= {f"called {name[:20]!r}": changed(sweep, name=name) for name in names}
    return corpus.cases(SWEEP, made)


def with_cell(table, **values):
    """A table of CSV with other values in its first row."""
    first, *rest = csv.DictReader(io.StringIO(table.decode()))
    text = io.StringIO()
    writer = csv.DictWriter(text, first, lineterminator="\n")
    writer.writeheader()
    writer.writerows([first | values, *rest])
    return text.getvalue().encode()


def reading_cases(readings):
    """Tables of readings: no table, lost columns and rows, values that no trial has."""
    header, *rows = readings.decode().splitlines(keepends=True)
    wrong = {
        "step": ("0", "-1", "1e3", "", "x", "9" * 30, "9" * 5000, "nan"),
        "phase": ("", "true", "maybe", "1"),
        "decay": ("1", "-0.5", "nan", "inf", "1e999", "fast"),
        "images": ("0", "-5", "1.5", ""),
        "eval_batch_size": ("0", "", "9" * 20),
        "rmse": ("", "x", "1,5", "0x1p3"),
        "time_ms": ("", "now"),
    }
    made = {
        f"{key} {value[:20]!r}": with_cell(readings, **{key: value})
        for key, values in wrong.items()
        for value in values
    }
    made |= {
        "phase true of a moving average": readings.replace(b",False,0.5,", b",Tru,,"),
        "no columns": "".join(rows).encode(),
        "half a row": (header + rows[0][: len(rows[0]) // 3]).encode(),
        "other bytes": header.encode() + b"\xff\xfe\n",
        "a zero": readings + b"\0",
        "a long field": readings + b"x" * 10**6 + b"\n",
        "an open quote": header.encode() + b'"' + "".join(rows).encode() * 3,
        "noise": bytes(range(128, 256)) * 9,
        "folder": None,
    }
    return corpus.cases(READINGS, made)


def histogram_cases(histograms):
    """Tables of histograms: the same, and counts that cannot be."""
    wrong = {
        "step": ("0", "x", "9" * 5000),
        "kind": ("", "#panic()", "weight"),
        "counts": ("", "1;x", "-1;2", "9" * 40, "1e3", ";" * 10**4),
        "low": ("nan", "inf", "1e999", "x", "1e9"),
        "high": ("nan", "-inf", "x"),
        "decay": ("fast",),
        "not_finite": ("-1", "x"),
    }
    made = {
        f"{key} {value[:20]!r}": with_cell(histograms, **{key: value})
        for key, values in wrong.items()
        for value in values
    }
    made |= {
        "no columns": b"1,2,3\n4,5,6\n",
        "noise": b"\xff" * 99,
        "folder": None,
        "cut": histograms[: len(histograms) // 2],
    }
    return corpus.cases(HISTOGRAMS, made)


def row_cases():
    """Rows of the database: params and tags of a trial."""
    many = "9" * 40
    wrong = {"batch_size": ("", "x", "1e3", "-1", many), "seed": ("x", "-1"), "steps": ("", "1.5", many)}
    made = {
        f"{key} {value!r}": ("UPDATE params SET value = ? WHERE key = ?", (value, key))
        for key, values in wrong.items()
        for value in values
    }
    lost = {"params": ("task", "norm", "seed"), "tags": ("data.source", "data.stand_in")}
    made |= {
        f"no {key}": (f"DELETE FROM {table} WHERE key = ?", (key,))
        for table, keys in lost.items()
        for key in keys
    }
    elsewhere = ("file:///etc", "nothing://x", "file:///dev/zero", "")
    made |= {f"artifacts at {place!r}": ("UPDATE runs SET artifact_uri = ?", (place,)) for place in elsewhere}
    return corpus.cases("row", made)
