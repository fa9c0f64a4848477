"""WD14 models of a few kilobytes: the real inputs, outputs and files, and weights that follow from the seed."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from taggers.models import LABEL_FILE, MODEL_FILE, MODELS

V3_LABELS = Path(str(files("datasetkit"))) / "data" / "selected_tags_v3.csv"
V3_COUNT = 10_861
SMALL_LABELS = """tag_id,name,category,count
9999999,general,9,4
9999998,sensitive,9,3
470575,1girl,0,100
212816,solo,0,90
13197,long_hair,0,80
401228,"\\||/",0,2
1,hatsune_miku_(cosplay),4,50
"""
SMALL_COUNT = 7


def model_bytes(
    outputs: int, *, batch: int | str = "batch", size: int = 448, sigmoid: bool = True, seed: int = 0
) -> bytes:
    """Build a model: mean colour -> matrix -> sigmoid. Which tags it gives depends on the picture's mean colour."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 3, (3, outputs)).astype(np.float32)
    bias = rng.normal(-3, 1, outputs).astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Div", ["mean", "white"], ["unit"]),
        helper.make_node("MatMul", ["unit", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes if sigmoid else nodes[:-1],
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, size, size, 3])],
        [helper.make_tensor_value_info("output" if sigmoid else "logits", TensorProto.FLOAT, [batch, outputs])],
        [
            numpy_helper.from_array(np.array(255, np.float32), "white"),
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(bias, "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def small_folder(folder: Path, data: bytes | None = None, labels: str = SMALL_LABELS) -> Path:
    """Write a model folder as `--model-dir` takes it: seven labels, 32 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL_FILE).write_bytes(model_bytes(SMALL_COUNT, size=32) if data is None else data)
    (folder / LABEL_FILE).write_bytes(labels.encode())
    return folder


def git_blob(data: bytes) -> str:
    """Return git's hash of a file, which is the hub's ETag of a small one."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def plant(cache: Path, name: str, weights: bytes, labels: bytes) -> Path:
    """Lay a model into a hub cache as the hub's client does; returns the blob that holds the weights."""
    model = MODELS[name]
    home = cache / ("models--" + model.repo.replace("/", "--"))
    snapshot = home / "snapshots" / model.revision
    snapshot.mkdir(parents=True)
    (home / "blobs").mkdir()
    for filename, data, etag in (
        (MODEL_FILE, weights, hashlib.sha256(weights).hexdigest()),
        (LABEL_FILE, labels, git_blob(labels)),
    ):
        (home / "blobs" / etag).write_bytes(data)
        (snapshot / filename).symlink_to(Path("../../blobs") / etag)
    return home / "blobs" / hashlib.sha256(weights).hexdigest()
