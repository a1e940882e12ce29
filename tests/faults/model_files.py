"""Damaged and hostile Keras models: other classes, code, links, bombs, weights that do not fit."""

import io
import json
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
from keras import Input, Sequential, layers

from tests.faults import corpus
from tests.faults.corpus import MIB, PLANTED, Member

CONFIG, FACTS, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
KERNEL, NORM = "layers/conv2d/vars/0", "layers/batch_normalization/vars"
NOT_TO_FOLLOW = "elsewhere.h5"


def sound_parts(folder):
    """The parts of a saved model: a convolution, its normalization, a ReLU."""
    stack = layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(name="norm"), layers.ReLU(name="relu")
    model = Sequential([Input((6, 6, 3), name="image"), *stack], name="net")
    chance = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(chance.uniform(0.5, 1.5, variable.shape))
    model.save(folder / "sound.keras")
    with zipfile.ZipFile(folder / "sound.keras") as archive:
        return {name: archive.read(name) for name in (FACTS, CONFIG, WEIGHTS)}


def packed(parts, **changed):
    """A model file of its parts, some of them changed."""
    own = parts | {{"config": CONFIG, "weights": WEIGHTS}[part]: content for part, content in changed.items()}
    return corpus.zipped(*(corpus.stored(name, content) for name, content in own.items()))


def configured(parts, change):
    """A model file whose config is changed in place."""
    config = json.loads(parts[CONFIG])
    change(config, config["config"]["layers"])
    return packed(parts, config=json.dumps(config).encode())


def weighed(parts, change):
    """A model file whose weights are changed in place."""
    stream = io.BytesIO(parts[WEIGHTS])
    with h5py.File(stream, "a") as file:
        change(file)
    return packed(parts, weights=stream.getvalue())


def planted(command):
    """A function as Keras would save it, with its code."""

    def run(x, command=command):
        __import__("os").system(command)
        return x

    code, defaults, closure = keras.src.utils.python_utils.func_dump(run)
    return {"class_name": "__lambda__", "config": {"value": [code, defaults, closure]}}


def model_cases(parts):
    """All of them."""
    made = _classes(parts) | _configs(parts) | _weights(parts) | _archives(parts)
    whole = packed(parts)
    made |= corpus.cuts(whole) | corpus.blocks(whole, 9)
    seen = corpus.flips(whole, 10, 16) | {"a mark": packed(parts, config=b"\xef\xbb\xbf" + parts[CONFIG])}
    return corpus.cases("model", made) + corpus.cases("model", seen, harmless=True)


def _classes(parts):
    """Classes and functions that are not Keras's, or that run what the file brings."""
    command = f"touch {PLANTED}"
    code = planted(command)
    found = {
        "os": {"module": "os", "class_name": "system", "config": {"command": command}},
        "subprocess": {"module": "subprocess", "class_name": "Popen", "config": {"args": ["touch", PLANTED]}},
        "builtins": {"module": "builtins", "class_name": "eval", "config": {"source": "1"}},
        "an import": {"module": "antigravity", "class_name": "fly", "config": {}},
        "near Keras": {"module": "kerasevil.layers", "class_name": "ReLU", "config": {}},
        "a hub": {"module": "keras_hub.models", "class_name": "Backbone", "config": {}},
        "a part of Keras that is none": {"module": "keras.src.nothing", "class_name": "ReLU", "config": {}},
        "Keras's own tools": {"module": "keras.src.utils.file_utils", "class_name": "get_file", "config": {}},
        "registered": {"module": None, "class_name": "Mine", "config": {}, "registered_name": "mine>Mine"},
        "a Lambda": {"module": "keras.layers", "class_name": "Lambda", "config": {"function": code}},
        "an old Lambda": {"class_name": "Lambda", "config": {"function": code["config"]["value"]}},
        "a SavedModel": {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "."}},
        "a Torch module": {
            "module": "keras.layers",
            "class_name": "TorchModuleWrapper",
            "config": {"module": "AA=="},
        },
        "a file as words": {
            "module": "keras.layers",
            "class_name": "StringLookup",
            "config": {"vocabulary": "/etc/passwd"},
        },
    }
    made = {
        name: configured(parts, lambda _, stack, own=own: stack.append(own)) for name, own in found.items()
    }
    functions = {
        "eval": {"module": "builtins", "class_name": "function", "config": "eval", "registered_name": "eval"},
        "system": {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"},
        "get_file": {"module": "keras.utils", "class_name": "function", "config": "get_file"},
        "load_model": {"module": "keras.saving", "class_name": "function", "config": "load_model"},
        "code": code,
        "a name": "os.system",
    }
    for name, own in functions.items():
        made[f"activation {name}"] = configured(
            parts, lambda _, stack, own=own: stack[1]["config"].update(activation=own)
        )
    made["an initializer that calls"] = configured(
        parts, lambda _, stack: stack[1]["config"].update(kernel_initializer=found["os"])
    )
    made["a model that is a call"] = packed(parts, config=json.dumps(found["os"]).encode())
    return made


def _configs(parts):
    """Sizes that cannot be, keys that are not there, and what is no JSON."""
    sizes = {
        "filters": (0, -1, 5, 2**31, 10**7, 1e999, None, "many"),
        "kernel_size": ([0, 0], [2, 2], [-1, 3], 2**31),
        "strides": ([0, 0], -1),
    }
    made = {
        f"{key} {value}": configured(
            parts, lambda _, stack, k=key, v=value: stack[1]["config"].update({k: v})
        )
        for key, values in sizes.items()
        for value in values
    }
    shapes = (
        [None, -5, 6, 3],
        [None, 6, 6, 4],
        [None, 60000, 60000, 3],
        [None, 2**40, 2, 3],
        [],
        "image",
        None,
    )
    made |= {
        f"images {shape}": configured(
            parts, lambda _, stack, s=shape: stack[0]["config"].update(batch_shape=s)
        )
        for shape in shapes
    }
    stretched = {"module": "keras.layers", "class_name": "UpSampling2D", "config": {"size": [20000, 20000]}}
    deep = b'{"a":' * 10**5 + b"1" + b"}" * 10**5
    words = {
        "no layers": configured(parts, lambda config, _: config["config"].pop("layers")),
        "no class": configured(parts, lambda config, _: config.pop("class_name")),
        "no config": configured(parts, lambda config, _: config.pop("config")),
        "a layer that is a number": configured(parts, lambda _, stack: stack.append(7)),
        "stretched": configured(parts, lambda _, stack: stack.append(stretched)),
    }
    texts = {
        "": b"",
        "brace": b"{",
        "deep lists": b"[" * 10**5,
        "deep": deep,
        "number": b"3",
        "null": b"null",
        "list": b"[]",
    }
    texts |= {
        "{}": b"{}",
        "other bytes": b"\xff\xfe\x00",
        "nan": b"NaN",
    }
    return made | words | {f"config {name}": packed(parts, config=text) for name, text in texts.items()}


def _weights(parts):
    """Weights in other files, of other shapes and types, or none."""
    value = np.ones((3, 3, 3, 4), np.float32)

    def replaced(name, **dataset):
        return lambda file: (file.__delitem__(name), file.create_dataset(name, **dataset))

    def linked(name, link):
        return lambda file: (file.__delitem__(name), file.__setitem__(name, link))

    def virtual(file):
        layout = h5py.VirtualLayout(value.shape, "f4")
        layout[:] = h5py.VirtualSource(NOT_TO_FOLLOW, "x", value.shape)
        del file[KERNEL]
        file.create_virtual_dataset(KERNEL, layout)

    def circle(file):
        del file["layers/conv2d"]
        file["layers/conv2d"] = file["layers"]

    changes = {
        "an external link": linked(KERNEL, h5py.ExternalLink(NOT_TO_FOLLOW, "x")),
        "an external group": linked("layers/conv2d", h5py.ExternalLink(NOT_TO_FOLLOW, "layers")),
        "a link to a device": linked(KERNEL, h5py.ExternalLink("/dev/zero", "x")),
        "a soft link": linked(KERNEL, h5py.SoftLink("/nowhere")),
        "a circle": circle,
        "external storage": replaced(
            KERNEL, shape=value.shape, dtype="f4", external=[(NOT_TO_FOLLOW, 0, value.nbytes)]
        ),
        "virtual": virtual,
        "a claim of 2^31": replaced(KERNEL, shape=(2**31,), dtype="f4", chunks=(1024,), fillvalue=1),
        "another shape": replaced(KERNEL, data=value[:2]),
        "words": replaced(KERNEL, data=[b"word"] * 4),
        "a group for a number": lambda file: (file.__delitem__(KERNEL), file.create_group(KERNEL)),
        "no kernel": lambda file: file.__delitem__(KERNEL),
        "no layers": lambda file: file.__delitem__("layers"),
        "one number more": lambda file: file.create_dataset(f"{NORM}/4", data=value),
    }
    for name, bad in (("nan", np.nan), ("negative", -2.0)):
        changes[f"a variance that is {name}"] = lambda file, bad=bad: file[f"{NORM}/3"].__setitem__(0, bad)
    made = {name: weighed(parts, change) for name, change in changes.items()}
    made |= {
        f"weights {name}": packed(parts, weights=content)
        for name, content in corpus.cuts(parts[WEIGHTS], 5).items()
    }
    made["weights of zeros"] = packed(parts, weights=bytes(len(parts[WEIGHTS])))
    return made


def _archives(parts):
    """Archives with other members than a model has, and bombs."""
    sound = [corpus.stored(name, content) for name, content in parts.items()]
    stream, checksum = corpus.zeros(1024)
    bomb = Member(WEIGHTS, stream, checksum, 1024 * MIB, 8)
    odd = {
        "one more": [*sound, corpus.stored("readme", b"")],
        "one elsewhere": [*sound, corpus.stored(f"../../{PLANTED}", b"x")],
        "one above assets": [*sound, corpus.stored(f"assets/../../{PLANTED}", b"x")],
        "one absolute": [*sound, corpus.stored(str(Path(PLANTED).absolute()), b"x")],
        "weights twice": [*sound, sound[2]],
        "config twice": [*sound, corpus.stored(CONFIG, b"{}")],
        "a bomb": [*sound[:2], bomb],
        "a bomb that claims little": [*sound[:2], bomb._replace(size=len(parts[WEIGHTS]))],
        "a bomb for a config": [sound[0], bomb._replace(name=CONFIG), sound[2]],
        "a claim of 4 GiB": [*sound[:2], sound[2]._replace(size=2**32 - 1)],
        "nothing": [],
        "no weights": sound[:2],
        "no config": [sound[0], sound[2]],
    }
    made = {name: corpus.zipped(*members) for name, members in odd.items()}
    damaged = bytearray(parts[WEIGHTS])
    with h5py.File(io.BytesIO(damaged), "r") as file:
        damaged[file[KERNEL].id.get_offset()] ^= 1
    own = sound[2]._replace(stream=bytes(damaged))
    return made | {"a bit of the kernel": corpus.zipped(*sound[:2], own)}
