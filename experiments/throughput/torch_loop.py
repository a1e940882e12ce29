"""The same network and the same training in PyTorch, as a plain loop; needs torch and numpy only.

Keras pads an even image below and to the right of it, `padding=1` above and to the left of it. So images and
kernels are turned by 180 degrees: then both are the same function, and PyTorch's own padding (without a
copy of the image) can be used. That the first losses are those of Keras is checked by who starts this.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.throughput.serve import Built, Setting, contend

Weights = Mapping[str, np.ndarray]


class Block(nn.Module):
    """Convolution, batch normalization with Keras's constants, ReLU."""

    def __init__(self, name: str, inputs: int, filters: int, stride: int = 1, relu: bool = True) -> None:
        super().__init__()
        self.name, self.relu = name, relu
        self.conv = nn.Conv2d(inputs, filters, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(filters, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        x = self.norm(self.conv(x))
        return functional.relu(x) if self.relu else x

    def load(self, weights: Weights) -> None:
        """Take over the weights of the Keras layers of this name."""
        self.conv.weight = _parameter(weights[f"{self.name}_conv/kernel"][::-1, ::-1].transpose(3, 2, 0, 1))
        self.norm.weight = _parameter(weights[f"{self.name}_norm/gamma"])
        self.norm.bias = _parameter(weights[f"{self.name}_norm/beta"])


class Residual(nn.Module):
    """Two blocks and a shortcut without parameters: skipped positions, channels padded with zeros."""

    def __init__(self, name: str, inputs: int, filters: int, stride: int) -> None:
        super().__init__()
        self.a = Block(f"{name}_a", inputs, filters, stride)
        self.b = Block(f"{name}_b", filters, filters, relu=False)
        missing = filters - inputs
        self.stride, self.padding = stride, (0, 0, 0, 0, missing // 2, missing - missing // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        y = self.b(self.a(x))
        if self.stride > 1:  # from 1: the positions that Keras keeps, counted from the other end
            x = functional.pad(x[:, :, 1::2, 1::2], self.padding)
        return functional.relu(x + y)


def network(kind: str, channels: int, widths: tuple[int, ...], weights: Weights) -> nn.Sequential:
    """Build `convnet` or `resnet20` with the weights of the Keras network."""
    layers = _convnet(channels, widths) if kind == "convnet" else _resnet20(channels, widths)
    dense = nn.Linear(widths[-1], len(weights["logits/bias"]))
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), dense)
    for block in (module for module in model.modules() if isinstance(module, Block)):
        block.load(weights)
    dense.weight, dense.bias = _parameter(weights["logits/kernel"].T), _parameter(weights["logits/bias"])
    return model


def _convnet(channels: int, widths: tuple[int, ...]) -> list[nn.Module]:
    pairs = enumerate(zip((channels, *widths), widths, strict=False), start=1)
    return [Block(f"block{number}", inputs, filters, stride=2) for number, (inputs, filters) in pairs]


def _resnet20(channels: int, widths: tuple[int, ...]) -> list[nn.Module]:
    layers: list[nn.Module] = [Block("stem", channels, widths[0])]
    inputs = widths[0]
    for stage, width in enumerate(widths, start=1):
        for number in (1, 2, 3):
            stride = 2 if stage > 1 and number == 1 else 1
            layers.append(Residual(f"stage{stage}_block{number}", inputs, width, stride))
            inputs = width
    return layers


def _parameter(values: np.ndarray) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.array(values, np.float32, order="C")))


class Loop:
    """Batches by index out of images in memory; SGD with momentum under a cosine."""

    def __init__(self, trial: Setting, arrays: Weights, channels_last: bool, compiled: bool) -> None:
        weights = {k.removeprefix("weights/"): v for k, v in arrays.items() if k.startswith("weights/")}
        layout = torch.channels_last if channels_last else torch.contiguous_format
        pixels = arrays["x"][:, ::-1, ::-1].transpose(0, 3, 1, 2).astype(np.float32) / 255.0
        self.x = torch.from_numpy(pixels).contiguous(memory_format=layout)
        self.y = torch.from_numpy(arrays["y"])
        model = network(trial["model"], self.x.shape[1], tuple(trial["widths"]), weights)
        self.model = model.to(memory_format=layout)
        self.loss = torch.compile(self._loss, dynamic=False) if compiled else self._loss
        rate, lowest = trial["learning_rate"], trial["learning_rate"] * float(arrays["final_share"])
        # Fused: never slower than PyTorch's default, a little faster at batch 2.
        self.sgd = torch.optim.SGD(model.parameters(), rate, momentum=trial["momentum"], fused=True)
        self.rate = torch.optim.lr_scheduler.CosineAnnealingLR(self.sgd, trial["steps"], lowest)

    def step(self, numbers: Tensor) -> Tensor:
        """Make a step; return the loss before it."""
        self.sgd.zero_grad()
        loss = self.loss(self.x[numbers], self.y[numbers])
        loss.backward()
        self.sgd.step()
        self.rate.step()
        return loss.detach()

    def seconds(self, steps: int, batch_size: int) -> float:
        """Time steps over images in random order."""
        order = torch.randperm(len(self.x))
        began = time.perf_counter()
        for number in range(steps):
            first = number * batch_size % (len(order) - batch_size + 1)
            self.step(order[first : first + batch_size])
        return time.perf_counter() - began

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(self.model(x), y)


def build(folder: str, setting: Setting) -> Built:
    """Build the loop and make its first steps."""
    trial = json.loads((Path(folder) / "trial.json").read_text())["trial"]
    with np.load(Path(folder) / "material.npz", allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    torch._dynamo.reset()
    loop = Loop(trial, arrays, setting["channels_last"], setting["compile"])
    firsts = torch.from_numpy(arrays["first"]).long()
    began = time.perf_counter()
    losses = [float(loop.step(firsts[0]))]
    first_s = time.perf_counter() - began
    losses += [float(loop.step(numbers)) for numbers in firsts[1:]]
    parameters = sum(p.numel() for p in loop.model.parameters())
    facts = {"parameters": parameters, "losses": losses, "first_s": first_s, "chosen": ""}
    return Built(lambda steps: loop.seconds(steps, trial["batch_size"]), facts)


if __name__ == "__main__":
    # Each program is compiled here and now, as in a user's first run.
    os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    contend(build)
