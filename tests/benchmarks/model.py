"""A vision transformer in ONNX with random weights: the inputs, outputs and cost of a WD14 model,
not its knowledge.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LABELS = Path(str(files("datasetkit"))) / "data" / "selected_tags_v3.csv"
OUTPUTS = 10_861


@dataclass(frozen=True, slots=True)
class Vit:
    """The measures of a vision transformer, in pixels, numbers and layers; the default is ViT-B/16
    at 448.
    """

    size: int = 448
    patch: int = 16
    width: int = 768
    heads: int = 12
    depth: int = 12

    @property
    def tokens(self) -> int:
        return (self.size // self.patch) ** 2


TINY = Vit(size=32, patch=16, width=32, heads=2, depth=1)


def plant(folder: Path, vit: Vit) -> Path:
    """Write a model folder as `--model-dir` takes it, once; returns the folder."""
    target = folder / "model.onnx"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(LABELS, folder / "selected_tags.csv")
        temporary = folder / "model.part"
        onnx.save(build(vit), temporary)
        temporary.replace(target)
    return folder


def build(vit: Vit, *, seed: int = 0) -> onnx.ModelProto:
    """Build the network: patches, blocks of attention and MLP, mean of all tokens, one sigmoid for
    each tag.

    Input `input` float32 [batch, size, size, 3], 0 to 255; output `output` [batch, 10861], some
    twenty above 0.35.
    """
    graph = _Graph(np.random.default_rng(seed))
    planes = graph.node("Transpose", "input", perm=[0, 3, 1, 2])
    unit = graph.node(
        "Sub", graph.node("Mul", planes, graph.constant(1 / 127.5)), graph.constant(1.0)
    )
    kernel = graph.weights(vit.width, 3, vit.patch, vit.patch)
    patches = graph.node("Conv", unit, kernel, strides=[vit.patch, vit.patch])
    tokens = graph.node(
        "Transpose", graph.shaped(patches, 0, vit.width, vit.tokens), perm=[0, 2, 1]
    )
    tokens = graph.node("Add", tokens, graph.weights(1, vit.tokens, vit.width))
    for _ in range(vit.depth):
        tokens = graph.node("Add", tokens, graph.attention(graph.norm(tokens, vit.width), vit))
        tokens = graph.node("Add", tokens, graph.mlp(graph.norm(tokens, vit.width), vit.width))
    pooled = graph.node("ReduceMean", graph.norm(tokens, vit.width), axes=[1], keepdims=0)
    logits = graph.node("MatMul", pooled, graph.weights(vit.width, OUTPUTS))
    logits = graph.node("Add", logits, graph.tensor(graph.rng.normal(-8.0, 2.5, OUTPUTS)))
    graph.nodes.append(helper.make_node("Sigmoid", [logits], ["output"]))
    return graph.model(vit.size)


class _Graph:
    """The nodes and weights of a network that is being built; every node gets a name of its own."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def tensor(self, values: object, kind: type = np.float32) -> str:
        name = f"w{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(values, kind), name))
        return name

    def constant(self, value: float) -> str:
        return self.tensor(value)

    def weights(self, *shape: int) -> str:
        return self.tensor(self.rng.standard_normal(shape, np.float32) * np.float32(0.02))

    def shaped(self, what: str, *shape: int) -> str:
        return self.node("Reshape", what, self.tensor(shape, np.int64))

    def norm(self, what: str, width: int) -> str:
        return self.node(
            "LayerNormalization",
            what,
            self.tensor(np.ones(width)),
            self.tensor(np.zeros(width)),
            axis=-1,
        )

    def linear(self, what: str, before: int, after: int) -> str:
        return self.node(
            "Add",
            self.node("MatMul", what, self.weights(before, after)),
            self.tensor(np.zeros(after)),
        )

    def attention(self, what: str, vit: Vit) -> str:
        depth = vit.width // vit.heads
        query, key, value = (
            self.shaped(self.linear(what, vit.width, vit.width), 0, vit.tokens, vit.heads, depth)
            for _ in range(3)
        )
        query, value = (
            self.node("Transpose", heads, perm=[0, 2, 1, 3]) for heads in (query, value)
        )
        likeness = self.node("MatMul", query, self.node("Transpose", key, perm=[0, 2, 3, 1]))
        shares = self.node(
            "Softmax", self.node("Mul", likeness, self.constant(depth**-0.5)), axis=-1
        )
        joined = self.node("Transpose", self.node("MatMul", shares, value), perm=[0, 2, 1, 3])
        return self.linear(self.shaped(joined, 0, vit.tokens, vit.width), vit.width, vit.width)

    def mlp(self, what: str, width: int) -> str:
        """Two layers with a GELU between them: x * (1 + erf(x / sqrt 2)) / 2."""
        wide = self.linear(what, width, 4 * width)
        bent = self.node("Erf", self.node("Mul", wide, self.constant(0.5**0.5)))
        bent = self.node(
            "Mul",
            self.node("Mul", wide, self.node("Add", bent, self.constant(1.0))),
            self.constant(0.5),
        )
        return self.linear(bent, 4 * width, width)

    def model(self, size: int) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "vit",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", size, size, 3])],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", OUTPUTS])],
            self.tensors,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
