"""WD14 models of a few kilobytes: the real inputs, outputs and files, and weights that follow from
the seed.
"""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from taggers.labels import MAPPING_FILE
from taggers.models import LABEL_FILE, MODEL_FILE, find

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
    outputs: int,
    *,
    batch: int | str = "batch",
    size: int = 448,
    sigmoid: bool = True,
    seed: int = 0,
    channels_first: bool = False,
) -> bytes:
    """Build a model: mean colour -> matrix -> sigmoid. Its tags depend on the image's mean
    colour.
    """
    axes, shape = ([2, 3], [3, size, size]) if channels_first else ([1, 2], [size, size, 3])
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 3, (3, outputs)).astype(np.float32)
    bias = rng.normal(-3, 1, outputs).astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], axes=axes, keepdims=0),
        helper.make_node("Div", ["mean", "white"], ["unit"]),
        helper.make_node("MatMul", ["unit", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes if sigmoid else nodes[:-1],
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, *shape])],
        [
            helper.make_tensor_value_info(
                "output" if sigmoid else "logits", TensorProto.FLOAT, [batch, outputs]
            )
        ],
        [
            numpy_helper.from_array(np.array(1 if channels_first else 255, np.float32), "white"),
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


MAPPING = {
    "0": {"tag": "general", "category": "Rating"},
    "1": {"tag": "1girl", "category": "General"},
    "2": {"tag": "long_hair", "category": "General"},
    "3": {"tag": "hatsune_miku", "category": "Character"},
    "4": {"tag": "vocaloid", "category": "Copyright"},
    "5": {"tag": "best_quality", "category": "Quality"},
}


def mapped_folder(folder: Path, data: bytes | None = None, mapping: object = MAPPING) -> Path:
    """Write a model folder of the other kind: six labels in `tag_mapping.json`, channels first,
    logits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plain = model_bytes(6, size=32, sigmoid=False, channels_first=True)
    (folder / MODEL_FILE).write_bytes(plain if data is None else data)
    (folder / MAPPING_FILE).write_text(json.dumps(mapping), "utf-8")
    return folder


def git_blob(data: bytes) -> str:
    """Return git's hash of a file, which is the hub's ETag of a small one."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def plant(
    cache: Path, name: str, weights: bytes, labels: bytes, *, label_file: str = LABEL_FILE
) -> Path:
    """Put a model into a hub cache as the hub's client does; return the blob of the weights."""
    model = find(name)
    home = cache / ("models--" + model.repo.replace("/", "--"))
    snapshot = home / "snapshots" / model.revision
    snapshot.mkdir(parents=True)
    (home / "blobs").mkdir()
    for filename, data, etag in (
        (MODEL_FILE, weights, hashlib.sha256(weights).hexdigest()),
        (label_file, labels, git_blob(labels)),
    ):
        (home / "blobs" / etag).write_bytes(data)
        place = snapshot / model.file(filename)
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(home / "blobs" / etag)
    return home / "blobs" / hashlib.sha256(weights).hexdigest()
