"""Damaged text that people edit: statistics, configs, and the words of a command line."""

import re

from tests.faults import corpus
from tests.faults.corpus import PLANTED

VARIABLES = ("moving_mean", "moving_variance", "gamma", "beta")
SOUND_STATISTICS = {
    f"norm.{name}.txt": f"0.5;1;1.5;{place}\n".encode() for place, name in enumerate(VARIABLES)
}
OWN = "norm.moving_variance.txt"


def statistics_cases():
    """Folders of statistics: name -> content, a folder where that is None."""
    sound = SOUND_STATISTICS[OWN]
    words = (
        "nan",
        "-nan",
        "inf",
        "-inf",
        "1e999",
        "-1",
        "-1e-300",
        "1e39",
        "1_0",
        "0x1p3",
        "1,5",
        "",
        " ",
        "one",
    )
    words += (
        "True",
        "1 2",
        "٣",
        "１",
        "½",
        "--1",
        "1e",
        "1;",
        "\0",
        "1\x00",
        "9" * 5000,
        "$(touch planted)",
        "=1+1",
    )
    texts = {f"word {word[:20]!r}": f"0.5;1;{word};1\n".encode() for word in words}
    texts |= {
        "empty": b"",
        "lines": b"0.5\n1\n1.5\n1\n",
        "commas": b"0.5,1,1.5,1\n",
        "five": b"0.5;1;1.5;1;2\n",
        "three": b"0.5;1;1.5\n",
        "two ends": b"0.5;1;1.5;1;;\n",
        "other bytes": b"0.5;1;\xff\xfe;1\n",
        "two bytes a letter": sound.decode().encode("utf-16"),
        "a long line": b"1;" * 10**6,
        "a long word": b"1" * 10**6,
        "spaces without end": b" " * 10**6 + sound,
        "zeros": bytes(100),
    }
    made = {name: SOUND_STATISTICS | {OWN: text} for name, text in texts.items()}
    made |= {
        "no files": {},
        "one is missing": {name: text for name, text in SOUND_STATISTICS.items() if name != OWN},
        "one is a folder": SOUND_STATISTICS | {OWN: None},
        "one too many": SOUND_STATISTICS | {"norm.gama.txt": b"1;1;1;1\n"},
        "a name on two lines": SOUND_STATISTICS | {"norm\nmore.txt": sound},
        "a name of other signs": SOUND_STATISTICS | {"\u202enorm\x1b[31m.txt": sound},
        "a long name": SOUND_STATISTICS | {"x" * 250: sound},
    }
    seen = {
        "a mark": b"\xef\xbb\xbf" + sound,
        "windows": sound.replace(b"\n", b"\r\n"),
        "spaces": b" 0.5 ;\n1 ;\t1.5; 1 ; \n\n",
        "zeros before": b"00.50;1.0;+1.5;1e0",
    }
    harmless = {name: SOUND_STATISTICS | {OWN: text} for name, text in seen.items()}
    return corpus.cases("statistics", made) + corpus.cases("statistics", harmless, harmless=True)


SOUND_CONFIG = b"""\
name: mnist
data: mnist
model: convnet
widths: [16, 32]
samples: 320
learning_rate: 0.1
xla_up_to: 8
"""


def config_cases():
    """What may lie in a folder of configs under the name of a task."""
    bomb = b"a: &a [x, x, x, x, x, x, x, x, x]\n"
    for old, new in zip("abcdefg", "bcdefgh", strict=True):
        bomb += f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n".encode()
    made = {
        "a tab": b"name:\n\t- x\n",
        "noise": bytes(range(256)),
        "other bytes": SOUND_CONFIG.replace(b"convnet", b"conv\xff\xfe"),
        "two bytes a letter": SOUND_CONFIG.decode().encode("utf-16"),
        "a zero": SOUND_CONFIG + b"\0",
        "an object": f"name: !!python/object/apply:os.system ['touch {PLANTED}']\n".encode(),
        "a new object": f"name: !!python/object/new:os.system ['touch {PLANTED}']\n".encode(),
        "a name of Python": b"name: !!python/name:os.system\n",
        "a module of Python": b"name: !!python/module:antigravity\n",
        "a tag": b"name: !nothing x\n",
        "a list": b"- 1\n- 2\n",
        "a word": b"hello\n",
        "a comment": b"# nothing\n",
        "aliases of aliases": bomb,
        "a list of itself": b"a: &a [*a]\n",
        "merged with itself": b"a: &a\n  <<: *a\n",
        "no such alias": SOUND_CONFIG + b"bias: *nothing\n",
        "deep": b"[" * 10**5,
        "deep keys": b"".join(b" " * depth + b"a:\n" for depth in range(900)),
        "twice": SOUND_CONFIG + b"name: cifar\n",
        "two documents": SOUND_CONFIG + b"---\nname: x\n",
        "a number for a key": SOUND_CONFIG + b"1: 2\n",
        "null for a key": SOUND_CONFIG + b"null: 2\n",
        "an unknown key": SOUND_CONFIG + b"widhts: [1]\n",
        "a set": SOUND_CONFIG + b"bias: !!set {a, b}\n",
        "bytes": SOUND_CONFIG.replace(b"convnet", b"!!binary aGVsbG8="),
        "a date": SOUND_CONFIG.replace(b"convnet", b"2020-01-01"),
        "no such variable": SOUND_CONFIG + b"dropout: ${oc.env:BNLAB_NO_SUCH_VARIABLE}\n",
        "a variable": SOUND_CONFIG + b"dropout: ${oc.env:PATH}\n",
        "a circle": SOUND_CONFIG.replace(b"convnet", b"${task.model}"),
        "no such resolver": SOUND_CONFIG + b"dropout: ${nothing:1}\n",
        "half of one": SOUND_CONFIG + b"dropout: ${task\n",
        "what cannot be decoded": SOUND_CONFIG + b"dropout: ${oc.decode:'[1,2'}\n",
        "itself among its defaults": b"defaults:\n  - evil\n" + SOUND_CONFIG,
        "a default elsewhere": b"defaults:\n  - ../../../../etc/passwd\n" + SOUND_CONFIG,
        "a number of defaults": b"defaults: 3\n" + SOUND_CONFIG,
        "another package": b"# @package ../..\n" + SOUND_CONFIG,
        "Hydra's own": b"# @package _global_\nhydra:\n  run: 3\n",
        "left open": SOUND_CONFIG.replace(b"convnet", b"???"),
        "a long word": SOUND_CONFIG.replace(b"convnet", b"x" * 10**6),
        "many digits": SOUND_CONFIG.replace(b"320", b"9" * 6000),
        "half a letter": SOUND_CONFIG.replace(b"convnet", b'"\\ud800"'),
    }
    for key, values in {
        "samples": ("0", "-1", "1e999", ".nan", "2.5", "true", "null", "[1]", "'320'"),
        "learning_rate": ("0", "-0.1", "1e999", ".inf", ".nan", "fast", "null"),
        "widths": ("[]", "[0]", "[-16]", "[1.5]", "{a: 1}", "null"),
        "data": ("imagenet", "null", "[mnist]"),
    }.items():
        lines = {
            value: re.sub(rf"(?m)^{key}: .*$", f"{key}: {value}", SOUND_CONFIG.decode()) for value in values
        }
        made |= {f"{key} {value}": text.encode() for value, text in lines.items()}
    made |= corpus.cuts(SOUND_CONFIG.rstrip(), 7)
    seen = {
        "a mark": b"\xef\xbb\xbf" + SOUND_CONFIG,
        "windows": SOUND_CONFIG.replace(b"\n", b"\r\n"),
        "an alias": SOUND_CONFIG.replace(b"0.1", b"&rate 0.1") + b"weight_decay: 0.0\n",
        "many spaces": SOUND_CONFIG + b"\n" * 10**4,
    }
    return corpus.cases("config", made) + corpus.cases("config", seen, harmless=True)


WORDS = (
    [
        "batch_size=1e999",
        "batch_size=-1",
        "batch_size=" + "9" * 5000,
        "batch_size=[1",
        "batch_size='",
        "seed=${seed}",
    ],
    [
        "decay=nan",
        "decay=inf",
        "decay=[0.5,,]",
        "decay=1e-999,2",
        "decay=" + "[" * 2000,
        "phase=\x00",
        "phase=\udcff",
    ],
    [
        "name=../../x",
        "name=/etc/passwd",
        "name=a/b",
        "name=",
        "name=" + "x" * 10**5,
        "name=a\nb",
        "name='a b'",
    ],
    [
        "a\nb=1",
        "=1",
        "+=1",
        "~seed",
        "seed==1",
        "+seed=1",
        "++nothing=1",
        "batch_size.x=1",
        "task.name.x=1",
        "@=1",
    ],
    [
        "task=../../etc/passwd",
        "task=/etc/passwd",
        "task=null",
        "task=[a,b]",
        "norm={name:nothing}",
        "+experiment=../phase_sweep",
    ],
    [
        "hydra.job.chdir=true",
        "hydra.mode=NONE",
        "hydra.searchpath=[pkg://os]",
        "hydra/launcher=nothing",
        "hydra=null",
    ],
    [
        "hydra.searchpath=3",
        "hydra.searchpath=[file:///nowhere,x://y]",
        "task.model=os.system",
        "task={a:${task}}",
    ],
    [
        "store=",
        "track.experiment=",
        "data.timeout=1e999",
        "data.timeout=-1",
        "device=tpu",
        "device.name=../cpu",
    ],
)


def override_cases():
    """Single words of a command line."""
    made = {word[:40]: word for words in WORDS for word in words}
    return corpus.cases("override", made)
