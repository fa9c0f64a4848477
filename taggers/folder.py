"""A model in a local folder: its files, and the hash that takes the place of a revision."""

from __future__ import annotations

import hashlib
from pathlib import Path

from datasetkit.core.errors import ModelFileError
from datasetkit.core.files import file_sha256
from taggers import onnx_file
from taggers.kinds import KINDS
from taggers.labels import CSV_FILE
from taggers.models import MODEL_FILE, ModelFiles

CHECKSUM_SUFFIX = ".sha256"


def find(folder: Path) -> ModelFiles:
    """Return the model's files. Raises ModelFileError unless the folder has weights and exactly one
    label file.
    """
    wanted = f"--model-dir needs {MODEL_FILE} and one of {', '.join(KINDS)}"
    if not (folder / MODEL_FILE).is_file():
        raise ModelFileError(f"{folder / MODEL_FILE} is missing", hint=wanted)
    labels = [folder / name for name in KINDS if (folder / name).is_file()]
    if not labels:
        raise ModelFileError(f"{folder / CSV_FILE} is missing", hint=wanted)
    if len(labels) > 1:
        raise ModelFileError(
            f"{folder} has {labels[0].name} and {labels[1].name}",
            hint="keep the one that belongs to the model",
        )
    return ModelFiles(folder / MODEL_FILE, labels[0])


def stamp(files: ModelFiles) -> tuple[tuple[int, ...], ...]:
    """Return a stamp that changes with any write to the model's files, without the second per
    gigabyte that reading them takes.
    """
    paths = (files.weights, files.labels, *onnx_file.check(files.weights))
    stats = (path.stat() for path in paths)
    return tuple((s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in stats)


def content_hash(files: ModelFiles) -> str:
    """Return a hash over all files of the model, which takes the place of a revision on the hub.

    If a `model.onnx.sha256`, as `sha256sum` writes it, is beside the weights, they are checked
    against it.
    """
    beside = onnx_file.check(files.weights)
    hashes = [file_sha256(path) for path in (files.weights, files.labels, *beside)]
    checksum = files.weights.with_name(MODEL_FILE + CHECKSUM_SUFFIX)
    if checksum.is_file() and checksum.read_text("utf-8").split()[:1] != hashes[:1]:
        raise ModelFileError(
            f"{files.weights} is damaged or incomplete: its sha256 is not that of {checksum.name}",
            hint="copy the model again",
        )
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:40]
